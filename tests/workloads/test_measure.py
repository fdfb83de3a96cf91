"""What is measured: in turns, without the collector, with an answer that says when it does not know."""

import gc
import itertools
import json
import os
import re
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from actions.benchmark_baseline import report_of
from workloads.contract import Failure, Measured, RunFailed, Unavailable
from workloads.measure import (
    ASSUMED_NOISE,
    KEPT_RUNS,
    Answer,
    Baselines,
    EnergyMeter,
    against,
    gate,
    interleaved,
    machine_class,
    peak_memory,
    repeated,
    signed_rank_interval,
    summary,
    synchronizer,
    warm_up,
)

# --- time ----------------------------------------------------------------------------------------------------------


def ticking(monkeypatch, durations):
    """A clock that moves only while a call runs, by what the call is said to take."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    taken = iter(durations)

    def call():
        now[0] += next(taken)

    return call


def test_a_warm_up_ends_when_the_calls_get_no_faster(monkeypatch):
    told = warm_up(ticking(monkeypatch, [9.0, 5.0, 2.0, 1.0, *[1.0] * 50]), most=30)
    assert told.stable
    assert told.seconds == (9.0, 5.0, 2.0, 1.0, 1.0, 1.0, 1.0)


def test_a_warm_up_that_never_settles_says_so(monkeypatch):
    told = warm_up(ticking(monkeypatch, [0.8**n for n in range(99)]), most=12)
    assert not told.stable
    assert len(told.seconds) == 12


def test_a_warm_up_of_a_fixed_number_is_that_number(monkeypatch):
    assert len(warm_up(ticking(monkeypatch, [0.5**n for n in range(99)]), least=4, most=4).seconds) == 4
    assert warm_up(lambda: None, least=0, most=0).seconds == ()


def test_in_each_block_a_call_runs_as_often_early_as_late():
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in ("a", "b", "c")}
    taken = interleaved(calls, 40, seed=1)
    blocks = [order[n : n + 6] for n in range(0, len(order), 6)]
    assert all(block[:3] == block[:2:-1] and set(block[:3]) == {"a", "b", "c"} for block in blocks)
    assert len({tuple(block[:3]) for block in blocks}) == 6  # every order comes
    assert {len(values) for values in taken.values()} == {80}


def test_the_clock_is_read_only_when_the_device_is_done():
    told = []
    repeated(lambda: told.append("call"), 2, lambda: told.append("wait"))
    assert told == ["wait", "call", "wait"] * 2


def test_garbage_is_not_collected_while_it_is_measured_and_is_again_afterwards():
    seen = []
    repeated(lambda: seen.append(gc.isenabled()), 3)
    assert seen == [False] * 3
    with pytest.raises(ZeroDivisionError):
        repeated(lambda: 1 / 0, 1)
    assert gc.isenabled()


def test_a_quantile_is_told_only_where_a_measurement_lies_beyond_it():
    few, many = summary([1.0] * 19 + [2.0]), summary(list(range(1, 201)), "ms")
    assert isinstance(few.p95, Measured)
    assert isinstance(few.p99, Unavailable)
    assert many.p99 == Measured(pytest.approx(198.01), "ms")
    assert (many.p50, many.least) == (100.5, 1.0)
    assert many.cv == pytest.approx(np.std(range(200), ddof=1) / 100.5)
    with pytest.raises(ValueError):
        summary([1.0])


# --- the gate ------------------------------------------------------------------------------------------------------


def trial(chance, ratio, blocks=20, noise=0.1):
    """Old and new in turns on a machine that drifts by half, wavers for seconds at a time and stalls now and then."""
    places = 4 * blocks
    slow = np.repeat(chance.normal(0, 0.1, places // 8 + 1), 8)[:places]
    cost = np.exp(np.linspace(0, 0.4, places) + slow + noise * np.abs(chance.standard_t(2, places)))
    cost = cost.reshape(blocks, 4)
    first = chance.random(blocks) < 0.5
    outer, inner = cost[:, [0, 3]], cost[:, [1, 2]]
    old, new = np.where(first[:, None], outer, inner), np.where(first[:, None], inner, outer)
    return old.ravel(), ratio * new.ravel()


def share(answer, ratio, trials=300, **how):
    chance = np.random.default_rng(7)
    return sum(gate(*trial(chance, ratio, **how), 0.05).answer is answer for _ in range(trials)) / trials


def test_a_change_that_just_is_allowed_is_seldom_called_either():
    """2.5 % each; 300 trials: 5.7 % is three standard deviations more."""
    assert share(Answer.REGRESSED, 1.05) < 0.057
    assert share(Answer.PASS, 1.05) < 0.057


def test_what_is_the_same_is_never_called_regressed_and_passes_where_there_is_data():
    assert share(Answer.REGRESSED, 1.0, noise=0.02) == 0
    assert share(Answer.PASS, 1.0, noise=0.02, blocks=60) > 0.8


def test_a_slowdown_well_beyond_the_tolerance_is_found_on_a_restless_machine():
    assert share(Answer.REGRESSED, 1.3) > 0.9
    assert share(Answer.PASS, 1.3) == 0


@pytest.mark.parametrize("blocks", range(6))
def test_too_little_data_is_never_a_pass_nor_a_regression(blocks):
    old = [1.0] * 2 * blocks
    assert gate(old, old, 0.05).answer is Answer.INCONCLUSIVE
    assert gate(old, [9.0] * 2 * blocks, 0.05).answer is Answer.INCONCLUSIVE


def test_six_blocks_that_agree_make_an_answer():
    assert gate([1.0] * 12, [1.0] * 12, 0.05).answer is Answer.PASS
    verdict = gate([1.0] * 12, [1.5] * 12, 0.05)
    assert verdict.answer is Answer.REGRESSED
    assert verdict.words == "regressed: 1.5 times (95 % interval 1.5 to 1.5), 1.05 allowed"


def test_where_more_is_better_less_is_the_regression():
    assert gate([10.0] * 12, [5.0] * 12, 0.05, better="higher").slowdown == pytest.approx(2)
    assert gate([10.0] * 12, [20.0] * 12, 0.05, better="higher").answer is Answer.PASS


def test_the_gate_refuses_what_makes_no_ratio():
    with pytest.raises(ValueError, match="pairs"):
        gate([1.0] * 12, [1.0] * 10, 0.05)
    with pytest.raises(ValueError, match="pairs"):
        gate([1.0] * 13, [1.0] * 13, 0.05)
    with pytest.raises(ValueError, match="above 0"):
        gate([1.0] * 12, [0.0] * 12, 0.05)


@pytest.mark.parametrize("count", [6, 9, 15])
def test_the_interval_is_where_the_exact_test_of_scipy_turns(count):
    values = np.random.default_rng(count).normal(0.1, 1, count)
    low, _, high = signed_rank_interval(values)
    for end, way in ((low, 1), (high, -1)):
        inside = stats.wilcoxon(values - (end + way * 1e-9), method="exact").pvalue
        outside = stats.wilcoxon(values - (end - way * 1e-9), method="exact").pvalue
        assert outside <= 0.05 < inside


def test_the_interval_of_many_pairs_goes_on_where_the_exact_one_ends():
    values = np.random.default_rng(1).normal(0, 1, 101)
    exact, near = signed_rank_interval(values[:100]), signed_rank_interval(values)
    assert near[0] == pytest.approx(exact[0], abs=0.03)
    assert near[2] == pytest.approx(exact[2], abs=0.03)
    assert len(signed_rank_interval(np.tile(values, 30))) == 3  # more than 1,000 are joined


# --- against earlier runs ------------------------------------------------------------------------------------------


def runs(count, spread, seed=0, middle=10.0):
    chance = np.random.default_rng(seed)
    return [list(middle * np.exp(chance.normal(0, spread) + chance.normal(0, 0.01, 20))) for _ in range(count)]


def test_without_earlier_runs_nothing_is_known():
    verdict = against([], [1.0] * 20, 0.05)
    assert verdict.answer is Answer.INCONCLUSIVE
    assert verdict.words == "inconclusive: there is nothing to compare with"


def test_one_earlier_run_is_enough_for_a_doubling_and_never_for_a_pass():
    assert against(runs(1, 0), runs(1, 0, middle=20.0)[0], 0.05).answer is Answer.REGRESSED
    assert against(runs(1, 0), runs(1, 0)[0], 0.05).answer is Answer.INCONCLUSIVE


def test_twelve_quiet_runs_are_enough_for_a_pass_and_for_eleven_percent():
    known = runs(12, 0.003)
    assert against(known, runs(1, 0, seed=5)[0], 0.05).answer is Answer.PASS
    assert against(known, runs(1, 0, seed=5, middle=11.1)[0], 0.05).answer is Answer.REGRESSED


def test_runs_that_differ_from_day_to_day_are_no_regressions():
    known = runs(200, 0.15, seed=3)
    answers = [against(known[n : n + 10], known[n + 10], 0.05).answer for n in range(189)]
    assert answers.count(Answer.REGRESSED) / len(answers) < 0.05
    assert ASSUMED_NOISE < 0.15


# --- memory and energy ---------------------------------------------------------------------------------------------


def test_the_peak_is_of_what_was_held_since_and_not_of_what_was_held_before():
    before = np.ones(40 * 2**17)  # 40 MiB
    del before
    with peak_memory() as small:
        quiet = small()
        held = np.ones(24 * 2**17)
        del held
        most = small()
        assert most - quiet > 12 * 2**20
    if os.access("/proc/self/clear_refs", os.W_OK):
        with peak_memory() as again:
            assert again() < most


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


def card(energies_mj=None, watts=100.0):
    """A module like pynvml of a machine with one card; without energies it has no counter."""
    counter = iter(energies_mj or ())

    def total(_):
        if energies_mj is None:
            raise NVMLError
        return next(counter)

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda n: n,
        nvmlDeviceGetHandleByUUID=lambda n: n,
        nvmlDeviceGetTotalEnergyConsumption=total,
        nvmlDeviceGetPowerUsage=lambda _: 1000 * watts,
    )


def test_a_card_with_a_counter_tells_its_energy_by_it(monkeypatch):
    monkeypatch.setattr("workloads.measure.LEAST_ENERGY_S", 0.0)
    with EnergyMeter("cuda", card([5_000, 12_500])) as meter:
        pass
    assert meter.joules == Measured(7.5, "J")


def test_a_card_without_a_counter_is_looked_at_again_and_again(monkeypatch):
    monkeypatch.setattr("workloads.measure.LEAST_ENERGY_S", 0.0)
    begin = time.perf_counter()
    with EnergyMeter("cuda", card(watts=200.0)) as meter:
        time.sleep(0.12)
    taken = time.perf_counter() - begin
    assert 0.12 * 200 * 0.8 < meter.joules.value <= taken * 200


def test_a_window_too_short_for_the_counter_has_no_energy():
    with EnergyMeter("cuda", card([5_000, 12_500])) as meter:
        pass
    assert "too short" in meter.joules.reason


def test_a_machine_without_a_card_says_so_instead_of_a_number():
    nvml = card([0, 0])
    nvml.nvmlInit = lambda: (_ for _ in ()).throw(NVMLError_LibraryNotFound())
    with EnergyMeter("cuda", nvml) as meter:
        pass
    assert meter.joules == Unavailable("no NVIDIA GPU: NVMLError_LibraryNotFound")
    with EnergyMeter("cpu") as meter:
        pass
    assert isinstance(meter.joules, Unavailable)


# --- the machine and its baselines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("processor", "cards"),
    [
        ("AMD EPYC 9654 96-Core Processor", []),
        ("Intel(R) Xeon(R) Platinum 8480C CPU @ 2.00GHz", ["NVIDIA H200"] * 8),
        ("", []),
        ("Ωμέγα ✓", ["Ein sehr langer Name einer Karte, der nirgends hinpasst"]),
        ("x" * 300, ["NVIDIA A100-SXM4-80GB"]),
    ],
)
def test_the_class_of_any_machine_is_a_name_that_the_bot_takes(monkeypatch, processor, cards):
    monkeypatch.setattr("workloads.measure._processor", lambda: processor)
    monkeypatch.setattr("workloads.measure._cards", lambda: cards)
    name = machine_class()
    assert re.fullmatch(r"[A-Za-z0-9_.:/-]{1,60}", name)
    report_of({"machine": {"class": name}, "metrics": [{"name": "a", "better": "lower", "samples": [1.0] * 5}]})


@pytest.mark.parametrize(
    ("visible", "tail"),
    [(None, "/NVIDIA-H200:2g"), ("1", "/NVIDIA-H200"), ("0,1", "/NVIDIA-H200:2g"), ("", ""), ("-1", "")],
)
def test_the_class_tells_the_cards_that_may_be_used(monkeypatch, visible, tail):
    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda n: n,
        nvmlDeviceGetName=lambda _: "NVIDIA H200",
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine_class().partition("c/")[1:] == (("c/", tail[1:]) if tail else ("", ""))
    nvml.nvmlInit = lambda: (_ for _ in ()).throw(NVMLError())  # a driver that is there and broken
    assert "NVIDIA" not in machine_class()


def test_the_class_of_this_machine_is_the_same_each_time():
    assert machine_class() == machine_class()
    synchronizer("cpu")()


def test_a_baseline_is_kept_for_each_machine_and_each_thing_apart(tmp_path):
    kept = Baselines(tmp_path)
    metrics = {"latency_ms": ("lower", [1.0, 2.0, 3.0])}
    assert kept.keep("a:2c", "small", "2026-11-21", metrics, {})
    assert kept.runs("a:2c", "small", "latency_ms") == [[1.0, 2.0, 3.0]]
    for machine, what, name in itertools.product(("a:2c", "a:4c"), ("small", "tiny"), ("latency_ms", "other")):
        if (machine, what, name) != ("a:2c", "small", "latency_ms"):
            assert kept.runs(machine, what, name) == []
    assert all(file.suffix == ".json" for file in tmp_path.iterdir())  # nothing half-written is left


def test_a_worse_run_never_becomes_the_baseline(tmp_path):
    kept = Baselines(tmp_path)
    for values, expected in (([10.0] * 9, True), ([20.0] * 9, False), ([10.8] * 9, False), ([10.2] * 9, True)):
        metrics = {"latency_ms": ("lower", values)}
        verdicts = kept.compare("m", "w", metrics, 0.05)
        assert kept.keep("m", "w", "now", metrics, verdicts) is expected
    assert [run[0] for run in kept.runs("m", "w", "latency_ms")] == [10.0, 10.2]


def test_a_baseline_keeps_the_newest_runs_and_few_values_of_each(tmp_path):
    kept = Baselines(tmp_path)
    for n in range(KEPT_RUNS + 5):
        kept.keep("m", "w", f"{n}", {"x": ("lower", np.linspace(1, 2, 1_000) + n)}, {})
    stored = kept.runs("m", "w", "x")
    assert len(stored) == KEPT_RUNS
    assert stored[-1][15] == pytest.approx(1.5 + KEPT_RUNS + 4)
    assert {len(run) for run in stored} == {31}


@pytest.mark.parametrize("text", ["{", "[]", '{"runs": [{"metrics": {"x": [0]}}]}', '{"runs": [{}]}', '{"runs": 3}'])
def test_a_baseline_that_cannot_be_read_is_told_and_left_alone(tmp_path, text):
    kept = Baselines(tmp_path)
    kept.file("m", "w").write_text(text)
    with pytest.raises(RunFailed, match="remove it to begin anew") as told:
        kept.runs("m", "w", "x")
    assert told.value.kind is Failure.DATA_MALFORMED
    assert kept.file("m", "w").read_text() == text


def test_a_failed_write_leaves_the_old_baseline(tmp_path, monkeypatch):
    kept = Baselines(tmp_path)
    kept.keep("m", "w", "1", {"x": ("lower", [1.0])}, {})
    monkeypatch.setattr(json, "dump", lambda *_, **__: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(OSError, match="No space"):
        kept.keep("m", "w", "2", {"x": ("lower", [1.0])}, {})
    monkeypatch.undo()
    assert len(kept.runs("m", "w", "x")) == 1
    assert len(list(tmp_path.iterdir())) == 1
