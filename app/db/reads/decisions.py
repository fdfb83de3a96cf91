"""What people may decide on now, and what they have decided, for the dashboard and the API."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, or_, select

from app.db.engine import reading
from app.db.reads.reader import AnyRow, Reader
from app.db.rows import incident_of, repair_of, repository_of
from app.db.sight import seen
from app.db.tables import ApprovalRow, IncidentRow, RepairRow, RepositoryRow, SwitchRow
from app.domain.access import Sight
from app.domain.incident import Incident, State
from app.domain.policy import MUTE, Switch, mute_scope, repository_scope
from app.domain.repair import Repair
from app.domain.tenant import Repository

_REPAIRS = 200
SIMILAR = 5


@dataclass(frozen=True, slots=True)
class Yes:
    """One person's yes to a repair that needs several."""

    repair_id: int
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """How an incident stands for whoever decides. Repairs are oldest first, the newest of very many; `paused` is the
    switch that stops all repairs there, `muted` the one of this cause."""

    incident: Incident
    repairs: tuple[Repair, ...]
    said_yes: tuple[Yes, ...]
    paused: Switch | None
    muted: Switch | None


@dataclass(frozen=True, slots=True)
class Mute:
    """A cause that is never repaired in a repository."""

    kind: str
    by: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Alike:
    """Another incident with the same cause. `heal_s` is the time from opening to proof, None unless it is healed."""

    id: int
    state: State
    summary: str
    repository: str
    opened_at: datetime
    heal_s: float | None


class DecisionReads(Reader):
    def standing(self, incident_id: int) -> Standing | None:
        row = RepairRow
        newest = select(row).where(row.incident_id == incident_id).order_by(row.id.desc()).limit(_REPAIRS)
        ours = select(row.id).where(row.incident_id == incident_id)
        said = select(ApprovalRow).where(ApprovalRow.repair_id.in_(ours)).order_by(ApprovalRow.at, ApprovalRow.by)
        with reading(self._engine) as connection:
            found = connection.execute(select(IncidentRow).where(IncidentRow.id == incident_id)).first()
            if found is None:
                return None
            incident = incident_of(found)
            repairs = [repair_of(each) for each in connection.execute(newest)]
            said_yes = tuple(Yes(each.repair_id, each.by, each.at) for each in connection.execute(said))
            mute = mute_scope(incident.repository_id, incident.finding.kind)
            on = _switches(connection, "app", repository_scope(incident.repository_id), mute)
        paused = next((switch for switch in on if switch.scope != mute), None)
        muted = next((switch for switch in on if switch.scope == mute), None)
        return Standing(incident, tuple(reversed(repairs)), said_yes, paused, muted)

    def repository(self, repository_id: int) -> Repository | None:
        """None where the App is not installed any more."""
        row = RepositoryRow
        found = self._rows(select(row).where(row.id == repository_id, row.removed_at.is_(None)))
        return repository_of(found[0]) if found else None

    def switches(self, repository_id: int) -> list[Switch]:
        """The kill switches that are on for a repository: everybody's first, then its own."""
        with reading(self._engine) as connection:
            return _switches(connection, "app", repository_scope(repository_id))

    def mutes(self, repository_id: int) -> list[Mute]:
        """By cause. The caller has seen to it that the repository may be seen."""
        scope, here = SwitchRow.scope, f"{MUTE}{repository_id}:"
        found = self._rows(select(SwitchRow).where(scope.startswith(here, autoescape=True)).order_by(scope))
        return [Mute(each.scope.removeprefix(here), each.by, each.at, each.reason) for each in found]

    def similar(self, sight: Sight, incident: Incident) -> list[Alike]:
        """The newest others with the same cause, wherever the reader may see them."""
        row = IncidentRow
        columns = (row.id, row.state, row.summary, row.repository, row.opened_at, row.healed_at)
        alike = (seen(sight, row), row.kind == incident.finding.kind, row.id != incident.id)
        found = self._rows(select(*columns).where(*alike).order_by(row.id.desc()).limit(SIMILAR))
        return [
            Alike(each.id, State(each.state), each.summary, each.repository, each.opened_at, _heal_s(each))
            for each in found
        ]


def _heal_s(row: AnyRow) -> float | None:
    healed = row.state == State.HEALED.value and row.healed_at is not None
    return max(0.0, (row.healed_at - row.opened_at).total_seconds()) if healed else None


def _switches(connection: Connection, *scopes: str) -> list[Switch]:
    row = SwitchRow
    found = connection.execute(select(row).where(or_(*(row.scope == scope for scope in scopes))).order_by(row.scope))
    return [Switch(each.scope, each.by, each.at, each.reason) for each in found]
