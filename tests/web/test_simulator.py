import json
import re
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from starlette.testclient import TestClient

from app.db.engine import reading
from app.db.rows import packed
from app.db.store import SqlStore
from app.db.tables import AuditRow, DeliveryRow, EffectRow, IncidentRow, RepairRow
from app.domain.errors import Unreachable
from app.web.dashboard.simulator import MOST_BODY, MOST_CONFIG, MOST_LOG
from tests.browser.site import dashboard
from tests.cli.test_cli import EXAMPLE, LOG
from tests.healing.world import World
from tests.web.people import add_repository, local, visitor
from tests.web.test_deliveries import deliver

AUTO = "version: 1\nmode: auto\n"
HOME, OTHER = 1, 8


@pytest.fixture
def world(engine: Engine, store: SqlStore) -> World:
    add_repository(engine, HOME, "acme/trainer")
    add_repository(engine, OTHER, "rival/secret", installation_id=2)
    world = World(engine, store)
    world.project(AUTO)
    return world


@pytest.fixture
def site(engine: Engine, world: World) -> TestClient:
    client = TestClient(dashboard(engine, kit=world.kit), raise_server_exceptions=False)
    visitor(client, engine, repositories=[HOME])
    return client


def simulate(site: TestClient, *, files: Any = None, **given: str) -> str:
    told = {"event": "workflow_run", "body": json.dumps(EXAMPLE), "job": "train", "log": LOG, "source": "none"}
    answer = site.post("/simulator", data={**told, **given}, files=files)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_pasted_delivery_with_a_log_shows_the_finding_the_verdict_and_the_rules(site: TestClient) -> None:
    page = simulate(site, source="pasted", config=AUTO)
    assert "workflow_run.failed of CI on main, attempt 1" in page
    assert 'id="told"' not in page
    assert "network_transient" in page
    assert "Connection reset by peer" in page
    assert "It would act by itself: rerun_failed_jobs" in page
    assert re.search(r"<th scope=\"row\" data-plain>mode</th>", page)


def test_without_a_configuration_nothing_would_be_done(site: TestClient) -> None:
    assert "It would leave it alone" in simulate(site)


def test_the_current_configuration_of_the_repository_is_read_from_the_forge(site: TestClient, world: World) -> None:
    assert "It would act by itself: rerun_failed_jobs" in simulate(site, source="current")
    world.forge.push("main", {".github/heal.yml": "version: 1\nmode: approve\n"})
    assert "It would ask a person: rerun_failed_jobs" in simulate(site, source="current")


def test_a_kept_delivery_can_be_chosen(engine: Engine, site: TestClient) -> None:
    number = deliver(engine, "run", repository_id=HOME, body=packed(json.dumps(EXAMPLE).encode()))
    form = site.get(f"/simulator?delivery={number}").text
    assert f'<option value="{number}" selected>' in form
    page = simulate(site, delivery=str(number), body="", source="current")
    assert "It would act by itself" in page


@pytest.mark.parametrize("number", ["99", "0", "-1", "x", "1" * 30])
def test_a_delivery_that_is_not_there_is_told_beside_its_field(site: TestClient, number: str) -> None:
    page = simulate(site, delivery=number)
    assert "There is no such delivery" in page
    assert 'id="delivery-wrong"' in page


def test_a_delivery_of_another_installation_is_not_there(engine: Engine, site: TestClient) -> None:
    theirs = deliver(engine, "theirs", repository_id=OTHER, body=packed(json.dumps(EXAMPLE).encode()))
    nobodys = deliver(engine, "nobodys", repository_id=None, body=packed(json.dumps(EXAMPLE).encode()))
    for number in (theirs, nobodys):
        assert "There is no such delivery" in simulate(site, delivery=str(number))
    assert "theirs" not in site.get("/simulator").text


def test_the_configuration_of_a_repository_that_one_may_not_see_is_not_read(site: TestClient, world: World) -> None:
    theirs = {**EXAMPLE, "repository": {**EXAMPLE["repository"], "id": OTHER}}  # type: ignore[dict-item]
    page = simulate(site, body=json.dumps(theirs), source="current")
    assert "names no repository that you may see here" in page
    assert "names no repository" in simulate(site, body='{"repository": {"id": "1"}}', source="current")


def test_a_body_that_was_pruned_is_told(engine: Engine, site: TestClient) -> None:
    number = deliver(engine, "old", repository_id=HOME, body=b"")
    assert "is not kept any more" in simulate(site, delivery=str(number))


def test_mistakes_of_the_configuration_are_told_with_their_lines(site: TestClient) -> None:
    page = simulate(site, source="pasted", config="version: 1\nmode: bold\n")
    assert '<th scope="row">2:' in page
    assert "<code>mode</code>" in page


@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ({"body": "{"}, "body", "JSON"),
        ({"body": "[1]"}, "body", ""),
        ({"body": ""}, "body", "Choose a delivery, or paste"),
        ({"body": "\x00\ud7ff"}, "body", "JSON"),
        ({"body": " " * (MOST_BODY) + "{}"}, "body", "too large"),
        ({"source": "pasted", "config": "#" * (MOST_CONFIG + 1)}, "config", "too large"),
        ({"log": "x" * (MOST_LOG + 1)}, "log", "too large"),
    ],
)
def test_what_cannot_be_used_is_told_beside_its_field_and_kept(
    site: TestClient, given: dict[str, str], place: str, words: str
) -> None:
    page = simulate(site, **{"job": "my job", **given})
    assert f'id="{place}-wrong"' in page
    assert words in page
    assert 'value="my job"' in page


def test_an_archive_of_logs_is_uploaded_and_a_damaged_one_refused(site: TestClient) -> None:
    page = simulate(site, files={"file": ("logs.zip", b"PK\x03\x04 cut off")})
    assert 'id="log-wrong"' in page
    page = simulate(site, log="", files={"file": ("job.log", LOG.encode())})
    assert "network_transient" in page


def test_what_was_pasted_is_text(site: TestClient) -> None:
    attack = '</textarea><script>alert("x")</script>'
    page = simulate(site, body=attack, config=attack, log=attack, job=attack, source="pasted")
    assert "<script>alert" not in page


def test_a_forge_that_does_not_answer_is_told_beside_the_choice(site: TestClient, world: World) -> None:
    world.forge.fail_next("file", Unreachable("away"))
    assert "GitHub does not answer right now" in simulate(site, source="current")


def test_nothing_is_changed(engine: Engine, site: TestClient) -> None:
    def rows() -> list[int | None]:
        with reading(engine) as connection:
            kept = (DeliveryRow, IncidentRow, RepairRow, EffectRow, AuditRow)
            return [connection.scalar(select(func.count()).select_from(row)) for row in kept]

    before = rows()
    simulate(site, source="current")
    assert rows() == before


def test_other_events_are_named_and_ignored_ones_say_why(engine: Engine, site: TestClient) -> None:
    assert "ignored: star.created is not an event" in simulate(site, event="star", body='{"action": "created"}')
    client = TestClient(site.app, raise_server_exceptions=False)
    local(client, engine)
    assert client.get("/simulator").status_code == 200
