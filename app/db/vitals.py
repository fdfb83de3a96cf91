"""Counts for probes and metrics."""

import time
from typing import Any

from sqlalchemy import Engine, func, select

from app.db.engine import db_now, reading
from app.db.leases import ROWS, ready
from app.db.tables import DeliveryRow, EffectRow, IncidentRow, RepairRow
from app.domain.fleet import Part
from app.ports.queue import Work

LATE_S = 300.0  # a row that has waited longer than this means that nobody works
_SLOW_S = 5.0

Counts = list[tuple[tuple[str, ...], int]]

_FAMILIES: dict[str, tuple[Any, ...]] = {
    "heal_deliveries": (DeliveryRow.state,),
    "heal_incidents": (IncidentRow.state, IncidentRow.kind),
    "heal_repairs": (RepairRow.action, RepairRow.state),
    "heal_effects": (EffectRow.kind, EffectRow.state),
}


class Vitals:
    """All methods raise Unreachable when the database is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def oldest_due_s(self, work: Work) -> float:
        """How long the oldest row that nobody works on has been due, in seconds; 0 when none is."""
        row = ROWS[work]
        with reading(self._engine) as connection:
            oldest, now = connection.execute(select(func.min(row.due_at), db_now()).where(ready(row))).one()
        return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())

    def numbers(self) -> dict[str, Counts]:
        """Rows by the values of the family's columns, for each metric family."""
        with reading(self._engine) as connection:
            return {
                family: [
                    (tuple(str(value) for value in row[:-1]), row[-1])
                    for row in connection.execute(select(*columns, func.count()).group_by(*columns))
                ]
                for family, columns in _FAMILIES.items()
            }

    def parts(self) -> list[Part]:
        """The database and the workers, as they show from here."""
        start = time.monotonic()
        waits = {work: self.oldest_due_s(work) for work in Work}
        took_s = time.monotonic() - start
        work, longest_s = max(waits.items(), key=lambda pair: pair[1])
        return [
            Part("database", took_s < _SLOW_S, f"three questions took {took_s:.1f} s"),
            Part("workers", longest_s < LATE_S, f"the oldest {work} waits for {longest_s:.0f} s"),
        ]
