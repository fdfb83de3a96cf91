"""The App is put on repositories and taken off again, as GitHub tells it; also to a bot that GitHub cannot reach."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from app.db.engine import reading
from app.db.tables import DeliveryRow, IncidentRow, MarkRow
from app.domain.incident import State
from app.domain.policy import CONFIG_PATH
from tests.e2e.conftest import Staged
from tests.e2e.projects import BUG, FLAKY, project
from tests.e2e.stage import Stage, wait_for

QUICK = {"HEAL_QUEUE__SWEEP_S": "1"}


@pytest.fixture(
    scope="module",
    params=["embedded", pytest.param("full", marks=[pytest.mark.postgres, pytest.mark.redis])],
)
def bot(request: pytest.FixtureRequest, staged: Staged) -> Iterator[Stage]:
    with staged(request.param, QUICK) as made:
        made.start()
        yield made


def bare(script: str) -> dict[str, str]:
    return {path: text for path, text in project(script).items() if path != CONFIG_PATH}


def install(bot: Stage, repository: str, selection: str) -> None:
    bot.admin("POST", "/install", {"repo": repository, "selection": selection})


def test_a_chosen_repository_is_introduced_with_what_has_happened_there(bot: Stage) -> None:
    repository = bot.create("trainer", bare(BUG), owner="chosen", installed=False)
    bot.settle()
    install(bot, repository, "selected")
    bot.wait_for_pull(repository, "heal/onboarding")
    bot.settle()
    (pull,) = bot.state_of(repository)["pulls"]
    assert "mode: approve" in bot.files(repository, pull["head"])[CONFIG_PATH].decode()
    body = bot.act("GET", f"/repos/{repository}/pulls/{pull['number']}")["body"]
    assert "Of the last 1 runs **1 failed**" in body
    assert "open_issue" in body
    assert bot.incident(repository) is None


def test_once_it_is_merged_the_file_is_in_force(bot: Stage) -> None:
    repository = bot.create("trainer", bare(FLAKY), owner="merging", installed=False)
    bot.settle()
    install(bot, repository, "selected")
    pull = bot.wait_for_pull(repository, "heal/onboarding")
    bot.settle()
    bot.merge(repository, pull["number"])
    incident = bot.wait_for(repository, State.AWAITING_APPROVAL)
    bot.click(repository, f"approve:{incident.line.id}")
    bot.wait_for(repository, State.HEALED)
    bot.settle()
    assert len(bot.state_of(repository)["pulls"]) == 1


def test_on_all_repositories_it_only_observes_and_says_why(bot: Stage) -> None:
    repository = bot.create("trainer", bare(FLAKY), owner="everything", installed=False)
    bot.settle()
    install(bot, repository, "all")
    bot.push(repository, {"README.md": "Hello\n"})
    incident = bot.wait_for(repository, State.OBSERVED)
    bot.settle()
    decided = [entry for entry in incident.timeline if entry.kind == "decided"][-1]
    assert "the installation on all repositories" in json.dumps(dict(decided.data))
    assert bot.state_of(repository)["pulls"] == []


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_kept_is_erased_when_the_app_leaves(bot: Stage, whole: bool) -> None:
    owner = f"leaving-{whole}".lower()
    repository = bot.create("trainer", project(BUG), owner=owner)
    incident = bot.ends(repository, State.ESCALATED)
    bot.settle()
    bot.admin("POST", "/uninstall", {"owner": owner} if whole else {"repo": repository})

    def erased() -> bool:
        with reading(bot.engine) as connection:
            summary = connection.scalar(select(IncidentRow.summary).where(IncidentRow.id == incident.line.id))
            left = connection.scalar(select(func.count()).where(MarkRow.name.startswith("erase:")))
            return summary == "erased" and not left

    wait_for("the sweep to erase it", erased)
    bodies = select(func.count()).where(DeliveryRow.repository == repository, func.length(DeliveryRow.body) > 0)
    with reading(bot.engine) as connection:
        assert connection.scalar(bodies) == 0
    assert bot.reads.incident(incident.line.id) is not None


@pytest.mark.parametrize("apart", [False, True])
def test_a_bot_that_github_cannot_reach_heals_all_the_same(staged: Staged, apart: bool) -> None:
    with staged("embedded") as unreachable:
        unreachable.admin("POST", "/hook", {"url": "http://127.0.0.1:9/"})
        unreachable.add("web", "app.cli", "serve", *([] if apart else ["--relay"]))
        if apart:
            unreachable.add("relay", "app.cli", "relay", "--every", "1")
        unreachable.go()
        repository = unreachable.create("trainer", project(FLAKY))
        unreachable.wait_for(repository, State.HEALED)
        unreachable.nothing_twice(repository, attempts=2)
