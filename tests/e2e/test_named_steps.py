"""kill -9 at each named step of the loop: after the restart everything is as if nothing had happened."""

import ast
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from app.domain.effect import EffectKind
from app.domain.incident import State
from app.ports.queue import Work
from tests.e2e.conftest import Staged
from tests.e2e.projects import BUG, FLAKY, GREEN, TOO_LARGE, project
from tests.e2e.stage import Stage, wait_for

SOURCES = Path(app.__file__).parent
VALUES = {"work": [str(work) for work in Work], "effect.kind": [str(kind) for kind in EffectKind]}

LOOP = ("claimed delivery", "after interpret", "after gather", "after diagnose", "after decide", "claimed repair",
        "after plan", "before apply", "after apply", "after look", "claimed effect", "after check")  # fmt: skip
RERUN = ("after apply", "after look")
ISSUE = ("after apply",)
UNDO = ("before undo", "after undo")
OBSERVED = ("after summarise", "after take in")  # killed at in test_signals.py
EVERY = {
    *(*LOOP, *RERUN, *ISSUE, *UNDO, *OBSERVED),
    *("after pull_body", "after comment", "after reply", "after config", "after news", "after onboarding"),
}


def test_every_named_step_is_killed_at() -> None:
    named = set()
    for file in SOURCES.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("passing"):
                named |= set(names(call.args[0]))
    assert named == EVERY


def names(argument: ast.expr) -> list[str]:
    """The names that a step may have: its text, with the values of what is filled in."""
    if isinstance(argument, ast.Constant):
        return [str(argument.value)]
    assert isinstance(argument, ast.JoinedStr), ast.unparse(argument)
    found = [""]
    for part in argument.values:
        filled = VALUES[ast.unparse(part.value)] if isinstance(part, ast.FormattedValue) else [ast.literal_eval(part)]
        found = [before + after for before in found for after in filled]
    return found


@pytest.fixture(
    scope="module",
    params=["embedded", pytest.param("full", marks=[pytest.mark.postgres, pytest.mark.redis])],
)
def bot(request: pytest.FixtureRequest, staged: Staged) -> Iterator[Stage]:
    with staged(request.param, {"HEAL_DATABASE__LEASE_S": "1.5"}) as made:
        made.start_killable()
        yield made


def kill_at(bot: Stage, step: str) -> None:
    """From now on: the next time that it is passed. Written in one go, since it is read at every step."""
    order(bot, f"kill {step}")


def order(bot: Stage, text: str) -> None:
    draft = bot.order.with_suffix(".draft")
    draft.write_text(text)
    os.replace(draft, bot.order)


def died(bot: Stage, step: str) -> None:
    wait_for(f"the bot to die {step}", lambda: not bot.order.exists())


def as_if_nothing_had_happened(bot: Stage, repository: str, *, attempts: int = 1) -> None:
    bot.settle()
    bot.nothing_twice(repository, attempts=attempts)
    bot.nothing_lost()


@pytest.mark.parametrize("step", [*LOOP, "after pull_body"])
def test_killed_while_a_fix_is_proposed(bot: Stage, step: str) -> None:
    bot.settle()
    kill_at(bot, step)
    repository = bot.create(f"fix-{step.replace(' ', '-')}", project(TOO_LARGE))
    died(bot, step)
    bot.healed_at_last(repository)
    as_if_nothing_had_happened(bot, repository)
    here = bot.state_of(repository)
    assert (len(here["pulls"]), len(here["branches"])) == (1, 2)


@pytest.mark.parametrize("step", RERUN)
def test_killed_while_a_job_is_run_again(bot: Stage, step: str) -> None:
    bot.settle()
    kill_at(bot, step)
    repository = bot.create(f"rerun-{step.replace(' ', '-')}", project(FLAKY))
    died(bot, step)
    bot.healed_at_last(repository)
    as_if_nothing_had_happened(bot, repository, attempts=2)


@pytest.mark.parametrize("step", ISSUE)
def test_killed_while_a_person_is_called(bot: Stage, step: str) -> None:
    bot.settle()
    kill_at(bot, step)
    repository = bot.create(f"issue-{step.replace(' ', '-')}", project(BUG))
    died(bot, step)
    bot.ends(repository, State.ESCALATED)
    as_if_nothing_had_happened(bot, repository)
    assert len(bot.state_of(repository)["issues"]) == 1


@pytest.mark.parametrize("step", UNDO)
def test_killed_while_a_fix_is_taken_back(bot: Stage, step: str) -> None:
    repository = bot.create(f"undo-{step.replace(' ', '-')}", project(TOO_LARGE))
    incident = bot.healed_at_last(repository)
    bot.settle()
    kill_at(bot, step)
    bot.say(repository, int(incident.line.pull_number or 0), "/heal undo")
    died(bot, step)
    bot.ends(repository, State.DISMISSED)
    as_if_nothing_had_happened(bot, repository)
    here = bot.state_of(repository)
    assert ([pull["state"] for pull in here["pulls"]], len(here["branches"])) == (["closed"], 1)


def test_killed_after_the_sticky_comment(bot: Stage) -> None:
    repository = bot.create("comment", project(GREEN))
    bot.push(repository, {"README.md": "Hello\n"}, branch="feature")
    pull = bot.act("POST", f"/repos/{repository}/pulls", {"title": "Feature", "head": "feature", "base": "main"})
    bot.settle()
    kill_at(bot, "after comment")
    bot.push(repository, {"train.sh": BUG}, branch="feature")
    died(bot, "after comment")
    bot.ends(repository, State.ESCALATED)
    as_if_nothing_had_happened(bot, repository)
    assert len(bot.act("GET", f"/repos/{repository}/issues/{pull['number']}/comments")) == 1


def test_killed_after_a_reply(bot: Stage) -> None:
    repository = bot.create("reply", project(BUG))
    bot.ends(repository, State.ESCALATED)
    bot.settle()
    kill_at(bot, "after reply")
    bot.say(repository, 1, "/heal why")
    died(bot, "after reply")
    bot.wait_for_reply(repository, 1, "mode")
    as_if_nothing_had_happened(bot, repository)
    assert len(bot.act("GET", f"/repos/{repository}/issues/1/comments")) == 2


def test_killed_after_people_were_told(bot: Stage) -> None:
    bot.settle()
    kill_at(bot, "after news")
    repository = bot.create("news", project(BUG))
    died(bot, "after news")
    bot.ends(repository, State.ESCALATED)
    as_if_nothing_had_happened(bot, repository)


def test_killed_after_the_verdict_on_a_configuration(bot: Stage) -> None:
    bot.settle()
    kill_at(bot, "after config")
    repository = bot.create("configuration", {**project(GREEN), ".github/heal.yml": "version: 1\nmod: auto\n"})
    died(bot, "after config")
    wait_for("annotations", lambda: [check for check in bot.checks(repository) if check.annotations])
    as_if_nothing_had_happened(bot, repository)
    assert len(bot.checks(repository)) == 1


@pytest.mark.parametrize("step", ["claimed effect", "after onboarding"])
def test_killed_while_it_introduces_itself(bot: Stage, step: str) -> None:
    files = {path: text for path, text in project(BUG).items() if path != ".github/heal.yml"}
    owner = f"chosen-{step.replace(' ', '-')}"
    repository = bot.create("trainer", files, owner=owner, installed=False)
    bot.settle()
    kill_at(bot, step)
    bot.admin("POST", "/install", {"repo": repository, "selection": "selected"})
    died(bot, step)
    as_if_nothing_had_happened(bot, repository)
    (pull,) = bot.state_of(repository)["pulls"]
    assert (pull["head"], pull["state"]) == ("heal/onboarding", "open")


@pytest.mark.parametrize("step", ["after plan", "before apply", "after apply"])
def test_frozen_past_its_lease_and_thawed(bot: Stage, step: str) -> None:
    """A worker that stops in the middle and wakes up when another has long done its work must not do it again."""
    bot.settle()
    if not bot.embedded:
        second = bot.processes.get("second") or bot.add("second", "tests.e2e.killable", "work", str(bot.root / "none"))
        if not second.alive:
            second.start()
    repository = bot.create(f"frozen-{step.replace(' ', '-')}", project(TOO_LARGE, "approve"))
    incident = bot.wait_for(repository, State.AWAITING_APPROVAL)
    bot.settle()
    if not bot.embedded:
        bot.processes["second"].signal(signal.SIGSTOP)  # so that it is surely the first one that begins
    order(bot, f"freeze {step}")
    bot.click(repository, f"approve:{incident.line.id}")
    died(bot, step)
    wait_for("the lease to run out", bot.overdue)
    if not bot.embedded:
        bot.processes["second"].signal(signal.SIGCONT)
        bot.ends(repository, State.HEALED)
    for process in bot.processes.values():
        process.signal(signal.SIGCONT)
    bot.ends(repository, State.HEALED)
    as_if_nothing_had_happened(bot, repository)
    assert len(bot.state_of(repository)["pulls"]) == 1
