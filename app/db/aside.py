"""Rows that were put aside because they could not be worked off, and rows that are to be worked off again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, func, select, update

from app.db import audit
from app.db.audit import Act
from app.db.engine import db_now, reading, writing
from app.db.leases import ROWS
from app.db.tables import DeliveryRow, EffectRow, RepairRow
from app.domain.delivery import DeliveryState
from app.domain.repair import FINAL
from app.ports.queue import Work
from app.ports.store import Store

MOST = 100

_GIVEN_UP = {Work.DELIVERY: DeliveryState.IGNORED.value, Work.EFFECT: "cancelled"}
_WHY = "discarded by hand"


@dataclass(frozen=True, slots=True)
class Aside:
    """`what` says which one it is: an event, an action, a kind of effect. `incident_id` is None for a delivery."""

    work: Work
    id: int
    what: str
    incident_id: int | None
    error: str
    attempts: int
    buried_at: datetime


def put_aside(engine: Engine, most: int = MOST) -> list[Aside]:
    """The newest of each kind of work."""
    with reading(engine) as connection:
        return [_aside(work, row) for work in Work for row in connection.execute(_buried(work, most))]


def again(store: Store, engine: Engine, work: Work, row_id: int, act: Act) -> bool:
    """Have it worked off again, and write down who asked. False: it is under way, or what it needs is not kept."""
    if work is Work.DELIVERY and not _body_kept(engine, row_id):
        return False
    return store.redrive(work, row_id, act)


def discard(engine: Engine, work: Work, row_id: int, act: Act) -> bool:
    """Give up a delivery or an effect that was put aside, for good. False: it is not put aside any more.

    Repairs are given up by the sweep, which tells a person.
    """
    row = ROWS[work]
    values: dict[str, Any] = {"state": _GIVEN_UP[work], "buried_at": None, "due_at": None}
    if work is Work.DELIVERY:
        values |= {"reason": _WHY, "finished_at": db_now()}
    with writing(engine) as connection:
        given_up = update(row).where(row.id == row_id, *_stands(work)).values(**values).returning(row.id)
        found = connection.scalar(given_up) is not None
        if found:
            audit.add(connection, act)
    return found


def _stands(work: Work) -> Sequence[Any]:
    row = ROWS[work]
    final = [state.value for state in FINAL] if work is Work.REPAIR else []
    return (row.buried_at.is_not(None), row.state.not_in(final))


def _buried(work: Work, most: int) -> Any:
    row = ROWS[work]
    what: Any
    incident: Any
    match work:
        case Work.DELIVERY:
            what, incident = DeliveryRow.event, None
        case Work.REPAIR:
            what, incident = RepairRow.action, RepairRow.incident_id
        case Work.EFFECT:
            what, incident = EffectRow.kind, EffectRow.incident_id
    columns = (row.id, what.label("what"), row.last_error, row.attempts, row.buried_at)
    extra = () if incident is None else (incident.label("incident_id"),)
    return select(*columns, *extra).where(*_stands(work)).order_by(row.id.desc()).limit(most)


def _aside(work: Work, row: Row[Any]) -> Aside:
    incident_id = getattr(row, "incident_id", None)
    return Aside(work, row.id, row.what, incident_id, row.last_error, row.attempts, row.buried_at)


def _body_kept(engine: Engine, delivery_id: int) -> bool:
    with reading(engine) as connection:
        size = select(func.length(DeliveryRow.body)).where(DeliveryRow.id == delivery_id)
        return bool(connection.scalar(size))
