import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select
from starlette.testclient import TestClient

from app.adapters.github.client import Rate
from app.db.accounts import Accounts
from app.db.engine import db_now, writing
from app.db.processes import GONE_S, WEB, WORKER, Processes
from app.db.rows import packed
from app.db.store import SqlStore
from app.db.tables import AuditRow, DeliveryRow, EffectRow, RepairRow, SwitchRow
from app.domain.access import Role
from app.domain.incident import State
from app.domain.policy import Switch
from app.web.dashboard import system
from tests.browser.incidents import NOW, add_incident
from tests.browser.site import dashboard
from tests.db.test_processes import last_seen
from tests.web.people import HOUR_S, add_repository, enter, signed_in, visitor
from tests.web.test_deliveries import deliver

WRITES = ("pause", "resume", "replay", "discard")


@pytest.fixture
def site(engine: Engine) -> TestClient:
    add_repository(engine, 7, "acme/vision")
    return signed_in(engine)


def acts(engine: Engine) -> list[tuple[str, str, str]]:
    with writing(engine) as connection:
        rows = connection.execute(select(AuditRow.verb, AuditRow.what, AuditRow.number).order_by(AuditRow.id))
        return [tuple(row) for row in rows]  # type: ignore[misc]


def part(page: str, name: str) -> str:
    """The row of that id."""
    found = re.search(rf'<(tr|li|section)[^>]* id="{name}".*?</\1>', page, re.DOTALL)
    assert found is not None, name
    return found[0]


def test_only_those_who_run_the_bot_know_that_there_is_such_a_page(engine: Engine, site: TestClient) -> None:
    visitor(site, engine, role=Role.ADMIN, repositories=[7])
    assert site.get("/system").status_code == 404
    for name in WRITES:
        assert site.post(f"/system/{name}", data={"scope": "app", "work": "delivery", "row": "1"}).status_code == 404
    assert 'href="/system"' not in site.get("/deliveries").text
    assert acts(engine) == []


def test_a_bot_at_rest_shows_empty_queues_and_a_schema_that_is_up_to_date(site: TestClient) -> None:
    page = site.get("/system").text
    for work in ("delivery", "repair", "effect"):
        assert re.search(r"<td[^>]*>0</td>", part(page, f"queue-{work}"))
    assert "up to date" in part(page, "part-schema")
    assert "Nothing: whatever came was worked off." in page
    assert "this process has not asked GitHub anything" in page


def test_queues_count_what_is_due_leased_later_and_put_aside(engine: Engine, site: TestClient) -> None:
    deliver(engine, "due", state="ready", due_at=NOW - timedelta(hours=2))
    deliver(engine, "leased", state="ready", due_at=NOW, lease_until=NOW + timedelta(days=1))
    deliver(engine, "later", state="ready", due_at=NOW + timedelta(days=1))
    deliver(engine, "aside", state="dead", buried_at=NOW)
    deliver(engine, "done")
    row = part(site.get("/system").text, "queue-delivery")
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    assert [cells[0], *cells[2:]] == ["1", "1", "1", "1"]
    assert cells[1].split()[:2] == ["2", "h"]
    assert "tone-bad" in row


def test_what_was_put_aside_is_tried_again_or_discarded_and_written_down(engine: Engine, site: TestClient) -> None:
    tried = deliver(engine, "tried", state="dead", buried_at=NOW, last_error="boom <b>", attempts=8)
    dropped = deliver(engine, "dropped", state="dead", buried_at=NOW)
    page = site.get("/system").text
    assert "boom &lt;b&gt;" in part(page, f"aside-delivery-{tried}")
    assert site.post("/system/replay", data={"work": "delivery", "row": str(tried)}).status_code == 200
    assert site.post("/system/discard", data={"work": "delivery", "row": str(dropped)}).status_code == 200
    with writing(engine) as connection:
        states = dict(connection.execute(select(DeliveryRow.id, DeliveryRow.state)).all())
    assert states == {tried: "ready", dropped: "ignored"}
    assert acts(engine) == [("replay", "delivery", str(tried)), ("discard", "delivery", str(dropped))]
    assert site.post("/system/discard", data={"work": "delivery", "row": str(dropped)}).status_code == 409
    assert site.post("/system/replay", data={"work": "delivery", "row": str(tried)}).status_code == 409
    assert len(acts(engine)) == 2


def test_messages_that_were_put_aside_are_discarded_and_repairs_are_left_to_the_bot(
    engine: Engine, site: TestClient
) -> None:
    with writing(engine) as connection:
        add_incident(connection, 1, State.REPAIRING, "it broke")
        connection.execute(
            insert(EffectRow).values(
                key="k", kind="check", repository_id=7, incident_id=1, request={}, state="dead", wanted_at=NOW,
                mailbox="1", buried_at=NOW,
            )
        )  # fmt: skip
        repair(connection, "aside", "applied", buried_at=NOW)
        repair(connection, "given-up", "failed", buried_at=NOW)
    page = site.get("/system").text
    assert 'id="aside-repair-1"' in page
    assert 'id="aside-repair-2"' not in page
    assert 'id="discard-repair-1"' not in page
    assert site.post("/system/discard", data={"work": "effect", "row": "1"}).status_code == 200
    assert site.post("/system/discard", data={"work": "repair", "row": "1"}).status_code == 400
    with writing(engine) as connection:
        assert connection.scalar(select(EffectRow.state)) == "cancelled"
    assert site.post("/system/replay", data={"work": "repair", "row": "1"}).status_code == 200


@pytest.mark.parametrize("form", [{}, {"work": "delivery"}, {"work": "x", "row": "1"}, {"work": "repair", "row": "-1"}])
def test_a_form_that_names_nothing_is_refused(site: TestClient, form: dict[str, str]) -> None:
    assert site.post("/system/replay", data=form).status_code == 400
    assert site.post("/system/discard", data=form).status_code == 400


def test_everything_is_paused_and_resumed_by_one_button(engine: Engine, site: TestClient, store: SqlStore) -> None:
    page = site.post("/system/pause", data={"reason": "a release  is on"}).text
    assert "Paused everywhere" in page
    assert "a release is on" in page
    with store.begin() as ledger:
        assert [switch.scope for switch in ledger.history(7, 1, 1).switches] == ["app"]
    assert "Resumed." in site.post("/system/resume", data={"scope": "app"}).text
    with store.begin() as ledger:
        assert not ledger.history(7, 1, 1).switches
    assert acts(engine) == [("pause", "bot", ""), ("resume", "bot", "")]


def test_the_switch_of_a_repository_is_told_by_its_name_and_taken_back(
    engine: Engine, site: TestClient, store: SqlStore
) -> None:
    with store.begin() as ledger:
        ledger.switch_on(Switch("repository:7", "maria", NOW, "we release"))
    row = part(site.get("/system").text, "switch-1")
    assert "acme/vision" in row
    assert "maria" in row
    site.post("/system/resume", data={"scope": "repository:7"})
    with writing(engine) as connection:
        assert connection.execute(select(SwitchRow)).first() is None
    assert site.post("/system/resume", data={"scope": "repository:7"}).status_code == 409


def test_processes_that_fell_silent_are_told_as_gone(engine: Engine, site: TestClient) -> None:
    processes = Processes(engine)
    processes.beat("a", WEB, {"host": "one", "pid": 11, "threads": 4}, "1.0")
    processes.beat("b", WORKER, {"host": "two", "pid": 12}, "1.0")
    last_seen(engine, "b", GONE_S + 60)
    page = site.get("/system").text
    assert "lives" in part(page, "process-1")
    assert "4 threads" in part(page, "process-1")
    assert "gone" in part(page, "process-2")


def test_an_action_that_failed_three_times_in_a_row_rests(engine: Engine, site: TestClient) -> None:
    with writing(engine) as connection:
        add_incident(connection, 1, State.ESCALATED, "it broke")
        repair(connection, "old", "proven", ended_at=db_now(-300.0), proof={"proven": True})
        for number in range(3):
            repair(connection, f"bad-{number}", "disproven", ended_at=db_now(-100.0 + number))
        for number in range(3):
            repair(connection, f"well-{number}", "failed", ended_at=db_now(-100.0 + number), action="clear_cache")
        repair(connection, "well", "proven", ended_at=db_now(), action="clear_cache", proof={"proven": True})
        for number in range(3):
            ended = db_now(-7_200.0 + number)
            repair(connection, f"rested-{number}", "failed", ended_at=ended, action="free_disk")
    page = site.get("/system").text
    row = part(page, "breaker-1")
    assert "acme/vision" in row
    assert "lower_batch_size" in row
    assert 'id="breaker-2"' not in page


def repair(connection: Any, key: str, state: str, **values: Any) -> None:
    told = {
        "incident_id": 1, "repository_id": 7, "effect_key": key, "action": "lower_batch_size", "remedy": {}, "rung": 0,
        "verb": "apply", "state": state, "approved_by": "", "intent": {}, "proof": {}, "intended_at": NOW,
        "proof_s": 1, "watch_s": 1, "mailbox": "1",
    }  # fmt: skip
    connection.execute(insert(RepairRow).values({**told, **values}))


def test_limits_are_those_that_this_process_was_told(
    engine: Engine, site: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime(2026, 11, 21, 9, tzinfo=UTC)
    monkeypatch.setattr("app.adapters.github.app.GitHubApp.rates", lambda _: [Rate(3, "core", 5000, 12, at, at)])
    row = part(site.get("/system").text, "rate-1")
    assert "12 / 5,000" in row
    assert "tone-bad" in row


def test_the_age_of_kept_advisories_is_that_of_their_file(engine: Engine, tmp_path: Any) -> None:
    assert system.kept(tmp_path / "none").at is None
    (tmp_path / "kept").write_bytes(packed(b"x"))
    assert system.kept(tmp_path / "kept").at is not None
    assert "none yet" in part(signed_in(engine).get("/system").text, "part-advisories")


def test_a_broker_that_is_away_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {
        "queue": {"threads": 0, "broker_url": "redis://127.0.0.1:1/0"},
        "web": {"operators": (9,)},
    }
    monkeypatch.setattr("app.adapters.doorbells.CeleryBell.reachable", lambda _: False)
    client = TestClient(dashboard(engine, **settings), raise_server_exceptions=False)
    accounts = Accounts(engine)
    accounts.remember(9, "root", operator=True)
    enter(client, accounts.open(9, seconds=HOUR_S))
    assert "not reachable" in part(client.get("/system").text, "part-broker")
