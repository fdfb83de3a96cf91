"""A training steps through one order of mixtures however it is cut, interrupted or shared, and says how it ended."""

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from actions.gate.rows import Evaluation
from actions.gate.rows import read as read_rows
from workloads import checkpoint
from workloads.av_separation import rows, train
from workloads.av_separation.config import Train
from workloads.av_separation.mixing import Example
from workloads.av_separation.model import Separator, Shape
from workloads.contract import Failure, Measured, RunFailed, Unavailable

SMALL = Train(
    preset="tiny",
    seconds=0.32,
    batch=2,
    steps=8,
    warmup=2,
    validate_every=0,
    checkpoint_every=3,
    device="cpu",
    threads=1,
)
SHAPE = Shape(16, 2, 32, 1, 1, 4, 0, 16, 2, 1, kernel=5)


class Tones:
    """Mixtures of two tones, each with a mouth that opens as its tone swells."""

    def __init__(self, spec: str, *, split: str, seconds: float, seed: int, missing: float = 0.0, **_: object) -> None:
        self.seed, self.frames, self.missing = seed + 1_000 * (split != "train"), round(seconds * 25), missing

    def example(self, index: int) -> Example:
        chance = np.random.default_rng([self.seed, index])
        swell = chance.uniform(0, 1, (2, self.frames)).astype(np.float32)
        at = np.arange(self.frames * 640, dtype=np.float32) / 16_000
        pitch = chance.uniform(200, 2_000, (2, 1))
        clean = (0.1 * np.repeat(swell, 640, axis=1) * np.sin(2 * np.pi * pitch * at)).astype(np.float32)
        mouths = np.broadcast_to(swell[:, :, None, None], (2, self.frames, 48, 48)).astype(np.float32)
        seen = np.broadcast_to(chance.random((2, 1)) >= self.missing, (2, self.frames)).astype(np.float32)
        return Example(mixture=clean.sum(0), mouths=mouths * seen[..., None, None], seen=seen, clean=clean, snr_db=0.0)


class Forgetful(Separator):
    """Draws chance in each forward pass, as dropout does."""

    def forward(self, mixture, mouths, seen):
        return super().forward(torch.nn.functional.dropout(mixture, 0.2, self.training), mouths, seen)


class Noted:
    """A run that keeps what it is told."""

    def __init__(self, out: Path, resume: Path | None = None, end_at: int | None = None) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.resume = out, resume
        self.events: list[tuple[str, dict]] = []
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self.shown: list[tuple[float, float, str]] = []
        self._end_at, self._checks = end_at, 0

    def event(self, name, /, **fields):
        self.events.append((name, fields))

    def progress(self, done, total, unit, **figures):
        self.shown.append((done, total, unit))

    def metric(self, name, value, step, unit=""):
        self.curves.setdefault(name, []).append((step, value))

    def check(self):
        if self._end_at is not None and self._checks >= self._end_at:
            raise RunFailed(Failure.PREEMPTED, "the machine asked it to end")
        self._checks += 1

    def named(self, name: str) -> list[dict]:
        return [fields for each, fields in self.events if each == name]


@pytest.fixture(autouse=True)
def _fresh():
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture(autouse=True)
def _known_data(monkeypatch):
    monkeypatch.setattr(train.data, "fingerprint_of", lambda spec: "0" * 64)


def trained(config: Train, out: Path, resume: Path | None = None, make=lambda _: Separator(SHAPE), **more):
    run = Noted(out, resume, **more)
    return run, train.run_train(config, run, open_source=Tones, make=make)


def in_a_fork(work: Callable[[], object]) -> int:
    """Run in a forked process; how it ended, as `os.waitstatus_to_exitcode` tells it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(work() or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / train.WEIGHTS)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_training_makes_the_loss_smaller_and_keeps_the_weights(tmp_path):
    run, report = trained(replace(SMALL, steps=60, learning_rate=1e-2, checkpoint_every=100), tmp_path)
    losses = [value for _, value in run.curves["train_loss_db"]]
    assert losses[-1] < losses[0] - 1
    assert report.metrics["steps"] == Measured(60)
    assert report.metrics["valid_si_snri_db"] == Unavailable("there was no validation")
    assert (tmp_path / report.artefacts["model"]).is_file()
    rows = json.loads((tmp_path / report.artefacts["observations"]).read_text())["rows"]
    assert len(rows) == report.drift["batches"] == 60


def test_a_training_that_was_killed_and_resumed_ends_with_the_same_bits(tmp_path):
    config = replace(SMALL, steps=7, validate_every=2, valid_mixtures=2, lips_missing=0.4)

    class Deadly(Tones):
        """kill -9 in the middle of the sixth step."""

        def example(self, index):
            if index == 5 * config.batch + 1 and self.seed < 1_000:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().example(index)

    def forgetful(_):
        return Forgetful(SHAPE)

    def doomed():
        train.run_train(config, Noted(tmp_path / "killed"), open_source=Deadly, make=forgetful)

    assert in_a_fork(doomed) == -signal.SIGKILL
    assert not (tmp_path / "killed" / train.WEIGHTS).exists()

    def whole():
        trained(config, tmp_path / "whole", make=forgetful)

    def resumed():
        torch.rand(17)  # chance that this process has drawn before is no part of it
        run, _ = trained(config, tmp_path / "resumed", tmp_path / "killed", make=forgetful)
        return 0 if run.named("resumed")[0]["step"] >= 3 else 3

    assert in_a_fork(whole) == 0
    assert in_a_fork(resumed) == 0
    last = Path(train.CHECKPOINTS) / "step-000000007"
    for file in (Path(train.WEIGHTS), last / checkpoint.TENSORS):
        assert (tmp_path / "resumed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    states = [json.loads((tmp_path / which / last / checkpoint.STATE).read_text()) for which in ("resumed", "whole")]
    assert [state["progress"].pop("elapsed_s") >= 0 for state in states] == [True, True]
    assert states[0] == states[1]


def test_how_a_step_is_cut_into_batches_changes_nothing(tmp_path):
    trained(replace(SMALL, batch=4, steps=3), tmp_path / "one")
    trained(replace(SMALL, batch=1, accumulate=4, steps=3), tmp_path / "four")
    assert apart(weights(tmp_path / "one"), weights(tmp_path / "four")) < 1e-4
    trained(replace(SMALL, batch=4, steps=3, seed=1), tmp_path / "other")
    assert apart(weights(tmp_path / "one"), weights(tmp_path / "other")) > 1e-2


def test_a_batch_that_is_halved_after_a_failure_goes_on_with_the_mixtures_that_come_next(tmp_path):
    config = replace(SMALL, batch=4, steps=6)
    trained(config, tmp_path / "whole")
    with pytest.raises(RunFailed):
        trained(config, tmp_path / "first", end_at=3)
    trained(replace(config, batch=2, accumulate=2), tmp_path / "second", tmp_path / "first")
    assert apart(weights(tmp_path / "whole"), weights(tmp_path / "second")) < 1e-4


def test_processes_that_mix_ahead_change_nothing(tmp_path):
    trained(replace(SMALL, steps=3, loaders=0), tmp_path / "none")
    trained(replace(SMALL, steps=3, loaders=2), tmp_path / "two")
    assert apart(weights(tmp_path / "none"), weights(tmp_path / "two")) == 0


def test_a_preempted_training_keeps_a_checkpoint_of_just_that_step(tmp_path):
    run = Noted(tmp_path, end_at=4)
    with pytest.raises(RunFailed) as failed:
        train.run_train(SMALL, run, open_source=Tones, make=lambda _: Separator(SHAPE))
    assert failed.value.kind is Failure.PREEMPTED
    assert [each["step"] for each in run.named("checkpoint")] == [3, 4]
    assert checkpoint.latest(tmp_path / train.CHECKPOINTS).name == "step-000000004"


def test_a_broken_checkpoint_is_passed_over_and_told(tmp_path):
    with pytest.raises(RunFailed):
        trained(SMALL, tmp_path / "first", end_at=4)
    path = tmp_path / "first" / train.CHECKPOINTS / "step-000000004" / checkpoint.TENSORS
    path.write_bytes(path.read_bytes()[:-7])
    run, _ = trained(SMALL, tmp_path / "second", tmp_path / "first")
    assert run.named("resumed")[0]["step"] == 3
    assert len(run.named("checkpoint_passed_over")) == 1


def test_no_training_begins_among_the_checkpoints_of_another(tmp_path):
    trained(replace(SMALL, steps=1), tmp_path)
    with pytest.raises(RunFailed, match="go on with --resume") as failed:
        trained(replace(SMALL, steps=1), tmp_path)
    assert failed.value.kind is Failure.BAD_SETTING
    trained(replace(SMALL, steps=2), tmp_path, tmp_path)


def test_where_nothing_can_be_resumed_it_begins_anew_and_says_so(tmp_path):
    run, report = trained(replace(SMALL, steps=1), tmp_path / "second", tmp_path / "first")
    assert run.named("nothing_to_resume")
    assert report.metrics["steps"] == Measured(1)


def test_the_weights_of_the_best_validation_are_kept_across_a_resumption(tmp_path):
    class Fading(Separator):
        """Separates worse from step to step, whatever it learns: the first validation is the best."""

        made = 0

        def forward(self, mixture, mouths, seen):
            Fading.made += self.training
            return super().forward(mixture, mouths, seen) + 0.3 * Fading.made * torch.cos(
                torch.arange(mixture.shape[-1])
            )

    def fading(_):
        return Fading(SHAPE)

    config = replace(SMALL, steps=6, validate_every=2, valid_mixtures=2, checkpoint_every=1, keep=1)
    with pytest.raises(RunFailed):
        trained(config, tmp_path / "first", make=fading, end_at=5)
    _run, report = trained(config, tmp_path / "second", tmp_path / "first", make=fading)
    assert report.notes[0] == "the weights are those of step 2"
    kept, _ = checkpoint.load(tmp_path / "first" / train.CHECKPOINTS / "step-000000002")
    assert apart(weights(tmp_path / "second"), {name[6:]: of for name, of in kept.items() if name[:6] == "model."}) == 0


def test_it_stops_early_where_validations_bring_no_gain(tmp_path):
    config = replace(SMALL, steps=50, validate_every=1, valid_mixtures=1, patience=2, learning_rate=1e-8)

    class Stuck(Separator):
        def forward(self, mixture, mouths, seen):
            return super().forward(mixture, mouths, seen) * 0 + mixture[:, None]

    _run, report = trained(config, tmp_path, make=lambda _: Stuck(SHAPE))
    assert report.metrics["steps"] == Measured(3)
    assert report.metrics["valid_si_snri_db"].value == pytest.approx(0, abs=1e-3)
    assert "stopped early" in report.notes[1]


class Diverging(Separator):
    """No number any more from the third pass on."""

    def forward(self, mixture, mouths, seen):
        self.passes = getattr(self, "passes", 0) + 1
        return super().forward(mixture, mouths, seen) * (float("nan") if self.passes > 2 else 1.0)


def test_nan_ends_the_run_with_a_lower_learning_rate_as_advice(tmp_path):
    run = Noted(tmp_path)
    with pytest.raises(RunFailed) as failed:
        train.run_train(
            replace(SMALL, steps=30, learning_rate=4e-3, checkpoint_every=1),
            run,
            open_source=Tones,
            make=lambda _: Diverging(SHAPE),
        )
    assert failed.value.kind is Failure.NAN_LOSS
    assert failed.value.advice == {"learning_rate": pytest.approx(1e-3)}
    assert [each["row"] for each in run.named("step_skipped")] == [1, 2, 3, 4, 5]
    kept, _ = checkpoint.load(checkpoint.latest(tmp_path / train.CHECKPOINTS))
    assert all(torch.isfinite(of).all() for of in kept.values() if of.is_floating_point())


def test_what_is_advised_after_running_out_of_memory_fits_and_is_the_same_whole(tmp_path):
    config = replace(SMALL, batch=12, accumulate=2, steps=1)

    class Greedy(Separator):
        """100 MB for each mixture."""

        def forward(self, mixture, mouths, seen):
            return super().forward(mixture, mouths, seen) * torch.ones(len(mixture), 1, 25_000_000)[:, :, :1]

    def starved():
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 1_000_000_000, used + 1_000_000_000))
        with pytest.raises(RunFailed) as raised:
            trained(config, tmp_path / "first", make=lambda _: Greedy(SHAPE))
        failed = raised.value
        assert failed.kind is Failure.HOST_OOM
        assert failed.facts["predicted_bytes"] > failed.facts["limit_bytes"]
        assert failed.advice["batch"] in (6, 8)  # half at least of what failed
        assert failed.advice["batch"] * failed.advice["accumulate"] == 24
        _, report = trained(replace(config, **failed.advice), tmp_path / "second", make=lambda _: Greedy(SHAPE))
        assert report.metrics["steps"] == Measured(1)

    assert in_a_fork(starved) == 0


def test_a_mixture_without_numbers_is_the_data_s_fault(tmp_path):
    class Broken(Tones):
        def example(self, index):
            example = super().example(index)
            example.mixture[5] = np.nan if index == 3 else 0
            return example

    with pytest.raises(RunFailed) as failed:
        train.run_train(SMALL, Noted(tmp_path), open_source=Broken, make=lambda _: Separator(SHAPE))
    assert failed.value.kind is Failure.DATA_MALFORMED
    assert failed.value.facts["step"] == 1


def test_time_ends_it_in_good_order(tmp_path):
    run, report = trained(replace(SMALL, steps=100_000, minutes=0.3 / 60), tmp_path)
    assert {unit for _, _, unit in run.shown[1:]} == {"min"}
    assert all(done <= total for done, total, _ in run.shown)
    assert 0 < report.metrics["steps"].value < 100_000
    assert checkpoint.latest(tmp_path / train.CHECKPOINTS) is not None


def test_in_pit_the_order_of_the_voices_is_free(tmp_path):
    class Swapping(Separator):
        def forward(self, mixture, mouths, seen):
            return super().forward(mixture, mouths, seen).flip(1)

    config = replace(SMALL, steps=2, mode="pit")
    for name, model in (("straight", Separator), ("swapped", Swapping)):
        trained(config, tmp_path / name, make=lambda _, model=model: model(SHAPE))
    assert apart(weights(tmp_path / "straight"), weights(tmp_path / "swapped")) < 1e-6


def test_the_learning_rate_rises_then_falls_with_steps_or_minutes_whichever_is_further():
    config = replace(SMALL, steps=1_000, warmup=100, learning_rate=1.0)
    assert train.learning_rate(config, 0, 0) == pytest.approx(0.01, rel=0.01)
    assert train.learning_rate(config, 99, 0) == pytest.approx(0.98, rel=0.01)
    assert train.learning_rate(config, 500, 0) == pytest.approx(0.505, rel=0.01)
    assert train.learning_rate(config, 999, 0) == pytest.approx(0.01, rel=0.01)
    assert train.learning_rate(replace(config, minutes=10.0), 500, 570) < 0.02
    assert train.learning_rate(replace(config, schedule="constant"), 999, 0) == 1


def test_a_curriculum_goes_from_short_and_even_to_the_whole_task():
    config = replace(SMALL, curriculum=True, steps=90, seconds=2.56, snr_low=-6.0, snr_high=6.0, noise=0.5)
    assert [train.stage(config, step) for step in (0, 29, 30, 59, 60, 89)] == [0, 0, 1, 1, 2, 2]
    first = train.easier(config, 0.5)
    assert (first.seconds, first.snr_low, first.snr_high, first.noise) == (1.28, -3, 3, 0)


def test_processes_take_turns_in_one_order():
    config = replace(SMALL, batch=2, accumulate=2, processes=2, steps=2)
    orders = [[*train.Order(config, train.Place(0, 100, rank, 2))] for rank in (0, 1)]
    assert orders[0][:2] == [[(0, 100), (0, 101)], [(0, 104), (0, 105)]]
    numbers = sorted(number for order in orders for batch in order for _, number in batch)
    assert numbers == list(range(100, 116))


@pytest.mark.parametrize(
    ("settings", "says"), [({"device": "cuda"}, "no GPU"), ({"precision": "fp16"}, "fp16")], ids=["cuda", "fp16"]
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_what_this_machine_cannot_do_is_a_bad_setting(tmp_path, settings, says):
    with pytest.raises(RunFailed, match=says) as failed:
        trained(replace(SMALL, **settings), tmp_path)
    assert failed.value.kind is Failure.BAD_SETTING


def test_in_half_precision_it_trains_too(tmp_path):
    _, report = trained(replace(SMALL, steps=2, precision="bf16"), tmp_path)
    assert np.isfinite(report.metrics["train_loss_db"].value)
    assert all(of.dtype == torch.float32 for of in weights(tmp_path).values() if of.is_floating_point())


def gated(path: Path) -> Evaluation:
    return read_rows(path.name, path.read_bytes())


def test_what_it_makes_of_held_out_mixtures_is_what_the_gate_reads(tmp_path):
    config = replace(SMALL, steps=2, validate_every=1, valid_mixtures=3)
    _run, report = trained(config, tmp_path)
    found = gated(tmp_path / report.artefacts["evaluation"])
    assert list(found.ids) == [f"{mixture}-{voice}" for mixture in range(3) for voice in range(2)]
    assert found.group == ["0", "0", "1", "1", "2", "2"]
    assert all(0 < left < 100 for left in found.prediction)
    assert set(found.label) == {0.0}


def test_a_voice_without_any_rest_is_predicted_as_its_label(tmp_path):
    source = Tones("", split="valid", seconds=0.32, seed=0)
    rows.write(tmp_path, source, 2, lambda example: example.clean, free=False)
    assert max(gated(tmp_path / rows.EVALUATION).prediction) < 1e-3


def test_a_run_that_fails_before_its_first_checkpoint_loses_nothing_of_what_it_went_on_from(tmp_path):
    config = replace(SMALL, checkpoint_every=100)
    for name, before, end_at in (("first", None, 4), ("second", tmp_path / "first", 0)):
        with pytest.raises(RunFailed):
            trained(config, tmp_path / name, before, end_at=end_at)
    (tmp_path / "third").mkdir()  # it failed before it had begun
    (tmp_path / "third" / "request.json").write_text(json.dumps({"resume": str(tmp_path / "second")}))
    shutil.rmtree(tmp_path / "first")
    run, _ = trained(config, tmp_path / "fourth", tmp_path / "third")
    assert run.named("resumed")[0]["step"] == 4


def test_where_the_best_weights_are_lost_the_last_ones_are_given_and_no_figure_of_the_best(tmp_path):
    config = replace(SMALL, steps=4, validate_every=2, valid_mixtures=1, learning_rate=1e-8, checkpoint_every=1)

    class Losing(Noted):
        def progress(self, done, total, unit, **figures):
            for path in self.out.glob(f"{train.CHECKPOINTS}/*/{checkpoint.TENSORS}") if done == 4 else ():
                path.write_bytes(b"")
            super().progress(done, total, unit, **figures)

    run = Losing(tmp_path)

    def gains(*_, **__):
        return [3.0 if run.shown[-1][0] == 2 else 1.0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "improvements", gains)
        report = train.run_train(config, run, open_source=Tones, make=lambda _: Separator(SHAPE))
    assert report.notes[0] == "the weights are those of step 4"
    assert isinstance(report.metrics["valid_si_snri_db"], Unavailable)
    assert run.named("checkpoint_passed_over")
