import json
import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, update
from starlette.testclient import TestClient

from app.db.engine import writing
from app.db.rows import packed
from app.db.tables import AuditRow, DeliveryRow, EffectRow, RepairRow
from app.domain.access import Role
from app.domain.incident import State
from app.web.dashboard.deliveries import MOST_BODY, MOST_LINES, shown
from tests.browser.incidents import NOW, add_incident, note
from tests.browser.site import dashboard
from tests.web.people import add_repository, signed_in, visitor

HOME, OTHER = 7, 8


@pytest.fixture
def client(engine: Engine) -> TestClient:
    add_repository(engine, HOME, "acme/vision")
    add_repository(engine, OTHER, "rival/secret", installation_id=2)
    return TestClient(dashboard(engine), raise_server_exceptions=False)


def deliver(engine: Engine, guid: str, **values: Any) -> int:
    told = {
        "guid": guid, "source": "github", "event": "workflow_run", "action": "completed", "installation_id": 1,
        "repository_id": HOME, "repository": "acme/vision", "headers": {"x-github-event": "workflow_run"},
        "body": packed(b'{"action": "completed"}'), "received_at": NOW, "state": "done", "mailbox": "1:7",
        "finished_at": NOW + timedelta(seconds=2),
    }  # fmt: skip
    with writing(engine) as connection:
        connection.execute(insert(DeliveryRow).values({**told, **values}))
        return int(connection.scalars(select(DeliveryRow.id).where(DeliveryRow.guid == guid)).one())


def listed(client: TestClient, query: str = "") -> list[int]:
    page = client.get(f"/deliveries{query}")
    assert page.status_code == 200
    return [int(number) for number in re.findall(r'id="open-(\d+)"', page.text)]


def test_whoever_is_signed_in_sees_the_deliveries_of_their_repositories_newest_first(
    engine: Engine, client: TestClient
) -> None:
    mine = [deliver(engine, f"mine-{number}") for number in range(2)]
    deliver(engine, "theirs", installation_id=2, repository_id=OTHER, repository="rival/secret")
    deliver(engine, "nobodys", repository_id=None, repository="")
    visitor(client, engine, repositories=[HOME])
    assert listed(client) == mine[::-1]


def test_deliveries_of_no_repository_are_for_those_who_run_the_bot(engine: Engine, client: TestClient) -> None:
    number = deliver(engine, "nobodys", event="installation", repository_id=None, repository="")
    visitor(client, engine, role=Role.ADMIN, repositories=[HOME])
    assert client.get(f"/deliveries/{number}").status_code == 404
    assert client.post(f"/deliveries/{number}/replay").status_code == 404
    assert listed(signed_in(engine)) == [number]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?state=dead", ["aside"]),
        ("?state=nonsense", ["aside", "tick", "run"]),
        ("?event=tick", ["tick"]),
        ("?source=schedule", ["tick"]),
        ("?repository=acme/vision", ["aside", "run"]),
        ("?repository=acme/unknown", []),
        ("?source=schedule&state=done", []),
        ("?event=%00%ff", []),
    ],
)
def test_the_address_narrows_the_list(engine: Engine, client: TestClient, query: str, found: list[str]) -> None:
    ids = {
        "run": deliver(engine, "run"),
        "tick": deliver(engine, "tick", source="schedule", event="tick", state="ignored", repository_id=OTHER),
        "aside": deliver(engine, "aside", state="dead", last_error="boom", attempts=8, buried_at=NOW),
    }
    site = signed_in(engine)
    assert listed(site, query) == [ids[name] for name in found]


def test_each_delivery_shows_its_verdict_and_why(engine: Engine, client: TestClient) -> None:
    deliver(engine, "a", state="ignored", reason="the bot caused this itself")
    deliver(engine, "b", state="dead", last_error="not done after 8 attempts", attempts=8, buried_at=NOW)
    deliver(engine, "c", state="ready", finished_at=None)
    page = signed_in(engine).get("/deliveries").text
    for words in ("Ignored</strong>", "Put aside</strong>", "Waiting</strong>", "the bot caused this itself"):
        assert words in page
    assert "not done after 8 attempts" in page
    assert "8 attempts" in page


def test_a_long_list_goes_on_where_the_page_before_ended(engine: Engine, client: TestClient) -> None:
    numbers = [deliver(engine, f"guid-{number}", event="push") for number in range(53)]
    site = signed_in(engine)
    first = site.get("/deliveries?event=push").text
    older = re.search(r'id="older" href="([^"]+)"', first)
    assert older is not None
    assert "event=push" in older[1]
    assert listed(site, older[1].replace("&amp;", "&").removeprefix("/deliveries")) == numbers[:3][::-1]


def test_an_export_holds_all_that_the_filter_finds(engine: Engine, client: TestClient) -> None:
    for number in range(60):
        deliver(engine, f"guid-{number}", event="push")
    deliver(engine, "other")
    visitor(client, engine, repositories=[HOME])
    lines = client.get("/deliveries?event=push&format=jsonl").text.splitlines()
    assert len(lines) == 60
    assert json.loads(lines[0])["guid"] == "guid-59"
    table = client.get("/deliveries?format=csv")
    assert table.headers["content-disposition"] == 'attachment; filename="deliveries.csv"'
    assert len(table.text.splitlines()) == 62


def test_an_operator_reads_headers_and_body_without_the_secrets(engine: Engine, client: TestClient) -> None:
    body = {"token": "ghp_" + "a" * 36, "deep": {"note": "<script>alert(1)</script>", "password": "hunter2-hunter2"}}
    number = deliver(
        engine,
        "run",
        body=packed(json.dumps(body).encode()),
        headers={"x-hub-signature-256": "sha256=beef", "x-github-event": "workflow_run", "x-note": "a note"},
    )
    visitor(client, engine, role=Role.OPERATOR, repositories=[HOME])
    page = client.get(f"/deliveries/{number}").text
    assert "&#34;note&#34;: &#34;&lt;script&gt;" in page
    assert "a note" in page
    for secret in ("ghp_a", "hunter2", "sha256=beef", "<script>alert"):
        assert secret not in page


def test_a_viewer_sees_neither_headers_nor_body_and_replays_nothing(engine: Engine, client: TestClient) -> None:
    number = deliver(engine, "run", body=packed(b'{"word": "sesame"}'), headers={"x-word": "sesame"})
    visitor(client, engine, role=Role.VIEWER, repositories=[HOME])
    page = client.get(f"/deliveries/{number}").text
    assert "sesame" not in page
    assert "/replay" not in page
    assert client.post(f"/deliveries/{number}/replay").status_code == 403


def test_a_delivery_of_another_installation_does_not_exist(engine: Engine, client: TestClient) -> None:
    number = deliver(engine, "theirs", installation_id=2, repository_id=OTHER)
    visitor(client, engine, role=Role.ADMIN, repositories=[HOME])
    assert client.get(f"/deliveries/{number}").status_code == 404
    assert client.post(f"/deliveries/{number}/replay").status_code == 404


def test_a_replay_makes_it_due_again_and_is_written_down(engine: Engine, client: TestClient) -> None:
    number = deliver(engine, "run")
    visitor(client, engine, role=Role.OPERATOR, repositories=[HOME], login="mona")
    answer = client.post(f"/deliveries/{number}/replay")
    assert answer.status_code == 200
    assert "The delivery is worked off again." in answer.text
    with writing(engine) as connection:
        row = connection.execute(select(DeliveryRow.state, DeliveryRow.due_at).where(DeliveryRow.id == number)).one()
        act = connection.execute(select(AuditRow)).one()
    assert row.state == "ready"
    assert row.due_at is not None
    assert (act.actor, act.verb, act.what, act.number) == ("mona", "replay", "delivery", str(number))
    assert act.repository_id == HOME


@pytest.mark.parametrize("gone", [{"body": b""}, {"body": b"", "state": "dead", "buried_at": NOW}])
def test_without_its_body_a_delivery_is_not_replayed(engine: Engine, client: TestClient, gone: dict[str, Any]) -> None:
    number = deliver(engine, "old", **gone)
    visitor(client, engine, role=Role.OPERATOR, repositories=[HOME])
    page = client.get(f"/deliveries/{number}").text
    assert "It cannot be replayed" in page
    assert f"/deliveries/{number}/replay" not in page
    assert client.post(f"/deliveries/{number}/replay").status_code == 409
    with writing(engine) as connection:
        assert connection.execute(select(AuditRow)).first() is None


def test_what_followed_is_told_by_entry_repair_and_effect(engine: Engine, client: TestClient) -> None:
    number = deliver(engine, "cause")
    with writing(engine) as connection:
        add_incident(connection, 1, State.OPEN, "CUDA ran out of memory")
        note(connection, 1, "merged", {}, delivery=number)
        repair(connection, "cause", HOME, "lower_batch_size")
        repair(connection, "cause", OTHER, "not_mine")
        repair(connection, "another", HOME, "not_from_this")
        connection.execute(
            insert(EffectRow).values(
                key="k", kind="check", repository_id=HOME, incident_id=1, request={}, state="dead", wanted_at=NOW,
                cause="cause", mailbox="1", buried_at=NOW,
            )
        )  # fmt: skip
    visitor(client, engine, repositories=[HOME])
    page = client.get(f"/deliveries/{number}").text
    assert re.search(r'href="/incidents/1#entry-\d+">merged', page)
    assert "lower_batch_size" in page
    assert "put aside" in page
    assert "not_mine" not in page
    assert "not_from_this" not in page


def test_a_guid_that_somebody_else_used_shows_nothing_of_theirs(engine: Engine, client: TestClient) -> None:
    with writing(engine) as connection:
        add_incident(connection, 1, State.OPEN, "theirs")
        repair(connection, "guid", OTHER, "their_action")
    number = deliver(engine, "guid", source="signals")
    assert "their_action" not in signed_in(engine).get(f"/deliveries/{number}").text


def repair(connection: Any, cause: str, repository_id: int, action: str) -> None:
    connection.execute(
        insert(RepairRow).values(
            incident_id=1, repository_id=repository_id, effect_key=f"{cause}-{repository_id}-{action}", action=action,
            remedy={}, rung=0, verb="apply", state="applied", approved_by="", intent={}, proof={}, intended_at=NOW,
            proof_s=1, watch_s=1, mailbox="1", cause=cause,
        )
    )  # fmt: skip


def test_a_body_is_laid_out_cut_and_never_larger_than_a_page_can_bear() -> None:
    assert shown(b'{"a": [1, "\xc3\xa9"]}').lines[1] == '  "a": ['
    assert shown(b"not json\nat all").lines == ("not json", "at all")
    long = shown(json.dumps(list(range(MOST_LINES + 5))).encode())
    assert long.cut
    assert len(long.lines) == MOST_LINES
    assert shown(b" " * (MOST_BODY + 1)).too_large


def test_a_body_that_cannot_be_unpacked_is_said_to_be_so(engine: Engine, client: TestClient) -> None:
    number = deliver(engine, "broken", body=b"no zstd")
    assert "The body cannot be unpacked." in signed_in(engine).get(f"/deliveries/{number}").text


def test_a_delivery_under_way_is_not_replayed_twice(engine: Engine, client: TestClient) -> None:
    number = deliver(engine, "run")
    site = signed_in(engine)
    assert site.post(f"/deliveries/{number}/replay").status_code == 200
    assert site.post(f"/deliveries/{number}/replay").status_code == 409
    with writing(engine) as connection:
        connection.execute(update(DeliveryRow).values(state="ready"))
    assert f'action="/deliveries/{number}/replay"' not in site.get(f"/deliveries/{number}").text
