"""The product's promises, from GitHub's event to GitHub's proof, in every mode."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest

from app.domain.incident import State
from sandbox.catalogue import SCENARIOS, Scenario
from tests.e2e.conftest import Staged
from tests.e2e.projects import ALWAYS_TOO_LARGE, BUG, FLAKY, GREEN, TOO_LARGE, project
from tests.e2e.stage import Stage, wait_for
from tests.sandbox.contract import check_request

SILENT = {"HEAL_QUEUE__DOORBELL": "false"}
OF_THE_PROCESS = ("serving", "stopped")
FIXED = b"# how we train\nbatch_size: 2048  # rows\ngradient_accumulation_steps: 2\nlearning_rate: 0.1\n"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("embedded", {}), id="embedded"),
        pytest.param(("embedded", SILENT), id="embedded-without-doorbell"),
        pytest.param(("full", {}), id="full", marks=[pytest.mark.postgres, pytest.mark.redis]),
        pytest.param(("full", SILENT), id="full-without-doorbell", marks=[pytest.mark.postgres, pytest.mark.redis]),
    ],
)
def bot(request: pytest.FixtureRequest, staged: Staged) -> Iterator[Stage]:
    mode, settings = request.param
    with staged(mode, settings) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def demo(bot: Stage) -> Mapping[str, str]:
    """The five repositories of the demonstration, all broken at once; name → full name."""
    return {s.name: bot.create(s.name, directory=str(s.directory)) for s in SCENARIOS}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_a_repository_of_the_demonstration_comes_to_its_right_end(
    bot: Stage, demo: Mapping[str, str], scenario: Scenario
) -> None:
    repository = demo[scenario.name]
    incident = bot.wait_for(repository, State.HEALED, State.ESCALATED)
    here = bot.state_of(repository)
    applied = [entry.data["action"] for entry in incident.timeline if entry.kind == "applied"]
    if scenario.healed_by is None:
        assert incident.line.state is State.ESCALATED
        assert not here["pulls"]
        assert list(here["branches"]) == ["refs/heads/main"]
        assert len(here["issues"]) == 1
    else:
        assert incident.line.state is State.HEALED
        assert applied[-1] == scenario.healed_by
        assert [entry for entry in incident.timeline if entry.kind == "proven"]
    assert [line for line in incident.finding.lines if line.root]
    bot.nothing_twice(repository, attempts=2)


def test_a_flaky_job_is_run_again_and_healed(bot: Stage) -> None:
    repository = bot.create("flaky", project(FLAKY))
    incident = bot.wait_for(repository, State.HEALED)
    assert [e.data["action"] for e in incident.timeline if e.kind == "applied"] == ["rerun_failed_jobs"]
    bot.nothing_twice(repository, attempts=2)


def test_a_genuine_bug_is_told_in_an_issue_and_left_alone(bot: Stage) -> None:
    repository = bot.create("bug", project(BUG))
    before = bot.files(repository)
    bot.wait_for(repository, State.ESCALATED)
    here = bot.state_of(repository)
    assert (len(here["issues"]), here["pulls"]) == (1, [])
    assert bot.files(repository) == before
    bot.nothing_twice(repository)


def test_without_a_configuration_nothing_is_changed(bot: Stage) -> None:
    files = dict(project(TOO_LARGE))
    del files[".github/heal.yml"]
    repository = bot.create("observed", files)
    bot.wait_for(repository, State.OBSERVED)
    bot.settle()
    here = bot.state_of(repository)
    assert (here["pulls"], here["issues"], list(here["branches"])) == ([], [], ["refs/heads/main"])


def test_the_approve_button_starts_the_repair(bot: Stage) -> None:
    repository = bot.create("by-button", project(TOO_LARGE, "approve"))
    incident = bot.wait_for(repository, State.AWAITING_APPROVAL)
    assert not bot.state_of(repository)["pulls"]
    bot.click(repository, f"approve:{incident.line.id}")
    incident = bot.wait_for(repository, State.HEALED)
    assert [entry.data["by"] for entry in incident.timeline if entry.kind == "approved"] == ["maria"]
    assert bot.files(repository, f"heal/{incident.fingerprint}")["configs/train.yaml"] == FIXED
    bot.nothing_twice(repository)


def test_the_approve_command_starts_the_repair_for_those_who_may_write(bot: Stage) -> None:
    repository = bot.create("by-command", project(TOO_LARGE, "propose"))
    incident = bot.wait_for(repository, State.AWAITING_APPROVAL)
    number = bot.act("POST", f"/repos/{repository}/issues", {"title": "What is this?"})["number"]
    bot.tokens["eve"] = bot.admin("POST", "/users", {"login": "eve", "permission": "read"})["token"]
    bot.act(
        "POST", f"/repos/{repository}/issues/{number}/comments", {"body": f"/heal approve {incident.line.id}"}, "eve"
    )
    bot.wait_for_reply(repository, number, "write access")
    assert bot.wait_for(repository, State.AWAITING_APPROVAL)
    bot.say(repository, number, f"/heal approve {incident.line.id}")
    incident = bot.wait_for(repository, State.HEALED)
    bot.wait_for_reply(repository, number, "Approved")
    assert [entry.data["by"] for entry in incident.timeline if entry.kind == "approved"] == ["maria"]
    bot.nothing_twice(repository)


def test_a_repair_that_is_undone_before_the_merge_leaves_nothing_behind(bot: Stage) -> None:
    repository = bot.create("undone", project(TOO_LARGE))
    before = bot.files(repository)
    incident = bot.wait_for(repository, State.HEALED)
    assert incident.line.pull_number is not None
    bot.say(repository, incident.line.pull_number, "/heal undo")
    bot.wait_for(repository, State.DISMISSED)
    bot.settle()
    here = bot.state_of(repository)
    assert list(here["branches"]) == ["refs/heads/main"]
    assert [pull["state"] for pull in here["pulls"]] == ["closed"]
    assert bot.files(repository) == before
    bot.nothing_twice(repository)


def test_undo_after_the_merge_restores_the_tree_byte_for_byte(bot: Stage) -> None:
    repository = bot.create("reverted", project(TOO_LARGE))
    before = bot.files(repository)
    incident = bot.wait_for(repository, State.HEALED)
    bot.merge(repository, incident.line.pull_number)
    bot.wait_for_entry(repository, "merged")
    assert bot.files(repository)["configs/train.yaml"] == FIXED
    bot.say(repository, int(incident.line.pull_number or 0), "/heal undo")
    revert = bot.wait_for_pull(repository, "-revert")
    bot.merge(repository, revert["number"])
    assert bot.files(repository) == before
    bot.settle()
    bot.nothing_twice(repository)


def test_a_cause_that_returns_after_the_merge_leads_to_a_revert(bot: Stage) -> None:
    repository = bot.create("relapsed", project(TOO_LARGE))
    incident = bot.wait_for(repository, State.HEALED)
    bot.merge(repository, incident.line.pull_number)
    merged = bot.wait_for_entry(repository, "merged")
    # GitHub tells the start of a run in whole seconds
    wait_for("the next second", lambda: datetime.now(UTC).replace(microsecond=0) > merged.at)
    bot.push(repository, {"train.sh": ALWAYS_TOO_LARGE})
    bot.wait_for_entry(repository, "relapsed")
    bot.wait_for_pull(repository, "-revert")
    bot.wait_for(repository, State.ESCALATED)
    bot.settle()
    bot.nothing_twice(repository)


def test_a_broken_configuration_is_told_at_its_line(bot: Stage) -> None:
    files = {**project(GREEN), ".github/heal.yml": "version: 1\nmode: auto\nlimts:\n  open_pulls: 1\n"}
    repository = bot.create("misconfigured", files)

    def annotated() -> Any:
        return next((c for c in bot.checks(repository) if c.annotations), None)

    check = wait_for("annotations", annotated)
    notes = bot.act("GET", f"/repos/{repository}/check-runs/{check.id}/annotations")
    assert check.conclusion == "failure"
    assert [(n["path"], n["start_line"]) for n in notes] == [(".github/heal.yml", 3)]
    assert "limits" in notes[0]["message"]
    bot.settle()
    bot.nothing_twice(repository)


def test_a_failing_pull_request_gets_one_sticky_comment(bot: Stage) -> None:
    repository = bot.create("sticky", project(GREEN))
    bot.push(repository, {"README.md": "Hello\n"}, branch="feature")
    pull = bot.act("POST", f"/repos/{repository}/pulls", {"title": "Feature", "head": "feature", "base": "main"})
    bot.push(repository, {"train.sh": BUG}, branch="feature")
    bot.wait_for(repository, State.ESCALATED)
    bot.settle()
    bot.push(repository, {"README.md": "Hello again\n"}, branch="feature")
    wait_for("the second run", lambda: len(bot.failed_deliveries(repository)) > 1)
    bot.settle()
    comments = bot.act("GET", f"/repos/{repository}/issues/{pull['number']}/comments")
    assert [c["user"]["login"] for c in comments] == [bot.sandbox.state.bot.login]
    bot.nothing_twice(repository)


def held_back(bot: Stage, repository: str, branch: str) -> bytes:
    """The body of the delivery about a failed run, which never reached the bot: a run of TOO_LARGE on a new branch."""
    bot.settle()
    bot.fault("lost_delivery", match="^workflow_run$", count=3)
    bot.push(repository, {"train.sh": TOO_LARGE}, branch=branch)
    held = wait_for("the run's end", lambda: bot.failed_deliveries(repository))[0]
    bot.sandbox.state.deliveries.remove(held)
    assert bot.incident(repository) is None
    return held.raw


def test_a_run_from_a_fork_is_reported_and_not_repaired(bot: Stage) -> None:
    repository = bot.create("forked", project(GREEN))
    body = json.loads(held_back(bot, repository, "contributed"))
    body["workflow_run"]["head_repository"]["id"] += 1_000_000
    assert bot.post(json.dumps(body).encode(), "workflow_run").status_code == 202
    bot.wait_for(repository, State.OBSERVED)
    bot.settle()
    here = bot.state_of(repository)
    assert (here["pulls"], here["issues"], len(here["branches"])) == ([], [], 2)


def test_a_run_of_a_commit_that_is_not_the_head_any_more_is_left_alone(bot: Stage) -> None:
    repository = bot.create("stale", project(GREEN))
    body = held_back(bot, repository, "feature")
    bot.push(repository, {"README.md": "Newer\n"}, branch="feature")
    wait_for("the newer run's end", lambda: bot.failed_deliveries(repository))
    bot.settle()
    newer = bot.incident(repository)
    assert newer is not None
    pulls = len(bot.state_of(repository)["pulls"])
    assert bot.post(body, "workflow_run").status_code == 202
    bot.settle()
    here = bot.state_of(repository)
    assert len(here["pulls"]) == pulls
    bot.nothing_twice(repository)


def test_what_the_bot_causes_itself_is_ignored(bot: Stage) -> None:
    bot.settle()
    login = bot.sandbox.state.bot.login
    ours = {
        delivery.guid
        for delivery in list(bot.sandbox.state.deliveries)
        if delivery.event != "workflow_run" and json.loads(delivery.raw).get("sender", {}).get("login") == login
    }
    assert ours
    assert {state for guid, state in bot.delivery_states().items() if guid in ours} == {"ignored"}


def test_when_the_app_is_removed_everything_stops(bot: Stage) -> None:
    repository = bot.create("left", project(TOO_LARGE, "approve"), owner="umbrella")
    incident = bot.wait_for(repository, State.AWAITING_APPROVAL)
    bot.settle()
    failed = bot.failed_deliveries(repository)[0]
    bot.admin("POST", "/uninstall", {"owner": "umbrella"})
    bot.wait_for(repository, State.DISMISSED)
    bot.settle()
    writes = len(bot.writes(repository))
    comment = json.dumps(bot.comment_event(repository, f"/heal approve {incident.line.id}")).encode()
    for event, body in (("workflow_run", failed.raw), ("issue_comment", comment)):  # late ones, on their way since
        assert bot.post(body, event).status_code == 202
    bot.settle()
    assert bot.wait_for(repository, State.DISMISSED)
    assert len(bot.writes(repository)) == writes
    assert not bot.state_of(repository)["pulls"]


def test_every_delivery_that_was_acknowledged_is_worked_off(bot: Stage) -> None:
    bot.settle()
    bot.nothing_lost()
    assert bot.leased() == 0


def test_every_request_is_one_that_github_describes(bot: Stage) -> None:
    requests = list(bot.sandbox.state.requests)
    ours = [r for r in requests if not r["identity"].startswith("user:")]
    assert len(ours) > 100
    for request in ours:
        query = dict(parse_qsl(request["query"]))
        check_request(request["method"], request["path"], query, request["body"] or None)


def test_every_line_of_the_log_that_speaks_of_work_names_its_delivery(bot: Stage) -> None:
    bot.settle()
    lines = [line for process in bot.processes.values() for line in process.lines()]
    nameless = [line for line in lines if not line.get("delivery") and line["event"] not in OF_THE_PROCESS]
    assert not nameless, nameless[:5]
    named = {line["delivery"] for line in lines if "delivery" in line}
    silent = {guid: reason for guid, reason in bot.reasons().items() if guid not in named}
    assert set(silent.values()) <= {"the App was removed"}, silent  # finished with others, by one line of another's


def test_a_bot_that_is_told_to_stop_finishes_and_hands_back_what_it_holds(bot: Stage) -> None:
    for number in range(6):
        bot.create(f"stopped-{number}", project(FLAKY))
    wait_for("work under way", lambda: bot.leased() > 0)
    codes = {name: process.stop(within_s=30) for name, process in bot.processes.items()}
    assert set(codes.values()) == {0}, codes
    assert bot.leased() == 0
    bot.go()
    for number in range(6):
        bot.healed_at_last(f"acme/stopped-{number}")
        bot.nothing_twice(f"acme/stopped-{number}", attempts=2)
    bot.settle()
    bot.nothing_lost()
