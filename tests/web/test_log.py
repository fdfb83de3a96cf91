"""The whole log behind an incident: real lines, in pages, searched on the server, without what is secret."""

import re
import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.db.store import SqlStore
from app.domain.access import Role
from app.domain.errors import RateLimited, Unreachable
from app.web import joblog
from tests.browser.site import dashboard
from tests.healing.world import OUT_OF_MEMORY, World
from tests.web.people import local, visitor

OBSERVE = "version: 1\nmode: observe\nautonomy: {shadow: false}\n"
TOKEN = "ghp_" + "a1B2" * 9
ROOT, TOTAL = 1_503, 2_600


def log_text() -> bytes:
    """A failed step of some thousand lines; the cause stands at ROOT."""
    lines = ["##[group]Run python train.py", "python train.py", "##[endgroup]"]
    lines += [f"epoch {n} loss {1 / n:.4f}" for n in range(1, 1_498)]
    lines += ["Traceback (most recent call last):", '  File "train.py", line 3, in <module>', OUT_OF_MEMORY]
    lines += ["##[error]Process completed with exit code 1."]
    lines += ["Post job cleanup.", f"\x1b[31mtoken: {TOKEN}\x1b[0m", "<script>alert(1)</script>"]
    lines += [f"cleaning {n}" for n in range(TOTAL - len(lines))]
    return "".join(f"2026-11-21T09:00:00.0000000Z {text}\n" for text in lines).encode()


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    shutil.copy(sqlite_template, tmp_path / "heal.db")
    return f"sqlite:///{tmp_path}/heal.db"


@pytest.fixture
def world(engine: Engine, store: SqlStore) -> World:
    world = World(engine, store, look_every_s=3600.0)
    world.project(OBSERVE)
    job = world.forge.job("train", "failure", log_text())
    run = world.forge.add_run(head_sha=world.forge.branches["main"], head_branch="main", jobs=[job])
    world.arrive(world.forge.finished(run.id))
    world.drain()
    world.forge.calls.clear()
    return world


@pytest.fixture
def site(world: World) -> TestClient:
    client = TestClient(dashboard(world.engine, kit=world.kit), raise_server_exceptions=False)
    visitor(client, world.engine, Role.VIEWER, [world.forge.repository.id])
    return client


def page(site: TestClient, query: str = "") -> str:
    found = site.get(f"/incidents/1/log{query}")
    assert found.status_code == 200
    return found.text


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r'<div class="line[^"]*" id="L(\d+)">', text)]


def line(text: str, number: int) -> str:
    found = re.search(rf'<div class="([^"]*)" id="L{number}">.*?</div>', text)
    assert found is not None, number
    return found[0]


def href(text: str, name: str) -> str:
    found = re.search(rf'id="{name}" href="([^"]+)"', text)
    assert found is not None, name
    return found[1].replace("&amp;", "&")


def test_the_incident_leads_to_its_cause_in_the_whole_log(site: TestClient) -> None:
    there = href(site.get("/incidents/1").text, "log")
    assert there == f"/incidents/1/log?line={ROOT}#L{ROOT}"
    assert "_ArrayMemoryError" in line(page(site, f"?line={ROOT}"), ROOT)


def test_a_thousand_lines_around_the_cause_are_shown_first(site: TestClient) -> None:
    text = page(site)
    shown = numbers(text)
    assert shown == list(range(ROOT - 500, ROOT + 500))
    assert 'class="line root"' in line(text, ROOT)
    assert "is-error" in line(text, ROOT + 1)
    assert href(text, "to-root") == f"/incidents/1/log?line={ROOT}#L{ROOT}"
    assert href(text, "to-error") == f"/incidents/1/log?line={ROOT + 1}#L{ROOT + 1}"


def test_all_lines_can_be_reached_page_by_page(site: TestClient) -> None:
    seen = numbers(page(site, "?from=1"))
    query = "?from=1"
    while following := re.search(r'href="/incidents/1/log(\?[^"]*from=\d+)">Next', page(site, query)):
        query = following[1].replace("&amp;", "&")
        seen += numbers(page(site, query))
    assert seen == list(range(1, TOTAL + 1))
    assert f"Lines 2,001 to {TOTAL:,} of {TOTAL:,}" in page(site, "?from=2001")
    assert ">Previous 1,000 lines" in re.sub(r"<svg.*?</svg>", "", page(site, "?from=2001"))


def test_each_line_has_an_address_of_its_own(site: TestClient) -> None:
    text = page(site)
    assert f'href="?line={ROOT}#L{ROOT}"' in line(text, ROOT)
    assert 2_400 in numbers(page(site, "?line=2400"))


@pytest.mark.parametrize(
    "query", ["?line=0", "?line=99999999", "?from=-3", "?from=x", "?hit=7", "?job=1", "?line=9" * 9]
)
def test_a_strange_address_still_shows_lines(site: TestClient, query: str) -> None:
    assert numbers(page(site, query))


def test_the_log_is_shown_as_text_without_colours_and_secrets(site: TestClient) -> None:
    text = page(site, f"?line={ROOT}")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert "token: ***" in text
    assert "\x1b" not in text
    assert "2026-11-21T09" not in text


def test_steps_are_folds_with_their_names(site: TestClient) -> None:
    folds = re.findall(r'<details open id="step-(\d+)">', page(site))
    assert folds == ["1", str(ROOT + 2)]
    assert "Post job cleanup." in page(site)


def test_the_whole_log_is_searched_and_one_goes_from_match_to_match(site: TestClient) -> None:
    text = page(site, "?q=EPOCH+7")
    assert "Match 1 of 111" in text
    assert "<mark>epoch 7</mark>" in line(text, 10)
    assert 'class="line hit"' in line(text, 10)
    onwards = href(text, "next-match")
    assert onwards == "/incidents/1/log?q=EPOCH+7&hit=2#L73"
    second = page(site, onwards.removeprefix("/incidents/1/log").partition("#")[0])
    assert "Match 2 of 111" in second
    assert href(second, "previous-match") == "/incidents/1/log?q=EPOCH+7&hit=1#L10"
    last = page(site, "?q=EPOCH+7&hit=111")
    assert "next-match" not in last


def test_paging_keeps_the_search(site: TestClient) -> None:
    text = page(site, "?q=epoch&from=1001")
    assert numbers(text)[0] == 1_001
    assert "Match 998 of 1,497" in text
    assert 'value="epoch"' in text


def test_what_is_not_there_is_not_found(site: TestClient) -> None:
    assert "No line matches." in page(site, "?q=zzz")
    assert "No line matches." in page(site, "?q=.%2A")


def test_nobody_can_feel_their_way_to_a_secret_by_searching(site: TestClient) -> None:
    assert "No line matches." in page(site, f"?q={TOKEN[:8]}")
    assert "Match 1 of 1" in page(site, "?q=token")


def test_everything_can_be_downloaded_masked(site: TestClient) -> None:
    answer = site.get("/incidents/1/log.txt")
    assert answer.headers["content-disposition"] == 'attachment; filename="incident-1-train.txt"'
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.removesuffix("\n").split("\n")
    assert len(lines) == TOTAL
    assert lines[ROOT - 1] == OUT_OF_MEMORY
    assert TOKEN not in answer.text


def test_paging_and_searching_fetch_the_log_once(world: World, site: TestClient) -> None:
    for query in ("", "?from=1", "?q=epoch", "?q=epoch&hit=3"):
        page(site, query)
    site.get("/incidents/1/log.txt")
    assert world.forge.calls.count("job_log") == 1


def test_a_log_that_has_expired_says_so_and_shows_what_was_kept(engine: Engine, store: SqlStore) -> None:
    world = World(engine, store, look_every_s=3600.0)
    world.project(OBSERVE)
    run_id = world.fail(OUT_OF_MEMORY)
    world.drain()
    world.forge.finish_run(run_id, "failure", [world.forge.job("train", "failure", None)])
    site = TestClient(dashboard(engine, kit=world.kit))
    visitor(site, engine, Role.VIEWER, [world.forge.repository.id])
    text = page(site)
    assert "GitHub does not have this log any more" in text
    assert "_ArrayMemoryError" in text
    assert site.get("/incidents/1/log.txt").status_code == 404


@pytest.mark.parametrize("trouble", [Unreachable("away"), RateLimited("wait")])
def test_while_github_is_away_the_page_says_so_and_the_next_look_tries_again(
    world: World, site: TestClient, trouble: Exception
) -> None:
    world.forge.fail_next("job_log", trouble)  # type: ignore[arg-type]
    assert "GitHub does not answer now" in page(site)
    assert numbers(page(site)) != []


def test_a_run_without_that_job_and_an_app_that_was_removed_are_told_apart(world: World, site: TestClient) -> None:
    run_id = world.incident().run_id
    world.forge.finish_run(run_id, "failure", [world.forge.job("other", "failure", b"x\n")])
    assert "The run has no such job any more" in page(site)
    with world.store.begin() as ledger:
        ledger.forget_repositories([world.forge.repository.id])
    local(site, world.engine)
    assert "The App is not installed on this repository any more" in page(site)


def test_who_may_not_see_the_incident_sees_no_log(world: World, site: TestClient) -> None:
    visitor(site, world.engine, Role.VIEWER, [999], account_id=503, login="eve")
    for path in ("log", "log.txt"):
        assert site.get(f"/incidents/1/{path}").status_code == 404
    assert world.forge.calls == []


def test_another_failed_job_of_the_run_can_be_chosen(world: World, site: TestClient) -> None:
    first = world.forge.job("train", "failure", b"one\n##[error]a\n")
    second = world.forge.job("train (2)", "failure", b"two\n##[error]b\n")
    world.forge.finish_run(world.incident().run_id, "failure", [first, second])
    jobs = world.forge.jobs(world.incident().run_id, 1)
    text = page(site, f"?job={jobs[1].id}")
    assert "two" in line(text, 1)
    assert "root" not in line(text, 1)
    assert f'href="?line=1&amp;job={jobs[1].id}#L1"' in line(text, 1)
    assert '<a data-plain href="/incidents/1/log?job=' in text


def test_a_log_longer_than_what_is_held_says_so(
    world: World, site: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joblog, "MOST_LINES", 1_200)
    text = page(site, "?from=1")
    assert "its first 1,200 lines" in text
    assert len(site.get("/incidents/1/log.txt").text.splitlines()) == 1_200


def test_a_private_key_across_two_pages_is_masked_on_both(world: World, site: TestClient) -> None:
    body = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"] * 20
    key = ["-----BEGIN RSA PRIVATE KEY-----", *body, "-----END RSA PRIVATE KEY-----"]
    lines = [f"line {n}" for n in range(990)] + key + ["the end"]
    job = world.forge.job("train", "failure", "\n".join(lines).encode() + b"\n")
    world.forge.finish_run(world.incident().run_id, "failure", [job])
    text = site.get("/incidents/1/log.txt").text
    assert "MIIEvQ" not in text
    assert text.split("\n")[990 + len(key)] == "the end"


def test_an_empty_log_says_so(world: World, site: TestClient) -> None:
    world.forge.finish_run(world.incident().run_id, "failure", [world.forge.job("train", "failure", b"")])
    assert "The log is empty" in page(site)


def test_invisible_characters_neither_hide_a_secret_nor_move_the_lines(world: World, site: TestClient) -> None:
    hidden = TOKEN[:6] + "\u200b" + TOKEN[6:]
    log = f"one\u2028still one\n{hidden}\nthree\n".encode()
    world.forge.finish_run(world.incident().run_id, "failure", [world.forge.job("train", "failure", log)])
    assert site.get("/incidents/1/log.txt").text == "one still one\n***\nthree\n"
