"""The page of an incident, and what people decide there."""

import json
import re
import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.db.store import SqlStore
from app.domain.access import Role
from app.domain.errors import Unreachable
from app.domain.incident import State
from app.healing.steer import Actor, steer, switch
from app.web.app import RELEASE
from tests.browser.site import dashboard
from tests.healing.world import OUT_OF_MEMORY, World
from tests.web.people import local, visitor

APPROVE = "version: 1\nmode: approve\n"
BOB = Actor("bob", "api", 8)


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """On one kind of database: what differs between them is tested beneath the pages."""
    shutil.copy(sqlite_template, tmp_path / "heal.db")
    return f"sqlite:///{tmp_path}/heal.db"


@pytest.fixture
def world(engine: Engine, store: SqlStore) -> World:
    """An incident that waits for a person."""
    world = World(engine, store, look_every_s=3600.0)
    world.forge.permissions |= {"mona": "write", "bob": "admin"}
    world.project(APPROVE)
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    return world


@pytest.fixture
def site(world: World) -> TestClient:
    """As mona, who may decide, sees it."""
    client = TestClient(dashboard(world.engine, kit=world.kit), raise_server_exceptions=False)
    visitor(client, world.engine, Role.OPERATOR, [world.forge.repository.id])
    return client


def page(site: TestClient, number: int = 1) -> str:
    found = site.get(f"/incidents/{number}")
    assert found.status_code == 200
    return found.text


def shown(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", "", text))


def fields(text: str, verb: str) -> dict[str, str]:
    """What the page's own form would send."""
    form = re.search(rf'<form[^>]* id="{verb}-form">(.*?)</form>', text, re.DOTALL)
    assert form is not None, verb
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form[1]))


def decide(site: TestClient, verb: str, seen: str = "", **more: str) -> tuple[int, str]:
    """Send the form as it stood on the page that was `seen`; what the browser shows then."""
    answer = site.post("/incidents/1/decisions", data={**fields(seen or page(site), verb), **more})
    return answer.status_code, answer.text


def test_the_form_carries_the_repair_out_and_says_so(world: World, site: TestClient) -> None:
    status, text = decide(site, "approve")
    assert status == 200
    assert "Approved: lower_batch_size starts now." in text
    world.drain()
    assert world.incident().state is State.HEALED
    assert "Approved by mona" in page(site)


def test_after_a_decision_the_browser_is_sent_on(site: TestClient) -> None:
    sent = site.post("/incidents/1/decisions", data=fields(page(site), "approve"), follow_redirects=False)
    assert (sent.status_code, sent.headers["location"]) == (303, "/incidents/1")


def test_the_way_back_stays_on_this_site(site: TestClient) -> None:
    data = {**fields(page(site), "reject"), "onwards": "//evil.example/"}
    sent = site.post("/incidents/1/decisions", data=data, follow_redirects=False)
    assert sent.headers["location"] == "/"


def test_the_foot_of_the_page_names_the_release_and_nothing_of_the_incident(site: TestClient) -> None:
    assert f"Self-Healing MLOps Bot {RELEASE}</span>" in site.get("/incidents/1").text


def test_the_plan_that_waits_is_shown_with_its_diff(site: TestClient) -> None:
    text = page(site)
    plan = text[text.index('id="plan"') : text.index('class="choices"')]
    assert "batch_size: 4096" in plan
    assert "batch_size: 2048" in plan


def test_a_reason_is_shown_as_text(world: World, site: TestClient) -> None:
    decide(site, "reject", reason="<b>wrong</b> file")
    assert world.incident().state is State.DISMISSED
    text = page(site)
    assert "<blockquote data-plain>&lt;b&gt;wrong&lt;/b&gt; file</blockquote>" in text
    assert "Rejected by mona" in text


def test_whoever_is_late_is_told_who_decided_and_when(world: World, site: TestClient) -> None:
    seen = page(site)
    steer(world.kit, 1, "approve", BOB)
    status, text = decide(site, "reject", seen)
    assert status == 409
    assert "Somebody was faster" in text
    assert re.search(r"bob approved this <relative-time datetime=", text)
    assert world.incident().state is State.REPAIRING


def test_only_what_fits_the_state_is_offered(world: World, site: TestClient) -> None:
    asked = set(re.findall(r'id="choice-(\w+)"', page(site)))
    assert asked == {"approve", "reject", "retry", "mute"}
    decide(site, "approve")
    world.drain()
    assert set(re.findall(r'id="choice-(\w+)"', page(site))) == {"reject", "undo", "mute"}


def test_what_was_run_again_cannot_be_taken_back_and_the_page_says_why(engine: Engine, store: SqlStore) -> None:
    world = World(engine, store, look_every_s=3600.0)
    world.forge.permissions["mona"] = "write"
    world.project()
    run = world.fail()
    world.drain()
    world.finish(run, "success")
    world.drain()
    site = TestClient(dashboard(engine, kit=world.kit))
    visitor(site, engine, Role.OPERATOR, [world.forge.repository.id])
    text = page(site)
    assert world.incident().state is State.HEALED
    assert re.search(r'<button class="button" type="button" disabled aria-describedby="undo-why">', text)
    assert "what was run again cannot be undone" in text


def test_undo_says_which_pull_request_it_closes_and_closes_it(world: World, site: TestClient) -> None:
    decide(site, "approve")
    world.drain()
    assert "Closes pull request #1 and deletes its branch." in page(site)
    status, text = decide(site, "undo")
    world.drain()
    assert status == 200
    assert "Undoing." in text
    assert world.forge.pulls[1].state == "closed"


def test_a_viewer_sees_no_form_and_may_not_send_one(world: World, site: TestClient) -> None:
    sent = fields(page(site), "approve")
    visitor(site, world.engine, Role.VIEWER, [world.forge.repository.id], account_id=502, login="vera")
    text = page(site)
    assert "/decisions" not in text
    assert "You may look at this incident" in text
    assert site.post("/incidents/1/decisions", data=sent).status_code == 403
    assert world.incident().state is State.AWAITING_APPROVAL


def test_whose_rights_github_has_taken_away_may_decide_no_more(world: World, site: TestClient) -> None:
    world.forge.permissions["mona"] = "read"
    status, text = decide(site, "approve")
    assert status == 403
    assert "you may not write to acme/trainer now" in text


def test_while_github_is_away_nothing_is_done_and_the_page_says_so(world: World, site: TestClient) -> None:
    seen = page(site)
    world.forge.fail_next("permission", Unreachable("away"))
    status, text = decide(site, "approve", seen)
    assert status == 503
    assert "Not now" in text
    assert world.incident().state is State.AWAITING_APPROVAL


def test_a_pause_and_a_mute_are_shown_with_who_and_why(world: World, site: TestClient) -> None:
    switch(world.kit, world.forge.repository.id, "pause", BOB, reason="release <week>")
    text = page(site)
    assert "bob paused the repairs in this repository" in shown(text)
    assert "release &lt;week&gt;" in text
    assert 'aria-describedby="approve-why"' in text
    status, answer = decide(site, "mute", reason="known")
    assert status == 200
    assert "is never repaired here again" in answer
    text = page(site)
    assert "mona said" in shown(text)
    assert set(re.findall(r'id="choice-(\w+)"', text)) >= {"unmute"}
    assert decide(site, "unmute")[0] == 200
    assert 'id="muted"' not in page(site)


def test_a_paused_repository_refuses_with_a_way_out(world: World, site: TestClient) -> None:
    seen = page(site)
    switch(world.kit, world.forge.repository.id, "pause", BOB)
    status, text = decide(site, "approve", seen)
    assert status == 409
    assert "Resume them first" in text


def test_what_is_no_decision_is_refused(site: TestClient) -> None:
    assert site.post("/incidents/1/decisions", data={"verb": "dance"}).status_code == 400
    assert site.post("/incidents/1/decisions", data={"verb": "reject", "expected": "1e9"}).status_code == 200


def test_two_people_are_counted_on_the_page(engine: Engine, store: SqlStore) -> None:
    world = World(engine, store, look_every_s=3600.0)
    world.forge.permissions |= {"mona": "write", "bob": "admin"}
    world.project(f"{APPROVE}approvals: {{lower_batch_size: 2}}\n")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    site = TestClient(dashboard(engine, kit=world.kit))
    visitor(site, engine, Role.OPERATOR, [world.forge.repository.id])
    assert "Another person must, too." in decide(site, "approve")[1]
    text = shown(page(site))
    assert "mona said yes" in text
    assert "You have said yes. Another person must, too." in text
    steer(world.kit, 1, "approve", BOB)
    assert world.incident().state is State.REPAIRING


# --- what was done and what was not


def test_every_remedy_says_what_came_of_it(world: World, site: TestClient) -> None:
    ladder = [remedy.action for remedy in world.incident().finding.ladder]
    assert len(ladder) > 1
    decide(site, "approve")
    world.drain()
    rows = re.findall(r'<tr id="rung-(\d+)">(.*?)</tr>', page(site), re.DOTALL)
    assert len(rows) == len(ladder)
    told = [shown(row) for _, row in rows]
    assert "Proven" in told[0]
    assert all("not reached" in row and "over before it" in row for row in told[1:])


def test_a_remedy_that_a_rule_has_stopped_says_which(engine: Engine, store: SqlStore) -> None:
    world = World(engine, store, look_every_s=3600.0)
    world.project("version: 1\nmode: observe\nautonomy: {shadow: false}\n")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    site = TestClient(dashboard(engine, kit=world.kit))
    local(site, engine)
    row = re.search(r'<tr id="rung-1">(.*?)</tr>', page(site), re.DOTALL)
    assert row is not None
    assert "a rule stopped it" in row[1]
    assert "The mode is observe" in row[1]
    entry = re.search(r'href="#(entry-\d+)"', row[1])
    assert entry is not None
    assert f'id="{entry[1]}"' in page(site)


def test_others_with_the_same_cause_are_those_that_the_reader_may_see(world: World, site: TestClient) -> None:
    other = world.app.add("acme/secret")
    with world.store.begin() as ledger:
        ledger.remember_repository(other.repository)
        mine = ledger.incident(1)
        for number, repository in enumerate((world.forge.repository, other.repository)):
            ledger.add_incident(
                type(mine)(
                    repository_id=repository.id, installation_id=repository.installation_id,
                    repository=repository.full_name, branch="b", fingerprint=f"f{number}", finding=mine.finding,
                    head_sha="", run_id=0, attempt=0, workflow_path="", opened_at=mine.opened_at,
                    updated_at=mine.updated_at,
                )
            )  # fmt: skip
    assert re.findall(r'id="similar-(\d+)"', page(site)) == ["2"]
    local(site, world.engine)
    assert re.findall(r'id="similar-(\d+)"', page(site)) == ["3", "2"]


def test_an_entry_leads_to_the_delivery_that_caused_it(site: TestClient) -> None:
    assert re.search(r'<a id="delivery-of-\d+" href="/deliveries/1">', page(site))


def test_everything_is_there_for_programs(world: World, site: TestClient) -> None:
    answer = site.get("/incidents/1?format=json")
    assert answer.headers["content-disposition"] == 'attachment; filename="incident-1.json"'
    told = json.loads(answer.text)
    assert told["state"] == "awaiting_approval"
    assert told["version"] == int(fields(page(site), "approve")["expected"])
    assert told["ladder"][0]["came"] == "asked"
    assert "batch_size: 2048" in told["repairs"][0]["plan"]["diff"]
    assert told["timeline"][0]["kind"] == "found"
    world.forge.permissions["mona"] = "read"
    visitor(site, world.engine, Role.VIEWER, [999], account_id=503, login="nobody")
    assert site.get("/incidents/1?format=json").status_code == 404
