"""Repositories for the dashboard and the API: how they do, what was learned there, what is muted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select
from sqlalchemy.orm import aliased

from app.db.codec import remedy_from_json
from app.db.engine import db_now, reading
from app.db.knowledge import JUDGED, further
from app.db.reads.reader import PAGE, AnyRow, AnySelect, Reader
from app.db.sight import seen_repository
from app.db.tables import IncidentRow, InstallationRow, RepairRow, RepositoryRow, SwitchRow, TimelineRow
from app.domain.access import Sight
from app.domain.finding import Remedy
from app.domain.incident import ACTIVE, State
from app.domain.knowledge import Track, rung_of
from app.domain.policy import MUTE, Mode, Switch, repository_scope
from app.domain.repair import RepairState, Verb

APP = "app"  # the scope of the switch for everything
DAYS = 90
EVIDENCE = 5  # incidents named beside what was learned
_DAY_S = 24 * 3600.0
_LOOKED_BACK = 2_000
_WORDS = 8


@dataclass(frozen=True, slots=True)
class Happened:
    """An incident by its number, and when."""

    incident_id: int
    summary: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RepositoryLine:
    """A repository in a list. `selection` is that of its installation; `open` are the incidents that are under way,
    `waiting` those of them that need approval; `mode` is the one of the last decision, "" as long as there was none.
    `removed_at`: the App is not installed there any more."""

    id: int
    full_name: str
    default_branch: str
    installation_id: int
    account: str
    selection: str
    added_at: datetime
    removed_at: datetime | None
    open: int = 0
    waiting: int = 0
    escalated: int = 0
    failed: Happened | None = None
    healed: Happened | None = None
    mode: str = ""
    paused: Switch | None = None


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """By name. `next` is the `after` of the next page, None on the last one."""

    lines: tuple[RepositoryLine, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class Day:
    """How many incidents were opened and healed on a day (UTC)."""

    at: date
    found: int
    healed: int


@dataclass(frozen=True, slots=True)
class Learned:
    """How a rung did for a cause in a repository. `incidents` are the newest in which it was judged."""

    kind: str
    detector: str
    remedy: Remedy
    track: Track
    incidents: tuple[int, ...]


_REPOSITORY = (
    RepositoryRow.id,
    RepositoryRow.full_name,
    RepositoryRow.default_branch,
    RepositoryRow.installation_id,
    RepositoryRow.added_at,
    RepositoryRow.removed_at,
    InstallationRow.account,
    InstallationRow.selection,
)
_COUNTED = sorted(state.value for state in (*ACTIVE, State.ESCALATED))


class RepositoryReads(Reader):
    def repositories(
        self, sight: Sight, query: str = "", after: int | None = None, limit: int = PAGE
    ) -> RepositoryPage:
        """Those on which the App is installed, whose names hold every word of `query`, after that repository."""
        row = RepositoryRow
        wanted = (
            select(*_REPOSITORY)
            .join(InstallationRow, InstallationRow.id == row.installation_id)
            .where(seen_repository(sight, row.id), row.removed_at.is_(None))
            .order_by(row.full_name, row.id)
            .limit(limit + 1)
        )
        for word in query.split()[:_WORDS]:
            wanted = wanted.where(row.full_name.icontains(word, autoescape=True))
        if after is not None:
            other = aliased(RepositoryRow)
            name = select(other.full_name).where(other.id == after).scalar_subquery()
            wanted = wanted.where(or_(row.full_name > name, and_(row.full_name == name, row.id > after)))
        with reading(self._engine) as connection:
            rows = connection.execute(wanted).all()
            lines = _lines(connection, rows[:limit])
        return RepositoryPage(lines, lines[-1].id if len(rows) > limit else None)

    def repository_line(self, repository_id: int) -> RepositoryLine | None:
        wanted = select(*_REPOSITORY).join(InstallationRow, InstallationRow.id == RepositoryRow.installation_id)
        with reading(self._engine) as connection:
            rows = connection.execute(wanted.where(RepositoryRow.id == repository_id)).all()
            return next(iter(_lines(connection, rows)), None)

    def days(self, repository_id: int) -> tuple[Day, ...]:
        """Of the last DAYS those with anything on them, oldest first."""
        row = IncidentRow
        counted: dict[str, dict[date, int]] = {}
        with reading(self._engine) as connection:
            for name, at in (("found", row.opened_at), ("healed", row.healed_at)):
                day = func.date(at)
                grouped = select(day, func.count()).where(
                    row.repository_id == repository_id, at > db_now(-DAYS * _DAY_S)
                )
                found = connection.execute(grouped.group_by(day)).all()
                counted[name] = {_date(told): count for told, count in found}
        every = sorted({*counted["found"], *counted["healed"]})
        return tuple(Day(at, counted["found"].get(at, 0), counted["healed"].get(at, 0)) for at in every)

    def learned(self, repository_id: int) -> tuple[Learned, ...]:
        """Of each cause and rung, from the newest repairs that were judged; causes by name, the surest rung first."""
        row = RepairRow
        newest = (
            select(
                row.incident_id, row.remedy, row.state, row.ended_at, row.proof, IncidentRow.kind, IncidentRow.detector
            )
            .join(IncidentRow, IncidentRow.id == row.incident_id)
            .where(
                row.repository_id == repository_id,
                row.verb != Verb.UNDO.value,
                row.state.in_([state.value for state in JUDGED]),
            )
            .order_by(row.id.desc())
            .limit(_LOOKED_BACK)
        )
        found: dict[tuple[str, str], Learned] = {}
        for each in reversed(self._rows(newest)):
            remedy = remedy_from_json(each.remedy)
            key = (each.kind, rung_of(remedy))
            known = found.get(key) or Learned(each.kind, each.detector, remedy, Track(), ())
            track = further(known.track, RepairState(each.state), each.ended_at, each.proof)
            others = (number for number in known.incidents if number != each.incident_id)
            incidents = (each.incident_id, *others)[:EVIDENCE]
            found[key] = Learned(each.kind, each.detector, known.remedy, track, incidents)
        return tuple(sorted(found.values(), key=lambda each: (each.kind, -each.track.at_least(), rung_of(each.remedy))))

    def muted(self, repository_id: int) -> tuple[Switch, ...]:
        """The causes that are never repaired there, as somebody has said; the newest first."""
        scope = f"{MUTE}{repository_id}:"
        wanted = select(SwitchRow).where(SwitchRow.scope.startswith(scope, autoescape=True))
        return tuple(_switch(row) for row in self._rows(wanted.order_by(SwitchRow.at.desc())))

    def everything_paused(self) -> Switch | None:
        return next((_switch(row) for row in self._rows(select(SwitchRow).where(SwitchRow.scope == APP))), None)


def muted_kind(switch: Switch) -> str:
    """The cause that a switch of `muted` is about."""
    return switch.scope.split(":", 2)[2]


def _lines(connection: Connection, rows: Sequence[AnyRow]) -> tuple[RepositoryLine, ...]:
    """With what happened there: five queries, however many they are."""
    ids = [row.id for row in rows]
    if not ids:
        return ()
    incident = IncidentRow
    grouped = select(incident.repository_id, incident.state, func.count().label("many"))
    here = (incident.repository_id.in_(ids), incident.state.in_(_COUNTED))
    counts: dict[int, dict[str, int]] = {}
    for row in connection.execute(grouped.where(*here).group_by(incident.repository_id, incident.state)):
        counts.setdefault(row.repository_id, {})[row.state] = row.many
    newest = {row.id: row for row in connection.execute(_newest(ids))}
    wanted = {number for row in newest.values() for number in (row.failed, row.healed) if number is not None}
    told = select(incident.id, incident.summary, incident.opened_at, incident.healed_at)
    happened = {row.id: row for row in connection.execute(told.where(incident.id.in_(wanted)))}
    modes = dict(_modes(connection, [row.failed for row in newest.values() if row.failed is not None]))
    scopes = {repository_scope(number): number for number in ids}
    switches = select(SwitchRow).where(SwitchRow.scope.in_(scopes))
    paused = {scopes[row.scope]: _switch(row) for row in connection.execute(switches)}
    return tuple(
        _line(row, counts.get(row.id, {}), newest[row.id], happened, modes, paused.get(row.id)) for row in rows
    )


def _newest(ids: Sequence[int]) -> AnySelect:
    """Of each repository the newest incident, and the newest one that was healed."""
    one = aliased(IncidentRow)
    of_it = select(one.id).where(one.repository_id == RepositoryRow.id).order_by(one.id.desc()).limit(1)
    failed, healed = of_it, of_it.where(one.healed_at.is_not(None))
    return select(
        RepositoryRow.id, failed.scalar_subquery().label("failed"), healed.scalar_subquery().label("healed")
    ).where(RepositoryRow.id.in_(ids))


def _modes(connection: Connection, incidents: Sequence[int]) -> Iterator[tuple[int, str]]:
    """The mode of the last decision on each of these incidents."""
    row = TimelineRow
    last = (
        select(func.max(row.id)).where(row.incident_id.in_(incidents), row.kind == "decided").group_by(row.incident_id)
    )
    for each in connection.execute(select(row.incident_id, row.data).where(row.id.in_(last))):
        mode = each.data.get("mode")
        if mode in set(Mode):
            yield each.incident_id, str(mode)


def _line(
    row: AnyRow,
    counts: Mapping[str, int],
    newest: AnyRow,
    happened: Mapping[int, AnyRow],
    modes: Mapping[int, str],
    paused: Switch | None,
) -> RepositoryLine:
    failed, healed = (happened.get(number) if number is not None else None for number in (newest.failed, newest.healed))
    return RepositoryLine(
        id=row.id,
        full_name=row.full_name,
        default_branch=row.default_branch,
        installation_id=row.installation_id,
        account=row.account,
        selection=row.selection,
        added_at=row.added_at,
        removed_at=row.removed_at,
        open=sum(counts.get(state.value, 0) for state in ACTIVE),
        waiting=counts.get(State.AWAITING_APPROVAL.value, 0),
        escalated=counts.get(State.ESCALATED.value, 0),
        failed=Happened(failed.id, failed.summary, failed.opened_at) if failed else None,
        healed=Happened(healed.id, healed.summary, healed.healed_at) if healed else None,
        mode=modes.get(newest.failed, "") if newest.failed is not None else "",
        paused=paused,
    )


def _switch(row: Any) -> Switch:
    return Switch(row.scope, row.by, row.at, row.reason)


def _date(told: Any) -> date:
    """SQLite says a day as text."""
    return told if isinstance(told, date) else date.fromisoformat(str(told))
