"""Real PostgreSQL and Redis for the tests.

`python -m tests.services COMMAND…` finds running servers (TEST_POSTGRES_URL and TEST_REDIS_URL, else those of
this machine at their usual ports), starts private ones from the machine's own binaries where there is none, exports
both variables, runs COMMAND and returns its exit code. Tests that kill a server start one of their own:
`private_postgres`, `private_redis`. MLflow's server is always a private one: `private_mlflow`.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis
import requests

POSTGRES = "TEST_POSTGRES_URL"
REDIS = "TEST_REDIS_URL"
START_S = 30.0


class Server:
    """A server process in a directory of its own, on a port of its own on 127.0.0.1."""

    def __init__(
        self,
        command: list[str],
        directory: Path,
        url: str,
        answers: Callable[[str], bool],
        user: str | None,
        *,
        env: dict[str, str] | None = None,
        start_s: float = START_S,
    ):
        self.url = url
        self._env = os.environ | env if env else None
        self._start_s = start_s
        self._command = command
        self._directory = directory
        self._answers = answers
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self._directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._env,
                **_as(self._user),
            )
        deadline = time.monotonic() + self._start_s
        while not self._answers(self.url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{self._command[0]} did not start:\n{(self._directory / 'log').read_text()[-2000:]}"
                )
            time.sleep(0.05)

    def kill(self) -> None:
        """End it without any warning, as a crash would."""
        if self._process is not None:
            # PostgreSQL's children outlive a SIGKILL of their parent for a moment and hold its memory; SIGQUIT is its
            # own word for "drop everything now": no checkpoint, no goodbye
            self._process.send_signal(signal.SIGQUIT if "postgres" in self._command[0] else signal.SIGKILL)
            self._process.wait(START_S)
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()


def _as(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _postgres_answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def _redis_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _binary(name: str, package: str) -> str:
    """The newest one of Debian's directories, else of PATH, else after installing Debian's package."""
    for attempt in range(2):
        versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
        found = str(versions[-1]) if versions else shutil.which(name)
        if found is not None:
            return found
        if attempt == 0 and os.geteuid() == 0 and shutil.which("apt-get"):
            install = ["apt-get", "install", "-y", "--no-install-recommends", package]
            unattended = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(install, check=False, stdout=subprocess.DEVNULL, env=unattended)
    raise RuntimeError(
        f"{name} is not on this machine: install {package}, or say where a server runs in the environment"
    )


def _other_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def private_postgres() -> Iterator[Server]:
    """A new, empty PostgreSQL with trust authentication, durable as in production."""
    initdb, binary = _binary("initdb", "postgresql"), _binary("postgres", "postgresql")
    user, port = _other_user(), _free_port()
    with tempfile.TemporaryDirectory(prefix="heal-postgres-") as name:
        directory = Path(name)
        if user is not None:
            shutil.chown(directory, user)
        create = [initdb, "-D", f"{name}/data", "-U", "heal", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL, cwd=name, **_as(user))
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": name,
            "shared_buffers": "32MB",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        url = f"postgresql://heal@127.0.0.1:{port}/postgres"
        server = Server([binary, "-D", f"{name}/data", *options], directory, url, _postgres_answers, user)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def private_redis(*, append_only: bool = True) -> Iterator[Server]:
    """A new, empty Redis. Without the append-only file a kill loses everything, as Redis's own default does."""
    binary, port = _binary("redis-server", "redis-server"), _free_port()
    with tempfile.TemporaryDirectory(prefix="heal-redis-") as name:
        append = "yes" if append_only else "no"
        command = [
            binary,
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--dir",
            name,
            "--save",
            "",
            "--appendonly",
            append,
        ]
        server = Server(command, Path(name), f"redis://127.0.0.1:{port}/0", _redis_answers, None)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def _mlflow_answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=2).status_code == 200
    except requests.RequestException:
        return False


@contextmanager
def private_mlflow() -> Iterator[Server]:
    """A new, empty MLflow server on SQLite, which also serves artefacts. It takes some seconds to start, and the memory
    of several tests: share it, under a model name of your own."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="heal-mlflow-") as name:
        # as `mlflow server` starts it, but without a parent process that would have to be ended too
        command = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        env = {
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{name}/mlflow.db",
            "_MLFLOW_SERVER_REGISTRY_STORE": f"sqlite:///{name}/mlflow.db",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{name}/artifacts",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        command.append("mlflow.server.fastapi_app:app")
        url = f"http://127.0.0.1:{port}"
        server = Server(command, Path(name), url, _mlflow_answers, None, env=env, start_s=120.0)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def running_postgres() -> str | None:
    """The URL of a server that is there already."""
    named = os.environ.get(POSTGRES)
    usual = ["postgresql://root@127.0.0.1:5432/postgres", "postgresql://postgres@127.0.0.1:5432/postgres"]
    return next((url for url in ([named] if named else usual) if _postgres_answers(url)), None)


def running_redis() -> str | None:
    url = os.environ.get(REDIS) or "redis://127.0.0.1:6379/0"
    return url if _redis_answers(url) else None


def main(command: list[str]) -> int:
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    with ExitStack() as stack:
        try:
            postgres = running_postgres() or stack.enter_context(private_postgres()).url
            broker = running_redis() or stack.enter_context(private_redis()).url
        except (RuntimeError, subprocess.CalledProcessError) as error:
            print(f"The tests need PostgreSQL and Redis. {error}", file=sys.stderr)
            return 1
        return subprocess.run(command, env=os.environ | {POSTGRES: postgres, REDIS: broker}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
