"""What the rows of past repairs tell the guards: budgets, breakers, tracks, twins."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, case, func, or_, select, update
from sqlalchemy.orm import aliased

from app.db.codec import remedy_from_json
from app.db.dialect import insert
from app.db.engine import db_now
from app.db.tables import IncidentRow, RepairRow, SpendingRow, TimelineRow
from app.domain.budget import PERIOD_S, Amounts, Spent, Unit
from app.domain.incident import State
from app.domain.knowledge import Track, rung_of
from app.domain.repair import RepairState, Verb


class Knowledge:
    """About one incident of a repository, within a transaction."""

    def __init__(self, connection: Connection, repository_id: int, incident_id: int) -> None:
        self._connection = connection
        self._repository_id = repository_id
        self._incident_id = incident_id

    def spent(self) -> dict[Unit, Spent]:
        row, found = SpendingRow, {}
        for unit, period_s in PERIOD_S.items():
            recent = (row.repository_id == self._repository_id, row.unit == unit.value, row.at > db_now(-period_s))
            total = select(func.sum(row.amount), func.min(row.at)).where(*recent, row.amount > 0)
            amount, oldest_at = self._connection.execute(total).one()
            if amount:
                found[unit] = Spent(amount, oldest_at)
        return found

    def failures_in_row(self, action: str) -> tuple[int, datetime | None]:
        row = RepairRow
        here = (row.repository_id == self._repository_id, row.action == action, row.verb == Verb.APPLY.value)
        which = (*here, row.state.in_([state.value for state in JUDGED]), row.ended_at.is_not(None))
        newest = select(row.ended_at, row.proof).where(*which).order_by(row.ended_at.desc(), row.id.desc())
        ended = self._connection.execute(newest.limit(_LOOKED_BACK)).all()
        failed = list(takewhile(lambda each: not each.proof.get("proven"), ended))
        return len(failed), failed[0].ended_at if failed else None

    def closed_unmerged(self) -> int:
        kind = select(IncidentRow.kind).where(IncidentRow.id == self._incident_id).scalar_subquery()
        alike = select(IncidentRow.id).where(IncidentRow.repository_id == self._repository_id, IncidentRow.kind == kind)
        told = select(TimelineRow.kind).where(
            TimelineRow.incident_id.in_(alike), TimelineRow.kind.in_(["closed", "merged", "retried", "approved"])
        )
        newest = self._connection.scalars(told.order_by(TimelineRow.id.desc()).limit(_LOOKED_BACK))
        return len(list(takewhile(lambda each: each == "closed", newest)))

    def tracks(self) -> dict[str, Track]:
        """Of each rung for this cause, from the newest repairs; those taken back after their proof count as failed."""
        row = RepairRow
        kind = select(IncidentRow.kind).where(IncidentRow.id == self._incident_id).scalar_subquery()
        alike = select(IncidentRow.id).where(IncidentRow.repository_id == self._repository_id, IncidentRow.kind == kind)
        judged = [state.value for state in JUDGED]
        newest = (
            select(row.remedy, row.state, row.ended_at, row.proof)
            .where(row.incident_id.in_(alike), row.verb != Verb.UNDO.value, row.state.in_(judged))
            .order_by(row.id.desc())
            .limit(_LOOKED_BACK)
        )
        found: dict[str, Track] = {}
        for each in reversed(self._connection.execute(newest).all()):
            rung = rung_of(remedy_from_json(each.remedy))
            found[rung] = further(found.get(rung, Track()), RepairState(each.state), each.ended_at, each.proof)
        return found

    def twin(self) -> int | None:
        found: int | None = self._connection.scalar(_twin(), {"this_incident": self._incident_id})
        return found


def reserve(connection: Connection, repair_id: int, amounts: Amounts) -> None:
    here = select(RepairRow.repository_id).where(RepairRow.id == repair_id).scalar_subquery()
    for unit, amount in amounts.items():
        values = {"amount": amount, "settled": False, "at": db_now(), "repository_id": here}
        add = insert(connection, SpendingRow).values(repair_id=repair_id, unit=unit.value, **values)
        connection.execute(add.on_conflict_do_nothing(index_elements=["repair_id", "unit"]))


def settle(connection: Connection, repair_id: int, amounts: Amounts) -> None:
    reserve(connection, repair_id, amounts)
    row = SpendingRow
    used = case({unit.value: amount for unit, amount in amounts.items()}, value=row.unit, else_=0.0) if amounts else 0.0
    open_or_told = or_(row.settled.is_(False), row.unit.in_([unit.value for unit in amounts]))
    this = update(row).where(row.repair_id == repair_id, open_or_told)  # what was settled before and is not told stays
    connection.execute(this.values(amount=used, settled=True))


@cache
def _twin() -> Select[Any]:
    """Another incident of the repository with the same cause that is being repaired, or whose repair is to be merged.
    Of two that are being repaired the older one goes on. A question that nobody answers, of what is not found any more
    (its branch may be gone), stands in nobody's way after some days.
    """
    this, other = aliased(IncidentRow), aliased(IncidentRow)
    under_way = [State.REPAIRING.value, State.VERIFYING.value, State.AWAITING_APPROVAL.value]
    asked = State.AWAITING_APPROVAL.value
    busy = or_(
        and_(other.state.in_(under_way), or_(other.state != asked, other.updated_at > db_now(-ASKED_S))),
        and_(other.state == State.HEALED.value, other.pull_number.is_not(None), other.merged_at.is_(None)),
    )
    same = other.finding["fingerprint"].as_string() == this.finding["fingerprint"].as_string()
    here = (this.id == bindparam("this_incident"), other.id != this.id, other.repository_id == this.repository_id)
    found = select(other.id).select_from(this).join(other, and_(other.kind == this.kind, same))
    return found.where(*here, busy, or_(other.id < this.id, this.state.not_in(under_way))).order_by(other.id).limit(1)


def further(track: Track, state: RepairState, at: datetime | None, proof: Mapping[str, Any]) -> Track:
    match state:
        case RepairState.PROVEN:
            return replace(track, proven=track.proven + 1, since_revert=track.since_revert + 1)
        case RepairState.UNDONE if proof.get("lifted"):
            return replace(track, proven=track.proven + 1)
        case RepairState.UNDONE if proof.get("proven"):
            return replace(track, failed=track.failed + 1, reverted_at=at, since_revert=0)
        case RepairState.AGREED:
            return replace(track, agreed=track.agreed + 1)
        case RepairState.DIFFERED:
            return replace(track, differed=track.differed + 1)
        case _:
            return replace(track, failed=track.failed + 1)


ASKED_S = 7 * 24 * 3600.0
JUDGED = (
    *(RepairState.PROVEN, RepairState.DISPROVEN, RepairState.FAILED, RepairState.UNDONE),
    *(RepairState.AGREED, RepairState.DIFFERED),
)
_LOOKED_BACK = 200
