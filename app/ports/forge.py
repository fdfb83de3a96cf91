"""GitHub, as far as the product needs it, in the product's words."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from app.domain.evidence import Annotation, Job
from app.domain.fleet import Runner
from app.domain.outcome import Conclusion
from app.domain.tenant import Repository


@dataclass(frozen=True, slots=True)
class RunInfo:
    id: int
    attempt: int
    status: str
    conclusion: str
    head_sha: str
    head_branch: str
    trigger: str
    workflow_path: str
    name: str
    url: str
    created_at: datetime
    from_fork: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """What kind of repository it is."""

    fork: bool = False
    archived: bool = False


@dataclass(frozen=True, slots=True)
class FileText:
    path: str
    text: str
    blob_sha: str


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that differs between two commits. `status` is GitHub's word (added, modified, removed, renamed, …);
    `patch` is a unified diff without its head, "" for binary files and where it is too long for GitHub."""

    path: str
    status: str
    patch: str = ""


@dataclass(frozen=True, slots=True)
class Pull:
    number: int
    url: str
    state: str
    merged: bool
    head_branch: str
    head_sha: str
    base_branch: str
    title: str
    body: str
    closed_by_human: bool = False
    author: str = ""


@dataclass(frozen=True, slots=True)
class Button:
    """≤ 20, ≤ 40 and ≤ 20 characters."""

    label: str
    description: str
    identifier: str


@dataclass(frozen=True, slots=True)
class CheckText:
    """What a check run shows. `conclusion` None means still in progress; at most 3 buttons and 50 annotations."""

    name: str
    title: str
    summary: str
    text: str = ""
    conclusion: Conclusion | None = None
    annotations: tuple[Annotation, ...] = ()
    buttons: tuple[Button, ...] = ()
    details_url: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a job uploaded: an archive of files."""

    id: int
    name: str
    size_bytes: int


class Forge(Protocol):
    """One repository, through one installation.

    Every `ensure_…` looks before it creates and may be called again at any time with the same arguments: one effect.
    Raises RateLimited (with `retry_at`), Unreachable, NotInstalled, Refused; never sleeps to wait out a limit.
    """

    @property
    def repository(self) -> Repository: ...

    # reading
    def about(self) -> About: ...
    def run(self, run_id: int) -> RunInfo: ...
    def runs(self, *, head_sha: str = "", branch: str = "", conclusion: str = "") -> list[RunInfo]:
        """The runs of a commit, on a branch, with a conclusion ("": of any), newest first, at most 100."""
        ...

    def runners(self) -> list[Runner]:
        """The repository's own self-hosted runners, at most 100. Refused without the permission *administration*."""
        ...

    def jobs(self, run_id: int, attempt: int) -> list[Job]: ...
    def annotations(self, job: Job) -> list[Annotation]: ...
    def job_log(self, job: Job) -> AbstractContextManager[BinaryIO]:
        """The raw log as a stream (spooled to disk, never whole in memory). Raises Refused when it has expired."""
        ...

    def artifacts(self, run_id: int) -> list[Artifact]:
        """What the run's jobs uploaded, at most 100."""
        ...

    def artifact_files(self, artifact: Artifact, *, most_bytes: int) -> dict[str, bytes]:
        """Its files by name, at most 100 and `most_bytes` in all: what is more is left out. Raises Refused when it has
        expired, Malformed for what is no archive."""
        ...

    def branch_head(self, branch: str) -> str | None: ...
    def file(self, path: str, ref: str, *, strict: bool = False) -> FileText | None:
        """None if absent, binary, a link or over 1 MiB. `strict`: raises Malformed for all of these but absence."""
        ...

    def owner_file(self, path: str) -> FileText | None:
        """A file on the default branch of the owner's `.github` repository; None if either is not there for us.

        Strict, as `file` can be.
        """
        ...

    def paths(self, ref: str) -> list[str]:
        """All file paths of a commit's tree (GitHub truncates at 100,000)."""
        ...

    def content(self, path: str, ref: str, *, most_bytes: int) -> bytes | None:
        """A file's bytes, binary or not; None if absent, a link or larger than that (GitHub ends at 100 MB)."""
        ...

    def changes(self, base: str, head: str) -> list[FileChange]:
        """What `head` has changed since it left `base`; GitHub lists the first 300 files."""
        ...

    def archive(self, ref: str) -> AbstractContextManager[BinaryIO]:
        """The commit's files as a .tar.gz (spooled to disk, cut off at 100 MB), all under one folder."""
        ...

    def pull(self, number: int) -> Pull: ...
    def open_pulls(self, *, by: str = "", base: str = "") -> list[Pull]:
        """The open pull requests, of one account or of all, into one branch or any, newest first; of the newest 100."""
        ...

    def may(self, permission: str) -> bool:
        """Whether the installation may write there, in GitHub's words: `workflows`, `actions`, `issues` …"""
        ...

    def permission(self, login: str) -> str:
        """`admin`, `write`, `read` or `none`."""
        ...

    # writing
    def rerun_failed_jobs(self, run_id: int, *, debug: bool = False) -> None:
        """`debug`: with the runner's debug logging."""
        ...

    def dispatch(self, workflow: str, ref: str, inputs: Mapping[str, str]) -> int:
        """Start `.github/workflows/<workflow>` by hand; the run's id. Not idempotent: look at `runs` before.

        Refused where there is no such workflow, or it has no `workflow_dispatch`, or takes other inputs.
        """
        ...

    def cancel_run(self, run_id: int) -> None:
        """Asked to end; nothing, if it is over."""
        ...

    def commit(self, parent_sha: str, files: Mapping[str, str | None], message: str, at: datetime) -> str:
        """A commit object (no ref moves). Fixed author and date, so the same call gives the same SHA. None deletes."""
        ...

    def ensure_branch(self, branch: str, sha: str, *, replace: str | None = None) -> None:
        """The branch points at `sha`. An existing branch is moved only if it points at `replace`; else Refused."""
        ...

    def delete_branch(self, branch: str, expect_sha: str) -> None:
        """Gone, if it pointed at `expect_sha` (or was gone). Refused if someone else moved it."""
        ...

    def ensure_pull(self, *, head: str, base: str, title: str, body: str) -> Pull:
        """The one open pull request from `head` to `base`; title and body as given."""
        ...

    def edit_pull(self, number: int, *, title: str, body: str) -> None:
        """New words on a pull request that exists; its state stays as it is."""
        ...

    def pulls_of(self, head: str) -> list[Pull]:
        """All pull requests from our branch `head`, newest first, any state."""
        ...

    def close_pull(self, number: int) -> None: ...
    def ensure_comment(self, number: int, marker: str, body: str) -> int:
        """The one comment of ours that carries `marker`; edited in place; younger twins deleted. Returns its id."""
        ...

    def ensure_check(self, sha: str, external_id: str, text: CheckText) -> int:
        """The one check run of ours at `sha` with this external id."""
        ...

    def ensure_issue(self, marker: str, title: str, body: str, labels: Sequence[str]) -> int:
        """The one open issue of ours that carries `marker`; younger twins closed. Returns its number.

        One that a person has closed stays closed, and as it is: its number is returned, and no other is opened.
        """
        ...

    def close_issue(self, number: int, comment: str) -> None: ...
    def react(self, comment_id: int, content: str) -> None: ...


@dataclass(frozen=True, slots=True)
class SentDelivery:
    """A row of GitHub's own list of what it sent us."""

    id: int
    guid: str
    event: str
    action: str
    status: str
    ok: bool
    delivered_at: datetime
    redelivery: bool


@dataclass(frozen=True, slots=True)
class SentBody:
    """What GitHub says that it sent. `payload` is JSON written anew: no signature can be checked over it, and it is
    trusted because GitHub's API gave it to the App's own key."""

    guid: str
    event: str
    payload: bytes


class App(Protocol):
    """The App itself, acting with its own key."""

    def forge(self, repository: Repository) -> Forge: ...
    def repositories(self, installation_id: int) -> list[Repository]: ...
    def installations(self) -> list[int]: ...
    def sent_deliveries(self, *, since: datetime) -> list[SentDelivery]:
        """Newest first, down to `since`."""
        ...

    def sent_body(self, delivery_id: int) -> SentBody:
        """Raises Refused where GitHub keeps it no longer."""
        ...

    def redeliver(self, delivery_id: int) -> None: ...
    def slug(self) -> str:
        """The App's name in URLs; its login is `<slug>[bot]`. Also the check that GitHub answers."""
        ...
