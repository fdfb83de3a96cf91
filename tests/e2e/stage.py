"""A stand-in for GitHub in this process, real bot processes around it, and one look at both."""

import hashlib
import hmac
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import Engine, func, select

from app.db.engine import db_now, make_engine, reading
from app.db.reads import Entry, IncidentDetail, Reads
from app.db.tables import DeliveryRow, EffectRow, IncidentRow, RepairRow
from app.domain.incident import State
from sandbox.catalogue import PACKAGES
from sandbox.deliver import redeliver
from sandbox.index import Package
from sandbox.server import Sandbox
from sandbox.state import CheckRun, Delivery, Run
from tests.services import Server

SECRET = "It's a Secret to Everybody"
APP_ID = 7
HANG_S = 90.0
MARK = re.compile(r"<!-- heal:\w+ -->")
SETTLED = frozenset({State.HEALED, State.ESCALATED, State.DISMISSED, State.OBSERVED, State.RECOVERED})

T = TypeVar("T")
Json = dict[str, Any]


def wait_for(what: str, found: Callable[[], T | None], within_s: float = HANG_S) -> T:
    """The first true answer. The deadline only keeps a broken test from hanging."""
    deadline = time.monotonic() + within_s
    while True:
        answer = found()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


@dataclass
class Process:
    """One process of the bot and its children, in a group of its own. Its log is JSON, a line an event."""

    command: list[str]
    env: Mapping[str, str]
    log: Path
    _running: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.poll() is None

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, start_new_session=True
            )

    def signal(self, number: signal.Signals) -> None:
        """To the whole group."""
        if self._running is not None:
            try:
                os.killpg(self._running.pid, number)
            except ProcessLookupError:
                return

    def kill(self) -> None:
        """kill -9, of every process of the group."""
        self.signal(signal.SIGKILL)
        if self._running is not None:
            self._running.wait(HANG_S)
            self._running = None

    def stop(self, within_s: float = HANG_S) -> int:
        """SIGTERM to the one process that was started, as a supervisor sends it; its exit code."""
        assert self._running is not None
        self._running.terminate()
        code = self._running.wait(within_s)
        self.kill()
        return code

    def lines(self) -> list[Json]:
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@dataclass
class Stage:
    """GitHub, a database and a bot. `embedded`: one process on SQLite; else web and workers on PostgreSQL and Redis."""

    root: Path
    sandbox: Sandbox
    database_url: str
    broker_url: str
    port: int
    settings: Mapping[str, str]
    postgres: Server | None = None
    redis: Server | None = None
    processes: dict[str, Process] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine: Engine = make_engine(self.database_url)
        self.reads = Reads(self.engine)

    # the bot
    @property
    def embedded(self) -> bool:
        return not self.broker_url

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def order(self) -> Path:
        """What `killable` reads."""
        return self.root / "order"

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEAL_")}
        state = self.sandbox.state
        return inherited | {
            "HEAL_DATABASE__URL": self.database_url,
            "HEAL_DATABASE__LEASE_S": "2",
            "HEAL_QUEUE__BROKER_URL": self.broker_url,
            "HEAL_QUEUE__POLL_S": "0.2",
            "HEAL_QUEUE__THREADS": "2",
            "HEAL_GITHUB__API_URL": f"{state.base_url}/api/v3",
            "HEAL_GITHUB__WEB_URL": state.base_url,
            "HEAL_GITHUB__APP_ID": str(APP_ID),
            "HEAL_GITHUB__PRIVATE_KEY_FILE": str(self.root / "key.pem"),
            "HEAL_GITHUB__WEBHOOK_SECRETS": SECRET,
            "HEAL_GITHUB__SECONDS_BETWEEN_WRITES": "0",
            "HEAL_RESOLVER__INDEX_URL": f"{state.base_url}/simple/",
            "HEAL_ADVISORIES__URL": "",
            "HEAL_ADVISORIES__CACHE": str(self.root / "advisories.db"),
            "HEAL_WEB__PORT": str(self.port),
            "HEAL_HEALING__LOOK_EVERY_S": "2",
            **self.settings,
        }

    def add(self, name: str, *command: str) -> Process:
        process = Process([sys.executable, "-m", *command], self.environment(), self.root / f"{name}.log")
        self.processes[name] = process
        return process

    def start(self) -> None:
        """The bot as people start it."""
        self.add("web", "app.cli", "serve")
        if not self.embedded:
            self.add("worker", "app.cli", "worker", "--concurrency", "2")
        self.go()

    def start_killable(self) -> None:
        """The same, but it dies at the step that is ordered."""
        if self.embedded:
            self.add("web", "tests.e2e.killable", "serve", str(self.order))
        else:
            self.add("web", "app.cli", "serve")
            self.add("worker", "tests.e2e.killable", "work", str(self.order))
        self.go()

    def go(self) -> None:
        for process in self.processes.values():
            if not process.alive:
                process.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        wait_for("the bot to be ready", lambda: self.answers("/readyz"))

    def answers(self, path: str) -> bool:
        try:
            return requests.get(f"{self.url}{path}", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
        self.sandbox.stop()
        self.engine.dispose()

    # GitHub, as people use it
    def admin(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, f"{self.sandbox.state.base_url}/_sandbox{path}", json=body, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def create(self, name: str, files: Mapping[str, str] | None = None, **more: Any) -> str:
        """A new repository with these files, the App installed on it; its full name."""
        body = {"name": name, **({"files": dict(files)} if files is not None else {}), **more}
        return str(self.admin("POST", "/repositories", body)["full_name"])

    def push(self, repository: str, files: Mapping[str, str | None], branch: str = "main") -> str:
        body = {"repo": repository, "files": dict(files), "branch": branch, "message": "Change"}
        return str(self.admin("POST", "/commits", body)["sha"])

    def act(self, method: str, path: str, body: Any = None, login: str = "maria") -> Any:
        """One API call by a person; maria may write."""
        headers = {"Authorization": f"Bearer {self.tokens[login]}"}
        url = f"{self.sandbox.state.base_url}/api/v3{path}"
        answer = requests.request(method, url, json=body, headers=headers, timeout=30)
        assert answer.status_code < 300, (method, path, answer.text)
        return answer.json() if answer.content else None

    def say(self, repository: str, number: int, text: str) -> None:
        self.act("POST", f"/repos/{repository}/issues/{number}/comments", {"body": text})

    def click(self, repository: str, button: str) -> None:
        """Maria presses a button of the bot's check run."""

        def shown() -> CheckRun | None:
            buttons = ((check, action["identifier"]) for check in self.checks(repository) for action in check.actions)
            return next((check for check, identifier in buttons if identifier == button), None)

        check = wait_for(f"the button {button}", shown)
        self.admin("POST", f"/check-runs/{check.id}/click", {"identifier": button, "login": "maria"})

    def fault(self, kind: str, **settings: Any) -> None:
        self.admin("POST", "/faults", {"kind": kind, **settings})

    def post(
        self, body: bytes, event: str, *, guid: str = "", secret: str = SECRET, **headers: str
    ) -> requests.Response:
        """A delivery of our own making, signed."""
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        sent = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": guid or str(uuid.uuid4()),
            "X-Hub-Signature-256": f"sha256={digest}",
        } | headers
        return requests.post(f"{self.url}/webhooks/github", data=body, headers=sent, timeout=30)

    # what became of it
    def incident(self, repository: str) -> IncidentDetail | None:
        wanted = select(IncidentRow.id).where(IncidentRow.repository == repository).order_by(IncidentRow.id)
        with reading(self.engine) as connection:
            ids = list(connection.scalars(wanted))
        assert len(ids) < 2, f"{repository} has {len(ids)} incidents"
        return self.reads.incident(ids[0]) if ids else None

    def wait_for(self, repository: str, *states: State) -> IncidentDetail:
        """The repository's incident, once it is in one of these states."""

        def found() -> IncidentDetail | None:
            incident = self.incident(repository)
            return incident if incident is not None and incident.line.state in states else None

        try:
            return wait_for(f"{repository} to be {' or '.join(states)}", found)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story(repository)}") from None

    def story(self, repository: str) -> str:
        """For the message of a test that failed."""
        incident = self.incident(repository)
        told = (
            [f"{e.at:%T.%f} {e.kind} {json.dumps(dict(e.data), default=str)[:300]}" for e in incident.timeline]
            if incident
            else []
        )
        waits = self.unfinished()
        logs = [line for p in self.processes.values() for line in p.log.read_text(errors="replace").splitlines()[-15:]]
        return "\n".join([str(incident and incident.line), *told, *map(str, waits), *logs])

    def unfinished(self) -> list[tuple[Any, ...]]:
        """Rows that somebody still has to work on."""
        delivery, effect, repair = DeliveryRow, EffectRow, RepairRow
        with reading(self.engine) as connection:
            return [
                *map(tuple, connection.execute(
                    select(delivery.id, delivery.event, delivery.state, delivery.attempts, delivery.last_error)
                    .where(delivery.state == "ready"))),
                *map(tuple, connection.execute(
                    select(effect.id, effect.key, effect.state, effect.attempts, effect.last_error)
                    .where(effect.state == "wanted"))),
                *map(tuple, connection.execute(
                    select(repair.id, repair.action, repair.state, repair.attempts, repair.last_error)
                    .where(repair.state.in_(["planned", "applied"]), repair.buried_at.is_(None)))),
            ]  # fmt: skip

    def settle(self) -> None:
        """Wait until nothing runs, nothing is under way and nothing is due."""
        state = self.sandbox.state

        def still() -> bool:
            self.redeliver_refused()
            return state.idle and not self.unfinished() and state.idle

        try:
            wait_for("everything to settle", still)
        except AssertionError as error:
            raise AssertionError(f"{error}: idle {state.idle}, {self.unfinished()}") from None

    def leased(self) -> int:
        """How many rows somebody has."""
        with reading(self.engine) as connection:
            return sum(
                connection.scalar(select(func.count()).where(row.lease_until.is_not(None))) or 0
                for row in (DeliveryRow, EffectRow, RepairRow)
            )

    def overdue(self) -> bool:
        """Somebody's lease has run out."""
        with reading(self.engine) as connection:
            return any(
                connection.scalar(select(func.count()).where(row.lease_until <= db_now()))
                for row in (DeliveryRow, EffectRow, RepairRow)
            )

    def state_of(self, repository: str) -> Json:
        found: Json = self.admin("GET", "/state")[repository]
        return found

    def checks(self, repository: str) -> list[CheckRun]:
        """The bot's own, oldest first."""
        checks = list(self.sandbox.state.checks.values())
        return [c for c in checks if c.repository.full_name == repository and c.app is self.sandbox.state.app]

    def failed_deliveries(self, repository: str) -> list[Delivery]:
        """What GitHub tried to tell about failed runs of this repository, oldest first."""
        found = []
        for delivery in list(self.sandbox.state.deliveries):
            if (delivery.event, delivery.action) == ("workflow_run", "completed"):
                body = json.loads(delivery.raw)
                where, conclusion = body["repository"]["full_name"], body["workflow_run"]["conclusion"]
                found += [delivery] if (where, conclusion) == (repository, "failure") else []
        return found

    def delivery_states(self) -> dict[str, str]:
        with reading(self.engine) as connection:
            return {row.guid: row.state for row in connection.execute(select(DeliveryRow.guid, DeliveryRow.state))}

    def reasons(self) -> dict[str, str]:
        with reading(self.engine) as connection:
            return {row.guid: row.reason for row in connection.execute(select(DeliveryRow.guid, DeliveryRow.reason))}

    def writes(self, repository: str) -> list[Json]:
        """What the bot asked GitHub to change there."""
        state = self.sandbox.state
        return [
            request
            for request in list(state.requests)
            if request["method"] != "GET"
            and request["identity"].startswith("installation:")
            and request["path"].startswith(f"/repos/{repository}/")
        ]

    def comment_event(self, repository: str, text: str) -> Json:
        """The body of a delivery about a comment, as GitHub would send it."""
        owner, _, name = repository.partition("/")
        found = self.sandbox.state.repository(owner, name)
        assert found is not None
        installations = [json.loads(d.raw) for d in self.failed_deliveries(repository)]
        return {
            "action": "created",
            "issue": {"number": 1},
            "comment": {"id": 1, "body": text, "user": {"login": "maria", "type": "User"}},
            **{key: installations[0][key] for key in ("repository", "installation")},
            "sender": {"login": "maria", "id": 1, "type": "User"},
        }

    def merge(self, repository: str, number: int | None) -> None:
        self.act("PUT", f"/repos/{repository}/pulls/{number}/merge", {})

    def wait_for_entry(self, repository: str, kind: str) -> Entry:
        """The incident's first timeline entry of this kind."""

        def found() -> Entry | None:
            incident = self.incident(repository)
            return next((e for e in incident.timeline if e.kind == kind), None) if incident else None

        return wait_for(f"{repository} to be {kind}", found)

    def wait_for_pull(self, repository: str, suffix: str) -> Json:
        """An open pull request from a branch whose name ends like this."""

        def found() -> Json | None:
            pulls: list[Json] = self.state_of(repository)["pulls"]
            return next((p for p in pulls if p["head"].endswith(suffix) and p["state"] == "open"), None)

        return wait_for(f"a pull request from {suffix}", found)

    def wait_for_reply(self, repository: str, number: int, words: str) -> None:
        def found() -> bool:
            comments = self.act("GET", f"/repos/{repository}/issues/{number}/comments")
            return any(words in c["body"] for c in comments if c["user"]["login"] == self.sandbox.state.bot.login)

        wait_for(f"the reply {words!r}", found)

    def redeliver_refused(self) -> None:
        """What GitHub could not hand over, once more: as the sweep has it done, without waiting for the sweep."""
        state = self.sandbox.state
        if state.unsettled:
            return
        with state.lock:
            handed = {d.guid for d in state.deliveries if d.status_code == 202}
            refused = {d.guid: d for d in state.deliveries if d.guid not in handed}
            for delivery in refused.values():
                redeliver(state, delivery)

    def healed_at_last(self, repository: str) -> IncidentDetail:
        return self.ends(repository, State.HEALED)

    def ends(self, repository: str, state: State) -> IncidentDetail:
        """The incident in that state, while what was refused meanwhile is delivered again."""

        def found() -> IncidentDetail | None:
            self.redeliver_refused()
            incident = self.incident(repository)
            return incident if incident is not None and incident.line.state is state else None

        try:
            return wait_for(f"{repository} to be {state}", found)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story(repository)}") from None

    def runs(self, repository: str, branch: str = "main") -> list[Run]:
        runs = list(self.sandbox.state.runs.values())
        return [r for r in runs if r.repository.full_name == repository and r.head_branch == branch]

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """The whole tree, byte for byte."""
        owner, _, name = repository.partition("/")
        found = self.sandbox.state.repository(owner, name)
        assert found is not None
        sha = found.git.resolve(revision)
        assert sha is not None
        return {e.path: found.git.blob(e.sha) for e in found.git.entries(sha, recursive=True) if e.type == "blob"}

    # the promises
    def nothing_lost(self) -> None:
        """Whatever was acknowledged is kept and worked off; none of it is dead."""
        acknowledged = {d.guid for d in list(self.sandbox.state.deliveries) if d.status_code == 202}
        self.all_finished(acknowledged)

    def all_finished(self, guids: Iterable[str]) -> None:
        with reading(self.engine) as connection:
            rows = connection.execute(select(DeliveryRow.guid, DeliveryRow.state))
            kept: dict[str, str] = {row.guid: row.state for row in rows}
        wrong = {guid: kept.get(guid, "lost") for guid in guids if kept.get(guid) not in ("done", "ignored")}
        assert not wrong, wrong
        with reading(self.engine) as connection:
            dead = connection.execute(
                select(EffectRow.key, EffectRow.last_error).where(EffectRow.state == "dead")
            ).all()
            buried = connection.execute(
                select(RepairRow.id, RepairRow.last_error).where(RepairRow.buried_at.is_not(None))
            ).all()
        assert not dead, dead
        assert not buried, buried

    def nothing_twice(self, repository: str, *, attempts: int = 1) -> None:
        """No pull request, comment, check run or issue of the bot exists twice, and no run has more attempts."""
        state = self.sandbox.state
        here = self.state_of(repository)
        bot = state.bot.login
        pulls = Counter(pull["head"] for pull in here["pulls"] if pull["user"] == bot)
        assert not twice(pulls), pulls
        checks = Counter((c["head_sha"], c["external_id"]) for c in here["check_runs"] if c["app"] == state.app.slug)
        assert not twice(checks), checks
        owner, _, name = repository.partition("/")
        found = state.repository(owner, name)
        assert found is not None
        marks: Counter[tuple[int, str]] = Counter()
        for issue in found.issues.values():
            bodies = [comment.body for comment in issue.comments if comment.user == state.bot]
            marks.update((issue.number, mark) for body in bodies for mark in MARK.findall(body))
        assert not twice(marks), marks
        issues = [i for i in found.issues.values() if i.user == state.bot and i.pull is None]
        marked = Counter(mark for issue in issues for mark in MARK.findall(issue.body or ""))
        assert not twice(marked), marked
        tried = {run["id"]: run["attempt"] for run in here["runs"] if run["attempt"] > attempts}
        assert not tried, tried


def twice(counted: Counter[Any]) -> list[Any]:
    return [key for key, count in counted.items() if count > 1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stage(
    root: Path,
    key: rsa.RSAPrivateKey,
    *,
    database_url: str,
    broker_url: str = "",
    settings: Mapping[str, str],
    packages: Iterable[Package] = PACKAGES,
) -> Stage:
    """GitHub is up, the bot is not started yet."""
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (root / "key.pem").write_bytes(key.private_bytes(*private))
    port = free_port()
    sandbox = Sandbox(
        root / "github",
        webhook_url=f"http://127.0.0.1:{port}/webhooks/github",
        webhook_secret=SECRET,
        app_id=APP_ID,
        app_public_key_pem=key.public_key().public_bytes(*public),
        packages=packages,
    )
    sandbox.start()
    made = Stage(root, sandbox, database_url, broker_url, port, settings)
    made.tokens["maria"] = made.admin("POST", "/users", {"login": "maria", "permission": "write"})["token"]
    return made
