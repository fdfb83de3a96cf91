"""Counts for probes and metrics."""

from typing import Any

from sqlalchemy import Engine, func, select

from app.db.engine import db_now, reading
from app.db.leases import ROWS, ready
from app.db.tables import DeliveryRow, EffectRow, IncidentRow, RepairRow
from app.ports.queue import Work

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
