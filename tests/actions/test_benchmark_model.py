"""The action that runs a benchmark, and the comparison behind it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from actions import benchmark_baseline as baseline
from actions.benchmark_baseline import KEPT_RUNS, MOST_BYTES, Report, before, compare, read, remembered, report_of
from actions.benchmark_model import BenchmarkModel, BenchmarkParams, name_of, shelf_of
from app.domain.errors import LeaseLost, Malformed
from app.domain.interval import drawn, intervals_of
from app.domain.outcome import Conclusion
from app.domain.policy import Policy
from app.domain.repair import Look, Repair
from app.ports.launcher import RunState, RunStatus
from tests.actions.stage import NOW, MemoryShelf, Stage, StopAfter, crash_everywhere, stage
from tests.actions.test_retrain_model import MemoryLauncher

ACTION = BenchmarkModel()
PATH = ".github/workflows/benchmark.yml"
WORKFLOW = """\
on:
  workflow_dispatch:
    inputs:
      heal_id: {required: true}
      repeats: {required: false}
      size: {required: true}
jobs:
  measure: {runs-on: gpu, steps: [{run: python benchmark.py}]}
"""
BY_WORKFLOW = {"workflow": "benchmark.yml", "inputs": {"size": "small"}}
BY_WORKLOAD = {"workload": "video", "settings": {"frames": 16}}


def told(median: float = 10.0, *, noise: float = 0.02, n: int = 30, seed: int = 0, **more: Any) -> dict[str, Any]:
    samples = median * np.exp(np.random.default_rng(seed).normal(0, noise, n))
    metric = {"name": "latency_ms", "unit": "ms", "better": "lower", "samples": samples.tolist(), **more}
    return {"machine": {"class": "h100-8", "driver": "580"}, "metrics": [metric]}


def the_stage(workflow: str | None = WORKFLOW) -> Stage:
    found = stage({PATH: workflow} if workflow is not None else {}, policy=Policy())
    return replace(found, tools=replace(found.tools, launchers={"process": MemoryLauncher()}))


def applied(world: Stage, params: Mapping[str, Any] = BY_WORKFLOW, rung: int = 0) -> Repair:
    return replace(world.done(ACTION, params, rung), applied_at=NOW)


@dataclass
class Later:
    after_s: float

    def now(self) -> Any:
        return NOW + timedelta(seconds=self.after_s)


def look(world: Stage, repair: Repair, *, after_s: float = 0) -> Look:
    params = BenchmarkParams.model_validate(dict(repair.remedy.params))
    return ACTION.look(repair, params, replace(world.tools, clock=Later(after_s)))


def run_of(repair: Repair) -> int:
    assert repair.outcome is not None
    return int(repair.outcome.data["run_id"])


def measured(world: Stage, report: object, rung: int = 0, params: Mapping[str, Any] = BY_WORKFLOW) -> Look:
    """A whole run of the workflow, from its start to the look."""
    repair = applied(world, params, rung)
    raw = report if isinstance(report, bytes) else json.dumps(report).encode()
    world.forge.upload(run_of(repair), "heal-benchmark", {"benchmark.json": raw})
    world.forge.finish_run(run_of(repair), "success")
    return look(world, repair)


def runs_kept(world: Stage) -> list[str]:
    assert isinstance(world.tools.shelf, MemoryShelf)
    kept = world.tools.shelf.kept.get(shelf_of(BenchmarkParams.model_validate(BY_WORKFLOW), "h100-8"), {})
    return [run["key"] for run in kept.get("runs", ())]


# the dry run


def test_the_plan_says_what_would_be_started_and_what_it_proves() -> None:
    plan = the_stage().plan(ACTION, BY_WORKFLOW)
    assert plan.refusal == ""
    assert plan.calls == ("start benchmark.yml on main with repeats=10, size=small, heal_id=(this repair)",)
    assert "5 %" in plan.proof
    assert (plan.costs, plan.patience_s > 3600) == ({}, True)


def test_a_workload_is_started_with_its_settings_and_costs_minutes() -> None:
    plan = the_stage().plan(ACTION, BY_WORKLOAD)
    assert plan.calls == ("start the workload video (process) with frames=16, repeats=10",)
    assert plan.costs == {"gpu_minutes": 60}


@pytest.mark.parametrize(
    ("workflow", "params", "says"),
    [
        (None, BY_WORKFLOW, f"there is no {PATH} on main"),
        ("on: push\njobs: {}\n", BY_WORKFLOW, "add workflow_dispatch"),
        (WORKFLOW, {"workflow": "benchmark.yml"}, "asks for 'size'; add it to params.inputs"),
        (WORKFLOW, {"workflow": "benchmark.yml", "inputs": {"size": 1, "speed": 2}}, "takes no input 'speed'"),
        (WORKFLOW, {**BY_WORKFLOW, "ref": "gone"}, "on gone"),
        (WORKFLOW, {**BY_WORKLOAD, "launcher": "ray"}, "no launcher is called 'ray'"),
    ],
)
def test_what_is_missing_is_refused_with_what_to_do(workflow: str | None, params: dict[str, Any], says: str) -> None:
    assert says in the_stage(workflow).plan(ACTION, params).refusal


@pytest.mark.parametrize(
    "params",
    [
        {},
        {**BY_WORKFLOW, **BY_WORKLOAD},
        {"workflow": "../../evil.yml"},
        {"workflow": "a/b.yml"},
        {"workflow": "a.yml", "settings": {"a": 1}},
        {"workload": "video", "ref": "main"},
        {"workload": "--help"},
        {**BY_WORKFLOW, "tolerance": -0.1},
        {**BY_WORKFLOW, "repeats": 1},
        {**BY_WORKFLOW, "name": "a:b"},
        {**BY_WORKFLOW, "inputs": {"a": [1]}},
    ],
)
def test_params_that_make_no_sense_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BenchmarkParams.model_validate(params)


def test_runs_with_other_inputs_are_another_benchmark() -> None:
    def name(**params: Any) -> str:
        return name_of(BenchmarkParams.model_validate(params))

    assert name(workflow="a.yml") == "a.yml"
    assert name(workflow="a.yml", inputs={"size": 1}) != name(workflow="a.yml", inputs={"size": 2})
    assert name(workflow="a.yml", inputs={"size": 1}, name="ours") == "ours"


# starting


def test_it_is_started_once_wherever_the_worker_stops() -> None:
    def act(world: Stage, tools: Any) -> Any:
        return world.apply(ACTION, world.repair(ACTION, BY_WORKFLOW), tools=tools)

    assert crash_everywhere(the_stage, act) == 1


def test_the_inputs_of_the_team_come_with_ours() -> None:
    world = the_stage()
    applied(world)
    inputs = [each["inputs"] for each in world.forge.written("dispatch")]
    assert inputs == [{"size": "small", "repeats": "10", "heal_id": "key-0"}]


def test_a_worker_that_stops_after_the_start_follows_the_same_run() -> None:
    world = the_stage()
    torn = replace(world.tools, forge=StopAfter(world.forge, 1))
    with pytest.raises(LeaseLost):
        world.apply(ACTION, world.repair(ACTION, BY_WORKFLOW), tools=torn)
    applied(world)
    assert len(world.forge.written("dispatch")) == 1


def test_one_benchmark_runs_at_a_time_so_that_none_disturbs_another() -> None:
    world = the_stage()
    first = applied(world)
    second = world.repair(ACTION, BY_WORKFLOW, rung=1)
    assert world.apply(ACTION, second).conclusion is Conclusion.STALE
    world.forge.finish_run(run_of(first), "failure")
    assert world.apply(ACTION, second).conclusion is Conclusion.SUCCESS


# looking


def test_the_first_run_of_a_machine_class_is_the_baseline_and_says_that_nothing_was_compared() -> None:
    world = the_stage()
    seen = measured(world, told())
    assert seen.proven is True
    assert "nothing was compared" in seen.reason
    assert "h100-8" in seen.reason
    assert runs_kept(world) == ["key-0"]
    assert "report" not in seen.data


def test_a_run_that_is_not_worse_joins_the_baseline_with_its_numbers() -> None:
    world = the_stage()
    measured(world, told())
    seen = measured(world, told(10.1, seed=1), rung=1)
    assert seen.proven is True
    assert "no metric of benchmark.yml-" in seen.reason
    assert "95 % interval" in seen.reason
    assert runs_kept(world) == ["key-0", "key-1"]


def test_a_regression_is_told_with_its_interval_and_never_joins_the_baseline() -> None:
    world = the_stage()
    for rung in range(8):
        measured(world, told(10 + 0.05 * (rung % 3), seed=rung), rung=rung)
    kept = runs_kept(world)
    seen = measured(world, told(13.1, seed=99), rung=9)
    assert seen.proven is False
    assert seen.reason.startswith("latency_ms got 3")
    assert "% slower (95 % interval " in seen.reason
    assert "noise floor" in seen.reason
    assert runs_kept(world) == kept
    (interval,) = intervals_of(seen.data["report"])
    assert interval.high < (interval.bound or 0) < 0
    text = drawn(seen.data["report"])
    assert text.splitlines()[0].endswith("WORSE")
    assert "passed" not in text


def test_looking_twice_gives_one_answer_and_one_entry() -> None:
    for factor, proven in ((1.0, True), (1.4, False)):
        world = the_stage()
        for rung in range(3):
            measured(world, told(seed=rung), rung=rung)
        repair = applied(world, rung=5)
        raw = json.dumps(told(10 * factor, seed=7)).encode()
        world.forge.upload(run_of(repair), "heal-benchmark", {"benchmark.json": raw})
        world.forge.finish_run(run_of(repair), "success")
        first = look(world, repair)
        kept = runs_kept(world)
        assert first.proven is proven
        assert look(world, repair) == first
        assert runs_kept(world) == kept


def test_another_class_of_machine_has_a_baseline_of_its_own() -> None:
    world = the_stage()
    measured(world, told())
    slow = {**told(90.0), "machine": {"class": "t4"}}
    assert "the first run" in measured(world, slow, rung=1).reason


def test_a_metric_that_is_told_no_more_or_in_another_unit_does_not_pass() -> None:
    world = the_stage()
    measured(world, told())
    for rung, more in enumerate(({"name": "other"}, {"unit": "s"}, {"better": "higher"}), start=1):
        seen = measured(world, told(**more), rung=rung)
        assert seen.proven is False, more
        assert "latency_ms" in seen.reason
        assert "params.name" in seen.reason
    assert runs_kept(world) == ["key-0"]


def test_a_metric_that_is_new_is_kept_from_then_on() -> None:
    world = the_stage()
    measured(world, told())
    both = told(seed=1)
    both["metrics"].append({"name": "throughput", "unit": "1/s", "better": "higher", "samples": [100.0] * 10})
    assert measured(world, both, rung=1).proven is True
    worse = told(seed=2)
    worse["metrics"].append({"name": "throughput", "unit": "1/s", "better": "higher", "samples": [50.0] * 10})
    seen = measured(world, worse, rung=2)
    assert seen.proven is False
    assert seen.reason.startswith("throughput got 50 % worse")


def test_while_it_runs_it_is_followed_and_a_failure_disproves() -> None:
    world = the_stage()
    repair = applied(world)
    assert look(world, repair).proven is None
    world.forge.finish_run(run_of(repair), "failure")
    seen = look(world, repair)
    assert (seen.proven, "ended with failure" in seen.reason) == (False, True)


def test_what_takes_too_long_is_cancelled() -> None:
    world = the_stage()
    repair = applied(world)
    seen = look(world, repair, after_s=3601)
    assert seen.proven is False
    assert "params.timeout_minutes" in seen.reason
    assert world.forge.run(run_of(repair)).conclusion == "cancelled"


def test_a_run_without_the_artifact_or_the_file_says_which() -> None:
    world = the_stage()
    repair = applied(world)
    world.forge.finish_run(run_of(repair), "success")
    assert "no artifact 'heal-benchmark'" in look(world, repair).reason
    world.forge.upload(run_of(repair), "heal-benchmark", {"other.json": b"{}"})
    seen = look(world, repair)
    assert seen.proven is False
    assert "'benchmark.json' is not in the artifact" in seen.reason


def test_of_several_uploads_the_newest_counts() -> None:
    world = the_stage()
    repair = applied(world)
    for raw in (b"{}", json.dumps(told()).encode()):
        world.forge.upload(run_of(repair), "heal-benchmark", {"benchmark.json": raw})
    world.forge.finish_run(run_of(repair), "success")
    assert look(world, repair).proven is True


def test_a_workloads_own_report_is_judged_and_its_minutes_are_told() -> None:
    world = the_stage()
    repair = applied(world, BY_WORKLOAD)
    launcher = world.tools.launchers["process"]
    assert isinstance(launcher, MemoryLauncher)
    (spec,) = launcher.started
    assert (spec.verb, spec.settings) == ("benchmark", {"frames": "16", "repeats": "10", "heal_id": "key-0"})
    assert look(world, repair).proven is None
    launcher.now = RunStatus(RunState.SUCCEEDED, tail="done", exit_code=0, report=told())
    seen = look(world, repair, after_s=120)
    assert seen.proven is True
    assert seen.data["spent"] == {"gpu_minutes": 2.0}
    launcher.now = RunStatus(RunState.FAILED, exit_code=3)
    assert "exit code 3" in look(world, repair).reason


# undo


def test_undo_cancels_a_run_that_still_runs_and_leaves_one_that_is_over() -> None:
    world = the_stage()
    repair = applied(world)
    for _ in range(2):
        assert ACTION.undo(repair, world.tools).conclusion is Conclusion.SUCCESS
    assert [each["run_id"] for each in world.forge.written("cancel_run")] == [run_of(repair)]
    world = the_stage()
    repair = applied(world)
    world.forge.finish_run(run_of(repair), "success")
    assert "over" in ACTION.undo(repair, world.tools).title
    assert world.forge.written("cancel_run") == []
    assert ACTION.undo(world.repair(ACTION, BY_WORKFLOW, rung=8), world.tools).conclusion is Conclusion.NEUTRAL


# the report


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "the report"),
        (b'{"machine": {}, "machine": {}}', "a key twice"),
        (b'{"machine": {"class": "a"}, "metrics": []}', "metrics"),
        (b'{"machine": {"class": "a"}, "metrics": [], "evil": 1}', "metrics"),
        (b" " * (MOST_BYTES + 1), "larger"),
        (json.dumps({**told(), "metrics": told()["metrics"] * 2}).encode(), "told twice"),
        (json.dumps({**told(), "machine": {}}).encode(), "machine.class"),
        (json.dumps({**told(), "machine": {"class": "a\n<b>"}}).encode(), "machine.class"),
        (json.dumps({**told(), "machine": {"class": 7}}).encode(), "machine.class"),
        (json.dumps(told(name="`x`<b>")).encode(), "metrics.0.name"),
        (json.dumps(told(better="sideways")).encode(), "metrics.0.better"),
        (json.dumps(told(unit="a\nb")).encode(), "metrics.0.unit"),
        (json.dumps(told(samples=[1.0] * 4)).encode(), "4 samples"),
        (json.dumps(told(samples=[1.0] * 10_001)).encode(), "metrics.0.samples"),
        (json.dumps(told(samples=[0.0] * 9)).encode(), "metrics.0.samples.0"),
        (json.dumps(told(samples=[-1.0] * 9)).encode(), "metrics.0.samples.0"),
        (json.dumps(told(samples=["1"] * 9)).encode(), "metrics.0.samples.0"),
        (json.dumps(told(samples=[True] * 9)).encode(), "metrics.0.samples.0"),
        (json.dumps(told(samples=[float("nan")] * 9)).encode(), "NaN"),
        (json.dumps(told(samples=[1e300] * 9)).encode(), "metrics.0.samples.0"),
        (json.dumps(told(samples=[10**400] * 9)).encode(), "metrics.0.samples.0"),
        (b'{"machine": {"class": "a"}, "metrics": [{"samples": [' + b"9" * 9_000 + b"]}]}", "no JSON"),
    ],
)
def test_a_report_that_is_not_one_is_refused_and_says_where(raw: bytes, says: str) -> None:
    with pytest.raises(Malformed) as refused:
        read(raw)
    assert says in str(refused.value)
    assert "<b>" not in str(refused.value)


def test_a_strange_report_disproves_and_changes_no_baseline() -> None:
    world = the_stage()
    seen = measured(world, b'{"machine": {"class": "h100-8"}}')
    assert seen.proven is False
    assert "docs/how-to/benchmark.md" in seen.reason
    assert runs_kept(world) == []


def test_whole_numbers_are_numbers() -> None:
    assert read(json.dumps(told(samples=[3, 4, 5, 6, 7])).encode()).metrics[0].samples == [3, 4, 5, 6, 7]


def test_the_largest_baseline_fits_on_the_shelf() -> None:
    kept: dict[str, Any] = {}
    metrics = [{**told(1.2345e-5, n=1_000, seed=n)["metrics"][0], "name": "m" * 58 + f"{n:02}"} for n in range(20)]
    report = report_of({**told(), "metrics": metrics})
    for n in range(KEPT_RUNS + 5):
        kept = baseline.with_run(kept, remembered(report, f"{n:016}", NOW.isoformat()))
    assert len(kept["runs"]) == KEPT_RUNS + 1
    assert len(json.dumps(kept)) < 256 * 1024
    assert next(run["key"] for run in before(kept, "new")) == f"{5:016}"


# the statistics


def some(chance: np.random.Generator, metrics: int, within: float, between: float, slower: float = 0.0) -> Report:
    each = []
    for n in range(metrics):
        samples = 100 * (1 + slower) * np.exp(chance.normal(0, between) + chance.normal(0, within, 30))
        each.append({"name": f"m{n}", "unit": "ms", "better": "lower", "samples": samples.tolist()})
    return report_of({"machine": {"class": "a"}, "metrics": each})


def reported(
    trials: int, runs: int, metrics: int, within: float, between: float, slower: float, tolerance: float
) -> float:
    """The share of trials in which a regression is reported."""
    found = 0
    for trial in range(trials):
        chance = np.random.default_rng([runs, metrics, trial])
        known = [remembered(some(chance, metrics, within, between), str(n), "") for n in range(runs)]
        found += bool(compare(some(chance, metrics, within, between, slower), known, tolerance, str(trial)).regressed)
    return found / trials


@pytest.mark.parametrize(("runs", "within", "between"), [(1, 0.05, 0.02), (8, 0.05, 0.05), (20, 0.02, 0.05)])
def test_without_a_change_a_regression_is_reported_in_at_most_one_of_twenty(
    runs: int, within: float, between: float
) -> None:
    assert reported(300, runs, 1, within, between, slower=0.0, tolerance=0.01) <= 0.05


def test_many_metrics_do_not_add_up_to_a_false_alarm() -> None:
    assert reported(40, 12, 6, 0.02, 0.04, slower=0.0, tolerance=0.01) <= 0.05


@pytest.mark.parametrize(("runs", "between"), [(1, 0.0), (8, 0.02), (20, 0.02)])
def test_a_slowdown_of_a_fifth_is_found_through_noise_of_a_twentieth(runs: int, between: float) -> None:
    assert reported(100, runs, 1, 0.05, between, slower=0.2, tolerance=0.05) >= 0.95


def test_a_change_below_the_tolerance_is_none_however_certain() -> None:
    known = [remembered(report_of(told(noise=0.0001, seed=n)), str(n), "") for n in range(10)]
    slower = report_of(told(10.4, noise=0.0001, seed=50))
    assert compare(slower, known, 0.05, "a").regressed == ()
    (change,) = compare(slower, known, 0.03, "a").regressed
    assert change.low > 0.03


def test_a_throughput_is_worse_when_it_falls() -> None:
    known = [remembered(report_of(told(better="higher", seed=n)), str(n), "") for n in range(10)]
    assert compare(report_of(told(14.0, better="higher")), known, 0.05, "a").regressed == ()
    (change,) = compare(report_of(told(7.0, better="higher")), known, 0.05, "a").regressed
    assert 0.27 < change.worse < 0.33


def test_the_same_numbers_give_the_same_answer() -> None:
    known = [remembered(report_of(told(seed=n)), str(n), "") for n in range(3)]
    assert compare(report_of(told(11.5)), known, 0.05, "a") == compare(report_of(told(11.5)), known, 0.05, "a")


def test_samples_without_any_noise_are_compared() -> None:
    known = [remembered(report_of(told(samples=[2.0] * 10)), str(n), "") for n in range(9)]
    assert compare(report_of(told(samples=[2.0] * 10)), known, 0.0, "a").regressed == ()
    assert compare(report_of(told(samples=[2.1] * 10)), known, 0.04, "a").regressed != ()


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.31, "31"), (0.024, "2.4"), (0.02, "2"), (0.0, "0"), (-0.0001, "0"), (-0.031, "−3.1"), (0.0996, "10")],
)
def test_shares_are_told_in_few_figures(share: float, words: str) -> None:
    assert baseline.percent(share) == words
