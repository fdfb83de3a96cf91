"""When a series will be full, and when it says nothing of the kind."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.trends import clean, outlook, sustained

STEP_S = 300.0
HOUR_S = 3600.0


def series(values, step_s=STEP_S, start=1.7e9):
    return clean(zip(start + np.arange(len(values)) * step_s, values, strict=True))


def noise(n, sd=1.0, seed=3):
    return np.random.default_rng(seed).normal(0, sd, n)


def memory(n, rho, sd, seed=3):
    fresh = noise(n, sd * math.sqrt(1 - rho * rho), seed)
    values = np.zeros(n)
    for index in range(1, n):
        values[index] = rho * values[index - 1] + fresh[index]
    return values


def fills(values, step_s=STEP_S):
    found = outlook(series(values, step_s), 100.0)
    assert found is not None
    return found.climbing


def test_a_steady_climb_names_the_hour_at_which_it_is_full():
    hours = np.arange(144) * STEP_S / HOUR_S  # 12 h at 4 a hour, from 40
    found = outlook(series(40 + 4 * hours + noise(144, 0.5)), 100.0)
    assert found is not None
    assert found.climbing
    truth = (100 - (40 + 4 * hours[-1])) / 4 * HOUR_S
    assert found.earliest_s < truth < found.latest_s < 1.3 * truth
    assert found.eta_s == pytest.approx(truth, rel=0.1)
    assert found.slope_per_s * HOUR_S == pytest.approx(4, rel=0.1)


def test_a_climb_that_began_a_while_ago_is_measured_from_where_it_began():
    values = 40 + 0.5 * np.maximum(np.arange(288) - 216, 0) + noise(288, 0.5)
    found = outlook(series(values), 100.0)
    assert found is not None
    assert found.climbing
    assert found.span_s <= 288 * STEP_S / 4
    truth = (100 - (40 + 0.5 * 71)) / 0.5 * STEP_S
    assert found.eta_s == pytest.approx(truth, rel=0.15)


def test_what_wanders_more_is_known_less():
    line = 40 + 0.2 * np.arange(200)
    steady, wandering = (outlook(series(line + memory(200, 0.9, sd)), 100.0) for sd in (0.3, 2.0))
    assert steady is not None
    assert wandering is not None
    assert wandering.latest_s - wandering.earliest_s > 2 * (steady.latest_s - steady.earliest_s)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.full(288, 50.0), id="constant"),
        pytest.param(50 + noise(288, 3), id="noise"),
        pytest.param(50 + memory(288, 0.9, 3), id="with a memory"),
        pytest.param(30 + (np.arange(288) + 20) % 60, id="sawtooth"),
        pytest.param(30 + (np.arange(288) * 2) % 61 + noise(288), id="noisy sawtooth"),
        pytest.param(50 + 20 * np.sin(np.arange(864) / 288 * 2 * np.pi), id="days"),
        pytest.param(50 + 30 * (np.arange(288) > 100) + noise(288, 0.5), id="a step"),
        pytest.param(90 - 0.1 * np.arange(288), id="a descent"),
        pytest.param(90 - 40 * np.exp(-np.arange(288) / 20), id="it levels off"),
    ],
)
def test_what_does_not_climb_is_not_said_to(values):
    found = outlook(series(values), 100.0)
    assert found is not None
    assert not found.fills_within(24 * HOUR_S)


def test_after_a_cleanup_a_climb_counts_once_it_is_higher_than_the_fall():
    tooth = np.concatenate([np.linspace(40, 70, 100), np.linspace(40, 60, 67)])
    assert not fills(tooth)
    assert fills(np.concatenate([tooth, np.linspace(60, 85, 83)]))


def test_a_leak_under_a_sawtooth_is_seen_by_its_peaks():
    teeth = np.concatenate([np.linspace(40 + leak, 60 + leak, 20) for leak in range(15)])
    found = outlook(series(teeth), 100.0)
    assert found is not None
    assert found.sawtooth
    assert found.climbing
    truth = (100 - 60 - 14) * 20 * STEP_S
    assert found.earliest_s < truth < found.latest_s


def test_a_climb_that_slows_down_is_not_taken_further_than_it_goes():
    values = 95 * (1 - np.exp(-np.arange(200) / 60)) + noise(200, 0.2)
    found = outlook(series(values), 100.0)
    assert found is not None
    assert not found.fills_within(24 * HOUR_S)


def test_a_random_walk_that_goes_nowhere_is_seldom_taken_for_a_climb():
    walks = (50 + np.cumsum(noise(120, seed=seed)) for seed in range(60))
    assert sum(fills(walk) for walk in walks) <= 5


def test_samples_at_odd_times_are_read_off_between():
    at = np.sort(np.random.default_rng(1).uniform(0, 43_200, 100))
    found = outlook(clean(zip(at, 40 + 4 * at / HOUR_S, strict=True)), 100.0)
    assert found is not None
    assert found.climbing
    assert found.eta_s == pytest.approx((100 - 40 - 4 * at[-1] / HOUR_S) / 4 * HOUR_S, rel=0.05)


def test_the_answer_does_not_depend_on_the_unit():
    values = 40 + 0.2 * np.arange(200) + noise(200)
    percent, tiny = outlook(series(values), 100.0), outlook(series(values * 1e-12), 1e-10)
    assert percent is not None
    assert tiny is not None
    assert tiny.eta_s == pytest.approx(percent.eta_s)
    assert tiny.slope_per_s * 1e12 == pytest.approx(percent.slope_per_s)


def test_the_answer_does_not_depend_on_when_it_was():
    values = 40 + 0.2 * np.arange(200) + noise(200)
    first, second = outlook(series(values, start=0.0), 100.0), outlook(series(values), 100.0)
    assert first is not None
    assert second is not None
    assert second.eta_s == pytest.approx(first.eta_s, rel=1e-6)


def test_a_few_samples_say_nothing():
    assert outlook(series([10, 20, 30, 40, 50]), 100.0) is None
    assert outlook([], 100.0) is None
    assert sustained(series([99, 99, 99]), 90.0) is None


def test_one_spike_is_not_sustained_and_four_of_five_are():
    assert sustained(series([10, 10, 10, 10, 99]), 90.0) is False
    assert sustained(series([99, 10, 99, 99, 99]), 90.0) is True
    assert sustained(series([99, 99, 99, 99, 10]), 90.0) is False
    assert sustained(series([90, 90, 90, 90, 90]), 90.0) is False


def test_what_is_out_of_order_doubled_or_not_a_number_is_put_right():
    points = [(2.0, 5.0), (1.0, 4.0), (1.0, 3.0), (math.nan, 1.0), (3.0, math.inf), (4.0, math.nan)]
    assert clean(points) == [(1.0, 3.0), (2.0, 5.0)]


def test_of_very_many_samples_the_newest_are_kept():
    points = clean((float(at), 1.0) for at in range(30_000))
    assert len(points) == 20_000
    assert points[-1][0] == 29_999


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(), st.floats()) | st.tuples(st.integers(0, 10), st.integers(0, 3)), max_size=60),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_samples_are_taken(points, limit):
    found = outlook(clean(points), limit)
    if found is not None:
        assert found.earliest_s >= 0
        assert found.earliest_s <= found.latest_s or not found.climbing
        assert 0 <= found.p <= 1
