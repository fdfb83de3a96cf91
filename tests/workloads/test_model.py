"""The separator: one voice for each mouth, whatever their number, and the same weights for all."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

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
def _no_gradients(request: pytest.FixtureRequest) -> None:
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
