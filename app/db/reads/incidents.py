"""Incidents for the dashboard and the API."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select

from app.db.codec import finding_from_json
from app.db.engine import reading
from app.db.models import SqlModels
from app.db.reads.reader import PAGE, AnyRow, Reader
from app.db.sight import seen
from app.db.tables import DeliveryRow, IncidentRow, RepairRow, TimelineRow
from app.domain.access import Sight
from app.domain.evidence import Observed
from app.domain.finding import Finding
from app.domain.incident import State
from app.domain.model import Role

TIMELINE = 500
_REPAIRS = 50
_WORDS = 8  # of a search; more would only make it slow


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

    @property
    def heal_s(self) -> float | None:
        if self.state is not State.HEALED or self.healed_at is None:
            return None
        return max(0.0, (self.healed_at - self.opened_at).total_seconds())


@dataclass(frozen=True, slots=True)
class IncidentPage:
    """Newest first. `older` is the `before` of the next page, None on the last one."""

    lines: tuple[IncidentLine, ...]
    older: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the timeline, with the GUID of the delivery that caused it where one did and it is still kept."""

    id: int
    at: datetime
    kind: str
    data: Mapping[str, Any]
    guid: str


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


_INCIDENT = (
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
)


class IncidentReads(Reader):
    def incidents(
        self,
        sight: Sight,
        states: Collection[State] = (),
        query: str = "",
        before: int | None = None,
        limit: int = PAGE,
    ) -> IncidentPage:
        """Incidents in one of `states` (all when empty) that match every word of `query`, older than id `before`.

        `repo:` and `kind:` look at that column alone; any other word may stand in repository, kind or summary.
        """
        wanted = select(*_INCIDENT).where(seen(sight, IncidentRow)).order_by(IncidentRow.id.desc()).limit(limit + 1)
        if states:
            wanted = wanted.where(IncidentRow.state.in_([state.value for state in states]))
        for word in query.split()[:_WORDS]:
            wanted = wanted.where(_matches(word))
        if before is not None:
            wanted = wanted.where(IncidentRow.id < before)
        rows = self._rows(wanted)
        lines = tuple(_incident_line(row) for row in rows[:limit])
        return IncidentPage(lines, lines[-1].id if len(rows) > limit else None)

    def report(self, incident_id: int, kinds: Collection[str]) -> Mapping[str, Any] | None:
        """The report of one of these kinds that the newest repair with one was planned on, or ended with."""
        newest = select(RepairRow.plan, RepairRow.proof).where(RepairRow.incident_id == incident_id)
        for row in self._rows(newest.order_by(RepairRow.id.desc()).limit(_REPAIRS)):
            for told in (row.proof.get("report"), (row.plan or {}).get("report")):
                if isinstance(told, dict) and told.get("kind") in kinds:
                    return told
        return None

    def counts(self, sight: Sight) -> dict[State, int]:
        """How many incidents are in each state; a state without any is left out."""
        counted = select(IncidentRow.state, func.count()).where(seen(sight, IncidentRow)).group_by(IncidentRow.state)
        rows = self._rows(counted)
        return {State(state): count for state, count in rows}

    def incident(self, incident_id: int) -> IncidentDetail | None:
        columns = (IncidentRow.finding, IncidentRow.fingerprint, IncidentRow.merged_at, IncidentRow.watch_until)
        story = (
            select(TimelineRow.id, TimelineRow.at, TimelineRow.kind, TimelineRow.data, DeliveryRow.guid)
            .outerjoin(DeliveryRow, DeliveryRow.id == TimelineRow.delivery_id)
            .where(TimelineRow.incident_id == incident_id)
            .order_by(TimelineRow.id.desc())
            .limit(TIMELINE + 1)
        )
        with reading(self._engine) as connection:
            row = connection.execute(select(*_INCIDENT, *columns).where(IncidentRow.id == incident_id)).one_or_none()
            if row is None:
                return None
            entries = connection.execute(story).all()
        return IncidentDetail(
            line=_incident_line(row),
            finding=finding_from_json(row.finding),
            fingerprint=row.fingerprint,
            merged_at=row.merged_at,
            watch_until=row.watch_until,
            timeline=tuple(
                Entry(entry.id, entry.at, entry.kind, entry.data, entry.guid or "")
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


def _matches(word: str) -> ColumnElement[bool]:
    qualifier, colon, value = word.partition(":")
    column = {"repo": IncidentRow.repository, "kind": IncidentRow.kind}.get(qualifier.lower())
    if colon and column is not None:
        return column.icontains(value, autoescape=True)
    columns = (IncidentRow.repository, IncidentRow.kind, IncidentRow.summary)
    return or_(*(column.icontains(word, autoescape=True) for column in columns))


def _incident_line(row: AnyRow) -> IncidentLine:
    values = {name: getattr(row, name) for name in IncidentLine.__dataclass_fields__}
    return IncidentLine(**{**values, "state": State(row.state)})
