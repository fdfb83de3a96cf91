"""`heal relay`: what GitHub says that it sent is kept as if the webhook had taken it."""

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import Engine, select

from app.adapters.clock import SystemClock
from app.commands.relay import LONGEST_WAIT_S, MARGIN, MARK, Relay, Relayed, follow
from app.db.engine import reading
from app.db.rows import unpacked
from app.db.store import SqlStore
from app.db.tables import DeliveryRow
from app.domain.errors import HealError, RateLimited, Unreachable
from app.ports.forge import SentDelivery
from app.ports.queue import Work
from sandbox.server import Sandbox
from tests.cli.conftest import Heal
from tests.twins.forge import MemoryApp

MINUTE = timedelta(minutes=1)
RUN = json.dumps(
    {
        "action": "completed",
        "installation": {"id": 3},
        "repository": {"id": 7, "full_name": "octo/train"},
    }
).encode()
CLOCK = SystemClock()


@pytest.fixture
def github() -> MemoryApp:
    return MemoryApp()


@pytest.fixture
def relay(github: MemoryApp, store: SqlStore) -> Relay:
    return Relay(github, store, CLOCK)


def kept(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return list(connection.scalars(select(DeliveryRow.guid).order_by(DeliveryRow.id)))


def test_what_was_sent_is_kept_as_the_webhook_keeps_it(relay: Relay, github: MemoryApp, engine: Engine) -> None:
    github.sent("one", "workflow_run", "completed", ok=False, body=RUN)
    (relayed,) = relay.look()
    assert (relayed.guid, relayed.event, relayed.repository, relayed.fresh) == (
        "one",
        "workflow_run",
        "octo/train",
        True,
    )
    with reading(engine) as connection:
        row = connection.execute(select(DeliveryRow)).one()
    assert (row.source, row.event, row.action, row.state) == ("github", "workflow_run", "completed", "ready")
    assert (row.installation_id, row.repository_id, row.mailbox) == (3, 7, "3:7")
    assert unpacked(row.body) == RUN


def test_what_the_webhook_has_kept_is_not_fetched(relay: Relay, github: MemoryApp, store: SqlStore) -> None:
    github.sent("one", "push", body=RUN)
    list(relay.look())
    github.bodies.clear()
    assert list(Relay(github, store, CLOCK).look()) == []


def test_the_oldest_comes_first_and_each_once(relay: Relay, github: MemoryApp, engine: Engine) -> None:
    github.sent("late", "push", ago=MINUTE)
    github.sent("early", "push", ago=3 * MINUTE)
    github.sent("early", "push", ago=2 * MINUTE, ok=False)
    list(relay.look())
    assert kept(engine) == ["early", "late"]


def test_a_delivery_that_was_sent_again_revives_one_that_was_put_aside(
    relay: Relay, github: MemoryApp, store: SqlStore
) -> None:
    github.sent("one", "push", body=RUN, ago=2 * MINUTE)
    list(relay.look())
    lease = store.claim(Work.DELIVERY)
    assert lease is not None
    store.bury(lease, "boom")
    assert list(relay.look()) == []
    assert store.claim(Work.DELIVERY) is None
    github.sent("one", "push", body=RUN)
    assert [one.fresh for one in relay.look()] == [False]
    assert store.claim(Work.DELIVERY) is not None
    assert list(relay.look()) == []


def test_a_restart_goes_on_where_it_was(relay: Relay, github: MemoryApp, store: SqlStore, engine: Engine) -> None:
    for number in range(5):
        github.sent(f"guid-{number}", "push", ago=(5 - number) * MINUTE)
    looking = relay.look()
    next(looking)
    next(looking)
    del looking
    assert store.marked(MARK) == github.deliveries[1].delivered_at
    assert [one.guid for one in Relay(github, store, CLOCK).look()] == ["guid-2", "guid-3", "guid-4"]
    assert kept(engine) == [f"guid-{number}" for number in range(5)]


def test_the_record_is_looked_through_from_where_it_was_left(
    relay: Relay, github: MemoryApp, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    github.sent("old", "push", ago=timedelta(hours=5))
    github.sent("new", "push", ago=timedelta(hours=1))
    list(relay.look())
    asked: list[datetime] = []
    whole = github.sent_deliveries

    def noted(*, since: datetime) -> list[SentDelivery]:
        asked.append(since)
        return whole(since=since)

    monkeypatch.setattr(github, "sent_deliveries", noted)
    list(relay.look())
    assert asked == [github.deliveries[1].delivered_at - MARGIN]
    assert store.marked(MARK) == github.deliveries[1].delivered_at


def test_what_github_no_longer_keeps_or_is_malformed_stops_nobody(
    relay: Relay, github: MemoryApp, engine: Engine
) -> None:
    github.sent("gone", "push", body=None, ago=3 * MINUTE)
    github.sent("odd", "push", body=b"[]", ago=2 * MINUTE)
    github.sent("good", "push", ago=MINUTE)
    assert [one.guid for one in relay.look()] == ["good"]
    assert kept(engine) == ["good"]
    assert list(relay.look()) == []


def followed(relay: Relay, looks: int) -> tuple[list[str], list[tuple[str, float]]]:
    """What is told over so many looks, without waiting between them."""

    class Hasty(threading.Event):
        left = looks

        def wait(self, timeout: float | None = None) -> bool:
            self.left -= 1
            if not self.left:
                self.set()
            waits.append(timeout or 0.0)
            return True

    told: list[Relayed] = []
    waits: list[float] = []
    troubles: list[tuple[str, float]] = []

    def trouble(error: HealError, wait_s: float) -> None:
        troubles.append((type(error).__name__, wait_s))

    follow(relay, CLOCK, Hasty(), every_s=5.0, tell=told.append, trouble=trouble)
    return [one.guid for one in told], troubles


def test_it_looks_again_and_again(relay: Relay, github: MemoryApp) -> None:
    github.sent("one", "push")
    assert followed(relay, 3) == (["one"], [])


def test_it_waits_as_long_as_github_asks(relay: Relay, github: MemoryApp) -> None:
    github.error = RateLimited("wait", retry_at=CLOCK.now() + timedelta(minutes=20))
    _, ((kind, wait_s),) = followed(relay, 1)
    assert kind == "RateLimited"
    assert 1190 < wait_s <= 1200


def test_it_waits_longer_each_time_that_github_does_not_answer(relay: Relay, github: MemoryApp) -> None:
    github.error = Unreachable("no route")
    _, troubles = followed(relay, 9)
    waits = [wait_s for _, wait_s in troubles]
    assert waits[:3] == [10.0, 20.0, 40.0]
    assert max(waits) == LONGEST_WAIT_S


# the command, against a GitHub that cannot reach us
@pytest.fixture
def sandbox(tmp_path: Path, app_key: rsa.RSAPrivateKey) -> Iterator[Sandbox]:
    public = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    made = Sandbox(
        tmp_path / "github",
        webhook_url="http://127.0.0.1:9/webhooks/github",
        webhook_secret="secret",
        app_id=7,
        app_public_key_pem=app_key.public_key().public_bytes(*public),
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def app_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def env(sandbox: Sandbox, app_key: rsa.RSAPrivateKey, tmp_path: Path) -> dict[str, str]:
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(app_key.private_bytes(*private))
    return {
        "HEAL_GITHUB__API_URL": f"{sandbox.state.base_url}/api/v3",
        "HEAL_GITHUB__APP_ID": "7",
        "HEAL_GITHUB__PRIVATE_KEY_FILE": str(tmp_path / "key.pem"),
        "HEAL_GITHUB__WEBHOOK_SECRETS": "secret",
    }


def sent_in_vain(sandbox: Sandbox) -> list[str]:
    """GitHub has tried to tell that the App was installed."""
    import requests

    body = {"name": "train", "files": {"README.md": "Hello\n"}}
    requests.post(f"{sandbox.state.base_url}/_sandbox/repositories", json=body, timeout=30).raise_for_status()
    for _ in range(600):
        if sandbox.state.idle:
            break
        threading.Event().wait(0.05)
    return [delivery.guid for delivery in sorted(sandbox.state.deliveries, key=lambda one: one.id)]


def test_one_look_keeps_everything_and_says_so(
    heal: Heal, sandbox: Sandbox, env: dict[str, str], engine: Engine
) -> None:
    sent = sent_in_vain(sandbox)
    assert sent
    first = heal("relay", "--once", **env)
    assert first.exit_code == 0, first.output
    assert f"{len(sent)} deliveries taken over" in first.stderr
    assert sorted(kept(engine)) == sorted(sent)
    assert "installation.created" in first.stdout
    second = heal("relay", "--once", **env)
    assert "0 deliveries taken over" in second.stderr


def test_it_can_be_read_by_a_program(heal: Heal, sandbox: Sandbox, env: dict[str, str]) -> None:
    sent = sent_in_vain(sandbox)
    result = heal("relay", "--once", "--json", **env)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["guid"] for line in lines} == set(sent)
    assert {"at", "guid", "event", "action", "repository", "fresh"} == set(lines[0])


def test_a_github_that_is_away_is_told(heal: Heal, env: dict[str, str]) -> None:
    result = heal("relay", "--once", **{**env, "HEAL_GITHUB__API_URL": "http://127.0.0.1:9/api/v3"})
    assert result.exit_code == 3
    assert "no answer from GitHub" in result.stderr


def test_several_web_processes_do_not_relay(heal: Heal, env: dict[str, str]) -> None:
    env = {**env, "HEAL_QUEUE__BROKER_URL": "redis://127.0.0.1:9/0"}
    result = heal("serve", "--relay", "--processes", "2", **env)
    assert result.exit_code == 2
    assert "heal relay" in result.stderr
