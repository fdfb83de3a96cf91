"""What is read of models, for people."""

import pytest
from sqlalchemy import Engine, insert, update

from app.db.codec import finding_to_json
from app.db.engine import writing
from app.db.reads.models import ModelLine, ModelReads
from app.db.store import SqlStore
from app.db.tables import IncidentRow, RepairRow, RepositoryRow
from app.domain.access import EVERYTHING, Sight
from app.domain.evidence import Observed
from app.domain.incident import State
from app.domain.model import Role
from app.domain.signal import Series
from app.ports.models import Window
from tests.browser.incidents import NOW, add_incident, finding
from tests.db.test_reads import counting
from tests.web.people import add_repository


@pytest.fixture
def reads(engine: Engine, store: SqlStore) -> ModelReads:
    """churn (1) and fraud (2) of acme/vision, lions (3) of another installation."""
    add_repository(engine, 7, "acme/vision")
    add_repository(engine, 9, "zoo/lions", installation_id=2)
    with store.begin() as ledger:
        for home, name in ((7, "churn"), (7, "fraud"), (9, "lions")):
            ledger.models.add_model(home, name)
    return ModelReads(engine)


def line(reads: ModelReads, number: int = 1) -> ModelLine:
    found = reads.model_line(number)
    assert found is not None
    return found


def names(reads: ModelReads, sight: Sight = EVERYTHING, query: str = "") -> list[str]:
    return [each.name for each in reads.models(sight, query).lines]


def observe(store: SqlStore, *windows: Window, name: str = "churn") -> None:
    with store.begin() as ledger:
        model = ledger.models.model(7, name)
        assert model is not None
        for window in windows:
            ledger.models.save_window(model, window)


def window(name: str, role: Role = Role.CURRENT, rows: int = 10) -> Window:
    return Window(role, Observed(name, rows, {"a": 1}, None))


def speak(engine: Engine, number: int, state: State, kind: str, model: str = "churn") -> None:
    told = finding_to_json(finding(kind, "it changed"))
    with writing(engine) as connection:
        add_incident(connection, number, state, "it changed", kind=kind)
        this = update(IncidentRow).where(IncidentRow.id == number)
        connection.execute(this.values(finding={**told, "facts": {"model": model}}))


def repair(engine: Engine, number: int, incident: int, action: str, state: str, **more: object) -> None:
    told = {"data": {"to": 4, "from": 3, "stands": True}, "conclusion": "success", "title": "", "summary": ""}
    with writing(engine) as connection:
        connection.execute(
            insert(RepairRow).values(
                **{
                    "id": number, "incident_id": incident, "repository_id": 7, "effect_key": f"key-{number}",
                    "action": action, "remedy": {"action": action, "params": {}}, "rung": 0, "verb": "apply",
                    "state": state, "approved_by": "", "intent": {}, "plan": None, "outcome": told, "proof": {},
                    "intended_at": NOW, "applied_at": NOW, "proof_s": 60, "watch_s": 60, "mailbox": "1",
                    "due_at": None, **more,
                }
            )
        )  # fmt: skip


def test_models_come_newest_first_page_by_page(reads: ModelReads) -> None:
    assert names(reads) == ["lions", "fraud", "churn"]
    page = reads.models(EVERYTHING, limit=2)
    assert page.older == 2
    older = reads.models(EVERYTHING, before=page.older, limit=2)
    assert ([each.name for each in older.lines], older.older) == (["churn"], None)


def test_a_search_looks_at_the_model_and_its_repository(reads: ModelReads) -> None:
    assert names(reads, query="acme FRA") == ["fraud"]
    assert names(reads, query="vision") == ["fraud", "churn"]
    assert names(reads, query="_") == []


def test_nobody_reads_of_models_that_they_may_not_see(reads: ModelReads) -> None:
    assert names(reads, Sight(repository_id=9)) == ["lions"]
    assert names(reads, Sight(installation_id=1)) == ["fraud", "churn"]
    assert names(reads, Sight(account_id=501)) == []


def test_where_the_app_was_removed_no_model_is_listed(reads: ModelReads, engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(update(RepositoryRow).where(RepositoryRow.id == 9).values(removed_at=NOW))
    assert names(reads) == ["fraud", "churn"]


def test_a_model_without_anything_says_what_is_missing(reads: ModelReads, store: SqlStore) -> None:
    assert (line(reads).drift, line(reads).window, line(reads).windows) == ("no_reference", None, 0)
    observe(store, window("reference", Role.REFERENCE))
    assert line(reads).drift == "no_window"
    assert reads.model_line(99) is None


def test_a_line_tells_the_newest_window(reads: ModelReads, store: SqlStore) -> None:
    observe(store, window("reference", Role.REFERENCE, 100), window("mon"), window("tue", rows=20))
    found = line(reads)
    assert found.window is not None
    assert (found.window.name, found.window.rows, found.window.closed, found.windows) == ("tue", 20, False, 2)
    assert found.reference is not None
    assert found.reference.rows == 100
    assert found.drift == "quiet"


def test_open_drift_of_this_model_alone_is_told(reads: ModelReads, engine: Engine, store: SqlStore) -> None:
    observe(store, window("reference", Role.REFERENCE), window("mon"))
    speak(engine, 1, State.HEALED, "data_drift")
    speak(engine, 2, State.OBSERVED, "model_degraded")
    speak(engine, 3, State.OBSERVED, "data_drift", model="fraud")
    assert line(reads).drift == "quiet"
    assert [incident.id for incident in line(reads).incidents] == [2]
    assert line(reads, 2).drift == "drifted"


def test_the_version_is_that_of_the_last_move_that_stands(reads: ModelReads, engine: Engine) -> None:
    speak(engine, 1, State.HEALED, "data_drift")
    speak(engine, 2, State.HEALED, "data_drift", model="fraud")
    repair(engine, 1, 1, "promote_model", "proven")
    assert (line(reads).version, line(reads, 2).version) == (4, None)
    repair(
        engine,
        2,
        1,
        "promote_model",
        "applied",
        outcome={"data": {"to": 5, "from": 4}, "conclusion": "success", "title": ""},
    )
    assert line(reads).version == 5
    repair(engine, 3, 1, "promote_model", "planned", verb="undo", undoes=2, outcome=None, applied_at=None)
    assert line(reads).version == 4


def test_a_longer_list_asks_no_more_often(reads: ModelReads, engine: Engine) -> None:
    with counting(engine) as few:
        reads.models(EVERYTHING, limit=1)
    with counting(engine) as many:
        reads.models(EVERYTHING)
    assert len(many) == len(few) <= 6


def test_windows_come_oldest_first_beside_the_reference(reads: ModelReads, store: SqlStore) -> None:
    observe(store, window("reference", Role.REFERENCE), window("mon"), window("tue"), window("wed"))
    kept = reads.observations(line(reads), most=2)
    assert kept is not None
    assert [each.observed.window for each in kept.windows] == ["tue", "wed"]
    assert kept.reference is not None
    assert kept.reference.observed.profile == {"a": 1}


def test_repairs_are_those_of_the_model_and_say_whether_they_were_undone(reads: ModelReads, engine: Engine) -> None:
    speak(engine, 1, State.HEALED, "data_drift")
    repair(engine, 1, 1, "promote_model", "proven")
    repair(engine, 2, 1, "benchmark_model", "disproven", outcome=None)
    repair(engine, 3, 1, "open_issue", "done")
    repair(engine, 4, 1, "roll_back_model", "asked", remedy={"action": "roll_back_model", "params": {"model": "fraud"}})
    repair(engine, 5, 1, "promote_model", "done", verb="undo", undoes=1)
    found = reads.model_repairs(line(reads))
    assert [(each.id, each.undone) for each in found] == [(2, False), (1, True)]
    assert found[1].move["to"] == 4
    assert found[0].move == {}
    assert [each.id for each in reads.model_repairs(line(reads, 2))] == [4]


def test_samples_are_those_labelled_with_the_model(reads: ModelReads, store: SqlStore) -> None:
    at = NOW.timestamp()
    with store.begin() as ledger:
        ledger.models.add_samples(7, [Series("memory", ((at, 1.0),), {"model": "churn"}, 4.0)])
        ledger.models.add_samples(7, [Series("memory", ((at, 2.0),), {"model": "fraud"}), Series("disk", ((at, 3.0),))])
    (series,) = reads.model_series(line(reads))
    assert (series.points, series.limit) == (((at, 1.0),), 4.0)


def test_what_actions_keep_is_read_by_name(reads: ModelReads, store: SqlStore) -> None:
    with store.begin() as ledger:
        ledger.shelve(7, "benchmark:a", {"runs": []})
        ledger.shelve(7, "other", {})
    assert reads.shelved(7, ["benchmark:a", "benchmark:b"]) == {"benchmark:a": {"runs": []}}
    assert reads.shelved(9, ["benchmark:a"]) == {}
