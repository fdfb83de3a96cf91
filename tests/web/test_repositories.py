"""The pages of repositories."""

import csv
import io
import json

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.db.reads.repositories import RepositoryReads
from app.db.store import SqlStore
from app.domain.access import Role
from app.domain.errors import Unreachable
from app.domain.policy import CONFIG_PATH, Switch, mute_scope
from tests.healing.world import AUTO, OUT_OF_MEMORY, World
from tests.web.people import add_repository, signed_in, visitor

PROPOSE = "version: 1\nmode: propose\nlimits:\n  cooldown: 2h\n"


@pytest.fixture
def world(engine: Engine, store: SqlStore) -> World:
    """A repository in which one failure was healed by a re-run."""
    world = World(engine, store, look_every_s=3600.0)
    world.project(AUTO)
    heal(world)
    with world.store.begin() as ledger:
        ledger.remember_installation(1, "acme", "selected")
    return world


def heal(world: World) -> None:
    run = world.fail()
    world.drain()
    world.finish(run, "success")
    world.drain()


@pytest.fixture
def site(world: World) -> TestClient:
    return signed_in(world.engine, world.kit)


@pytest.fixture
def path(world: World) -> str:
    return f"/repositories/{world.forge.repository.id}"


def test_the_list_tells_of_each_repository_how_it_does(site: TestClient, path: str) -> None:
    page = site.get("/repositories").text
    assert f'href="{path}">acme/trainer</a>' in page
    assert "Nothing open" in page
    assert "Mode: auto" in page
    assert "selected repositories" in page


def test_the_list_can_be_searched_and_taken_away_with_the_same_filter(site: TestClient, engine: Engine) -> None:
    add_repository(engine, 900, "acme/other")
    assert "acme/other" not in site.get("/repositories?q=train").text
    rows = list(csv.DictReader(io.StringIO(site.get("/repositories?q=train&format=csv").text)))
    assert [(row["repository"], row["mode"], row["open"]) for row in rows] == [("acme/trainer", "auto", "0")]
    lines = site.get("/repositories?format=jsonl").text.splitlines()
    assert [json.loads(line)["repository"] for line in lines] == ["acme/other", "acme/trainer"]


def test_an_empty_list_says_what_to_do(site: TestClient) -> None:
    assert "No repository matches" in site.get("/repositories?q=zzz").text


def test_a_page_shows_each_value_with_its_origin(site: TestClient, world: World, path: str) -> None:
    world.project(PROPOSE)
    page = site.get(path).text
    assert f'href="https://github.com/acme/trainer/blob/main/{CONFIG_PATH}#L4">' in page
    chosen = page.partition('id="chosen"')[2].partition("</table>")[0]
    assert "limits.cooldown" in chosen
    assert "proof_deadline" not in chosen
    assert "proof_deadline" in page


def test_problems_of_the_file_stand_beside_their_lines(site: TestClient, world: World, path: str) -> None:
    world.project("version: 1\nmode: bold\n")
    page = site.get(path).text
    assert "1 problem of heal.yml" in page
    assert "is not a mode" in page
    assert "#L2" in page


def test_installed_on_all_repositories_the_page_says_why_it_only_observes(
    site: TestClient, world: World, path: str
) -> None:
    world.forge.push("main", {CONFIG_PATH: None})
    with world.store.begin() as ledger:
        ledger.remember_installation(1, "acme", "all")
    assert "the App is installed on all repositories, and nobody chose this one" in site.get(path).text


def test_without_github_the_page_says_so_and_shows_the_rest(site: TestClient, world: World, path: str) -> None:
    for method in ("file", "owner_file"):
        world.forge.fail_next(method, Unreachable("away"))
    answer = site.get(path)
    assert answer.status_code == 200
    assert "GitHub cannot be asked for heal.yml now" in answer.text
    assert "rerun_failed_jobs" in answer.text
    assert "Failures found and healed" in answer.text


def test_what_was_proven_here_is_told_with_its_lower_bound(site: TestClient, path: str) -> None:
    page = site.get(path).text
    row = page.partition('id="level-1"')[2].partition("</tr>")[0]
    assert "<code>rerun_failed_jobs</code>" in row
    assert "22%" in row  # Beta(2, 1): the square root of 0.05
    assert 'href="/incidents/1"' in row
    assert "Earned a bolder mode" not in row


def test_what_has_proven_itself_while_a_person_was_asked_may_be_bolder(
    site: TestClient, world: World, path: str
) -> None:
    for _ in range(3):
        heal(world)
    world.project(PROPOSE + "autonomy: {suggest_at: 0.5}\n")
    assert "Earned a bolder mode: set actions.rerun_failed_jobs in heal.yml." in site.get(path).text


def test_incidents_stand_on_the_page_with_the_way_to_all_of_them(site: TestClient, path: str) -> None:
    page = site.get(path).text
    assert 'id="incident-1"' in page
    assert 'href="/?q=repo%3Aacme%2Ftrainer"' in page


def test_pausing_stops_repairs_until_somebody_resumes(site: TestClient, world: World, path: str) -> None:
    answer = site.post(f"{path}/switch", data={"verb": "pause", "reason": "exams\nthis week"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    page = site.get(path).text
    assert "Paused by local." in page
    assert "exams this week" in page
    assert "Repairs are paused here." in page
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert world.incident(2).state == "observed"
    site.post(f"{path}/switch", data={"verb": "resume"})
    line = RepositoryReads(world.engine).repository_line(world.forge.repository.id)
    assert line is not None
    assert line.paused is None


@pytest.mark.parametrize("verb", ["", "undo", "mute"])
def test_the_switch_knows_nothing_else(site: TestClient, path: str, verb: str) -> None:
    assert site.post(f"{path}/switch", data={"verb": verb}).status_code == 400


def test_a_muted_cause_is_named_and_can_be_repaired_again(site: TestClient, world: World, path: str) -> None:
    with world.store.begin() as ledger:
        ledger.switch_on(Switch(mute_scope(world.forge.repository.id, "gpu_oom"), "mona", ledger.now(), "never"))
    assert "<code>gpu_oom</code> by mona" in site.get(path).text
    page = site.post(f"{path}/unmute", data={"kind": "gpu_oom"}).text
    assert "gpu_oom is repaired here again" in page
    assert RepositoryReads(world.engine).muted(world.forge.repository.id) == ()


def test_a_viewer_sees_no_switch_and_cannot_throw_it(site: TestClient, world: World, path: str) -> None:
    number = world.forge.repository.id
    visitor(site, world.engine, Role.VIEWER, [number])
    page = site.get(path)
    assert page.status_code == 200
    assert "Pause repairs here" not in page.text
    assert site.post(f"{path}/switch", data={"verb": "pause"}).status_code == 403


def test_github_has_the_last_word_on_who_may_pause(site: TestClient, world: World, path: str) -> None:
    visitor(site, world.engine, Role.OPERATOR, [world.forge.repository.id])
    assert site.post(f"{path}/switch", data={"verb": "pause"}).status_code == 403
    world.forge.permissions["mona"] = "write"
    assert site.post(f"{path}/switch", data={"verb": "pause"}, follow_redirects=False).status_code == 303


def test_whoever_may_not_see_a_repository_is_told_that_there_is_none(site: TestClient, engine: Engine) -> None:
    add_repository(engine, 900, "zoo/lions", installation_id=2)
    visitor(site, engine, Role.ADMIN, [5])
    assert site.get("/repositories/900").status_code == 404
    assert site.get("/repositories/901").status_code == 404
    assert "zoo/lions" not in site.get("/repositories").text


def test_live_parts_ask_github_for_nothing(site: TestClient, world: World, path: str) -> None:
    world.forge.calls.clear()
    page = site.get(path, headers={"Heal-Fragment": "live"}).text
    assert world.forge.calls == []
    assert 'id="history"' in page
    assert 'id="configuration"' not in page
