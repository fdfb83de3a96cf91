"""The separator: a mixture and the mouths of those who speak in it, in; one voice for each mouth, out.

One token stands for one frame of the spectrum (10 ms). The mixture is encoded once. Each speaker then has a stream of
tokens, told by that speaker's lips which part of the mixture to keep, and by the mean of all streams what the others
claim. The same weights serve any number of speakers. A stream whose speaker is not seen goes by sound alone.

Everything looks back a bounded time and ahead to the end of its chunk at most, and normalises each frame by itself, so
that a stream cut into chunks gives what the whole recording gives (`streaming.py`)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from workloads import checkpoint
from workloads.av_separation.stft import BINS, EXTRA, HOP, TAIL, Stft
from workloads.contract import Failure, RunFailed

SAMPLE_RATE = 16_000
MOUTH = 48
"""Pixels along each side of a mouth region."""
VIDEO_HOP = 640
"""Samples that one video frame lasts, at 25 frames a second."""
PER_VIDEO = VIDEO_HOP // HOP
CHUNK = 8
"""Video frames that are worked on together: 0.32 s, the most that anything looks ahead."""
BACK = 8
"""Chunks before its own that a frame attends to: 2.56 s."""
SLOTS = 8
"""Speakers not seen that can be told apart, and therefore the most speakers at once."""
TURN = 1024
"""Rotary positions repeat after this many frames, more than attention reaches: a stream of any length needs no larger
number, and so loses no precision."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a preset. `inner` is the width inside feed-forward layers; `lip_layers` are residual convolutions
    at each of the three scales of the lip encoder."""

    width: int
    heads: int
    inner: int
    audio_blocks: int
    fusion_blocks: int
    lip_channels: int
    lip_layers: int
    lip_width: int
    lip_heads: int
    lip_blocks: int
    kernel: int = 15


PRESETS: Mapping[str, Shape] = {
    # Learns in minutes on one core: for tests, and for a first look.
    "tiny": Shape(112, 4, 448, 1, 2, 24, 0, 96, 4, 1),
    # The default; of the size of the best published system, Dolphin (7 million, arXiv:2509.23610).
    "small": Shape(256, 4, 1024, 2, 4, 32, 0, 144, 4, 1),
    # A stress size, for memory and timing: nothing is known to separate better for it.
    "base-122m": Shape(512, 8, 2048, 11, 16, 64, 2, 256, 8, 3),
}
DEFAULT = "small"


@dataclass(frozen=True, slots=True)
class Sight:
    """What a frame may attend to. `mask`: (blocks, 1, queries, keys) or (queries, keys), None for everything there is.
    `cos`, `sin`: (frames, half a head), the rotary position of each frame."""

    mask: Tensor | None
    cos: Tensor
    sin: Tensor


class Memory:
    """What a block keeps of the past from one chunk to the next. Empty at first."""

    def __init__(self) -> None:
        self.conv: Tensor | None = None
        self.keys: Tensor | None = None
        self.values: Tensor | None = None


class Rotary(nn.Module):
    """Positions as rotations, each a whole number of turns in TURN frames."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head: int) -> None:
        super().__init__()
        # From one turn in TURN frames to about one radian a frame.
        steps = torch.logspace(0, 7.35, head // 2, base=2, dtype=torch.float64).round()
        angle = 2 * torch.pi / TURN * torch.arange(TURN, dtype=torch.float64)[:, None] * steps
        self.register_buffer("cos", torch.cos(angle).float(), persistent=False)
        self.register_buffer("sin", torch.sin(angle).float(), persistent=False)

    def forward(self, frames: int, start: int = 0) -> tuple[Tensor, Tensor]:
        at = (torch.arange(frames, device=self.cos.device) + start) % TURN
        return self.cos[at], self.sin[at]


def _whole(frames: int, chunk: int, device: torch.device) -> Tensor:
    """(frames, frames): True where the frame of the row may attend to the frame of the column."""
    at = torch.arange(frames, device=device) // chunk
    apart = at[:, None] - at
    return (apart >= 0) & (apart <= BACK)


def _blocked(frames: int, chunk: int, device: torch.device) -> Tensor:
    """(blocks, 1, reach, 2 * reach): the same for a long recording, cut into blocks of `reach` frames, each of which
    attends to the block before and to itself. The work grows with the length, not with its square."""
    reach = BACK * chunk
    blocks = -(-frames // reach)
    start = reach * torch.arange(blocks, device=device)[:, None, None]
    query = start + torch.arange(reach, device=device)[:, None]
    key = start + torch.arange(-reach, reach, device=device)
    apart = query // chunk - torch.div(key, chunk, rounding_mode="floor")
    near = (apart >= 0) & (apart <= BACK) & (key >= 0) & (key < frames)
    # A frame past the end sees itself: a row that saw nothing would have no gradient but NaN.
    return (near | (query == key))[:, None]


def _turned(x: Tensor, sight: Sight) -> Tensor:
    """(batch, heads, frames, head) -> the same, rotated."""
    one, other = x.chunk(2, dim=-1)
    return torch.cat([one * sight.cos - other * sight.sin, one * sight.sin + other * sight.cos], dim=-1)


class Block(nn.Module):
    """Convolution over the past, attention, feed-forward; `told` is the width of what the block is told of each frame,
    which scales and shifts what goes into the convolution."""

    def __init__(self, width: int, heads: int, inner: int, kernel: int, chunk: int, told: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.chunk = chunk
        self.past = kernel - 1
        self.conv_norm = nn.LayerNorm(width)
        self.told = nn.Linear(told, 2 * width) if told else None
        self.conv_in = nn.Linear(width, 2 * width)
        self.conv = nn.Conv1d(width, width, kernel, groups=width)
        self.conv_mid = nn.LayerNorm(width)
        self.conv_out = nn.Linear(width, width)
        self.attend_norm = nn.LayerNorm(width)
        self.attend_in = nn.Linear(width, 3 * width)
        self.attend_out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, inner)
        self.feed_out = nn.Linear(inner, width)

    def forward(self, x: Tensor, sight: Sight, told: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        """x: (batch, frames, width); told: (batch, frames, 2 * width), of `tell`."""
        x = x + self._convolve(x, told, memory)
        x = x + self._attend(x, sight, memory)
        fed: Tensor = self.feed_out(functional.silu(self.feed_in(self.feed_norm(x))))
        return x + fed

    def tell(self, what: Tensor) -> Tensor:
        assert self.told is not None
        told: Tensor = self.told(what)
        return told

    def _convolve(self, x: Tensor, told: Tensor | None, memory: Memory | None) -> Tensor:
        y = self.conv_norm(x)
        if told is not None:
            scale, shift = told.chunk(2, dim=-1)
            y = y * (1 + scale) + shift
        y = functional.glu(self.conv_in(y), dim=-1).transpose(1, 2)
        before = None if memory is None else memory.conv
        y = functional.pad(y, (self.past, 0)) if before is None else torch.cat([before, y], dim=-1)
        if memory is not None:
            memory.conv = y[..., -self.past :]
        out: Tensor = self.conv_out(functional.silu(self.conv_mid(self.conv(y).transpose(1, 2))))
        return out

    def _attend(self, x: Tensor, sight: Sight, memory: Memory | None) -> Tensor:
        batch, frames, width = x.shape
        y = self.attend_in(self.attend_norm(x)).view(batch, frames, 3, self.heads, width // self.heads)
        query, key, value = y.permute(2, 0, 3, 1, 4).unbind(0)  # (batch, heads, frames, head)
        query, key = _turned(query, sight), _turned(key, sight)
        if memory is not None:
            if memory.keys is not None and memory.values is not None:
                key, value = torch.cat([memory.keys, key], dim=2), torch.cat([memory.values, value], dim=2)
            kept = BACK * self.chunk
            memory.keys, memory.values = key[:, :, -kept:], value[:, :, -kept:]
        if sight.mask is not None and sight.mask.dim() == 4:
            got = self._attend_by_blocks(query, key, value, sight.mask)
        else:
            got = functional.scaled_dot_product_attention(query, key, value, attn_mask=sight.mask)
        out: Tensor = self.attend_out(got.transpose(1, 2).reshape(batch, frames, width))
        return out

    def _attend_by_blocks(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        batch, _, frames, _ = query.shape
        blocks, _, reach, _ = mask.shape

        def cut(x: Tensor, before: int) -> Tensor:
            x = functional.pad(x, (0, 0, before, blocks * reach - frames))
            x = x.unfold(2, before + reach, reach)  # (batch, heads, blocks, head, before + reach)
            return x.permute(0, 2, 1, 4, 3).flatten(0, 1)

        got = functional.scaled_dot_product_attention(
            cut(query, 0), cut(key, reach), cut(value, reach), attn_mask=mask.repeat(batch, 1, 1, 1)
        )
        got = got.view(batch, blocks, *got.shape[1:]).transpose(1, 2).flatten(2, 3)
        return got[:, :, :frames]  # (batch, heads, frames, head)


class LipEncoder(nn.Module):
    """Mouth pictures to one feature a video frame, (streams, frames, lip_width)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        c = shape.lip_channels
        scales: list[nn.Module] = []
        for before, after, kernel, stride in ((2, c, 7, 4), (c, 2 * c, 3, 2), (2 * c, 4 * c, 3, 2)):
            scales += [nn.Conv2d(before, after, kernel, stride, kernel // 2), nn.GroupNorm(1, after), nn.SiLU()]
            scales += [_Residual(after) for _ in range(shape.lip_layers)]
        self.trunk = nn.Sequential(*scales)
        self.out = nn.Linear(4 * c * (MOUTH // 16) ** 2, shape.lip_width)
        self.norm = nn.LayerNorm(shape.lip_width)

    def forward(self, mouths: Tensor, moved: Tensor) -> Tensor:
        """Both (streams, frames, MOUTH, MOUTH); `moved` is each picture less the one before it."""
        streams, frames = mouths.shape[:2]
        pictures = torch.stack([4 * mouths - 2, 8 * moved], dim=2).flatten(0, 1)
        features: Tensor = self.norm(self.out(self.trunk(pictures).flatten(1)))
        return features.view(streams, frames, -1)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.silu(self.norm(self.conv(x)))


class Fusion(nn.Module):
    """One block of the speakers' streams: told by the lips, and by the mean of all streams what the others claim."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.mean_norm = nn.LayerNorm(shape.width)
        self.mean_out = nn.Linear(shape.width, shape.width)
        self.block = Block(shape.width, shape.heads, shape.inner, shape.kernel, CHUNK * PER_VIDEO, told=shape.lip_width)

    def forward(self, x: Tensor, lips: Tensor, sight: Sight, memory: Memory | None = None) -> Tensor:
        """x: (batch, speakers, frames, width); lips: (batch, speakers, ceil(frames / 4), lip_width)."""
        claimed = self.mean_out(functional.silu(self.mean_norm(x.mean(1, keepdim=True))))
        told = _stretched(self.block.tell(lips), x.shape[2])
        y: Tensor = self.block((x + claimed).flatten(0, 1), sight, told.flatten(0, 1), memory)
        return y.view(x.shape)


class State:
    """What a stream carries from chunk to chunk: the memory of each block, and how many frames have gone by."""

    def __init__(self, model: "Separator") -> None:
        self.frames = 0
        self.video_frames = 0
        self.mouth: tuple[Tensor, Tensor] | None = None  # the last picture of each speaker, and whether it was one
        self.of_lips = [Memory() for _ in model.lip_blocks]
        self.of_audio = [Memory() for _ in model.audio_blocks]
        self.of_fusion = [Memory() for _ in model.fusions]


class Separator(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, told = shape.width, shape.lip_width
        self.stft = Stft()
        self.rotary = Rotary(width // shape.heads)
        self.lip_rotary = Rotary(told // shape.lip_heads)
        self.lips = LipEncoder(shape)
        self.not_seen = nn.Parameter(torch.zeros(told))
        self.slots = nn.Parameter(torch.randn(SLOTS, told))
        self.lip_blocks = nn.ModuleList(
            Block(told, shape.lip_heads, 4 * told, 5, CHUNK) for _ in range(shape.lip_blocks)
        )
        self.lip_norm = nn.LayerNorm(told)
        self.audio_in = nn.Linear(3 * BINS, width)
        self.audio_blocks = nn.ModuleList(
            Block(width, shape.heads, shape.inner, shape.kernel, CHUNK * PER_VIDEO) for _ in range(shape.audio_blocks)
        )
        self.lips_in = nn.Linear(told, width)
        self.fusions = nn.ModuleList(Fusion(shape) for _ in range(shape.fusion_blocks))
        self.out_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 3 * BINS)
        self.open = nn.Linear(told, BINS)  # how much of each band moving lips account for: the first thing learnt

    def forward(self, mixture: Tensor, mouths: Tensor, seen: Tensor) -> Tensor:
        """mixture: (batch, samples); mouths: (batch, speakers, frames, 48, 48); seen: (batch, speakers, frames), 0
        where there is no picture. Returns (batch, speakers, samples). Video that ends early is not seen from there on;
        video that goes on is cut. Where no speaker is ever seen, the order of the voices means nothing."""
        samples = mixture.shape[-1]
        if seen.shape[1] > SLOTS:
            raise ValueError(f"{SLOTS} speakers at most: not {seen.shape[1]}")
        mixture, mouths, seen = aligned(mixture, mouths, seen)
        return self.separate(mixture, mouths, seen)[..., :samples]

    def separate(self, mixture: Tensor, mouths: Tensor, seen: Tensor) -> Tensor:
        """`forward` for exactly VIDEO_HOP samples for each video frame."""
        spectrum = self.analyse(functional.pad(mixture, (TAIL, EXTRA * HOP)))
        lips = self.see(mouths, seen)
        lips = _held(lips)
        estimate = self.synthesise(self.estimate(spectrum, lips))
        return estimate[..., TAIL : TAIL + mixture.shape[-1]]

    def analyse(self, samples: Tensor) -> Tensor:
        """(batch, TAIL + HOP * frames) -> (batch, 2 * BINS, frames); in single precision, whatever the rest runs in."""
        if torch.is_autocast_enabled(samples.device.type):
            with torch.autocast(samples.device.type, enabled=False):
                return self.analyse(samples.float())
        spectrum: Tensor = self.stft(samples)
        return spectrum

    def synthesise(self, spectrum: Tensor) -> Tensor:
        """(batch, speakers, 2 * BINS, frames) -> (batch, speakers, HOP * frames + TAIL)."""
        if torch.is_autocast_enabled(spectrum.device.type):
            with torch.autocast(spectrum.device.type, enabled=False):
                return self.synthesise(spectrum.float())
        samples = self.stft.inverse(spectrum.flatten(0, 1))
        return samples.view(*spectrum.shape[:2], -1)

    def see(self, mouths: Tensor, seen: Tensor, state: State | None = None) -> Tensor:
        """(batch, speakers, frames, …) -> (batch, speakers, frames, lip_width): what the lips tell, or what stands for
        not seeing them."""
        batch, speakers, frames = seen.shape
        mouths, was = mouths.flatten(0, 1), seen.flatten(0, 1)
        if state is None or state.mouth is None:
            before, was_before = torch.zeros_like(mouths[:, :1]), torch.zeros_like(was[:, :1])
        else:
            before, was_before = state.mouth
        if state is not None:
            state.mouth = mouths[:, -1:], was[:, -1:]
        both = was * torch.cat([was_before, was[:, :-1]], dim=1)
        moved = (mouths - torch.cat([before, mouths[:, :-1]], dim=1)) * both[..., None, None]
        found = self.lips(mouths, moved).view(batch, speakers, frames, -1)
        instead = self.not_seen + self.slots[:speakers]
        x = torch.where(seen[..., None] > 0.5, found, instead[:, None].to(found.dtype)).flatten(0, 1)
        start = 0 if state is None else state.video_frames
        sight = self._sight(self.lip_rotary, frames, CHUNK, start, alone=state is not None)
        for at, block in enumerate(self.lip_blocks):
            x = block(x, sight, memory=None if state is None else state.of_lips[at])
        if state is not None:
            state.video_frames += frames
        lips: Tensor = self.lip_norm(x)
        return lips.view(batch, speakers, frames, -1)

    def estimate(self, spectrum: Tensor, lips: Tensor, state: State | None = None) -> Tensor:
        """spectrum: (batch, 2 * BINS, frames) of the mixture; lips: (batch, speakers, ceil(frames / 4), lip_width).
        Returns the spectra of the voices, (batch, speakers, 2 * BINS, frames)."""
        speakers, frames = lips.shape[1], spectrum.shape[-1]
        start = 0 if state is None else state.frames
        sight = self._sight(self.rotary, frames, CHUNK * PER_VIDEO, start, alone=state is not None)
        x = self.audio_in(_features(spectrum).transpose(1, 2))
        for at, block in enumerate(self.audio_blocks):
            x = block(x, sight, memory=None if state is None else state.of_audio[at])
        x = x[:, None] + _stretched(self.lips_in(lips), frames)
        for at, fusion in enumerate(self.fusions):
            x = fusion(x, lips, sight, None if state is None else state.of_fusion[at])
        if state is not None:
            state.frames += frames
        logit, real, imaginary = self.out(self.out_norm(x)).chunk(3, dim=-1)
        logit = (logit + _stretched(self.open(lips), frames)).float()
        # The speakers share each bin among them and with what is nobody's (a logit of 0); then each may turn its phase.
        share = torch.softmax(torch.cat([logit, torch.zeros_like(logit[:, :1])], dim=1), dim=1)[:, :speakers]
        real, imaginary = (share + real.float()).transpose(2, 3), imaginary.float().transpose(2, 3)
        of_real, of_imaginary = spectrum[:, None, :BINS], spectrum[:, None, BINS:]
        return torch.cat([of_real * real - of_imaginary * imaginary, of_real * imaginary + of_imaginary * real], dim=2)

    def _sight(self, rotary: Rotary, frames: int, chunk: int, start: int, *, alone: bool) -> Sight:
        """`alone`: the frames are one chunk, or its beginning, and attend to all that is remembered."""
        cos, sin = rotary(frames, start)
        if alone:
            return Sight(None, cos, sin)
        # An exported graph has one way for all lengths.
        dense = torch.compiler.is_exporting() or frames <= BACK * chunk
        mask = (_whole if dense else _blocked)(frames, chunk, cos.device)
        return Sight(mask, cos, sin)


def aligned(mixture: Tensor, mouths: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three with VIDEO_HOP samples for each video frame: silence and frames not seen are added, frames left over
    are cut."""
    frames = -(-mixture.shape[-1] // VIDEO_HOP)
    mixture = functional.pad(mixture, (0, frames * VIDEO_HOP - mixture.shape[-1]))
    missing = frames - seen.shape[-1]
    if missing > 0:
        mouths, seen = functional.pad(mouths, (0, 0, 0, 0, 0, missing)), functional.pad(seen, (0, missing))
    return mixture, mouths[:, :, :frames], seen[..., :frames]


def _held(lips: Tensor) -> Tensor:
    """The last feature once more, for the frames past the last sample."""
    return torch.cat([lips, lips[:, :, -1:]], dim=2)


def _stretched(x: Tensor, frames: int) -> Tensor:
    """(batch, speakers, video frames, width) -> (batch, speakers, frames, width): each four times."""
    return x[:, :, :, None].expand(-1, -1, -1, PER_VIDEO, -1).flatten(2, 3)[:, :, :frames]


def _features(spectrum: Tensor) -> Tensor:
    """(batch, 2 * BINS, frames) -> (batch, 3 * BINS, frames): the spectrum with its loudness pressed together as an ear
    does, and its logarithm."""
    power = spectrum[:, :BINS].square() + spectrum[:, BINS:].square() + 1e-5
    press = power.pow(-0.35)
    return torch.cat([spectrum * torch.cat([press, press], dim=1), 0.2 * power.log() + 1], dim=1)


def build(preset: str = DEFAULT) -> Separator:
    """A separator with random weights, of PyTorch's current seed."""
    return Separator(shape_of(preset))


def shape_of(preset: str) -> Shape:
    if preset not in PRESETS:
        raise RunFailed(Failure.BAD_SETTING, f"no preset is called {preset!r}: there are {', '.join(PRESETS)}")
    return PRESETS[preset]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# --- weights on disk -----------------------------------------------------------------------------------------------

WEIGHTS, CHECKPOINTS = "model.safetensors", "checkpoints"
"""Of a training's folder: the weights in the end, and what it keeps on the way."""


def save_weights(model: Separator, path: Path, preset: str) -> None:
    """One safetensors file, with the preset in its header."""
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path, {"preset": preset})


def find_weights(path: Path) -> Path:
    """What `checkpoint` means, in every verb: a file of weights or a checkpoint's folder, and of a training's folder
    its weights, or while there are none its newest whole checkpoint. Raises RunFailed."""
    if path.is_file() or (path / checkpoint.MANIFEST).is_file():
        return path
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    kept = checkpoint.latest(path / CHECKPOINTS)
    if kept is None:
        raise RunFailed(
            Failure.DATA_MISSING,
            f"there are no weights at {path}: name a file (.safetensors), a checkpoint, or a training's folder with "
            f"{WEIGHTS} or a whole checkpoint",
        )
    return kept


def load(path: Path) -> Separator:
    """The model of what `find_weights` finds there, on the CPU and ready to separate. Raises RunFailed."""
    found = find_weights(path)
    return _of_checkpoint(found) if found.is_dir() else _of_file(found)


def _of_file(path: Path) -> Separator:
    """Shapes are compared before anything is read: a stranger's file takes no more memory than the model."""
    try:
        with safe_open(path, framework="pt") as file:
            preset = (file.metadata() or {}).get("preset", "")
            if preset not in PRESETS:
                raise RunFailed(
                    Failure.CHECKPOINT_CORRUPT, f"{path} does not say of which preset it is: it says {preset[:100]!r}"
                )
            model = build(preset)
            wanted = {name: list(value.shape) for name, value in model.state_dict().items()}
            names = list(file.keys())  # a file is no mapping
            if {name: list(file.get_slice(name).get_shape()) for name in names} != wanted:
                raise RunFailed(Failure.CHECKPOINT_CORRUPT, f"{path} does not fit the preset {preset}")
            model.load_state_dict({name: file.get_tensor(name) for name in names})
    except (SafetensorError, OSError, json.JSONDecodeError) as why:
        raise RunFailed(Failure.CHECKPOINT_CORRUPT, f"{path} cannot be read as weights: {why}") from why
    return model.eval()


def _of_checkpoint(folder: Path) -> Separator:
    tensors, state = checkpoint.load(folder)
    preset = str(state.get("preset"))
    if preset not in PRESETS:
        raise RunFailed(Failure.CHECKPOINT_CORRUPT, f"{folder} does not say of which preset it is")
    model = build(preset)
    try:
        model.load_state_dict({name[6:]: of for name, of in tensors.items() if name.startswith("model.")})
    except RuntimeError as error:
        raise RunFailed(Failure.CHECKPOINT_CORRUPT, f"{folder} does not fit its preset: {error!s:.300}") from error
    return model.eval()
