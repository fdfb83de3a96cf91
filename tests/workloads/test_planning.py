"""Plans of the speech separation agree with what is planned for."""

import pytest

from workloads.av_separation.config import PRESETS, Train
from workloads.av_separation.model import build, parameters
from workloads.av_separation.planning import SIZES, needs
from workloads.contract import Measured, Unavailable


@pytest.mark.parametrize("preset", PRESETS)
def test_a_plan_knows_how_large_each_preset_is(preset: str):
    import torch

    with torch.device("meta"):
        assert SIZES[preset].parameters == parameters(build(preset))


def test_a_plan_grows_with_the_batch_and_not_with_the_accumulation():
    def planned(**told: int) -> float:
        memory = needs("train", Train(**told)).memory_bytes
        assert isinstance(memory, Measured)
        return memory.value

    assert planned(batch=16) > 1.4 * planned(batch=8)
    assert planned(batch=8, accumulate=2) == planned(batch=8)


def test_a_plan_without_a_limit_of_time_says_that_it_knows_none():
    assert isinstance(needs("train", Train()).time_s, Unavailable)
    assert needs("train", Train(minutes=3)).time_s == Measured(180, "s")


def test_what_runs_on_the_cpu_needs_no_memory_of_a_card():
    assert isinstance(needs("train", Train(device="cpu")).vram_bytes, Unavailable)
    assert isinstance(needs("train", Train()).vram_bytes, Measured)
