"""What happened, normalised, free of its transport."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from app.domain.outcome import FAILED
from app.domain.tenant import Repository, Sender


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
class ConfigPushed(Event):
    """`push` that touched `.github/heal.yml`, on any branch."""

    kind: ClassVar[str] = "push.config"
    branch: str
    head_sha: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationChanged:
    """`installation.*` and `installation_repositories.*`. `change` is GitHub's action; `removed` are repository ids."""

    kind: ClassVar[str] = "installation.changed"
    installation_id: int
    change: str
    removed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing to do, and why. The reason is kept with the delivery."""

    reason: str


AnyEvent = RunFinished | ButtonPressed | CommandGiven | PullClosed | ConfigPushed | InstallationChanged
