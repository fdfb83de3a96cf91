"""`heal worker`: two processes that live and end together."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from app.commands.worker import wait_until_set_up
from app.db.engine import make_engine
from app.settings import Settings
from app.wiring import Wired, credentials, wire

pytestmark = pytest.mark.redis


def children(pid: int) -> dict[int, str]:
    try:
        pids = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return {child: Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ") for child in pids}
    except FileNotFoundError:
        return {}


def gone(pids: list[int]) -> bool:
    return not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def until(holds) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def worker(tmp_path: Path, sqlite_template: Path, redis_url: str) -> Iterator[subprocess.Popen[bytes]]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*pem))
    env = os.environ | {
        "HEAL_DATABASE__URL": f"sqlite:///{sqlite_template}",
        "HEAL_QUEUE__BROKER_URL": redis_url,
        "HEAL_GITHUB__APP_ID": "1",
        "HEAL_GITHUB__API_URL": "http://127.0.0.1:1",
        "HEAL_GITHUB__PRIVATE_KEY_FILE": str(tmp_path / "key.pem"),
        "HEAL_GITHUB__WEBHOOK_SECRETS": "secret",
    }
    command = [sys.executable, "-m", "app.cli", "worker", "--concurrency", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, start_new_session=True)
    try:
        until(lambda: len(children(process.pid)) == 2)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("which", ["workers.poll", "celery"])
def test_when_one_ends_the_other_is_ended_and_the_exit_code_says_so(
    worker: subprocess.Popen[bytes], which: str
) -> None:
    both = children(worker.pid)
    victim = next(pid for pid, command in both.items() if which in command)
    os.kill(victim, signal.SIGKILL)
    assert worker.wait(90) == 1
    until(lambda: gone(list(both)))


def test_a_graceful_stop_ends_both(worker: subprocess.Popen[bytes]) -> None:
    both = list(children(worker.pid))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(90) == 0
    until(lambda: gone(both))


def test_a_worker_waits_for_the_setup_and_then_works(tmp_path: Path, sqlite_template: Path, redis_url: str) -> None:
    shutil.copy(sqlite_template, tmp_path / "heal.db")
    url = f"sqlite:///{tmp_path / 'heal.db'}"
    settings = Settings(database={"url": url}, queue={"broker_url": redis_url})
    kept = {
        "app_id": b"7",
        "slug": b"heal",
        "private_key": b"PEM",
        "webhook_secret": b"hook",
        "client_id": b"Iv1.x",
        "client_secret": b"oauth",
        "api_url": b"http://127.0.0.1:1",
        "web_url": b"http://127.0.0.1:1",
        "public_url": b"http://127.0.0.1:8000",
    }
    looks = []

    def look(told: Settings) -> Wired:
        looks.append(told)
        if len(looks) == 3:
            credentials(settings, make_engine(url)).keep(kept)
        return wire(told)

    with patch("app.commands.worker.wire", look):
        assert wait_until_set_up(settings, every_s=0.01)
    assert len(looks) == 3


def test_a_worker_that_waits_for_the_setup_can_be_stopped(tmp_path: Path, sqlite_template: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "heal.db")
    settings = Settings(database={"url": f"sqlite:///{tmp_path / 'heal.db'}"})

    def look(told: Settings) -> Wired:
        os.kill(os.getpid(), signal.SIGTERM)
        return wire(told)

    with patch("app.commands.worker.wire", look):
        assert not wait_until_set_up(settings, every_s=60.0)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
