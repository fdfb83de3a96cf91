"""Who may work on what: the conditions and changes of rows that are claimed. See tables.Leased for the columns."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, or_, select, update
from sqlalchemy.orm import aliased

from app.db.engine import db_now
from app.db.tables import DeliveryRow, EffectRow, RepairRow
from app.domain.errors import LeaseLost
from app.ports.queue import Work
from app.ports.store import Lease

ROWS: dict[Work, type[DeliveryRow] | type[RepairRow] | type[EffectRow]] = {
    Work.DELIVERY: DeliveryRow,
    Work.REPAIR: RepairRow,
    Work.EFFECT: EffectRow,
}
DEAD: dict[Work, dict[str, str]] = {Work.DELIVERY: {"state": "dead"}, Work.EFFECT: {"state": "dead"}, Work.REPAIR: {}}
ALIVE: dict[Work, dict[str, str]] = {
    Work.DELIVERY: {"state": "ready"},
    Work.EFFECT: {"state": "wanted"},
    Work.REPAIR: {},
}
CAUSE: dict[Work, ColumnElement[str]] = {
    Work.DELIVERY: DeliveryRow.guid.expression,
    Work.REPAIR: RepairRow.cause.expression,
    Work.EFFECT: EffectRow.cause.expression,
}
FREED: dict[str, Any] = {"lease_until": None, "lease_owner": ""}


def ready(row: Any, overdue_s: float = 0.0) -> ColumnElement[bool]:
    """Due for at least `overdue_s`, and in nobody's hands."""
    return and_(row.due_at <= db_now(-overdue_s), or_(row.lease_until.is_(None), row.lease_until <= db_now()))


def claimable(work: Work, overdue_s: float = 0.0) -> Select[int, str]:
    """Ids and mailboxes of the oldest ready row of each mailbox that is not being worked on."""
    head, older, leased = aliased(ROWS[work]), aliased(ROWS[work]), aliased(ROWS[work])
    busy = select(leased.mailbox).where(leased.lease_until.is_not(None), leased.lease_until > db_now())
    earlier = exists().where(older.mailbox == head.mailbox, older.id < head.id, ready(older))
    return select(head.id, head.mailbox).where(ready(head, overdue_s), head.mailbox.not_in(busy), ~earlier)


def held(lease: Lease) -> ColumnElement[bool]:
    row = ROWS[lease.work]
    return and_(row.id == lease.row_id, row.lease_token == lease.token, row.lease_until.is_not(None))


def change_held(connection: Connection, lease: Lease, **values: Any) -> str:
    """Change a leased row; its mailbox. Raises LeaseLost."""
    row = ROWS[lease.work]
    mailbox = connection.scalar(update(row).where(held(lease)).values(**values).returning(row.mailbox))
    if mailbox is None:
        raise lost(lease)
    return str(mailbox)


def lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"{lease.work} {lease.row_id} is no longer ours (token {lease.token})")


def next_in(connection: Connection, work: Work, mailbox: str) -> int | None:
    """The row of this mailbox that can be claimed now, if any: it waited for one that has just been let go."""
    heads = claimable(work).subquery()
    return connection.scalar(select(heads.c.id).where(heads.c.mailbox == mailbox).limit(1))
