"""The page of a gate: what a new version of a model had to show, and what it showed, with its intervals drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from app.db.engine import reading
from app.db.reads import Reads
from app.db.tables import RepairRow
from app.domain.interval import GATE, Interval, Scale, intervals_of, scale, signed

WIDTH, ROW, EDGE = 320, 40, 8
_LOOKED_AT = 20  # the newest repairs of an incident


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


def gate_of(reads: Reads, incident_id: int) -> Mapping[str, Any] | None:
    """The report of the incident's newest repair that was judged by a gate; None if none was."""
    wanted = select(RepairRow.plan).where(RepairRow.incident_id == incident_id).order_by(RepairRow.id.desc())
    with reading(reads._engine) as connection:  # a method of Reads may take this query over
        plans = connection.scalars(wanted.limit(_LOOKED_AT)).all()
    reports = (plan.get("report") for plan in plans if isinstance(plan, dict))
    return next((told for told in reports if isinstance(told, dict) and told.get("kind") == GATE), None)


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
