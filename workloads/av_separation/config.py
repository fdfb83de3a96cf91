"""What the verbs of the speech separation are told. Each field has a default and says what it is."""

from dataclasses import dataclass

from workloads.contract import setting

PRESETS = ("tiny", "small", "base-122m")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Train:
    """A training."""

    preset: str = setting("small", "size of the model", choices=PRESETS)
    data: str = setting("pack", "the bundled speech pack, a manifest (.csv, .jsonl), or a folder of data")
    valid: str = setting("", "data to stop early by; empty: the validation part of `data`")
    mode: str = setting(
        "target", "target: each voice to its lips; pit: in whatever order fits", choices=("target", "pit")
    )
    speakers: int = setting(2, "voices in a mixture", least=1, most=8)
    seconds: float = setting(2.0, "length of a mixture", unit="s", least=0.32, most=60)
    snr_low: float = setting(-5.0, "least level of one voice over another", unit="dB", least=-40, most=40)
    snr_high: float = setting(5.0, "greatest level of one voice over another", unit="dB", least=-40, most=40)
    noise: float = setting(0.0, "share of mixtures with background noise", least=0, most=1)
    reverb: float = setting(0.0, "share of mixtures in a room with reverberation", least=0, most=1)
    same_voice: float = setting(
        0.0, "share of mixtures of one voice with itself: lips are the only cue", least=0, most=1
    )
    lips_missing: float = setting(0.1, "share of voices whose lips are not seen for a while", least=0, most=1)
    curriculum: bool = setting(False, "begin with short and easy mixtures")
    batch: int = setting(8, "mixtures in one forward pass", least=1, most=4096)
    accumulate: int = setting(
        1, "forward passes in one step; batch × accumulate stays the same after a repair", least=1
    )
    processes: int = setting(1, "that train together, one for each GPU; each takes its own `batch`", least=1, most=64)
    loaders: int = setting(-1, "processes that mix ahead of time; -1: some where there is a GPU", least=-1, most=64)
    steps: int = setting(10_000, "steps at most", least=1)
    minutes: float = setting(0.0, "time at most; 0: no limit", unit="min", least=0)
    clock: str = setting(
        "wall", "what minutes are: of the wall, or of the processor, on a shared one", choices=("wall", "cpu")
    )
    learning_rate: float = setting(1e-3, "the greatest learning rate", least=1e-8, most=1)
    schedule: str = setting("cosine", "of the learning rate after the warm-up", choices=("cosine", "constant"))
    warmup: int = setting(200, "steps in which the learning rate rises", least=0)
    weight_decay: float = setting(0.01, "of AdamW", least=0, most=1)
    clip: float = setting(5.0, "greatest norm of the gradient", least=0)
    validate_every: int = setting(500, "steps between two validations; 0: none", least=0)
    valid_mixtures: int = setting(16, "mixtures of a validation", least=1, most=10_000)
    patience: int = setting(10, "validations without a gain after which it stops; 0: never", least=0)
    checkpoint_every: int = setting(200, "steps between two checkpoints", least=1)
    keep: int = setting(3, "checkpoints kept", least=1, most=100)
    seed: int = setting(0, "of the weights, the order and the mixing", least=0, most=2**32 - 1)
    device: str = setting("auto", "where it runs", choices=DEVICES)
    precision: str = setting("fp32", "of the arithmetic", choices=PRECISIONS)
    threads: int = setting(0, "of the CPU; 0: as many as torch takes", least=0, most=256)
    register_as: str = setting("", "name in the MLflow registry under which the model is registered; empty: it is not")


@dataclass(frozen=True, slots=True)
class Evaluate:
    """An evaluation on held-out mixtures."""

    checkpoint: str = setting(
        "", "a run's folder, a checkpoint or a .safetensors file; empty: untrained weights, and it says so"
    )
    preset: str = setting("small", "size of the model, where there is no checkpoint", choices=PRESETS)
    data: str = setting("pack", "the bundled speech pack, a manifest (.csv, .jsonl), or a folder of data")
    split: str = setting("test", "part of the data", choices=("train", "valid", "test"))
    speakers: int = setting(2, "voices in a mixture", least=1, most=8)
    seconds: float = setting(2.0, "length of a mixture", unit="s", least=0.32, most=60)
    snr_low: float = setting(-5.0, "least level of one voice over another", unit="dB", least=-40, most=40)
    snr_high: float = setting(5.0, "greatest level of one voice over another", unit="dB", least=-40, most=40)
    noise: float = setting(0.0, "share of mixtures with background noise", least=0, most=1)
    reverb: float = setting(0.0, "share of mixtures in a room with reverberation", least=0, most=1)
    mixtures: int = setting(100, "how many", least=1, most=100_000)
    perceptual: bool = setting(True, "PESQ and STOI, too, where they are installed")
    seed: int = setting(1, "of the mixing", least=0, most=2**32 - 1)
    device: str = setting("auto", "where it runs", choices=DEVICES)
    threads: int = setting(0, "of the CPU; 0: as many as torch takes", least=0, most=256)


@dataclass(frozen=True, slots=True)
class Separate:
    """The voices of one film."""

    input: str = setting("", "the film, or a sound file", positional=True)
    checkpoint: str = setting("", "a run's folder, a checkpoint or a .safetensors file; empty: the bundled weights")
    speakers: int = setting(0, "voices; 0: as many as there are faces", least=0, most=8)
    landmarks: str = setting("", "a file with mouth boxes or landmarks, where faces are known already")
    chunk: float = setting(1.28, "seconds that are looked at at a time", unit="s", least=0.32, most=60)
    loudness: bool = setting(True, "make each voice as loud as the film was")
    video: bool = setting(True, "write a film of each face, too")
    picture: bool = setting(True, "draw the spectrograms before and after")
    most_minutes: float = setting(240.0, "longest film that is taken", unit="min", least=0.01, most=2_000)
    device: str = setting("auto", "where it runs", choices=DEVICES)
    threads: int = setting(0, "of the CPU; 0: as many as torch takes", least=0, most=256)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """How fast it is, measured again and again."""

    preset: str = setting("small", "size of the model, where there is no checkpoint", choices=PRESETS)
    checkpoint: str = setting("", "a run's folder, a checkpoint or a .safetensors file; empty: untrained weights")
    speakers: int = setting(2, "voices in a mixture", least=1, most=8)
    seconds: float = setting(2.0, "length of a mixture", unit="s", least=0.32, most=60)
    batch: int = setting(1, "mixtures in one forward pass", least=1, most=4096)
    repeats: int = setting(20, "measurements", least=5, most=10_000)
    warmup: int = setting(3, "passes that are not counted", least=0, most=1_000)
    baseline: str = setting("", "folder with earlier measurements of each class of machine; empty: none")
    tolerance: float = setting(0.05, "the least relative change that matters", least=0, most=10)
    device: str = setting("auto", "where it runs", choices=DEVICES)
    precision: str = setting("fp32", "of the arithmetic", choices=PRECISIONS)
    threads: int = setting(0, "of the CPU; 0: as many as torch takes", least=0, most=256)


@dataclass(frozen=True, slots=True)
class Export:
    """A file that other runtimes take."""

    checkpoint: str = setting(
        "", "a run's folder, a checkpoint or a .safetensors file; empty: untrained weights, and it says so"
    )
    preset: str = setting("small", "size of the model, where there is no checkpoint", choices=PRESETS)
    speakers: int = setting(2, "voices in a mixture", least=1, most=8)
    seconds: float = setting(2.0, "length of a mixture", unit="s", least=0.32, most=60)
    int8: bool = setting(True, "a quantised file, too")
    tolerance: float = setting(1e-5, "greatest relative difference from torch", least=0, most=1)
    int8_tolerance: float = setting(0.025, "the same of the quantised file", least=0, most=1)
