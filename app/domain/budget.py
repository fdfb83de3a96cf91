"""What repairs may use up, and what they have used."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

HOUR_S, DAY_S = 3600, 24 * 3600


class Unit(StrEnum):
    API_POINTS = "api_points"  # GitHub's: a read is 1, a write 5
    CONTENT_CALLS = "content_calls"  # GitHub's: calls that create something people are told of
    PULLS = "pulls"
    RERUNS = "reruns"
    GPU_MINUTES = "gpu_minutes"
    MONEY = "money"  # in the team's currency


PERIOD_S: Mapping[Unit, int] = {
    Unit.API_POINTS: HOUR_S,
    Unit.CONTENT_CALLS: HOUR_S,
    Unit.PULLS: DAY_S,
    Unit.RERUNS: DAY_S,
    Unit.GPU_MINUTES: DAY_S,
    Unit.MONEY: 30 * DAY_S,
}

Amounts = Mapping[Unit, float]


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used or is reserved in the unit's period, and when the oldest part of it was: it lets go first."""

    amount: float = 0.0
    oldest_at: datetime | None = None


def amounts(told: Mapping[str, float]) -> dict[Unit, float]:
    """Known units alone, nothing below zero: what an action tells is data."""
    known = {unit.value for unit in Unit}
    return {Unit(name): max(0.0, float(amount)) for name, amount in told.items() if name in known}
