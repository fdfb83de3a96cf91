"""Deliveries for the dashboard and the API."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from app.db.engine import reading
from app.db.reads.reader import PAGE, AnyRow, Reader
from app.db.rows import unpacked
from app.db.sight import seen
from app.db.tables import DeliveryRow, EffectRow, IncidentRow, RepairRow, RepositoryRow, TimelineRow
from app.domain.access import Sight
from app.domain.delivery import DeliveryState


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """A delivery without its body. `buried` when it was put aside with its `last_error`."""

    id: int
    guid: str
    source: str
    event: str
    action: str
    repository: str
    state: DeliveryState
    reason: str
    attempts: int
    last_error: str
    buried: bool
    received_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    lines: tuple[DeliveryLine, ...]
    older: int | None


@dataclass(frozen=True, slots=True)
class DeliveryDetail:
    """`kept`: its body is. `repository_id` is None for what is of no repository."""

    line: DeliveryLine
    repository_id: int | None
    headers: Mapping[str, Any]
    kept: bool


@dataclass(frozen=True, slots=True)
class Told:
    """An entry of an incident's timeline."""

    id: int
    incident_id: int
    kind: str
    at: datetime
    summary: str


@dataclass(frozen=True, slots=True)
class Caused:
    """A repair or an effect; `what` is its action or its kind. `aside`: it was put aside."""

    id: int
    incident_id: int | None
    what: str
    state: str
    aside: bool


@dataclass(frozen=True, slots=True)
class Followed:
    told: tuple[Told, ...]
    repairs: tuple[Caused, ...]
    effects: tuple[Caused, ...]


_DELIVERY = (
    DeliveryRow.id,
    DeliveryRow.guid,
    DeliveryRow.source,
    DeliveryRow.event,
    DeliveryRow.action,
    DeliveryRow.repository,
    DeliveryRow.state,
    DeliveryRow.reason,
    DeliveryRow.attempts,
    DeliveryRow.last_error,
    DeliveryRow.buried_at.is_not(None).label("buried"),
    DeliveryRow.received_at,
    DeliveryRow.finished_at,
)


class DeliveryReads(Reader):
    def deliveries(
        self,
        sight: Sight,
        state: DeliveryState | None = None,
        repository: str = "",
        before: int | None = None,
        limit: int = PAGE,
        *,
        event: str = "",
        source: str = "",
    ) -> DeliveryPage:
        """Deliveries, newest first, of one state, repository (`owner/name`), event and source where those are given."""
        wanted = select(*_DELIVERY).where(seen(sight, DeliveryRow)).order_by(DeliveryRow.id.desc()).limit(limit + 1)
        if state is not None:
            wanted = wanted.where(DeliveryRow.state == state.value)
        if repository:
            home = select(RepositoryRow.id).where(RepositoryRow.full_name == repository)
            wanted = wanted.where(DeliveryRow.repository_id.in_(home))
        if event:
            wanted = wanted.where(DeliveryRow.event == event)
        if source:
            wanted = wanted.where(DeliveryRow.source == source)
        if before is not None:
            wanted = wanted.where(DeliveryRow.id < before)
        rows = self._rows(wanted)
        lines = tuple(_delivery_line(row) for row in rows[:limit])
        return DeliveryPage(lines, lines[-1].id if len(rows) > limit else None)

    def delivery(self, guid: str, repository_id: int | None = None) -> DeliveryLine | None:
        """The delivery of that GUID (of that repository); the newest, should two sources have used the same one."""
        here = [] if repository_id is None else [DeliveryRow.repository_id == repository_id]
        wanted = select(*_DELIVERY).where(DeliveryRow.guid == guid, *here).order_by(DeliveryRow.id.desc()).limit(1)
        rows = self._rows(wanted)
        return _delivery_line(rows[0]) if rows else None

    def delivery_numbered(self, number: int) -> DeliveryDetail | None:
        columns = (DeliveryRow.repository_id, DeliveryRow.headers, func.length(DeliveryRow.body).label("kept"))
        rows = self._rows(select(*_DELIVERY, *columns).where(DeliveryRow.id == number))
        if not rows:
            return None
        row = rows[0]
        return DeliveryDetail(_delivery_line(row), row.repository_id, row.headers, kept=row.kept > 0)

    def delivery_body(self, number: int) -> bytes:
        """The body as it came; empty when it is not kept any more."""
        rows = self._rows(select(DeliveryRow.body).where(DeliveryRow.id == number))
        return unpacked(rows[0].body) if rows else b""

    def followed(self, sight: Sight, delivery: DeliveryDetail, limit: int = PAGE) -> Followed:
        """What that delivery led to. A GUID may be anybody's invention: what has it as its cause counts only in the
        delivery's own repository."""
        line, home = delivery.line, delivery.repository_id
        told = (
            select(TimelineRow.id, TimelineRow.incident_id, TimelineRow.kind, TimelineRow.at, IncidentRow.summary)
            .join(IncidentRow, IncidentRow.id == TimelineRow.incident_id)
            .where(TimelineRow.delivery_id == line.id, seen(sight, IncidentRow))
        )
        repairs = select(RepairRow.id, RepairRow.incident_id, RepairRow.action, RepairRow.state, RepairRow.buried_at)
        effects = select(EffectRow.id, EffectRow.incident_id, EffectRow.kind, EffectRow.state, EffectRow.buried_at)
        with reading(self._engine) as connection:
            entries = connection.execute(told.order_by(TimelineRow.id).limit(limit)).all()
            caused = []
            for wanted, row in ((repairs, RepairRow), (effects, EffectRow)):
                here = (row.cause == line.guid, row.repository_id == home, seen(sight, row))
                caused.append(connection.execute(wanted.where(*here).order_by(row.id).limit(limit)).all())
        return Followed(
            tuple(Told(entry.id, entry.incident_id, entry.kind, entry.at, entry.summary) for entry in entries),
            tuple(Caused(*row[:4], aside=row.buried_at is not None) for row in caused[0]),
            tuple(Caused(*row[:4], aside=row.buried_at is not None) for row in caused[1]),
        )


def _delivery_line(row: AnyRow) -> DeliveryLine:
    values = {name: getattr(row, name) for name in DeliveryLine.__dataclass_fields__}
    return DeliveryLine(**{**values, "state": DeliveryState(row.state), "buried": bool(row.buried)})
