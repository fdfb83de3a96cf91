"""A search of the incidents as SQL. What an index answers is kept apart from what each row must be looked at for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, not_, or_, select

from app.db.engine import db_now
from app.db.sight import seen
from app.db.tables import IncidentRow, RepairRow, RepositoryRow, TimelineRow, storable
from app.domain.access import Sight
from app.domain.incident import State
from app.domain.search import Qualifier, Search, Term, parse, status

COUNTED = 10_000  # incidents at most; of more it is said that there are more
LOOKED_AT = 5_000  # incidents at a time that are looked at one by one


@dataclass(frozen=True, slots=True)
class Sought:
    """Conditions that an index answers, and those that a row must be looked at for."""

    by_index: tuple[ColumnElement[bool], ...]
    by_look: tuple[ColumnElement[bool], ...]


def sought(sight: Sight, states: Collection[State], search: Search | str) -> Sought | None:
    """None where nothing can match."""
    search = parse(search) if isinstance(search, str) else search
    if search.problems:
        return None
    wanted = set(states or State)
    by_index: list[ColumnElement[bool]] = [seen(sight, IncidentRow)]
    by_look: list[ColumnElement[bool]] = []
    for term in search.terms:
        if term.qualifier is Qualifier.STATUS:
            named = {status(value) for value in term.values}
            wanted = {state for state in wanted if (state in named) is not term.negated}
        elif term.qualifier is Qualifier.SINCE:
            by_index.append(IncidentRow.opened_at >= _since(search))
        elif term.negated:
            by_look.append(not_(_holds(term)))
        else:
            (by_index if _by_index(term) else by_look).append(_holds(term))
    if not wanted:
        return None
    if wanted != set(State):
        by_index.append(IncidentRow.state.in_(sorted(state.value for state in wanted)))
    return Sought(tuple(by_index), tuple(by_look))


def _by_index(term: Term) -> bool:
    """Repositories are few: their names may be looked at. Of others only a whole value is found by an index."""
    if term.qualifier is None:
        return False
    return term.qualifier is Qualifier.REPO or not any("*" in value for value in term.values)


def _holds(term: Term) -> ColumnElement[bool]:
    row = IncidentRow
    match term.qualifier:
        case None:
            text = term.values[0]
            return or_(*(column.icontains(text, autoescape=True) for column in (row.repository, row.kind, row.summary)))
        case Qualifier.DETECTOR:
            return _one_of(row.detector, term.values)
        case Qualifier.KIND:
            return _one_of(row.kind, term.values)
        case Qualifier.ACTION:
            return row.id.in_(select(RepairRow.incident_id).where(_one_of(RepairRow.action, term.values)))
        case Qualifier.ACTOR:
            names = [value.removeprefix("@") for value in term.values]
            return row.id.in_(select(TimelineRow.incident_id).where(_one_of(TimelineRow.actor, names)))
        case _:
            full = func.lower(RepositoryRow.full_name)
            named = or_(*(_named(full, value) for value in term.values))
            return row.repository_id.in_(select(RepositoryRow.id).where(named))


def _one_of(column: Any, values: Sequence[str]) -> ColumnElement[bool]:
    """The column is in lower case."""
    exact = [value.lower() for value in values if "*" not in value]
    clauses = [column.like(_pattern(value), escape="/") for value in values if "*" in value]
    return or_(*clauses, *([column.in_(exact)] if exact else []))


def _named(full: Any, value: str) -> ColumnElement[bool]:
    """`owner/name`, or one of the two alone."""
    pattern = _pattern(value)
    if "/" in value:
        return full.like(pattern, escape="/")  # type: ignore[no-any-return]
    return or_(full.like(f"{pattern}//%", escape="/"), full.like(f"%//{pattern}", escape="/"))


def _pattern(value: str) -> str:
    """`*` is any text; nothing else is special. A LIKE of an expression takes what is not storable as it is."""
    value = storable(value)
    for special in "/%_":
        value = value.replace(special, f"/{special}")
    return value.lower().replace("*", "%")


def _since(search: Search) -> Any:
    if isinstance(search.since, timedelta):
        return db_now(-search.since.total_seconds())
    return search.since
