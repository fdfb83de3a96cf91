"""What the sandbox remembers: accounts, repositories, runs, checks, issues, deliveries. In memory, behind one lock."""

from __future__ import annotations

import base64
import itertools
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.faults import Faults
from sandbox.gitrepo import GitRepository

Json = dict[str, Any]
FIRST_ID = 1_000


def now() -> datetime:
    """The current time, UTC, whole seconds: the precision of GitHub's API."""
    return datetime.now(UTC).replace(microsecond=0)


def stamp(moment: datetime | None) -> str | None:
    """A time as GitHub writes it, e.g. 2026-11-21T09:00:00Z."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node_id(kind: str, number: int | str) -> str:
    """An opaque global id, stable for one object."""
    return base64.b64encode(f"{kind}{number}".encode()).decode()


PERMISSIONS = {
    "administration": "read",
    "actions": "write",
    "checks": "write",
    "contents": "write",
    "issues": "write",
    "metadata": "read",
    "pull_requests": "write",
    "statuses": "write",
}


@dataclass(frozen=True)
class Account:
    """A user, a bot or an organisation."""

    id: int
    login: str
    type: str


@dataclass(frozen=True)
class App:
    """A GitHub App. `github-actions` is the one that owns the check runs of workflow jobs. Without `events`: sent all
    that there are."""

    id: int
    slug: str
    name: str
    public_key_pem: bytes = b""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    callback_urls: tuple[str, ...] = ()
    setup_url: str = ""
    permissions: tuple[tuple[str, str], ...] = tuple(PERMISSIONS.items())
    events: tuple[str, ...] = ()


@dataclass
class Installation:
    """The App on one account's repositories. `selection` only says which: those of a test are put in one by one."""

    id: int
    account: Account
    created_at: datetime
    repository_ids: set[int] = field(default_factory=set)
    permissions: dict[str, str] = field(default_factory=lambda: dict(PERMISSIONS))
    selection: str = "all"


@dataclass(frozen=True)
class Token:
    """An installation's token (`login` empty) or a user's."""

    value: str
    installation_id: int = 0
    repository_ids: frozenset[int] = frozenset()
    permissions: tuple[tuple[str, str], ...] = ()
    login: str = ""
    expires_at: datetime | None = None
    narrowed: bool = False


@dataclass
class WorkflowFile:
    """A workflow as the API numbers it; its text lives in git."""

    id: int
    path: str
    name: str
    created_at: datetime
    runs: int = 0


@dataclass(frozen=True)
class Runner:
    """A self-hosted runner as a test tells it; the sandbox's own work is done without one."""

    id: int
    name: str
    status: str = "online"
    busy: bool = False
    ephemeral: bool = False
    labels: tuple[str, ...] = ("self-hosted",)


@dataclass
class Repository:
    """One repository: its settings here, its content in a bare git repository."""

    id: int
    owner: Account
    name: str
    default_branch: str
    git: GitRepository
    created_at: datetime
    pushed_at: datetime
    issues: dict[int, Issue] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    workflows: dict[str, WorkflowFile] = field(default_factory=dict)
    runners: list[Runner] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        return f"{self.owner.login}/{self.name}"


@dataclass
class Pull:
    """What an issue has in addition when it is a pull request."""

    id: int
    head_ref: str
    head_sha: str
    base_ref: str
    base_sha: str
    draft: bool = False
    merged_at: datetime | None = None
    merged_by: Account | None = None
    merge_commit_sha: str | None = None


@dataclass
class Issue:
    """An issue or, with `pull`, a pull request."""

    id: int
    number: int
    title: str
    body: str | None
    user: Account
    created_at: datetime
    updated_at: datetime
    state: str = "open"
    state_reason: str | None = None
    closed_at: datetime | None = None
    closed_by: Account | None = None
    labels: list[str] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    pull: Pull | None = None


@dataclass
class Comment:
    """A comment on an issue or pull request; `reactions` are (id, content, user)."""

    id: int
    body: str
    user: Account
    created_at: datetime
    updated_at: datetime
    reactions: list[tuple[int, str, Account]] = field(default_factory=list)


@dataclass
class Step:
    """One step of a job, with GitHub's statuses and conclusions."""

    number: int
    name: str
    status: str
    conclusion: str | None
    started_at: datetime | None
    completed_at: datetime | None


@dataclass
class Job:
    """One job of one attempt. Its id is also the id of its check run."""

    id: int
    run_attempt: int
    name: str
    labels: list[str]
    needs: tuple[str, ...]
    key: str
    created_at: datetime
    status: str = "queued"
    conclusion: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    steps: list[Step] = field(default_factory=list)
    log: str = ""


@dataclass
class Artifact:
    """What a job uploaded: a zip."""

    id: int
    name: str
    content: bytes
    created_at: datetime


@dataclass
class Run:
    """One workflow run; `jobs` holds those of every attempt, oldest first."""

    id: int
    repository: Repository
    workflow: WorkflowFile
    name: str
    title: str
    event: str
    head_branch: str
    head_sha: str
    checkout_sha: str
    number: int
    check_suite_id: int
    actor: Account
    triggering_actor: Account
    created_at: datetime
    updated_at: datetime
    started_at: datetime
    attempt: int = 1
    status: str = "queued"
    conclusion: str | None = None
    jobs: list[Job] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    rerun_waits: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)

    def jobs_of(self, attempt: int) -> list[Job]:
        return [job for job in self.jobs if job.run_attempt == attempt]


@dataclass
class CheckRun:
    """A check run, made by the App or mirroring a workflow's job."""

    id: int
    repository: Repository
    app: App
    name: str
    head_sha: str
    check_suite_id: int
    status: str = "queued"
    conclusion: str | None = None
    external_id: str = ""
    details_url: str = ""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    output: Json = field(default_factory=dict)
    annotations: list[Json] = field(default_factory=list)
    actions: list[Json] = field(default_factory=list)


@dataclass
class Delivery:
    """One attempt to deliver one event; a redelivery is another one with the same GUID."""

    id: int
    guid: str
    event: str
    action: str | None
    raw: bytes
    installation_id: int
    repository_id: int | None
    redelivery: bool = False
    delivered_at: datetime = field(default_factory=now)
    duration_s: float = 0.0
    status: str = "pending"
    status_code: int = 0
    request_headers: dict[str, str] = field(default_factory=dict)
    response_headers: dict[str, str] = field(default_factory=dict)
    response_payload: str = ""


@dataclass
class Hook:
    """Where the App's events go, and the secret that signs them."""

    url: str | None
    secret: str = field(repr=False)


class State:
    """Everything the sandbox knows. Take `lock` to read or change it."""

    def __init__(self, root: Path, *, owner: str, app: App, hook: Hook) -> None:
        self.root = root
        self.lock = threading.RLock()
        self.base_url = ""
        self.admin_token = ""
        self.ids: Iterator[int] = itertools.count(FIRST_ID)
        self.app = app
        self.actions_app = App(15368, "github-actions", "GitHub Actions")
        self.hook = hook
        self.hook_id = next(self.ids)
        self.conversions: dict[str, tuple[datetime, Json]] = {}
        self.codes: dict[str, tuple[datetime, Json]] = {}
        self.faults = Faults()
        self.accounts: dict[str, Account] = {}
        self.owner = self.account(owner, "Organization")
        self.bot = self.account(f"{app.slug}[bot]", "Bot")
        self.started_at = now()
        self.installations: dict[int, Installation] = {}
        self.tokens: dict[str, Token] = {}
        self.log_links: dict[str, tuple[float, bytes, str]] = {}
        self.levels: dict[tuple[str, str], str] = {}
        self.repositories: dict[str, Repository] = {}
        self.runs: dict[int, Run] = {}
        self.checks: dict[int, CheckRun] = {}
        self.suites: dict[tuple[int, str, str], int] = {}
        self.statuses: list[Json] = []
        self.deliveries: list[Delivery] = []
        self.outbox: queue.Queue[Delivery | None] = queue.Queue()
        self.unsettled = 0
        self.busy_runs = 0
        self.requests: list[Json] = []
        self.pool = ThreadPoolExecutor(2, thread_name_prefix="sandbox-job")
        self.closing = threading.Event()

    def account(self, login: str, kind: str = "User") -> Account:
        """The account of this login, made on first mention."""
        key = login.lower()
        if key not in self.accounts:
            self.accounts[key] = Account(next(self.ids), login, kind)
        return self.accounts[key]

    def repository(self, owner: str, name: str) -> Repository | None:
        return self.repositories.get(f"{owner}/{name}".lower())

    def installation_of(self, repository: Repository) -> Installation | None:
        return next((i for i in self.installations.values() if repository.id in i.repository_ids), None)

    def level_of(self, login: str, repository: Repository) -> str:
        """The permission of a login: admin, write, read or none."""
        if login == repository.owner.login:
            return "admin"
        own = self.levels.get((login.lower(), repository.full_name))
        return own or self.levels.get((login.lower(), "*"), "none")

    def suite(self, repository: Repository, head_sha: str, key: str) -> int:
        """The id of the check suite of one commit and one owner of checks, made on first mention."""
        where = (repository.id, head_sha, key)
        if where not in self.suites:
            self.suites[where] = next(self.ids)
        return self.suites[where]

    @property
    def idle(self) -> bool:
        """No workflow runs or waits, and every delivery has been tried."""
        return not self.busy_runs and not self.unsettled
