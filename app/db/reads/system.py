"""How the bot itself is: its queues, switches, schedules and database. For those who run it: nothing is narrowed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, and_, func, select, text, tuple_

from app.db import migrate
from app.db.engine import db_now, reading
from app.db.leases import ROWS, ready
from app.db.reads.reader import Reader
from app.db.tables import MarkRow, RepairRow, RepositoryRow, SwitchRow, TurnRow
from app.domain.repair import RepairState, Verb
from app.ports.queue import Work

MOST_SWITCHES = 100
BREAKER_AFTER, BREAKER_REST_S = 3, 3600.0  # the defaults of heal.yml
_DAY_S = 24 * 3600.0
_LOOKED_BACK = 2_000
_JUDGED = (RepairState.PROVEN, RepairState.DISPROVEN, RepairState.FAILED, RepairState.UNDONE)


@dataclass(frozen=True, slots=True)
class Queue:
    """`oldest_s` is how long the oldest row that nobody works on has been due; `later` are not due yet."""

    work: Work
    due: int
    oldest_s: float
    leased: int
    later: int
    aside: int


@dataclass(frozen=True, slots=True)
class Thrown:
    """A switch that is on. `repository` is the name of the one it is about, empty for others."""

    scope: str
    repository: str
    by: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Breaker:
    """An action that rests in a repository after proofs failed in a row, by the defaults of heal.yml."""

    repository: str
    action: str
    failed: int
    failed_at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Base:
    """The database. `schema` is its revision, `wanted` what this release was written for."""

    kind: str
    version: str
    bytes: int | None
    schema: str
    wanted: str
    pending: bool


@dataclass(frozen=True, slots=True)
class Schedules:
    """`turns`: when each schedule is next; `marks`: how far something has come."""

    turns: tuple[tuple[str, datetime], ...]
    marks: tuple[tuple[str, datetime], ...]


class SystemReads(Reader):
    def queues(self) -> list[Queue]:
        with reading(self._engine) as connection:
            return [_queue(connection, work) for work in Work]

    def switches(self) -> list[Thrown]:
        """The newest first; those for one cause alone are the repositories' business."""
        row = SwitchRow
        known = row.scope.in_(["app"]) | row.scope.startswith("repository:", autoescape=True)
        wanted = select(row.scope, row.by, row.at, row.reason).where(known).order_by(row.at.desc())
        found = self._rows(wanted.limit(MOST_SWITCHES))
        names = self._names({number for each in found if (number := _number(each.scope))})
        return [Thrown(each.scope, names.get(_number(each.scope), ""), each.by, each.at, each.reason) for each in found]

    def breakers(self) -> list[Breaker]:
        """From the repairs that were judged within a week: no rest lasts longer than a day."""
        row = RepairRow
        judged = and_(row.verb == Verb.APPLY.value, row.state.in_([state.value for state in _JUDGED]))
        columns = (row.repository_id, row.action, row.ended_at, row.proof)
        newest = (
            select(*columns).where(judged, row.ended_at > db_now(-_DAY_S)).order_by(row.ended_at.desc(), row.id.desc())
        )
        with self._listing() as connection:
            today = connection.execute(newest.limit(_LOOKED_BACK)).all()
        failing = {pair for pair, rows in _by_rung(today).items() if _in_row(rows)}
        if not failing:
            return []
        week = select(*columns).where(
            judged, row.ended_at > db_now(-7 * _DAY_S), tuple_(row.repository_id, row.action).in_(sorted(failing))
        )
        with self._listing() as connection:
            found = connection.execute(week.order_by(row.ended_at.desc(), row.id.desc()).limit(_LOOKED_BACK)).all()
        rungs = _by_rung(found)
        names = self._names({repository_id for repository_id, _ in failing})
        now = self._now()
        resting = []
        for (repository_id, action), rows in rungs.items():
            failed = _in_row(rows)
            if failed >= BREAKER_AFTER:
                rest_s = min(_DAY_S, BREAKER_REST_S * 2 ** min(failed - BREAKER_AFTER, 16))
                until = rows[0].ended_at + timedelta(seconds=rest_s)
                if until > now:
                    name = names.get(repository_id, str(repository_id))
                    resting.append(Breaker(name, action, failed, rows[0].ended_at, until))
        return sorted(resting, key=lambda each: each.failed_at, reverse=True)

    def schedules(self) -> Schedules:
        known = MarkRow.name.not_like("runner:%") & MarkRow.name.not_like("erase:%")
        turns = self._rows(select(TurnRow.name, TurnRow.next_at).order_by(TurnRow.name).limit(50))
        marks = self._rows(select(MarkRow.name, MarkRow.at).where(known).order_by(MarkRow.name).limit(50))
        return Schedules(tuple((each.name, each.next_at) for each in turns), tuple((m.name, m.at) for m in marks))

    def base(self) -> Base:
        postgresql = self._engine.dialect.name == "postgresql"
        with reading(self._engine) as connection:
            if postgresql:
                release = connection.scalar(text("SHOW server_version"))
                size = connection.scalar(text("SELECT pg_database_size(current_database())"))
            else:
                release = connection.scalar(text("SELECT sqlite_version()"))
                pages = connection.scalar(text("PRAGMA page_count")) or 0
                size = pages * (connection.scalar(text("PRAGMA page_size")) or 0)
        schema, wanted = migrate.current(self._engine) or "", migrate.head()
        return Base("PostgreSQL" if postgresql else "SQLite", str(release), size, schema, wanted, schema != wanted)

    def _names(self, numbers: set[int]) -> dict[int, str]:
        if not numbers:
            return {}
        wanted = select(RepositoryRow.id, RepositoryRow.full_name).where(RepositoryRow.id.in_(sorted(numbers)))
        return {row.id: row.full_name for row in self._rows(wanted)}

    def _now(self) -> datetime:
        found: datetime = self._rows(select(db_now().label("now")))[0].now
        return found


def _queue(connection: Connection, work: Work) -> Queue:
    row = ROWS[work]
    oldest, due, now = connection.execute(select(func.min(row.due_at), func.count(), db_now()).where(ready(row))).one()
    leased = select(func.count()).where(row.lease_until.is_not(None), row.lease_until > db_now())
    later = select(func.count()).where(row.due_at > db_now(), row.lease_until.is_(None))
    aside = select(func.count()).where(row.buried_at.is_not(None))
    return Queue(
        work,
        due,
        0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()),
        *(connection.scalar(wanted) or 0 for wanted in (leased, later, aside)),
    )


def _number(scope: str) -> int:
    """The repository that a switch is about; 0 for none."""
    _, _, number = scope.partition("repository:")
    return int(number) if number.isdecimal() else 0


def _by_rung(rows: Sequence[Any]) -> dict[tuple[int, str], list[Any]]:
    found: dict[tuple[int, str], list[Any]] = {}
    for row in rows:
        found.setdefault((row.repository_id, row.action), []).append(row)
    return found


def _in_row(rows: Sequence[Any]) -> int:
    """How many of the newest failed, one after the other."""
    return len(list(takewhile(lambda each: not each.proof.get("proven"), rows)))
