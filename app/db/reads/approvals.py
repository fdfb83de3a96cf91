"""What waits for a decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, case, func, select

from app.db.codec import finding_from_json
from app.db.reads.incidents import INCIDENT, IncidentLine, incident_line
from app.db.reads.reader import Reader
from app.db.reads.sought import COUNTED
from app.db.rows import repair_of
from app.db.sight import seen
from app.db.tables import ApprovalRow, IncidentRow, RepairRow, TimelineRow
from app.domain.access import Sight
from app.domain.finding import Finding
from app.domain.incident import State
from app.domain.repair import Repair, RepairState

AT_ONCE = 25


@dataclass(frozen=True, slots=True)
class Question:
    """An incident that waits, with the repair that is asked for. `asked_at` and `data` are of the timeline's entry, and
    `newest` is the timeline's newest one; `said_yes` are the people who have, where it takes several."""

    line: IncidentLine
    finding: Finding
    repair: Repair | None
    asked_at: datetime
    data: Mapping[str, Any]
    newest: int
    said_yes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuestionPage:
    """Oldest first. `younger` is the `after` of the next page, None on the last one. `number` is how many wait in all,
    COUNTED for that many and more."""

    questions: tuple[Question, ...]
    younger: int | None
    number: int


class ApprovalReads(Reader):
    def questions(self, sight: Sight, after: int | None = None, limit: int = AT_ONCE) -> QuestionPage:
        row = IncidentRow
        waiting = (seen(sight, row), row.state == State.AWAITING_APPROVAL.value)
        every = select(row.id).where(*waiting).order_by(row.id).limit(COUNTED)
        wanted = select(*INCIDENT, row.finding).where(*waiting, *([row.id > after] if after is not None else []))
        with self._listing() as connection:
            number = connection.scalar(select(func.count()).select_from(every.subquery())) or 0
            rows = connection.execute(wanted.order_by(row.id).limit(limit + 1)).all()
            ids = [each.id for each in rows[:limit]]
            repairs = _repairs(connection, ids)
            entries = _entries(connection, ids)
            said = _said(connection, [repair.id for repair in repairs.values()])
        questions = []
        for each in rows[:limit]:
            newest, asked_at, data = entries.get(each.id, (0, None, {}))
            repair = repairs.get(each.id)
            said_yes = said.get(repair.id, ()) if repair else ()
            finding = finding_from_json(each.finding)
            line = incident_line(each)
            questions.append(Question(line, finding, repair, asked_at or line.updated_at, data, newest, said_yes))
        return QuestionPage(tuple(questions), ids[-1] if len(rows) > limit else None, number)


def _repairs(connection: Connection, incidents: Sequence[int]) -> dict[int, Repair]:
    row = RepairRow
    asked = select(row).where(row.incident_id.in_(incidents), row.state == RepairState.ASKED.value).order_by(row.id)
    return {each.incident_id: repair_of(each) for each in connection.execute(asked)}


def _entries(
    connection: Connection, incidents: Sequence[int]
) -> dict[int, tuple[int, datetime | None, Mapping[str, Any]]]:
    """The newest entry of each timeline, and when and how it was asked."""
    row = TimelineRow
    last = (
        select(
            row.incident_id,
            func.max(row.id).label("newest"),
            func.max(case((row.kind == "asked", row.id))).label("asked"),
        )
        .where(row.incident_id.in_(incidents))
        .group_by(row.incident_id)
        .subquery()
    )
    told: Select[Any] = select(last.c.incident_id, last.c.newest, row.at, row.data).outerjoin(
        row, row.id == last.c.asked
    )
    return {each.incident_id: (each.newest, each.at, each.data or {}) for each in connection.execute(told)}


def _said(connection: Connection, repairs: Sequence[int]) -> dict[int, tuple[str, ...]]:
    row = ApprovalRow
    found: dict[int, tuple[str, ...]] = {}
    for each in connection.execute(select(row).where(row.repair_id.in_(repairs)).order_by(row.at, row.by)):
        found[each.repair_id] = (*found.get(each.repair_id, ()), each.by)
    return found
