"""What happened, normalised, free of its transport."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from app.domain.outcome import FAILED
from app.domain.run import EndedRun
from app.domain.signal import Alert, Series
from app.domain.tenant import Repository, Sender


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a repository an event points. Without a run `run_id` is 0, without a commit `head_sha` is ""."""

    branch: str
    head_sha: str = ""
    run_id: int = 0
    attempt: int = 0
    workflow_path: str = ""
    url: str = ""
    started_at: datetime | None = None
    from_fork: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    repository: Repository
    sender: Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """`workflow_run.completed`. `conclusion` is GitHub's; `from_fork` when the head is another repository."""

    name: ClassVar[str] = "workflow_run.completed"
    run_id: int
    attempt: int
    workflow: str
    workflow_path: str
    head_sha: str
    head_branch: str
    trigger: str
    conclusion: str
    from_fork: bool = False
    url: str = ""
    started_at: datetime | None = None

    @property
    def kind(self) -> str:
        """`workflow_run.failed` or `workflow_run.succeeded`; other conclusions keep their own name."""
        words = {"success": "succeeded", **dict.fromkeys(FAILED, "failed")}
        return f"workflow_run.{words.get(self.conclusion, self.conclusion)}"

    @property
    def place(self) -> Place:
        return Place(
            branch=self.head_branch,
            head_sha=self.head_sha,
            run_id=self.run_id,
            attempt=self.attempt,
            workflow_path=self.workflow_path,
            url=self.url,
            started_at=self.started_at,
            from_fork=self.from_fork,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ButtonPressed(Event):
    """`check_run.requested_action`: somebody pressed one of our buttons. `button` is its identifier."""

    kind: ClassVar[str] = "check_run.requested_action"
    external_id: str
    head_sha: str
    button: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandGiven(Event):
    """`issue_comment.created` with a line that starts with `/heal`. `words` are what follows, split at spaces."""

    kind: ClassVar[str] = "issue_comment.command"
    issue_number: int
    comment_id: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullClosed(Event):
    """`pull_request.closed`."""

    kind: ClassVar[str] = "pull_request.closed"
    number: int
    merged: bool
    head_branch: str
    head_sha: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed(Event):
    """`push` to a branch. `paths` are those its commits touched; `complete` is False where GitHub left some out (a long
    list of commits, a branch moved by force). `before` is "" for a new branch."""

    kind: ClassVar[str] = "push"
    branch: str
    before: str
    head_sha: str
    paths: frozenset[str] = frozenset()
    complete: bool = True
    url: str = ""

    def may_touch(self, path: str) -> bool:
        return path in self.paths or not self.complete

    @property
    def place(self) -> Place:
        return Place(branch=self.branch, head_sha=self.head_sha, url=self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OnDefaultBranch(Event):
    @property
    def place(self) -> Place:
        return Place(branch=self.repository.default_branch)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityAlertChanged(_OnDefaultBranch):
    """`dependabot_alert.*`, `code_scanning_alert.*`, `secret_scanning_alert.*`.

    `source` is `dependabot`, `code_scanning` or `secret_scanning`; `rule` the advisory (GHSA-…), the tool's rule or the
    type of secret; `severity` GitHub's word; `details` what only that source tells. Never the secret itself.
    """

    kind: ClassVar[str] = "security_alert"
    source: str
    number: int
    open: bool
    rule: str
    severity: str = ""
    summary: str = ""
    url: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsReported(_OnDefaultBranch):
    """Alertmanager (or a CloudEvents source) says what fires and what is over."""

    kind: ClassVar[str] = "alerts"
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplesReported(_OnDefaultBranch):
    """Samples of resources: memory, disk, queues, as an agent or a source of CloudEvents sends them."""

    kind: ClassVar[str] = "samples"
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelObserved(_OnDefaultBranch):
    """Observations of a model were taken into one of its windows. `window` is that window's id."""

    kind: ClassVar[str] = "model.observed"
    model: str
    window: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFailed(_OnDefaultBranch):
    """A run that a repair has started on a launcher failed, and says why."""

    kind: ClassVar[str] = "workload.failed"
    run: EndedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSucceeded(_OnDefaultBranch):
    """A run that a repair has started on a launcher came to its end."""

    kind: ClassVar[str] = "workload.succeeded"
    run: EndedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked(_OnDefaultBranch):
    """The schedule: time to look at what sends no events."""

    kind: ClassVar[str] = "schedule.tick"
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationChanged:
    """`installation.*` and `installation_repositories.*`. `change` is GitHub's action; `added` and `removed` are
    repository ids; `selection` is `all` or `selected`, "" where the event does not tell."""

    kind: ClassVar[str] = "installation.changed"
    installation_id: int
    change: str
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    selection: str = ""
    account: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing to do, and why. The reason is kept with the delivery."""

    reason: str


Observable = (
    RunFinished
    | Pushed
    | SecurityAlertChanged
    | AlertsReported
    | SamplesReported
    | ModelObserved
    | WorkloadFailed
    | WorkloadSucceeded
    | Ticked
)
"""The events that detectors look at."""

AnyEvent = Observable | ButtonPressed | CommandGiven | PullClosed | InstallationChanged
