"""What was kept of a repository or an installation that the App was removed from, done away with in small transactions.

What is to be erased stands among the marks (`erase:repository:7`), with the time of the removal: what came after it, of
a repository that is back, stays. A mark goes when nothing is left, so whoever is interrupted goes on where they were.

Left are the audit log, the GUIDs of deliveries, and of incidents and repairs their numbers, states, times and who
approved: who did what can be told, and not what broke or what stood in the logs.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    String,
    bindparam,
    cast,
    delete,
    exists,
    literal,
    or_,
    select,
    update,
)

from app.db.audit import Act, add
from app.db.codec import finding_to_json
from app.db.dialect import insert
from app.db.engine import db_now, reading, writing
from app.db.tables import (
    DeliveryRow,
    EffectRow,
    GrantRow,
    IncidentRow,
    MarkRow,
    MemberRow,
    ModelRow,
    RefreshRow,
    RepairRow,
    RepositoryRow,
    SeriesRow,
    ShelfRow,
    SpendingRow,
    SwitchRow,
    TimelineRow,
    TokenRow,
    TurnRow,
    WindowRow,
)
from app.domain.delivery import DeliveryState
from app.domain.finding import Finding, Severity
from app.domain.policy import MUTE, repository_scope

ERASED = "erased"
WHY = "erased: the App was removed"
BATCH = 200  # rows in one transaction
ABSENT_S = 90 * 24 * 3600.0  # without access for so long: suspended and forgotten, or nobody told us of the removal

_MARK = "erase:"
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Removal:
    """`what` is repository or installation, `id` GitHub's number of it. `passed` is up to which row of a table this
    process has come, so that a long table is not looked through from its start for each batch."""

    name: str
    what: str
    id: int
    at: datetime
    passed: dict[str, int] = field(default_factory=dict, compare=False)

    def here(self, row: Any) -> ColumnElement[bool]:
        column = row.repository_id if self.what == "repository" else row.installation_id
        found: ColumnElement[bool] = column == self.id
        return found


def want_erased(connection: Connection, what: str, ids: Sequence[int]) -> None:
    """Have it erased, and let nothing that comes from now on find the incidents that are there: who comes back starts
    clean."""
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        for number in some:
            mark = insert(connection, MarkRow).values(name=f"{_MARK}{what}:{number}", at=db_now())
            connection.execute(mark.on_conflict_do_update(index_elements=["name"], set_={"at": db_now()}))
        column = IncidentRow.repository_id if what == "repository" else IncidentRow.installation_id
        theirs = update(IncidentRow).where(column.in_(some), ~_gone())
        connection.execute(theirs.values(fingerprint=literal(f"{ERASED}:") + cast(IncidentRow.id, String)))


def want_absent_erased(connection: Connection) -> None:
    row = RepositoryRow
    left = exists().where(IncidentRow.repository_id == row.id, ~_gone())
    absent = select(row.id).where(row.removed_at < db_now(-ABSENT_S), left)
    want_erased(connection, "repository", list(connection.scalars(absent.limit(_AT_ONCE))))


def _gone() -> ColumnElement[bool]:
    return IncidentRow.fingerprint.startswith(f"{ERASED}:", autoescape=True)


def erase(engine: Engine, repositories: Collection[int] | None, batches: int) -> Mapping[str, int]:
    if repositories is None:
        with writing(engine) as connection:
            want_absent_erased(connection)
    counts: Counter[str] = Counter()
    for removal in list(_wanted(engine, repositories)):
        gone: Counter[str] = Counter()
        over = False
        while not over and batches > 0:
            batches -= 1
            with writing(engine) as connection:
                over = _batch(connection, removal, gone)
        counts += gone
    return dict(counts)


def _wanted(engine: Engine, repositories: Collection[int] | None) -> Iterator[Removal]:
    """Oldest first."""
    marks = select(MarkRow).where(MarkRow.name.startswith(_MARK, autoescape=True))
    with reading(engine) as connection:
        rows = connection.execute(marks.order_by(MarkRow.at, MarkRow.name)).all()
    for row in rows:
        _, what, number = row.name.split(":")
        if repositories is None or (what == "repository" and int(number) in repositories):
            yield Removal(row.name, what, int(number), row.at)


def _batch(connection: Connection, removal: Removal, counts: Counter[str]) -> bool:
    """One transaction's worth. True: nothing is left, and the mark is gone."""
    this = MarkRow.name == removal.name, MarkRow.at == removal.at
    if connection.scalar(select(MarkRow.name).where(*this).with_for_update()) is None:
        return True  # another was quicker, or it was removed once more
    left = BATCH
    for name, step in _STEPS[removal.what].items():
        done = step(connection, removal, left)
        counts[name] += done
        left -= done
        if left <= 0:
            return False
    connection.execute(delete(MarkRow).where(*this))
    add(connection, _act(removal, counts))
    return True


def _act(removal: Removal, counts: Counter[str]) -> Act:
    where = {f"{removal.what}_id": removal.id}
    return Act("the bot", "bot", "erase", removal.what, str(removal.id), data=dict(+counts), **where)


def _deliveries(connection: Connection, removal: Removal, most: int) -> int:
    """The GUID stays, so that a redelivery is known."""
    row = DeliveryRow
    over = (row.received_at <= removal.at, row.state != DeliveryState.READY.value, row.reason != WHY)
    passed = removal.passed.get("deliveries", 0)
    ids = _ids(connection, row.id, most, removal.here(row), row.id > passed, *over)
    removal.passed["deliveries"] = max(ids, default=passed)
    nothing: dict[str, Any] = {
        "body": b"",
        "headers": {},
        "reason": WHY,
        "last_error": "",
        "buried_at": None,
        "due_at": None,
    }
    dead = update(row).where(row.id.in_(ids), row.state == DeliveryState.DEAD.value)
    connection.execute(dead.values(state=DeliveryState.IGNORED.value))
    connection.execute(update(row).where(row.id.in_(ids)).values(**nothing))
    return len(ids)


def _incidents(connection: Connection, removal: Removal, most: int) -> int:
    row = IncidentRow
    whole = select(row.id, row.detector, row.severity)
    passed = removal.passed.get("incidents", 0)
    left = (_gone(), row.summary != ERASED, row.id > passed)
    found = connection.execute(whole.where(removal.here(row), *left).order_by(row.id).limit(most)).all()
    ids = [each.id for each in found]
    removal.passed["incidents"] = max(ids, default=passed)
    if not ids:
        return 0
    repairs = select(RepairRow.id).where(RepairRow.incident_id.in_(ids))
    for told, which in (
        (TimelineRow, TimelineRow.incident_id.in_(ids)),
        (EffectRow, EffectRow.incident_id.in_(ids)),
        (SpendingRow, SpendingRow.repair_id.in_(repairs)),
    ):
        connection.execute(delete(told).where(which))
    bare = {"action": ERASED, "remedy": {"action": ERASED}, "intent": {}, "plan": None, "outcome": None, "proof": {}}
    unseen = {"pull_number": None, "run_id": None, "last_error": ""}
    connection.execute(update(RepairRow).where(RepairRow.incident_id.in_(ids)).values(**bare, **unseen))
    empty = {
        "branch": "",
        "kind": ERASED,
        "summary": ERASED,
        "head_sha": "",
        "run_id": 0,
        "workflow_path": "",
        "run_url": "",
    }
    empty |= {"pull_number": None, "issue_number": None, "watch_until": None}
    table: Any = row.__table__
    this = update(table).where(table.c.id == bindparam("this")).values(finding=bindparam("kept"), **empty)
    connection.execute(this, [{"this": each.id, "kept": _kept(each)} for each in found])
    return len(ids)


def _kept(row: Any) -> dict[str, Any]:
    return finding_to_json(Finding(row.detector, ERASED, "", Severity(row.severity), 0.0, ERASED, ""))


def _effects(connection: Connection, removal: Removal, most: int) -> int:
    row = EffectRow
    ids = _ids(connection, row.id, most, removal.here(row), row.wanted_at <= removal.at, row.state != "wanted")
    return _delete(connection, row, ids)


def _windows(connection: Connection, removal: Removal, most: int) -> int:
    models = select(ModelRow.id).where(removal.here(ModelRow), ModelRow.added_at <= removal.at)
    return _delete(connection, WindowRow, _ids(connection, WindowRow.id, most, WindowRow.model_id.in_(models)))


def _models(connection: Connection, removal: Removal, most: int) -> int:
    row = ModelRow
    return _delete(connection, row, _ids(connection, row.id, most, removal.here(row), row.added_at <= removal.at))


def _series(connection: Connection, removal: Removal, most: int) -> int:
    row = SeriesRow
    return _delete(connection, row, _ids(connection, row.id, most, removal.here(row), row.updated_at <= removal.at))


def _tokens(connection: Connection, removal: Removal, most: int) -> int:
    row = TokenRow
    ids = _ids(connection, row.id, most, removal.here(row), row.created_at <= removal.at)
    connection.execute(delete(RefreshRow).where(RefreshRow.token_id.in_(ids)))
    return _delete(connection, row, ids)


def _shelf(connection: Connection, removal: Removal, _: int) -> int:
    theirs = delete(ShelfRow).where(removal.here(ShelfRow), ShelfRow.updated_at <= removal.at)
    return connection.execute(theirs).rowcount


def _grants(connection: Connection, removal: Removal, _: int) -> int:
    return connection.execute(
        delete(GrantRow).where(removal.here(GrantRow), GrantRow.granted_at <= removal.at)
    ).rowcount


def _members(connection: Connection, removal: Removal, _: int) -> int:
    return connection.execute(delete(MemberRow).where(removal.here(MemberRow))).rowcount


def _switches(connection: Connection, removal: Removal, _: int) -> int:
    scope = SwitchRow.scope
    here = or_(scope == repository_scope(removal.id), scope.startswith(f"{MUTE}{removal.id}:", autoescape=True))
    return connection.execute(delete(SwitchRow).where(here, SwitchRow.at <= removal.at)).rowcount


def _marks(connection: Connection, removal: Removal, _: int) -> int:
    ours = MarkRow.name.startswith(f"runner:{removal.id}:", autoescape=True)
    return connection.execute(delete(MarkRow).where(ours)).rowcount


def _turns(connection: Connection, removal: Removal, _: int) -> int:
    ours = TurnRow.name.startswith(f"onboarding:{removal.id}:", autoescape=True)
    return connection.execute(delete(TurnRow).where(ours)).rowcount


Step = Callable[[Connection, Removal, int], int]
_STEPS: Mapping[str, Mapping[str, Step]] = {
    "repository": {
        "deliveries": _deliveries,
        "incidents": _incidents,
        "effects": _effects,
        "windows": _windows,
        "models": _models,
        "series": _series,
        "tokens": _tokens,
        "shelf": _shelf,
        "grants": _grants,
        "switches": _switches,
        "marks": _marks,
    },
    "installation": {
        "deliveries": _deliveries,
        "incidents": _incidents,
        "tokens": _tokens,
        "grants": _grants,
        "members": _members,
        "turns": _turns,
    },
}


def _ids(connection: Connection, column: Any, most: int, *which: ColumnElement[bool]) -> list[int]:
    return list(connection.scalars(select(column).where(*which).order_by(column).limit(most)))


def _delete(connection: Connection, row: Any, ids: list[int]) -> int:
    if ids:
        connection.execute(delete(row).where(row.id.in_(ids)))
    return len(ids)
