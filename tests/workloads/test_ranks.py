"""Processes that train together, and what is told where one of them fails."""

import os
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from workloads import ranks
from workloads.av_separation import train
from workloads.av_separation.config import Train
from workloads.contract import Failure, RunFailed


class Quiet:
    def __init__(self, out) -> None:
        out.mkdir()
        self.out, self.resume = out, None

    def event(self, name, /, **fields): ...

    def progress(self, done, total, unit, **figures): ...

    def metric(self, name, value, step, unit=""): ...

    def check(self): ...


@pytest.fixture(autouse=True)
def _fresh():
    yield
    AcceleratorState._reset_state(True)


def test_one_process_is_left_alone(tmp_path):
    with ranks.together(1, tmp_path / "meet", "gloo", int, "not a number"):
        assert not torch.distributed.is_initialized()


def test_the_reason_of_the_process_that_failed_is_what_is_raised(tmp_path):
    with (
        pytest.raises(RunFailed, match=r"process 1: ValueError: .*not a number") as failed,
        ranks.together(2, tmp_path / "meet", "gloo", int, "not a number"),
    ):
        torch.distributed.barrier()  # for the other, which has gone
    assert failed.value.kind is Failure.BUG
    assert not torch.distributed.is_initialized()
    assert "RANK" not in os.environ


def test_two_processes_with_half_the_batch_learn_what_one_learns(tmp_path):
    config = Train(
        preset="tiny",
        seconds=0.32,
        batch=2,
        steps=2,
        warmup=2,
        validate_every=0,
        device="cpu",
        threads=1,
        learning_rate=1e-4,
    )
    train.run_train(config, Quiet(tmp_path / "one"))
    AcceleratorState._reset_state(True)
    train.run_train(replace(config, batch=1, processes=2), Quiet(tmp_path / "two"))
    one, two = (load_file(tmp_path / name / train.WEIGHTS) for name in ("one", "two"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 2e-5
