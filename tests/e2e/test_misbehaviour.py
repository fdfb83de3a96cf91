"""GitHub on its bad days, and strangers at the door."""

import gzip
import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from app.domain.incident import State
from tests.e2e.conftest import Staged
from tests.e2e.projects import BUG, FLAKY, TOO_LARGE, project
from tests.e2e.stage import Stage, wait_for

EXAMPLES = Path(__file__).parent.parent / "contract_data" / "webhook-examples.json.gz"
WRITES = (
    "POST .*/check-runs$",
    "POST .*/git/refs$",
    "POST .*/pulls$",
    "POST .*/rerun-failed-jobs$",
    "POST .*/issues$",
)


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("full", marks=[pytest.mark.postgres, pytest.mark.redis])]
)
def bot(request: pytest.FixtureRequest, staged: Staged) -> Iterator[Stage]:
    with staged(request.param, {"HEAL_QUEUE__SWEEP_S": "1"}) as made:
        made.start()
        yield made


@pytest.fixture(autouse=True)
def good_days_return(bot: Stage) -> Iterator[None]:
    yield
    bot.admin("DELETE", "/faults")


def all_end_well(bot: Stage, name: str) -> None:
    """A job that is run again, a fix and an issue; each once, whatever happens on the way."""
    kinds = {"flaky": (FLAKY, State.HEALED), "large": (TOO_LARGE, State.HEALED), "bug": (BUG, State.ESCALATED)}
    made = {kind: bot.create(f"{name}-{kind}", project(script)) for kind, (script, _) in kinds.items()}
    for kind, (_, state) in kinds.items():
        bot.wait_for(made[kind], state)
    bot.settle()
    bot.nothing_lost()
    for kind, repository in made.items():
        bot.nothing_twice(repository, attempts=2 if kind == "flaky" else 1)
        here = bot.state_of(repository)
        assert (len(here["pulls"]), len(here["issues"])) == (int(kind == "large"), int(kind == "bug"))


def test_deliveries_that_come_twice(bot: Stage) -> None:
    bot.fault("duplicate_delivery", count=None)
    all_end_well(bot, "twice")


def test_deliveries_that_come_late(bot: Stage) -> None:
    bot.fault("late_delivery", match="workflow_run", count=None, probability=0.5, seconds=1.0, seed=1)
    all_end_well(bot, "late")


def test_deliveries_that_come_out_of_order(bot: Stage) -> None:
    bot.fault("out_of_order_delivery", count=None, probability=0.3, seed=2)
    all_end_well(bot, "reordered")


def test_deliveries_that_are_lost_are_asked_for_again_by_the_sweep(bot: Stage) -> None:
    bot.settle()
    bot.fault("lost_delivery", match="^workflow_run$", count=3)
    repository = bot.create("lost", project(FLAKY))
    lost = wait_for("the run's end", lambda: bot.failed_deliveries(repository))[0]
    assert bot.incident(repository) is None
    lost.delivered_at -= timedelta(minutes=1)  # the sweep leaves alone what may still be on its way
    incident = bot.wait_for(repository, State.HEALED)
    assert lost.guid in {entry.guid for entry in incident.timeline}
    bot.settle()
    bot.nothing_lost()
    bot.nothing_twice(repository, attempts=2)


@pytest.mark.parametrize("kind", ["error_after_write", "drop_after_write"])
def test_answers_that_are_lost_after_the_write(bot: Stage, kind: str) -> None:
    for match in WRITES:
        bot.fault(kind, match=match)
    all_end_well(bot, kind.replace("_", "-"))


@pytest.mark.parametrize("status", [403, 429])
def test_secondary_rate_limits(bot: Stage, status: int) -> None:
    for match in WRITES:
        bot.fault("secondary_rate_limit", match=match, status=status, seconds=1.0)
    all_end_well(bot, f"limited-{status}")


def test_every_example_that_github_publishes_is_taken_and_worked_off(bot: Stage) -> None:
    sent = {}
    for group in json.loads(gzip.decompress(EXAMPLES.read_bytes())):
        for example in group["examples"]:
            guid = str(uuid.uuid4())
            sent[guid] = bot.post(json.dumps(example).encode(), group["name"], guid=guid).status_code
            assert sent[guid] == 202, group["name"]
    assert len(sent) == 329
    bot.settle()
    bot.all_finished(sent)


def test_strangers_are_told_what_is_wrong_and_nothing_of_theirs_is_kept(bot: Stage) -> None:
    bot.settle()
    before = set(bot.delivery_states())
    body = json.dumps({"action": "completed"}).encode()
    refused = {
        "wrong signature": (401, bot.post(body, "workflow_run", secret="guessed")),
        "no signature": (401, bot.post(body, "workflow_run", **{"X-Hub-Signature-256": ""})),
        "old signature": (401, bot.post(body, "workflow_run", **{"X-Hub-Signature-256": "sha1=abc"})),
        "no event": (400, bot.post(body, "")),
        "no GUID": (400, bot.post(body, "ping", **{"X-GitHub-Delivery": ""})),
        "not JSON": (400, bot.post(b"payload=%7B%7D", "ping")),
        "not an object": (400, bot.post(b"[1, 2]", "ping")),
        "a form": (415, bot.post(body, "ping", **{"Content-Type": "application/x-www-form-urlencoded"})),
        "too large": (413, bot.post(b" " * (25 * 1024 * 1024 + 1), "ping")),
    }
    for what, (status, answer) in refused.items():
        assert answer.status_code == status, what
        assert answer.json()["hint"], what
    assert requests.get(f"{bot.url}/webhooks/github", timeout=30).status_code in (404, 405)
    assert set(bot.delivery_states()) == before


def test_an_unknown_event_is_kept_and_ignored_with_its_reason(bot: Stage) -> None:
    guid = str(uuid.uuid4())
    assert bot.post(b'{"action": "frobnicated"}', "quantum_leap", guid=guid).status_code == 202
    bot.settle()
    assert bot.delivery_states()[guid] == "ignored"
    assert "quantum_leap" in bot.reasons()[guid]
