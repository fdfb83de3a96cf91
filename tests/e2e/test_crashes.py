"""kill -9 at any moment, and servers that die: whatever was acknowledged is worked off in the end, once."""

import json
import random
import signal
import time
from collections.abc import Iterator

import pytest
import redis

from app.domain.incident import State
from tests.e2e.conftest import Staged
from tests.e2e.projects import BUG, FLAKY, TOO_LARGE, project
from tests.e2e.stage import Stage, wait_for

FULL = "full with a PostgreSQL of its own"
LOAD = {"flaky": (FLAKY, State.HEALED), "large": (TOO_LARGE, State.HEALED), "bug": (BUG, State.ESCALATED)}
servers = [pytest.mark.postgres, pytest.mark.redis]
only_full = pytest.mark.parametrize("bot", [pytest.param(FULL, id="full", marks=servers)], indirect=True)


@pytest.fixture(scope="module", params=["embedded", pytest.param(FULL, id="full", marks=servers)])
def bot(request: pytest.FixtureRequest, staged: Staged) -> Iterator[Stage]:
    with staged(request.param) as made:
        made.start()
        yield made


def load(bot: Stage, name: str, times: int = 1) -> dict[str, State]:
    """Repositories that break now; their names, and how their incidents must end."""
    ends = {}
    for number in range(times):
        for kind, (script, state) in LOAD.items():
            ends[bot.create(f"{name}-{kind}-{number}", project(script))] = state
    return ends


def all_end_well(bot: Stage, ends: dict[str, State]) -> None:
    for repository, state in ends.items():
        bot.ends(repository, state)
    bot.settle()
    bot.nothing_lost()
    for repository in ends:
        bot.nothing_twice(repository, attempts=2 if "flaky" in repository else 1)
        here = bot.state_of(repository)
        assert len(here["pulls"]) == ("large" in repository)
        assert len(here["issues"]) == ("bug" in repository)


@pytest.mark.parametrize(
    ("bot", "victims"),
    [
        pytest.param("embedded", ["web"], id="embedded"),
        pytest.param(FULL, ["web"], id="full-web", marks=servers),
        pytest.param(FULL, ["worker"], id="full-worker", marks=servers),
        pytest.param(FULL, ["web", "worker"], id="full-both", marks=servers),
    ],
    indirect=["bot"],
)
def test_killed_at_a_random_moment_under_load(bot: Stage, victims: list[str]) -> None:
    dice = random.Random(f"{bot.embedded} {victims}")
    ends = load(bot, f"killed-{'-'.join(victims)}", times=2)
    wait_for("work under way", lambda: bot.leased() > 0)
    time.sleep(dice.uniform(0.0, 1.0))
    for name in victims:
        bot.processes[name].kill()
    bot.go()
    all_end_well(bot, ends)


def test_frozen_past_the_lease_under_load(bot: Stage) -> None:
    ends = load(bot, "frozen")
    wait_for("work under way", lambda: bot.leased() > 0)
    frozen = bot.processes["web" if bot.embedded else "worker"]
    frozen.signal(signal.SIGSTOP)
    if bot.leased():  # it may just have let go of everything
        wait_for("the lease to run out", bot.overdue)
    frozen.signal(signal.SIGCONT)
    all_end_well(bot, ends)


@only_full
def test_redis_flushed_in_the_middle(bot: Stage) -> None:
    assert bot.redis is not None
    ends = load(bot, "flushed")
    with redis.Redis.from_url(bot.redis.url) as client:
        for _ in range(20):
            client.flushall()
            time.sleep(0.05)
    all_end_well(bot, ends)


@only_full
def test_redis_killed_in_the_middle(bot: Stage) -> None:
    assert bot.redis is not None
    before = load(bot, "redis-before")
    bot.redis.kill()
    meanwhile = load(bot, "redis-meanwhile")
    assert bot.answers("/readyz")
    all_end_well(bot, before | meanwhile)
    bot.redis.start()

    def listens() -> bool:
        with redis.Redis.from_url(bot.redis.url) as client:  # type: ignore[union-attr]
            return any(one["cmd"] == "brpop" for one in client.client_list())

    wait_for("the Celery worker to come back", listens)
    all_end_well(bot, load(bot, "redis-after"))


@only_full
def test_postgres_killed_in_the_middle(bot: Stage) -> None:
    assert bot.postgres is not None
    before = load(bot, "postgres-before")
    wait_for("work under way", lambda: bot.leased() > 0)
    bot.postgres.kill()
    body = json.dumps({"zen": "Keep it logically awesome."}).encode()
    refused = bot.post(body, "ping", guid="refused")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    assert refused.json()["hint"]
    meanwhile = load(bot, "postgres-meanwhile")
    wait_for("a delivery to be refused", lambda: any(d.status_code == 503 for d in list(bot.sandbox.state.deliveries)))
    bot.postgres.start()
    bot.engine.dispose()  # our own look at it
    assert bot.post(body, "ping", guid="refused").status_code == 202
    all_end_well(bot, before | meanwhile)
    assert all(process.alive for process in bot.processes.values())
