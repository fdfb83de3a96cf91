"""The separator: one voice for each mouth, whatever their number, and the same weights for all."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from workloads import checkpoint
from workloads.av_separation import config
from workloads.av_separation.model import PRESETS, SLOTS, Separator, build, load, parameters, save_weights
from workloads.av_separation.stft import EXTRA, HOP, TAIL, Stft
from workloads.contract import Failure, RunFailed

Scene = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(scope="module")
def model() -> Separator:
    torch.manual_seed(0)
    return build("tiny").eval()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(1)


def scene(speakers: int = 2, frames: int = 12, batch: int = 1, samples: int | None = None) -> Scene:
    """Noise to be separated, and pictures of noise."""
    return (
        0.1 * torch.randn(batch, 640 * frames if samples is None else samples),
        torch.rand(batch, speakers, frames, 48, 48),
        torch.ones(batch, speakers, frames),
    )


def apart(one: Tensor, other: Tensor) -> float:
    """The greatest difference, relative to the greatest value."""
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("samples", [160, 512, 4_321])
def test_the_inverse_transform_gives_the_sound_back(samples: int) -> None:
    stft, sound = Stft(), torch.rand(2, samples) * 2 - 1
    padded = torch.nn.functional.pad(sound, (TAIL, -samples % HOP + EXTRA * HOP))
    assert float((stft.inverse(stft(padded))[:, TAIL : TAIL + samples] - sound).abs().max()) <= 1e-6


@pytest.mark.parametrize(("preset", "count"), [("tiny", 1_135_116), ("small", 7_565_044), ("base-122m", 121_574_724)])
def test_each_preset_has_the_size_that_is_told(preset: str, count: int) -> None:
    with torch.device("meta"):
        assert parameters(build(preset)) == count


def test_the_settings_name_the_presets_that_there_are() -> None:
    assert tuple(PRESETS) == config.PRESETS


def test_a_preset_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RunFailed, match="there are tiny, small, base-122m") as refused:
        build("huge")
    assert refused.value.kind is Failure.BAD_SETTING


@pytest.mark.parametrize("speakers", [1, 2, 3])
def test_the_same_weights_serve_any_number_of_speakers(model: Separator, speakers: int) -> None:
    with torch.inference_mode():
        assert model(*scene(speakers, batch=2)).shape == (2, speakers, 7_680)


@pytest.mark.parametrize("samples", [1, 639, 5_000])
def test_a_voice_is_as_long_as_the_mixture(model: Separator, samples: int) -> None:
    with torch.inference_mode():
        assert model(*scene(frames=5, samples=samples)).shape[-1] == samples


def test_a_voice_goes_with_its_mouth_whatever_its_place(model: Separator) -> None:
    mixture, mouths, seen = scene(3)
    order = [2, 0, 1]
    with torch.inference_mode():
        straight, turned = model(mixture, mouths, seen), model(mixture, mouths[:, order], seen[:, order])
    assert apart(turned, straight[:, order]) <= 1e-5
    assert apart(straight[:, order], straight) > 1e-3


def test_speakers_who_are_not_seen_are_told_apart_by_their_places(model: Separator) -> None:
    mixture, mouths, seen = scene()
    with torch.inference_mode():
        voices = model(mixture, torch.zeros_like(mouths), torch.zeros_like(seen))
    assert apart(voices[:, 0], voices[:, 1]) > 1e-3


def test_a_picture_that_is_not_seen_does_not_matter(model: Separator) -> None:
    mixture, mouths, seen = scene()
    seen[:, 0, 4:9] = 0
    other = mouths.clone()
    other[:, 0, 4:9] = 0.3
    with torch.inference_mode():
        assert apart(model(mixture, other, seen), model(mixture, mouths, seen)) <= 1e-6


def test_video_that_ends_early_is_not_seen_from_there_on(model: Separator) -> None:
    mixture, mouths, seen = scene()
    gone = seen.clone()
    gone[:, :, 7:] = 0
    with torch.inference_mode():
        short = model(mixture, mouths[:, :, :7], seen[:, :, :7])
        assert apart(short, model(mixture, mouths, gone)) <= 1e-6


def test_one_speaker_is_heard_by_the_others(model: Separator) -> None:
    mixture, mouths, seen = scene()
    other = mouths.clone()
    other[:, 1] = torch.rand_like(other[:, 1])
    with torch.inference_mode():
        assert apart(model(mixture, other, seen)[:, 0], model(mixture, mouths, seen)[:, 0]) > 1e-4


@pytest.mark.parametrize("video", [False, True])
def test_nothing_looks_ahead_beyond_its_chunk(model: Separator, video: bool) -> None:
    mixture, mouths, seen = scene(frames=24)
    later, changed = mixture.clone(), mouths.clone()
    if video:
        changed[:, :, 16:] = 0
    else:
        later[:, 16 * 640 :] = 0
    with torch.inference_mode():
        before, after = model(mixture, mouths, seen), model(later, changed, seen)
    certain = 16 * 640 - TAIL
    assert torch.equal(before[..., :certain], after[..., :certain])
    assert apart(after, before) > 1e-3


def test_a_long_recording_is_attended_to_in_blocks_with_the_same_outcome(
    model: Separator, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = scene(1, frames=150)
    with torch.inference_mode():
        blocked = model(*given)
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
        assert apart(blocked, model(*given)) <= 1e-5


def test_gradients_of_a_long_recording_are_numbers() -> None:
    model = build("tiny")
    model(*scene(1, frames=66)).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_silence_is_separated_into_silence(model: Separator) -> None:
    mixture, mouths, seen = scene()
    with torch.inference_mode():
        assert not model(torch.zeros_like(mixture), mouths, seen).any()


def test_half_precision_leaves_the_transform_in_single(model: Separator) -> None:
    given = scene()
    with torch.inference_mode():
        expected = model(*given)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(*given)
    assert found.dtype == torch.float32
    assert apart(found, expected) < 0.05


def test_more_speakers_than_there_are_places_are_refused(model: Separator) -> None:
    with pytest.raises(ValueError, match=f"{SLOTS} speakers at most"):
        model(*scene(SLOTS + 1, frames=1))


def test_lips_teach_which_voice_to_keep_within_a_few_steps() -> None:
    torch.manual_seed(3)
    model = build("tiny")
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    wide = torch.linspace(-1, 1, 48)

    def lesson(batch: int, frames: int = 16) -> tuple[Scene, Tensor]:
        """Noise that is loud where a mouth is open: a dark bar, as high as the noise is loud."""
        open_ = (torch.rand(batch, 2, frames // 4) > 0.5).float().repeat_interleave(4, dim=2)
        clean = 0.1 * torch.randn(batch, 2, 640 * frames) * open_.repeat_interleave(640, dim=2)
        mouths = 0.7 - 0.6 * (wide.abs()[:, None] < 0.1 + 0.4 * open_[..., None, None]) * torch.ones(48)
        return (clean.sum(1), mouths, torch.ones(batch, 2, frames)), clean

    def error(given: Scene, clean: Tensor) -> Tensor:
        return (model(*given) - clean).square().mean() / clean.square().mean()

    for _ in range(8):
        given, clean = lesson(2)
        optimiser.zero_grad()
        error(given, clean).backward()
        optimiser.step()
    (mixture, mouths, seen), clean = lesson(8)
    with torch.inference_mode():
        right, wrong = error((mixture, mouths, seen), clean), error((mixture, mouths.flip(1), seen), clean)
    assert float(right) < 0.6 * float(wrong)


def test_weights_come_back_as_they_were_kept(model: Separator, tmp_path: Path) -> None:
    given = scene()
    save_weights(model, tmp_path / "model.safetensors", "tiny")
    again = load(tmp_path / "model.safetensors")
    with torch.inference_mode():
        assert torch.equal(again(*given), model(*given))
    assert not again.training


def test_of_a_training_s_folder_its_weights_are_loaded(model: Separator, tmp_path: Path) -> None:
    save_weights(model, tmp_path / "model.safetensors", "tiny")
    (tmp_path / "checkpoints").mkdir()
    save_file({"optimiser": torch.zeros(1)}, tmp_path / "checkpoints" / "tensors.safetensors")
    assert torch.equal(load(tmp_path).slots, model.slots)


def test_weights_are_found_in_a_file_a_run_and_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(3)
    separator = build("tiny")
    bias = separator.out.bias.detach().clone()
    save_weights(separator, tmp_path / "model.safetensors", "tiny")
    tensors = {f"model.{name}": value for name, value in separator.state_dict().items()}
    running = tmp_path / "running"
    kept = checkpoint.save(running / "checkpoints", 5, tensors=tensors, state={"preset": "tiny"})
    for place in (tmp_path, tmp_path / "model.safetensors", running, kept):
        assert torch.equal(load(place).out.bias, bias)
    with pytest.raises(RunFailed) as failed:
        load(tmp_path / "nowhere")
    assert failed.value.kind is Failure.DATA_MISSING


def _nothing(path: Path) -> None:
    """No file at all."""


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1_000] if path.exists() else b"\x10")


def _nameless(path: Path) -> None:
    save_file({"x": torch.zeros(1)}, path)


def _another_shape(path: Path) -> None:
    save_file({"x": torch.zeros(1)}, path, {"preset": "tiny"})


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (_nothing, Failure.DATA_MISSING, "there are no weights"),
        (_torn, Failure.CHECKPOINT_CORRUPT, "cannot be read as weights"),
        (_nameless, Failure.CHECKPOINT_CORRUPT, "of which preset"),
        (_another_shape, Failure.CHECKPOINT_CORRUPT, "does not fit the preset tiny"),
    ],
)
def test_what_holds_no_weights_is_refused(
    tmp_path: Path, make: Callable[[Path], None], kind: Failure, words: str
) -> None:
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(RunFailed, match=words) as refused:
        load(path)
    assert refused.value.kind is kind


def test_an_empty_folder_holds_no_weights(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="no weights"):
        load(tmp_path)
