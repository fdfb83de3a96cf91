import json

import pytest
from sqlalchemy import Engine, delete, update

from app.db.audit import FIRST, Act, Audit
from app.db.engine import writing
from app.db.store import SqlStore
from app.db.tables import AuditRow, DeliveryRow
from app.domain.delivery import Delivery
from tests.cli.conftest import Heal
from tests.web.people import add_repository


@pytest.fixture
def audit(engine: Engine) -> Audit:
    audit = Audit(engine)
    for number, who in enumerate(("mona", "maria", "mona"), 1):
        audit.add(Act(who, "dashboard", "approve", "incident", str(number), 501, 1, 7, {"reason": "because \u0000 é"}))
    return audit


def test_the_newest_acts_are_listed_by_who_and_what(heal: Heal, audit: Audit) -> None:
    listed = json.loads(heal("audit", "list", "--json").stdout)
    assert [(act["actor"], act["number"]) for act in listed] == [("mona", "3"), ("maria", "2"), ("mona", "1")]
    assert [act["id"] for act in json.loads(heal("audit", "list", "--who", "maria", "--json").stdout)] == [2]
    assert json.loads(heal("audit", "list", "--verb", "reject", "--json").stdout) == []
    assert len(json.loads(heal("audit", "list", "--limit", "1", "--json").stdout)) == 1
    assert "incident 3" in heal("audit", "list").stdout


def test_a_log_that_nobody_touched_holds_together(heal: Heal, audit: Audit) -> None:
    done = heal("audit", "verify")
    assert done.exit_code == 0
    assert "3 entries hold together" in done.stdout
    told = json.loads(heal("audit", "verify", "--json").stdout)
    assert (told["count"], told["broken"]) == (3, None)
    assert told["newest"] == json.loads(heal("audit", "list", "--json").stdout)[0]["chain"]


def test_an_empty_log_holds_together(heal: Heal) -> None:
    assert json.loads(heal("audit", "verify", "--json").stdout) == {"count": 0, "newest": FIRST, "broken": None}


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "somebody"},
        {"data": {"reason": "another"}},
        {"number": "9"},
        {"chain": "0" * 64},
        {"repository_id": 8},
    ],
)
def test_the_first_entry_that_was_changed_is_named(
    heal: Heal, engine: Engine, audit: Audit, change: dict[str, object]
) -> None:
    with writing(engine) as connection:
        connection.execute(update(AuditRow).where(AuditRow.id == 2).values(**change))
    done = heal("audit", "verify", "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["count"], told["broken"]) == (1, 2)
    assert "broken at entry 2" in heal("audit", "verify").stdout


@pytest.mark.parametrize(("gone", "broken"), [(1, 2), (2, 3)])
def test_an_entry_that_is_gone_breaks_the_next_one(
    heal: Heal, engine: Engine, audit: Audit, gone: int, broken: int
) -> None:
    with writing(engine) as connection:
        connection.execute(delete(AuditRow).where(AuditRow.id == gone))
    done = heal("audit", "verify", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["broken"] == broken


def test_a_name_that_cannot_be_stored_as_it_is_does_not_break_the_chain(
    heal: Heal, engine: Engine, audit: Audit
) -> None:
    audit.add(Act("nul \u0000 and \ud800", "api", "approve"))
    assert heal("audit", "verify").exit_code == 0


def test_what_is_done_here_is_written_down_too(heal: Heal, engine: Engine, store: SqlStore) -> None:
    add_repository(engine, 7, "acme/vision")
    store.keep([Delivery("guid-1", "github", "push", "", b"{}", 1, 7, "acme/vision")])
    with writing(engine) as connection:
        connection.execute(update(DeliveryRow).values(state="done", due_at=None))
    for words in (["pause", "--reason", "a release"], ["resume"], ["pause", "--repository", "acme/vision"]):
        assert heal(*words).exit_code == 0
    assert heal("deliveries", "replay", "guid-1").exit_code == 0
    listed = json.loads(heal("audit", "list", "--json").stdout)
    told = [(act["via"], act["verb"], act["what"], act["number"]) for act in listed]
    assert told == [
        ("cli", "replay", "delivery", "1"),
        ("cli", "pause", "repository", "7"),
        ("cli", "resume", "bot", ""),
        ("cli", "pause", "bot", ""),
    ]
    assert listed[3]["data"] == {"reason": "a release"}
