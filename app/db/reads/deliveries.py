"""Deliveries for the dashboard and the API."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from app.db.reads.reader import PAGE, AnyRow, Reader
from app.db.sight import seen
from app.db.tables import DeliveryRow
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
    ) -> DeliveryPage:
        """Deliveries, newest first, of one state and one repository (`owner/name`) where those are given."""
        wanted = select(*_DELIVERY).where(seen(sight, DeliveryRow)).order_by(DeliveryRow.id.desc()).limit(limit + 1)
        if state is not None:
            wanted = wanted.where(DeliveryRow.state == state.value)
        if repository:
            wanted = wanted.where(DeliveryRow.repository == repository)
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


def _delivery_line(row: AnyRow) -> DeliveryLine:
    values = {name: getattr(row, name) for name in DeliveryLine.__dataclass_fields__}
    return DeliveryLine(**{**values, "state": DeliveryState(row.state), "buried": bool(row.buried)})
