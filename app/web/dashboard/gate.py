"""The page of a gate: what a new version of a model had to show, and what it showed, with its intervals drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.interval import Interval, Scale, intervals_of, scale, signed

WIDTH, ROW, EDGE = 320, 40, 8


@dataclass(frozen=True, slots=True)
class Line:
    """An interval and where it is drawn; `y` is that of its line, the label stands above."""

    interval: Interval
    y: int
    low: float
    high: float
    value: float
    bound: float | None
    bound_told: str
    gain: str
    ends: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Drawing:
    lines: tuple[Line, ...]
    zero: float
    ticks: tuple[tuple[float, str], ...]
    width: int
    height: int


def drawing_of(report: Mapping[str, Any]) -> Drawing | None:
    """The intervals' places; None for a report without any."""
    intervals = intervals_of(report)
    if not intervals:
        return None
    over = scale(intervals)
    lines = tuple(_line(each, over, ROW * place + 28) for place, each in enumerate(intervals))
    ticks = tuple((_x(over, tick), f"{tick:+.3g}".replace("-", "−") if tick else "0") for tick in over.ticks)
    return Drawing(lines, _x(over, 0.0), ticks, WIDTH, ROW * len(lines) + 32)


def _line(each: Interval, over: Scale, y: int) -> Line:
    return Line(
        interval=each,
        y=y,
        low=_x(over, each.low),
        high=_x(over, each.high),
        value=_x(over, each.value),
        bound=_x(over, each.bound) if each.bound else None,
        bound_told="" if each.bound is None else signed(each.bound),
        gain=signed(each.value),
        ends=(signed(each.low), signed(each.high)),
    )


def _x(over: Scale, value: float) -> float:
    return round(EDGE + over.at(value) * (WIDTH - 2 * EDGE), 1)
