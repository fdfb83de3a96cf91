"""Models for the dashboard and the API: their windows, their curves, their repairs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from app.db.codec import outcome_from_json, plan_from_json, remedy_from_json
from app.db.engine import reading
from app.db.models import SqlModels
from app.db.reads.reader import PAGE, AnyRow, Reader
from app.db.sight import seen
from app.db.tables import IncidentRow, ModelRow, RepairRow, RepositoryRow, SeriesRow, ShelfRow, WindowRow
from app.domain.access import Sight
from app.domain.finding import Remedy
from app.domain.incident import ACTIVE, State
from app.domain.model import Role
from app.domain.outcome import Outcome
from app.domain.repair import Plan, RepairState, Verb
from app.domain.signal import Series
from app.ports.models import Model, Window

DRIFT = ("data_drift", "schema_changed")  # the kinds of incidents by which a model's data have drifted
PROMOTE, ROLL_BACK = "promote_model", "roll_back_model"
RUNS = ("retrain_model", "benchmark_model")
WINDOWS = 30
MOST_REPAIRS = 100
MOST_SERIES = 12
_OPEN = sorted(state.value for state in (*ACTIVE, State.OBSERVED, State.ESCALATED))
_WORDS = 8


@dataclass(frozen=True, slots=True)
class WindowLine:
    """A window without what was counted in it."""

    name: str
    rows: int
    begun_at: datetime
    updated_at: datetime
    closed: bool


@dataclass(frozen=True, slots=True)
class AboutModel:
    """An incident that speaks of a model."""

    id: int
    state: State
    kind: str
    summary: str
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class ModelRepair:
    """A repair of an incident of a model: a training, a benchmark, a move of the champion's alias. `undone`: a later
    repair takes it back, or has done so."""

    id: int
    incident_id: int
    remedy: Remedy
    state: RepairState
    plan: Plan | None
    outcome: Outcome | None
    proof: Mapping[str, Any]
    intended_at: datetime
    applied_at: datetime | None
    ended_at: datetime | None
    approved_by: str
    undone: bool = False

    @property
    def move(self) -> Mapping[str, Any]:
        """Of the alias, as it was carried out or planned; empty for none."""
        told = self.outcome.data if self.outcome and "to" in self.outcome.data else None
        planned = self.plan.report.get("move") if self.plan else None
        return told or (planned if isinstance(planned, Mapping) else {})


@dataclass(frozen=True, slots=True)
class ModelLine:
    """A model in a list. `version` is the one that the last move of the champion's alias, as far as the bot made it,
    led to; the registry may know better."""

    id: int
    name: str
    repository_id: int
    repository: str
    installation_id: int
    default_branch: str
    added_at: datetime
    run: str = ""
    reference: WindowLine | None = None
    window: WindowLine | None = None
    windows: int = 0
    incidents: tuple[AboutModel, ...] = ()
    version: int | None = None
    moved_at: datetime | None = None

    @property
    def drift(self) -> str:
        """`drifted`, `quiet`, or why nothing can be said: `no_reference`, `no_window`."""
        if any(incident.kind in DRIFT for incident in self.incidents):
            return "drifted"
        if self.reference is None:
            return "no_reference"
        return "quiet" if self.window is not None else "no_window"


@dataclass(frozen=True, slots=True)
class ModelPage:
    """Newest first. `older` is the `before` of the next page, None on the last one."""

    lines: tuple[ModelLine, ...]
    older: int | None


@dataclass(frozen=True, slots=True)
class Observations:
    """What is kept of a model: its newest windows, oldest first, beside the reference."""

    model: Model
    reference: Window | None
    windows: tuple[Window, ...]


_MODEL = (
    ModelRow.id,
    ModelRow.name,
    ModelRow.repository_id,
    ModelRow.run,
    ModelRow.added_at,
    RepositoryRow.full_name.label("repository"),
    RepositoryRow.installation_id,
    RepositoryRow.default_branch,
)
_REPAIR = (
    RepairRow.id,
    RepairRow.incident_id,
    RepairRow.repository_id,
    RepairRow.action,
    RepairRow.remedy,
    RepairRow.state,
    RepairRow.plan,
    RepairRow.outcome,
    RepairRow.proof,
    RepairRow.intended_at,
    RepairRow.applied_at,
    RepairRow.ended_at,
    RepairRow.approved_by,
    IncidentRow.finding["facts"]["model"].as_string().label("about"),
)


class ModelReads(Reader):
    def models(
        self,
        sight: Sight,
        query: str = "",
        before: int | None = None,
        limit: int = PAGE,
        *,
        repository_id: int | None = None,
    ) -> ModelPage:
        """Those whose name, or whose repository's, holds every word of `query`."""
        wanted = (
            select(*_MODEL)
            .join(RepositoryRow, RepositoryRow.id == ModelRow.repository_id)
            .where(seen(sight, ModelRow), RepositoryRow.removed_at.is_(None))
            .order_by(ModelRow.id.desc())
            .limit(limit + 1)
        )
        if repository_id is not None:
            wanted = wanted.where(ModelRow.repository_id == repository_id)
        for word in query.split()[:_WORDS]:
            held = (column.icontains(word, autoescape=True) for column in (ModelRow.name, RepositoryRow.full_name))
            one, other = held
            wanted = wanted.where(one | other)
        if before is not None:
            wanted = wanted.where(ModelRow.id < before)
        with reading(self._engine) as connection:
            rows = connection.execute(wanted).all()
            lines = _lines(connection, rows[:limit])
        return ModelPage(lines, lines[-1].id if len(rows) > limit else None)

    def model_line(self, model_id: int) -> ModelLine | None:
        wanted = select(*_MODEL).join(RepositoryRow, RepositoryRow.id == ModelRow.repository_id)
        with reading(self._engine) as connection:
            rows = connection.execute(wanted.where(ModelRow.id == model_id)).all()
            return next(iter(_lines(connection, rows)), None)

    def observations(self, line: ModelLine, most: int = WINDOWS) -> Observations | None:
        with reading(self._engine) as connection:
            models = SqlModels(connection)
            model = models.model(line.repository_id, line.name)
            if model is None:
                return None
            reference = next(iter(models.windows(model, role=Role.REFERENCE)), None)
            windows = models.windows(model, role=Role.CURRENT, most=most)
        return Observations(model, reference, tuple(reversed(windows)))

    def model_repairs(self, line: ModelLine) -> tuple[ModelRepair, ...]:
        """Of its incidents, the newest first."""
        actions = (PROMOTE, ROLL_BACK, *RUNS)
        with reading(self._engine) as connection:
            return tuple(
                repair
                for home, name, repair in _repairs(connection, [line.repository_id], actions)
                if (home, name) == (line.repository_id, line.name)
            )

    def shelved(self, repository_id: int, names: Collection[str]) -> dict[str, Mapping[str, Any]]:
        """What actions have kept under these names."""
        row = ShelfRow
        wanted = select(row.name, row.data).where(row.repository_id == repository_id, row.name.in_(sorted(names)))
        return {each.name: each.data for each in self._rows(wanted)}

    def model_series(self, line: ModelLine) -> tuple[Series, ...]:
        """The kept samples that are labelled with the model, the newest first."""
        row = SeriesRow
        wanted = (
            select(row.name, row.points, row.labels, row.limit)
            .where(row.repository_id == line.repository_id, row.labels["model"].as_string() == line.name)
            .order_by(row.updated_at.desc(), row.id.desc())
            .limit(MOST_SERIES)
        )
        return tuple(
            Series(each.name, tuple((at, value) for at, value in each.points), each.labels, each.limit)
            for each in self._rows(wanted)
        )


def _lines(connection: Connection, rows: Sequence[AnyRow]) -> tuple[ModelLine, ...]:
    """With what is known of each: four queries, however many they are."""
    if not rows:
        return ()
    ids, homes = [row.id for row in rows], sorted({row.repository_id for row in rows})
    windows, counts = _windows(connection, ids)
    about = _about(connection, homes)
    moves: dict[tuple[int, str], ModelRepair] = {}
    for home, name, repair in _repairs(connection, homes, (PROMOTE, ROLL_BACK)):
        if repair.applied_at is not None and not repair.undone and repair.move:
            moves.setdefault((home, name), repair)
    return tuple(
        _line(row, windows, counts.get(row.id, 0), about.get((row.repository_id, row.name), ()), moves) for row in rows
    )


def _line(
    row: AnyRow,
    windows: Mapping[tuple[int, str], WindowLine],
    count: int,
    incidents: Sequence[AboutModel],
    moves: Mapping[tuple[int, str], ModelRepair],
) -> ModelLine:
    move = moves.get((row.repository_id, row.name))
    return ModelLine(
        id=row.id,
        name=row.name,
        repository_id=row.repository_id,
        repository=row.repository,
        installation_id=row.installation_id,
        default_branch=row.default_branch,
        added_at=row.added_at,
        run=row.run,
        reference=windows.get((row.id, Role.REFERENCE.value)),
        window=windows.get((row.id, Role.CURRENT.value)),
        windows=count,
        incidents=tuple(incidents),
        version=int(move.move["to"]) if move else None,
        moved_at=move.applied_at if move else None,
    )


def _windows(connection: Connection, ids: Sequence[int]) -> tuple[dict[tuple[int, str], WindowLine], dict[int, int]]:
    """The newest window of each role, and how many there are of the current role."""
    row = WindowRow
    grouped = (
        select(row.model_id, row.role, func.max(row.id).label("newest"), func.count().label("many"))
        .where(row.model_id.in_(ids))
        .group_by(row.model_id, row.role)
    )
    newest = connection.execute(grouped).all()
    columns = (row.model_id, row.role, row.name, row.rows, row.begun_at, row.updated_at, row.closed_at)
    found = connection.execute(select(*columns).where(row.id.in_([each.newest for each in newest])))
    lines = {
        (each.model_id, each.role): WindowLine(
            each.name, each.rows, each.begun_at, each.updated_at, each.closed_at is not None
        )
        for each in found
    }
    return lines, {each.model_id: each.many for each in newest if each.role == Role.CURRENT.value}


def _about(connection: Connection, homes: Sequence[int]) -> dict[tuple[int, str], list[AboutModel]]:
    """The open incidents of these repositories that speak of a model, the newest first."""
    row = IncidentRow
    name = row.finding["facts"]["model"].as_string()
    wanted = (
        select(row.id, row.state, row.kind, row.summary, row.opened_at, row.repository_id, name.label("about"))
        .where(row.repository_id.in_(homes), row.state.in_(_OPEN), name.is_not(None))
        .order_by(row.id.desc())
        .limit(20 * PAGE)
    )
    found: dict[tuple[int, str], list[AboutModel]] = {}
    for each in connection.execute(wanted):
        told = AboutModel(each.id, State(each.state), each.kind, each.summary, each.opened_at)
        found.setdefault((each.repository_id, each.about), []).append(told)
    return found


def _repairs(
    connection: Connection, homes: Sequence[int], actions: Sequence[str]
) -> list[tuple[int, str, ModelRepair]]:
    """The newest repairs by these actions: repository, model, repair."""
    row = RepairRow
    wanted = (
        select(*_REPAIR)
        .join(IncidentRow, IncidentRow.id == row.incident_id)
        .where(row.repository_id.in_(homes), row.action.in_(actions), row.verb == Verb.APPLY.value)
        .order_by(row.id.desc())
        .limit(MOST_REPAIRS)
    )
    rows = connection.execute(wanted).all()
    undone = set(connection.scalars(select(row.undoes).where(row.undoes.in_([each.id for each in rows]))))
    return [
        (each.repository_id, str(remedy.params.get("model") or each.about or ""), _repair(each, remedy, undone))
        for each in rows
        for remedy in [remedy_from_json(each.remedy)]
    ]


def _repair(row: AnyRow, remedy: Remedy, undone: set[int | None]) -> ModelRepair:
    state = RepairState(row.state)
    return ModelRepair(
        id=row.id,
        incident_id=row.incident_id,
        remedy=remedy,
        state=state,
        plan=plan_from_json(row.plan) if row.plan else None,
        outcome=outcome_from_json(row.outcome) if row.outcome else None,
        proof=row.proof,
        intended_at=row.intended_at,
        applied_at=row.applied_at,
        ended_at=row.ended_at,
        approved_by=row.approved_by,
        undone=row.id in undone or state is RepairState.UNDONE,
    )
