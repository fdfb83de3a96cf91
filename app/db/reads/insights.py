"""Whether it works: counts and durations over time, by repository, cause and action. docs/explanation/insights.md says
what each number means."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    FunctionElement,
    Integer,
    Select,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from app.db.engine import db_now
from app.db.reads.reader import Reader
from app.db.sight import seen
from app.db.tables import IncidentRow, RepairRow, RepositoryRow, SpendingRow, TimelineRow, UtcTime
from app.domain.access import Sight
from app.domain.budget import Unit
from app.domain.incident import State
from app.domain.insight import Measure, Spread
from app.domain.knowledge import LAST_RESORTS
from app.domain.repair import RepairState, Verb

DAY_S, WEEK_S = 24 * 3600.0, 7 * 24 * 3600.0
BOUNDS_S = (60.0, 300.0, 900.0, 3_600.0, 4 * 3_600.0, DAY_S, WEEK_S)  # of the picture of durations
_JUDGED = (RepairState.PROVEN, RepairState.DISPROVEN, RepairState.FAILED, RepairState.UNDONE)


class elapsed_s(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """Seconds from the first time to the second."""

    type = Double()
    inherit_cache = True
    name = "elapsed_s"


@compiles(elapsed_s, "postgresql")
def _elapsed_postgresql(element: elapsed_s, compiler: SQLCompiler, **words: Any) -> str:
    start, end = (compiler.process(each, **words) for each in element.clauses)
    return f"CAST(EXTRACT(EPOCH FROM ({end}) - ({start})) AS double precision)"


@compiles(elapsed_s, "sqlite")
def _elapsed_sqlite(element: elapsed_s, compiler: SQLCompiler, **words: Any) -> str:
    start, end = (compiler.process(each, **words) for each in element.clauses)
    return f"((julianday({end}) - julianday({start})) * 86400.0)"


@dataclass(frozen=True, slots=True)
class Insights:
    """Of the last `days`. `steps` are days or weeks, the oldest first, each with the time at which it begins; groups
    are the most frequent first. `durations` are counts of times to heal between BOUNDS_S; `recovered` what passed again
    without a repair of ours."""

    days: int
    total: Measure
    steps: tuple[tuple[datetime, Measure], ...]
    repositories: tuple[tuple[str, Measure], ...]
    causes: tuple[tuple[str, Measure], ...]
    actions: tuple[tuple[str, Measure], ...]
    durations: tuple[int, ...]
    recovered: Spread


Groups = dict[Any, Measure]


class InsightReads(Reader):
    def insights(self, sight: Sight, days: int) -> Insights:
        step_s = DAY_S if days <= 7 else WEEK_S
        with self._listing() as connection:
            now: datetime = connection.scalar(select(db_now()))
            of = _Range(connection, sight, now - timedelta(days=days), now, step_s)
            steps = of.measured("step")
            repositories, causes = of.measured("repository_id"), of.measured("kind")
            actions = of.judged(RepairRow.action, {})
            total = replace(_sum(steps.values()), healed=of.spread(None).get(None, Spread()))
            for action, used in of.gpu(by_action=True).items():
                actions[action] = replace(actions.get(action, Measure()), gpu_minutes=used)
            for repository_id, used in of.gpu(by_action=False).items():
                repositories[repository_id] = replace(repositories.get(repository_id, Measure()), gpu_minutes=used)
            total = replace(total, gpu_minutes=sum(each.gpu_minutes for each in repositories.values()))
            durations, recovered = of.durations(), of.recovered()
            names = _names(connection, repositories)
        count = math.ceil(days * DAY_S / step_s)
        begin = now - timedelta(days=days)
        begins = [max(begin, now - timedelta(seconds=step_s * (place + 1))) for place in range(count)]
        return Insights(
            days,
            total,
            tuple((begins[place], steps.get(place, Measure())) for place in reversed(range(count))),
            _ranked({names.get(number, str(number)): each for number, each in repositories.items()}),
            _ranked(causes),
            _ranked(actions),
            durations,
            recovered,
        )


class _Range:
    """The questions about a range of time, in one transaction."""

    def __init__(self, connection: Connection, sight: Sight, since: datetime, now: datetime, step_s: float) -> None:
        self._connection = connection
        self._sight = sight
        self._since = since
        self._now = now
        self._step_s = step_s
        self._opened = (IncidentRow.opened_at >= since, seen(sight, IncidentRow))

    def step(self, at: Any) -> ColumnElement[int]:
        """How many steps ago that was; 0 is the newest one."""
        return cast(func.floor(elapsed_s(at, literal(self._now, UtcTime())) / self._step_s), Integer)

    def measured(self, by: str) -> Groups:
        """Everything that is known of incidents, by step, repository_id or kind."""
        opened: Any = self.step(IncidentRow.opened_at) if by == "step" else getattr(IncidentRow, by)
        groups: Groups = {}
        counted = select(opened.label("it"), func.count().label("n")).where(*self._opened).group_by(text("it"))
        for row in self._connection.execute(counted):
            groups[row.it] = Measure(opened=row.n)
        for key, spread in self.spread(opened).items():
            groups[key] = replace(groups.get(key, Measure()), healed=spread)
        judged: Any = self.step(RepairRow.ended_at) if by == "step" else getattr(IncidentRow, by)
        self.judged(judged, groups)
        told: Any = self.step(TimelineRow.at) if by == "step" else getattr(IncidentRow, by)
        return self._pulls(told, groups)

    def spread(self, by: Any) -> dict[Any, Spread]:
        """Times to heal of what was opened in the range and is healed."""
        took = elapsed_s(IncidentRow.opened_at, IncidentRow.healed_at)
        healed = (IncidentRow.state == State.HEALED.value, IncidentRow.healed_at.is_not(None))
        return self._spread(took, select().select_from(IncidentRow).where(*self._opened, *healed), by)

    def recovered(self) -> Spread:
        took = elapsed_s(IncidentRow.opened_at, TimelineRow.at)
        entries = select().select_from(TimelineRow).join(IncidentRow, IncidentRow.id == TimelineRow.incident_id)
        told = (TimelineRow.kind == "recovered", TimelineRow.at >= self._since, seen(self._sight, IncidentRow))
        return self._spread(took, entries.where(*told), None).get(None, Spread())

    def durations(self) -> tuple[int, ...]:
        took = elapsed_s(IncidentRow.opened_at, IncidentRow.healed_at)
        place = case(*((took < bound, place) for place, bound in enumerate(BOUNDS_S)), else_=len(BOUNDS_S))
        healed = (IncidentRow.state == State.HEALED.value, IncidentRow.healed_at.is_not(None))
        counted = select(place.label("it"), func.count().label("n")).where(*self._opened, *healed).group_by(text("it"))
        found = {row.it: row.n for row in self._connection.execute(counted)}
        return tuple(found.get(each, 0) for each in range(len(BOUNDS_S) + 1))

    def judged(self, by: Any, groups: Groups) -> Groups:
        """Repairs that ended in the range with an answer: it helped, or it did not. What the world took back later did
        not help; what was taken back because its time was over did."""
        row = RepairRow
        lifted = and_(row.state == RepairState.UNDONE.value, row.proof["lifted"].as_boolean().is_(True))
        proven = case((or_(row.state == RepairState.PROVEN.value, lifted), 1), else_=0)
        counted = (
            select(by.label("it"), func.sum(proven).label("proven"), func.count().label("tried"))
            .select_from(row)
            .join(IncidentRow, IncidentRow.id == row.incident_id)
            .where(
                row.ended_at >= self._since,
                row.verb == Verb.APPLY.value,
                row.state.in_([state.value for state in _JUDGED]),
                row.action.not_in(sorted(LAST_RESORTS)),
                seen(self._sight, row),
            )
            .group_by(text("it"))
        )
        for each in self._connection.execute(counted):
            former = groups.get(each.it, Measure())
            groups[each.it] = replace(former, proven=int(each.proven), tried=each.tried)
        return groups

    def gpu(self, *, by_action: bool) -> Mapping[Any, float]:
        """GPU minutes that repairs used: by action, or by repository."""
        row = SpendingRow
        key: Any = RepairRow.action if by_action else row.repository_id
        counted = select(key.label("it"), func.sum(row.amount).label("used")).select_from(row)
        if by_action:
            counted = counted.join(RepairRow, RepairRow.id == row.repair_id)
        used = (row.unit == Unit.GPU_MINUTES.value, row.settled, row.at >= self._since, seen(self._sight, row))
        rows = self._connection.execute(counted.where(*used).group_by(text("it")))
        return {each.it: float(each.used) for each in rows if each.used}

    def _pulls(self, by: Any, groups: Groups) -> Groups:
        entry = TimelineRow
        counted = (
            select(by.label("it"), entry.kind, func.count().label("n"))
            .select_from(entry)
            .join(IncidentRow, IncidentRow.id == entry.incident_id)
            .where(entry.kind.in_(["merged", "closed"]), entry.at >= self._since, seen(self._sight, IncidentRow))
            .group_by(text("it"), entry.kind)
        )
        for each in self._connection.execute(counted):
            groups[each.it] = replace(groups.get(each.it, Measure()), **{each.kind: each.n})
        return groups

    def _spread(self, took: Any, rows: Select[Any], by: Any) -> dict[Any, Spread]:
        """By nearest rank, so that each number is one that was seen."""
        window: dict[str, Any] = {} if by is None else {"partition_by": by}
        ranked = rows.add_columns(
            took.label("took"),
            (by if by is not None else cast(None, Integer)).label("it"),
            func.row_number().over(order_by=took, **window).label("place"),
            func.count().over(**window).label("n"),
        ).subquery()
        middle, last = (ranked.c.n + 1) // 2, (ranked.c.n * 9 + 9) // 10
        chosen = select(ranked).where(or_(ranked.c.place == middle, ranked.c.place == last))
        found: dict[Any, Spread] = {}
        for row in self._connection.execute(chosen.order_by(ranked.c.place)):
            former = found.get(row.it)
            took_s = max(0.0, float(row.took))
            found[row.it] = Spread(row.n, former.median_s if former else took_s, took_s)
        return found


def _names(connection: Connection, groups: Groups) -> dict[int, str]:
    if not groups:
        return {}
    known = select(RepositoryRow.id, RepositoryRow.full_name).where(RepositoryRow.id.in_(sorted(groups)))
    return {row.id: row.full_name for row in connection.execute(known)}


def _sum(measures: Iterable[Measure]) -> Measure:
    total = Measure()
    for each in measures:
        total = Measure(
            total.opened + each.opened,
            Spread(),
            total.proven + each.proven,
            total.tried + each.tried,
            total.merged + each.merged,
            total.closed + each.closed,
        )
    return total


def _ranked(groups: Mapping[Any, Measure]) -> tuple[tuple[str, Measure], ...]:
    return tuple(sorted(groups.items(), key=lambda pair: (-pair[1].opened, -pair[1].tried, str(pair[0]))))
