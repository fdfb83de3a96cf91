import pytest

from app.domain.insight import LEAST_RECOVERED, Share, Spread, saved_minutes


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 1, 0.2065, 1.0)],
)
def test_the_interval_of_a_share_is_wilsons(part: int, whole: int, low: float, high: float) -> None:
    assert Share(part, whole).interval == pytest.approx((low, high), abs=1e-4)


def test_nothing_of_nothing_is_not_known() -> None:
    assert Share(0, 0).rate is None
    assert Share(0, 0).interval is None


def test_minutes_saved_are_told_by_what_passed_without_the_bot() -> None:
    healed, recovered = Spread(10, 120.0, 300.0), Spread(LEAST_RECOVERED, 720.0, 900.0)
    assert saved_minutes(healed, recovered) == 10 * (720 - 120) / 60


def test_a_bot_that_is_slower_than_nobody_saves_less_than_nothing() -> None:
    assert saved_minutes(Spread(1, 600.0, 600.0), Spread(50, 60.0, 60.0)) == -9


@pytest.mark.parametrize(
    ("healed", "recovered"),
    [(Spread(), Spread(9, 1.0, 1.0)), (Spread(9, 1.0, 1.0), Spread()), (Spread(9, 1.0, 1.0), Spread(4, 9.0, 9.0))],
)
def test_without_enough_to_compare_with_nothing_is_claimed(healed: Spread, recovered: Spread) -> None:
    assert saved_minutes(healed, recovered) is None
