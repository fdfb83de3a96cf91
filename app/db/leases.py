"""Who may work on what: the conditions and changes of rows that are claimed. See tables.Leased for the columns."""

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Select,
    String,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    update,
)
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


def ready(row: Any) -> ColumnElement[bool]:
    """Due, and in nobody's hands."""
    return and_(row.due_at <= db_now(), or_(row.lease_until.is_(None), row.lease_until <= db_now()))


def waiting(work: Work, *which: ColumnElement[bool]) -> Select[int, str]:
    """Id and mailbox of the oldest ready row in the first mailbox, by name, that nobody works on."""
    row = ROWS[work]
    found = select(row.id, row.mailbox).where(ready(row), row.mailbox.not_in(_busy(work)), *which)
    return found.order_by(row.mailbox, row.id).limit(1)


@cache
def next_turn(work: Work, *, later: bool) -> Select[int, str]:
    """The same, of the mailboxes after `passed` and, by name, `later` than `last` or not."""
    mailbox, last = ROWS[work].mailbox, bindparam("last", type_=String)
    return waiting(work, mailbox > last if later else mailbox <= last, mailbox > bindparam("passed", type_=String))


def claimable(work: Work, row_id: Any) -> Select[int]:
    """This row, locked, if it is ready, the oldest in its mailbox, and nobody works on the mailbox or claims it."""
    row, older = ROWS[work], aliased(ROWS[work])
    earlier = exists().where(older.mailbox == row.mailbox, older.id < row.id, ready(older))
    this = select(row.id).where(row.id == row_id, ready(row), row.mailbox.not_in(_busy(work)), ~earlier)
    return this.with_for_update(skip_locked=True)


@cache
def taking(work: Work) -> Update:
    """Lease the claimable row `row_id` to `owner` for `lease_s`. A delivery comes whole: its work begins with it."""
    row = ROWS[work]
    whole = (
        (DeliveryRow,) if work is Work.DELIVERY else (row.id, row.mailbox, row.lease_token, row.attempts, row.crashes)
    )
    return (
        update(row)
        .where(row.id == claimable(work, bindparam("row_id")).scalar_subquery())
        .values(
            lease_until=db_now(bindparam("lease_s", type_=Float)),
            lease_token=row.lease_token + 1,
            lease_owner=bindparam("owner"),
            attempts=row.attempts + 1,
            crashes=row.crashes + case((row.lease_until.is_(None), 0), else_=1),
            **({"woken": False} if work is Work.REPAIR else {}),
        )
        .returning(*whole, CAUSE[work].label("cause"))
    )


def all_claimable(work: Work, overdue_s: float) -> Select[int]:
    """The ids of all such rows that have been due for that long, oldest first: one pass over what is ready."""
    row, each = ROWS[work], aliased(ROWS[work])
    heads = select(func.min(each.id)).where(ready(each), each.mailbox.not_in(_busy(work))).group_by(each.mailbox)
    return select(row.id).where(row.id.in_(heads), row.due_at <= db_now(-overdue_s)).order_by(row.id)


def _busy(work: Work) -> Select[str]:
    leased = aliased(ROWS[work])
    return select(leased.mailbox).where(leased.lease_until.is_not(None), leased.lease_until > db_now())


def held(lease: Lease) -> ColumnElement[bool]:
    row = ROWS[lease.work]
    return and_(row.id == lease.row_id, row.lease_token == lease.token, row.lease_until.is_not(None))


def hold_fast(connection: Connection, lease: Lease) -> datetime:
    """Lock a leased row until the end of the transaction; the time. Raises LeaseLost."""
    mine = {"row_id": lease.row_id, "token": lease.token}
    now: datetime | None = connection.execute(_holding(lease.work), mine).scalar()
    if now is None:
        raise lost(lease)
    return now


@cache
def _holding(work: Work) -> Select[Any]:
    row = ROWS[work]
    token = row.lease_token == bindparam("token")
    return (
        select(db_now())
        .where(row.id == bindparam("row_id"), token, row.lease_until.is_not(None))
        .with_for_update(of=row)
    )


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
    found = connection.execute(_following(work), {"this_mailbox": mailbox}).first()
    return None if found is None else found.id


@cache
def _following(work: Work) -> Select[int, str]:
    return waiting(work, ROWS[work].mailbox == bindparam("this_mailbox"))
