"""A stream gives what the whole recording gives, in whatever pieces it comes."""

import random

import pytest
import torch
from torch import Tensor

from workloads.av_separation.model import Separator, build
from workloads.av_separation.streaming import LATENCY_S, Streamer


@pytest.fixture(scope="module")
def model() -> Separator:
    torch.manual_seed(0)
    return build("tiny").eval()


def scene(samples: int, frames: int, speakers: int = 2, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(samples)
    seen = (torch.rand(batch, speakers, frames) > 0.2).float()
    return 0.1 * torch.randn(batch, samples), torch.rand(batch, speakers, frames, 48, 48) * seen[..., None, None], seen


def streamed(model: Separator, mixture: Tensor, mouths: Tensor, seen: Tensor, dice: random.Random) -> list[Tensor]:
    """In pieces of any size, sound and pictures each at their own pace."""
    streamer = Streamer(model, seen.shape[1])
    out, heard, looked = [], 0, 0
    while heard < mixture.shape[1] or looked < seen.shape[2]:
        listen, look = heard + dice.choice((0, 1, 160, 3_000, 12_000)), looked + dice.choice((0, 1, 5, 17))
        out.append(
            streamer.push(mixture[:, heard:listen], mouths[:, :, looked:look], seen[:, :, looked:look]),
        )
        heard, looked = min(listen, mixture.shape[1]), min(look, seen.shape[2])
    return [*out, streamer.flush()]


@pytest.mark.parametrize(
    ("samples", "frames", "speakers", "batch"),
    [
        (10 * 5_120, 80, 2, 1),  # whole chunks, and longer than attention reaches
        (10 * 5_120 + 1, 81, 1, 1),
        (3 * 5_120 - 1, 24, 2, 2),
        (7_777, 13, 3, 1),
        (9_000, 10, 2, 1),  # pictures that end early
        (4_000, 30, 2, 1),  # pictures that go on
        (1, 0, 2, 1),
    ],
)
def test_a_stream_equals_the_whole_recording(
    model: Separator, samples: int, frames: int, speakers: int, batch: int
) -> None:
    mixture, mouths, seen = scene(samples, frames, speakers, batch)
    with torch.inference_mode():
        whole = model(mixture, mouths, seen)
    out = torch.cat(streamed(model, mixture, mouths, seen, random.Random(samples)), dim=2)
    assert out.shape == whole.shape
    assert float((out - whole).abs().max()) <= 1e-4 * float(whole.abs().max())


def test_voices_are_told_as_soon_as_the_latency_promises(model: Separator) -> None:
    mixture, mouths, seen = scene(20 * 640, 20)
    streamer, told = Streamer(model), 0
    for at in range(20):
        part = slice(at * 640, (at + 1) * 640)
        told += streamer.push(mixture[:, part], mouths[:, :, at : at + 1], seen[:, :, at : at + 1]).shape[2]
        assert told > (at + 1) * 640 - 16_000 * LATENCY_S


def test_what_is_carried_stops_growing(model: Separator) -> None:
    mixture, mouths, seen = scene(16 * 5_120, 128)
    streamer, sizes = Streamer(model), []
    for at in range(16):
        streamer.push(
            mixture[:, at * 5_120 : (at + 1) * 5_120],
            mouths[:, :, at * 8 : (at + 1) * 8],
            seen[:, :, at * 8 : (at + 1) * 8],
        )
        state = streamer._state
        memories = [*state.of_lips, *state.of_audio, *state.of_fusion]
        sizes.append(sum(x.numel() for m in memories for x in (m.conv, m.keys, m.values) if x is not None))
    assert sizes[7] < 2 * sizes[-1]
    assert sizes[8:] == [sizes[-1]] * 8


def test_nothing_in_is_nothing_out(model: Separator) -> None:
    mixture, mouths, seen = scene(0, 0)
    streamer = Streamer(model)
    assert streamer.push(mixture, mouths, seen).shape == (1, 2, 0)
    assert streamer.flush().shape == (1, 2, 0)


def test_a_stream_that_was_flushed_takes_no_more(model: Separator) -> None:
    streamer = Streamer(model)
    streamer.flush()
    with pytest.raises(ValueError, match="begin another"):
        streamer.push(*scene(10, 0))
    with pytest.raises(ValueError, match="begin another"):
        streamer.flush()


def test_pictures_of_another_number_of_speakers_are_refused(model: Separator) -> None:
    with pytest.raises(ValueError, match="mouths of 3 speakers"):
        Streamer(model, 3).push(*scene(640, 1))
