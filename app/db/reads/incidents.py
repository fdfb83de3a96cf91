"""Incidents for the dashboard and the API."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, case, func, select

from app.db.codec import finding_from_json
from app.db.engine import reading
from app.db.models import SqlModels
from app.db.reads.reader import PAGE, AnyRow, Reader
from app.db.reads.sought import COUNTED, LOOKED_AT, Sought, sought
from app.db.sight import seen
from app.db.tables import DeliveryRow, IncidentRow, RepairRow, TimelineRow
from app.domain.access import Sight
from app.domain.evidence import Observed
from app.domain.finding import Finding
from app.domain.incident import ACTIVE, State
from app.domain.model import Role
from app.domain.search import Search

TIMELINE = 500
_REPAIRS = 50
_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class IncidentLine:
    """An incident in a list. `heal_s` is the time from opening to proof, None unless it is healed."""

    id: int
    state: State
    summary: str
    kind: str
    severity: str
    repository: str
    branch: str
    workflow_path: str
    head_sha: str
    run_id: int
    attempt: int
    run_url: str
    pull_number: int | None
    issue_number: int | None
    opened_at: datetime
    updated_at: datetime
    healed_at: datetime | None
    detector: str
    repository_id: int
    installation_id: int

    @property
    def heal_s(self) -> float | None:
        if self.state is not State.HEALED or self.healed_at is None:
            return None
        return max(0.0, (self.healed_at - self.opened_at).total_seconds())


@dataclass(frozen=True, slots=True)
class IncidentPage:
    """Newest first. `older` is the `before` of the next page, `newer` the `after` of the one before, None where there
    is none. `ahead` is how many newer ones match, None for very many, and where they would have to be looked at.

    `further`: not everything has been looked at; what is older than `older` (with `after`: newer than `newer`) may
    match, too."""

    lines: tuple[IncidentLine, ...]
    older: int | None
    newer: int | None = None
    ahead: int | None = 0
    further: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """Incidents by state, a state without any left out; of those in `least` there may be more."""

    counts: Mapping[State, int]
    least: frozenset[State]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the timeline, with the delivery that caused it (its number and GUID) where one did and it is still
    kept."""

    id: int
    at: datetime
    kind: str
    data: Mapping[str, Any]
    guid: str
    delivery_id: int | None = None


@dataclass(frozen=True, slots=True)
class IncidentDetail:
    """Everything about one incident. The timeline is oldest first; of a very long one the newest TIMELINE entries,
    and then `earlier` says that there are more."""

    line: IncidentLine
    finding: Finding
    fingerprint: str
    merged_at: datetime | None
    watch_until: datetime | None
    timeline: tuple[Entry, ...]
    earlier: bool


INCIDENT = (
    IncidentRow.id,
    IncidentRow.state,
    IncidentRow.summary,
    IncidentRow.kind,
    IncidentRow.severity,
    IncidentRow.repository,
    IncidentRow.branch,
    IncidentRow.workflow_path,
    IncidentRow.head_sha,
    IncidentRow.run_id,
    IncidentRow.attempt,
    IncidentRow.run_url,
    IncidentRow.pull_number,
    IncidentRow.issue_number,
    IncidentRow.opened_at,
    IncidentRow.updated_at,
    IncidentRow.healed_at,
    IncidentRow.detector,
    IncidentRow.repository_id,
    IncidentRow.installation_id,
)


class IncidentReads(Reader):
    def incidents(
        self,
        sight: Sight,
        states: Collection[State] = (),
        search: Search | str = "",
        before: int | None = None,
        limit: int = PAGE,
        *,
        after: int | None = None,
    ) -> IncidentPage:
        """Incidents in one of `states` (all when empty) that a search finds, older than id `before`, or just newer
        than `after`."""
        wanted = sought(sight, states, search)
        if wanted is None:
            return IncidentPage((), None)
        with self._listing() as connection:
            rows, edge = _found(connection, wanted, limit, before, after)
            lines = tuple(incident_line(row) for row in rows[:limit])
            more = len(rows) > limit
            further = edge is not None and not more
            onwards = lines[-1].id if more else edge
            if after is not None:
                lines = lines[::-1]
                ahead = _ahead(connection, wanted, lines[0].id) if lines else None
                return IncidentPage(lines, lines[-1].id if lines else after + 1, onwards, ahead, further)
            if before is None:
                return IncidentPage(lines, onwards, further=further)
            newest = lines[0].id if lines else before - 1
            ahead = _ahead(connection, wanted, newest)
            return IncidentPage(lines, onwards, newest if ahead != 0 else None, ahead, further)

    def every_incident(
        self, sight: Sight, states: Collection[State] = (), search: Search | str = ""
    ) -> Iterator[IncidentLine]:
        """All that a search finds, newest first, read page by page."""
        before: int | None = None
        while True:
            page = self.incidents(sight, states, search, before, _AT_ONCE)
            yield from page.lines
            if page.older is None:
                return
            before = page.older

    def report(self, incident_id: int, kinds: Collection[str]) -> Mapping[str, Any] | None:
        """The report of one of these kinds that the newest repair with one was planned on, or ended with."""
        newest = select(RepairRow.plan, RepairRow.proof).where(RepairRow.incident_id == incident_id)
        for row in self._rows(newest.order_by(RepairRow.id.desc()).limit(_REPAIRS)):
            for told in (row.proof.get("report"), (row.plan or {}).get("report")):
                if isinstance(told, dict) and told.get("kind") in kinds:
                    return told
        return None

    def numbered(self, sight: Sight, numbers: Collection[int]) -> list[tuple[IncidentLine, int]]:
        """Of these incidents those that may be seen, newest first, each with the newest entry of its timeline."""
        newest = select(func.max(TimelineRow.id)).where(TimelineRow.incident_id == IncidentRow.id).scalar_subquery()
        here = (seen(sight, IncidentRow), IncidentRow.id.in_(sorted(numbers)))
        wanted = select(*INCIDENT, newest.label("newest")).where(*here).order_by(IncidentRow.id.desc())
        with self._listing() as connection:
            return [(incident_line(row), row.newest or 0) for row in connection.execute(wanted)]

    def tally(self, sight: Sight, search: Search | str = "") -> Tally:
        """How many incidents a search finds in each state."""
        wanted, busy = sought(sight, (), search), sought(sight, ACTIVE, search)
        if wanted is None:
            return Tally({}, frozenset())
        with self._listing() as connection:
            counted, whole = _tally(connection, wanted, COUNTED)
            least = frozenset() if whole else frozenset(State)
            if busy is not None and not whole:
                exactly, whole = _tally(connection, busy, LOOKED_AT)
                counted = {state: number for state, number in counted.items() if state not in ACTIVE} | exactly
                least = least - ACTIVE if whole else least
        return Tally(counted, least)

    def counts(self, sight: Sight, search: Search | str = "") -> Mapping[State, int]:
        """The same, at least. A state without any is left out."""
        return self.tally(sight, search).counts

    def incident(self, incident_id: int) -> IncidentDetail | None:
        columns = (IncidentRow.finding, IncidentRow.fingerprint, IncidentRow.merged_at, IncidentRow.watch_until)
        story = (
            select(
                *(TimelineRow.id, TimelineRow.at, TimelineRow.kind, TimelineRow.data),
                *(DeliveryRow.guid, DeliveryRow.id.label("delivery_id")),
            )
            .outerjoin(DeliveryRow, DeliveryRow.id == TimelineRow.delivery_id)
            .where(TimelineRow.incident_id == incident_id)
            .order_by(TimelineRow.id.desc())
            .limit(TIMELINE + 1)
        )
        with reading(self._engine) as connection:
            row = connection.execute(select(*INCIDENT, *columns).where(IncidentRow.id == incident_id)).one_or_none()
            if row is None:
                return None
            entries = connection.execute(story).all()
        return IncidentDetail(
            line=incident_line(row),
            finding=finding_from_json(row.finding),
            fingerprint=row.fingerprint,
            merged_at=row.merged_at,
            watch_until=row.watch_until,
            timeline=tuple(
                Entry(entry.id, entry.at, entry.kind, entry.data, entry.guid or "", entry.delivery_id)
                for entry in reversed(entries[:TIMELINE])
            ),
            earlier=len(entries) > TIMELINE,
        )

    def compared(self, incident_id: int) -> tuple[Finding, Observed, Observed] | None:
        """The incident of a model with its reference and the window that it speaks of, while all are kept."""
        wanted = select(IncidentRow.finding, IncidentRow.repository_id).where(IncidentRow.id == incident_id)
        with reading(self._engine) as connection:
            row = connection.execute(wanted).one_or_none()
            finding = finding_from_json(row.finding) if row is not None else None
            if row is None or finding is None or "window" not in finding.facts:
                return None
            models = SqlModels(connection)
            model = models.model(row.repository_id, str(finding.facts.get("model", "")))
            if model is None:
                return None
            reference = next(iter(models.windows(model, role=Role.REFERENCE)), None)
            current = models.window(model, Role.CURRENT, str(finding.facts["window"]))
        return (finding, reference.observed, current.observed) if reference and current else None

    def latest_change(self) -> int:
        """A number that grows whenever something happened to any incident."""
        with reading(self._engine) as connection:
            return connection.scalar(select(func.max(TimelineRow.id))) or 0


def _found(
    connection: Connection, wanted: Sought, limit: int, before: int | None, after: int | None
) -> tuple[Sequence[AnyRow], int | None]:
    """Up to `limit` + 1 rows on from there, and the id at which the looking has ended, None when all were seen."""
    row = IncidentRow
    order = row.id.desc() if after is None else row.id.asc()
    where = list(wanted.by_index)
    if after is not None:
        where.append(row.id > after)
    elif before is not None:
        where.append(row.id < before)
    edge: int | None = None
    if wanted.by_look:
        last = select(row.id).where(*where).order_by(order).offset(LOOKED_AT - 1).limit(1)
        edge = connection.scalar(last)
    if edge is not None:
        where.append(row.id >= edge if after is None else row.id <= edge)
    found = select(*INCIDENT).where(*where, *wanted.by_look).order_by(order).limit(limit + 1)
    return connection.execute(found).all(), edge


def _ahead(connection: Connection, wanted: Sought, newest: int) -> int | None:
    if wanted.by_look:
        return None
    row = IncidentRow
    newer = select(row.id).where(*wanted.by_index, row.id > newest).order_by(row.id).limit(COUNTED)
    counted = connection.scalar(select(func.count()).select_from(newer.subquery())) or 0
    return counted if counted < COUNTED else None


def _tally(connection: Connection, wanted: Sought, most: int) -> tuple[dict[State, int], bool]:
    """By state among the newest `most`, and whether these are all."""
    row = IncidentRow
    most = min(most, LOOKED_AT) if wanted.by_look else most
    newest = select(row.id, row.state).where(*wanted.by_index).order_by(row.id.desc()).limit(most).subquery()
    number = func.count().label("number")
    looked = select(newest.c.state, number).group_by(newest.c.state)
    if wanted.by_look:
        fits = case((and_(*wanted.by_look), row.state), else_="").label("state")
        looked = select(fits, number).join(newest, newest.c.id == row.id).group_by(fits)
    numbers = {each.state: each.number for each in connection.execute(looked)}
    whole = sum(numbers.values()) < most
    return {State(state): number for state, number in numbers.items() if state}, whole


def incident_line(row: AnyRow) -> IncidentLine:
    values = {name: getattr(row, name) for name in IncidentLine.__dataclass_fields__}
    return IncidentLine(**{**values, "state": State(row.state)})
