"""What the bot learns of its own repairs."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from app.domain.budget import Unit, amounts
from app.domain.finding import Remedy
from app.domain.knowledge import Track, lower_bound, ordered, rung_of

RERUN = Remedy("rerun_failed_jobs")
HALF, QUARTER = Remedy("lower_batch_size", {"factor": 2}), Remedy("lower_batch_size", {"factor": 4})
ISSUE = Remedy("open_issue")
LADDER = (RERUN, HALF, QUARTER, ISSUE)
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(("successes", "failures"), [(0, 0), (1, 0), (0, 3), (9, 1), (40, 2), (120, 80)])
@pytest.mark.parametrize("level", [0.05, 0.5])
def test_the_lower_bound_is_the_quantile_of_the_posterior(successes: int, failures: int, level: float) -> None:
    expected = beta.ppf(level, 1 + successes, 1 + failures)
    assert lower_bound(successes, failures, level) == pytest.approx(expected, abs=1e-5)


def test_fourteen_proofs_without_a_failure_make_four_fifths_likely() -> None:
    assert Track(proven=12).at_least() < 0.8 < Track(proven=14).at_least()


def test_as_long_as_nothing_is_known_the_ladder_keeps_its_order() -> None:
    assert ordered(LADDER, {}) == LADDER


def test_a_rung_that_never_works_here_is_tried_later() -> None:
    assert ordered(LADDER, {"rerun_failed_jobs": Track(failed=3)}) == (HALF, RERUN, QUARTER, ISSUE)


def test_a_rung_that_works_here_is_tried_earlier_but_not_before_a_much_gentler_one() -> None:
    assert ordered(LADDER, {rung_of(QUARTER): Track(proven=9)}) == (RERUN, HALF, QUARTER, ISSUE)
    known = {rung_of(QUARTER): Track(proven=9), rung_of(HALF): Track(failed=2), "rerun_failed_jobs": Track(failed=4)}
    assert ordered(LADDER, known)[0] == QUARTER


def test_people_are_called_last_whatever_they_healed() -> None:
    assert ordered((ISSUE, RERUN), {"open_issue": Track(proven=99)}) == (RERUN, ISSUE)


tracks = st.builds(Track, proven=st.integers(0, 50), failed=st.integers(0, 50))


@given(st.dictionaries(st.sampled_from([rung_of(remedy) for remedy in LADDER]), tracks))
def test_no_rung_is_lost_or_doubled(known: dict[str, Track]) -> None:
    assert sorted(map(rung_of, ordered(LADDER, known))) == sorted(map(rung_of, LADDER))


def test_rungs_of_one_action_differ_by_their_parameters() -> None:
    assert rung_of(HALF) != rung_of(QUARTER)
    assert rung_of(Remedy("x", {"a": 1, "b": 2})) == rung_of(Remedy("x", {"b": 2, "a": 1}))


def test_what_an_action_tells_of_its_use_is_data() -> None:
    assert amounts({"gpu_minutes": 3, "money": -1, "karma": 9}) == {Unit.GPU_MINUTES: 3.0, Unit.MONEY: 0.0}
