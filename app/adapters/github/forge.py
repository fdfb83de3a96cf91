"""One repository on GitHub, through one installation of the App."""

import base64
import posixpath
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import quote

import requests
from github.Artifact import Artifact as WorkflowArtifact
from github.CheckRun import CheckRun
from github.ContentFile import ContentFile
from github.GithubObject import GithubObject, NotSet, Opt
from github.GitRef import GitRef
from github.InputGitAuthor import InputGitAuthor
from github.InputGitTreeElement import InputGitTreeElement
from github.Issue import Issue
from github.IssueComment import IssueComment
from github.PaginatedList import PaginatedList
from github.PullRequest import PullRequest
from github.Repository import Repository as RemoteRepository
from github.SelfHostedActionsRunner import SelfHostedActionsRunner
from github.WorkflowJob import WorkflowJob
from github.WorkflowRun import WorkflowRun

from app.adapters.github.artifacts import files_of
from app.adapters.github.client import Absent, Client, Invalid
from app.domain.errors import Malformed, Refused, Unreachable
from app.domain.evidence import Annotation, Job, JobStep
from app.domain.fleet import Runner
from app.domain.tenant import Repository
from app.ports.forge import About, Artifact, CheckText, FileChange, FileText, Pull, RunInfo

MOST_RUNS = 100
MOST_RUNNERS = 100
MAX_FILE_BYTES = 1 << 20
MAX_LOG_BYTES = 200_000_000
MAX_ARCHIVE_BYTES = 100_000_000
MOST_PULLS = 100
MOST_ARTIFACTS = 100
MOST_CLOSED_ISSUES = 200
LOG_IN_MEMORY_BYTES = 8_000_000
MAX_CHECK_BYTES = 65_535
MAX_ANNOTATIONS = 50
MAX_BUTTONS = 3
CLOSING_MARK = "<!-- heal:closing -->"

_FILE_MODES = ("100644", "100755")
_LEVELS = {"failure": "failure", "error": "failure", "warning": "warning"}

G = TypeVar("G", bound=GithubObject)
T = TypeVar("T", IssueComment, Issue, CheckRun)


class GitHubForge:
    """The port `Forge` on GitHub's REST API.

    `client` may act in this repository, `reader` read in all of the installation's. `login` gives the App's own
    account, `heal[bot]`, `granted` what the installation may, in GitHub's words.
    """

    def __init__(
        self,
        repository: Repository,
        client: Client,
        reader: Client,
        *,
        app_id: int,
        login: Callable[[], str],
        granted: Callable[[], Mapping[str, str]],
        timeout_s: float,
    ) -> None:
        self._repository = repository
        self._client = client
        self._app_id = app_id
        self._login = login
        self._granted = granted
        self._timeout_s = timeout_s
        self._path = f"/repos/{quote(repository.full_name)}"
        self._remote = _remote(client, self._path)
        self._owners = _remote(reader, f"/repos/{quote(repository.owner)}/.github")

    @property
    def repository(self) -> Repository:
        return self._repository

    # reading
    def about(self) -> About:
        _, found = self._client.requestJsonAndCheck("GET", self._path)
        told = found if isinstance(found, dict) else {}
        return About(fork=told.get("fork") is True, archived=told.get("archived") is True)

    def run(self, run_id: int) -> RunInfo:
        return _run(self._remote.get_workflow_run(run_id), self._repository.id)

    def runs(self, *, head_sha: str = "", branch: str = "", conclusion: str = "") -> list[RunInfo]:
        asked = {"head_sha": head_sha, "branch": branch, "status": conclusion}
        wanted = {name: value for name, value in asked.items() if value}
        found = self._list(WorkflowRun, "/actions/runs", wanted, "workflow_runs")
        return [_run(run, self._repository.id) for run in islice(found, MOST_RUNS)]

    def runners(self) -> list[Runner]:
        found = self._list(SelfHostedActionsRunner, "/actions/runners", {}, "runners")
        return [_runner(runner) for runner in islice(found, MOST_RUNNERS)]

    def jobs(self, run_id: int, attempt: int) -> list[Job]:
        found = self._list(WorkflowJob, f"/actions/runs/{run_id}/attempts/{attempt}/jobs", {}, "jobs")
        return [_job(job) for job in found]

    def annotations(self, job: Job) -> list[Annotation]:
        found = self._remote.get_check_run(job.id).get_annotations()
        return [
            Annotation(a.annotation_level or "", a.message or "", a.path or "", a.start_line or 0, a.title or "")
            for a in found
        ]

    @contextmanager
    def job_log(self, job: Job) -> Iterator[BinaryIO]:
        """The raw log, cut off after 200 MB. GitHub answers with a link that lives a minute."""
        with self._behind_link(f"/actions/jobs/{job.id}/logs", MAX_LOG_BYTES) as log:
            yield log

    def artifacts(self, run_id: int) -> list[Artifact]:
        found = self._list(WorkflowArtifact, f"/actions/runs/{run_id}/artifacts", {}, "artifacts")
        kept = (artifact for artifact in islice(found, MOST_ARTIFACTS) if not artifact.expired)
        return [Artifact(artifact.id, artifact.name, artifact.size_in_bytes) for artifact in kept]

    def artifact_files(self, artifact: Artifact, *, most_bytes: int) -> dict[str, bytes]:
        with self._behind_link(f"/actions/artifacts/{artifact.id}/zip", most_bytes) as packed:
            return files_of(packed, most_bytes=most_bytes)

    @contextmanager
    def archive(self, ref: str) -> Iterator[BinaryIO]:
        with self._behind_link(f"/tarball/{quote(ref, safe='')}", MAX_ARCHIVE_BYTES) as packed:
            yield packed

    @contextmanager
    def _behind_link(self, path: str, most_bytes: int) -> Iterator[BinaryIO]:
        call = f"GET {self._path}{path}"
        _, headers, _ = self._client.requestJson("GET", f"{self._path}{path}")
        link = headers.get("location")
        if not link:
            raise Unreachable(f"{call}: GitHub gave no link to it")
        with tempfile.SpooledTemporaryFile(LOG_IN_MEMORY_BYTES) as spooled:
            self._download(link, spooled, call, most_bytes)
            spooled.seek(0)
            yield cast(BinaryIO, spooled)

    def _download(self, link: str, into: Any, call: str, most_bytes: int) -> None:
        """Without our token, also without one from a .netrc: the link carries its own right of access."""
        try:
            with requests.Session() as session:
                session.auth = _no_auth
                with session.get(link, stream=True, timeout=self._timeout_s) as answer:
                    if answer.status_code >= 500:
                        raise Unreachable(f"{call}: the store behind it answers {answer.status_code}")
                    if answer.status_code >= 400:
                        raise Refused(f"{call}: it has expired ({answer.status_code})")
                    left = most_bytes
                    for piece in answer.iter_content(1 << 16):
                        into.write(piece[:left])
                        left -= len(piece)
                        if left <= 0:
                            return
        except requests.RequestException as error:
            # Not the error's own text, nor its chain: it quotes the link, which opens the file to whoever reads it.
            raise Unreachable(f"{call}: it could not be downloaded ({type(error).__name__})") from None

    def branch_head(self, branch: str) -> str | None:
        ref = self._ref(branch)
        return ref.object.sha if ref else None

    def _ref(self, branch: str) -> GitRef | None:
        ref = self._remote.get_git_ref(f"heads/{branch}")
        try:
            ref.complete()
        except Absent:
            return None
        return ref

    def file(self, path: str, ref: str, *, strict: bool = False) -> FileText | None:
        return _file(self._remote, path, ref, strict)

    def owner_file(self, path: str) -> FileText | None:
        return _file(self._owners, path, NotSet, True)

    def paths(self, ref: str) -> list[str]:
        tree = self._remote.get_git_tree(ref, recursive=True).tree
        return sorted(entry.path for entry in tree if entry.type == "blob")

    def content(self, path: str, ref: str, *, most_bytes: int) -> bytes | None:
        if not _is_plain(path):
            return None
        try:
            found = self._remote.get_contents(path, ref)
        except Absent:
            return None
        if isinstance(found, list) or found.type != "file" or found.size > most_bytes:
            return None
        if found.encoding == "base64":
            return found.decoded_content
        return base64.b64decode(self._remote.get_git_blob(found.sha).content)  # above 1 MB only its blob has it

    def changes(self, base: str, head: str) -> list[FileChange]:
        between = f"{quote(base, safe='')}...{quote(head, safe='')}"
        _, found = self._client.requestJsonAndCheck("GET", f"{self._path}/compare/{between}")
        files = found.get("files") or () if isinstance(found, dict) else ()
        return [FileChange(file["filename"], file["status"], file.get("patch") or "") for file in files]

    def pull(self, number: int) -> Pull:
        return self._pull(self._remote.get_pull(number))

    def open_pulls(self, *, by: str = "", base: str = "") -> list[Pull]:
        found = self._remote.get_pulls(state="open", sort="created", direction="desc", base=base or NotSet)
        newest = islice(found, MOST_PULLS)
        return [self._pull(pull) for pull in newest if not by or (pull.user is not None and pull.user.login == by)]

    def may(self, permission: str) -> bool:
        return self._granted().get(permission) in ("write", "admin")

    def permission(self, login: str) -> str:
        try:
            return self._remote.get_collaborator_permission(login)
        except Absent:
            return "none"

    # writing
    def rerun_failed_jobs(self, run_id: int, *, debug: bool = False) -> None:
        said = {"enable_debug_logging": True} if debug else None
        self._client.requestJson("POST", f"{self._path}/actions/runs/{run_id}/rerun-failed-jobs", input=said)

    def dispatch(self, workflow: str, ref: str, inputs: Mapping[str, str]) -> int:
        said = {"ref": ref, "inputs": dict(inputs), "return_run_details": True}
        call = f"{self._path}/actions/workflows/{quote(workflow, safe='')}/dispatches"
        _, answer = self._client.requestJsonAndCheck("POST", call, input=said)
        return int(answer["workflow_run_id"])

    def cancel_run(self, run_id: int) -> None:
        try:
            self._client.requestJson("POST", f"{self._path}/actions/runs/{run_id}/cancel")
        except Refused:
            if self.run(run_id).status != "completed":
                raise

    def commit(self, parent_sha: str, files: Mapping[str, str | None], message: str, at: datetime) -> str:
        """Author and committer are the bot at time `at` (whole seconds), so that a repetition gives the same SHA.

        GitHub marks only commits without an explicit author as verified; to recognise our own commit after a crash
        matters more. Files keep their mode. Raises Refused for a path that is a link or a submodule.
        """
        base = self._remote.get_git_commit(parent_sha)
        present = {entry.path: entry.mode for entry in self._remote.get_git_tree(base.tree.sha, recursive=True).tree}
        changes = [
            _tree_element(path, text, present) for path, text in files.items() if text is not None or path in present
        ]
        tree = self._remote.create_git_tree(changes, base.tree) if changes else base.tree
        when = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        bot = InputGitAuthor("Self-Healing MLOps Bot", f"{self._app_id}+{self._login()}@users.noreply.github.com", when)
        return self._remote.create_git_commit(message, tree, [base], author=bot, committer=bot).sha

    def ensure_branch(self, branch: str, sha: str, *, replace: str | None = None) -> None:
        ref = self._ref(branch)
        if ref is None:
            try:
                self._remote.create_git_ref(f"refs/heads/{branch}", sha)
            except Invalid:
                if self.branch_head(branch) != sha:  # created by somebody else since we looked
                    raise
            return
        if ref.object.sha == sha:
            return
        if ref.object.sha != replace:
            raise Refused(f"branch {branch} points at {ref.object.sha}, somebody else moved it")
        ref.edit(sha, force=True)

    def delete_branch(self, branch: str, expect_sha: str) -> None:
        ref = self._ref(branch)
        if ref is None:
            return
        if ref.object.sha != expect_sha:
            raise Refused(f"branch {branch} points at {ref.object.sha}, somebody else moved it")
        try:
            ref.delete()
        except (Absent, Invalid):
            if self._ref(branch) is not None:
                raise

    def ensure_pull(self, *, head: str, base: str, title: str, body: str) -> Pull:
        found = self._open_pull(head, base)
        if found is None:
            try:
                return self._pull(self._remote.create_pull(base, head, title=title, body=body))
            except Invalid:
                found = self._open_pull(head, base)
                if found is None:
                    raise
        if (found.title, found.body or "") != (title, body):
            found.edit(title=title, body=body)
        return self._pull(found)

    def edit_pull(self, number: int, *, title: str, body: str) -> None:
        pull = self._remote.get_pull(number)
        if (pull.title, pull.body or "") != (title, body):
            pull.edit(title=title, body=body)

    def _open_pull(self, head: str, base: str) -> PullRequest | None:
        found = self._remote.get_pulls(state="open", head=f"{self._repository.owner}:{head}", base=base)
        return min(found, key=lambda pull: pull.number, default=None)

    def pulls_of(self, head: str) -> list[Pull]:
        found = self._remote.get_pulls(
            state="all", sort="created", direction="desc", head=f"{self._repository.owner}:{head}"
        )
        return [self._pull(pull) for pull in found]

    def close_pull(self, number: int) -> None:
        pull = self._remote.get_pull(number)
        if pull.state == "open":
            pull.edit(state="closed")

    def ensure_comment(self, number: int, marker: str, body: str) -> int:
        body = _marked(body, marker)
        ours = self._our_comments(number, marker)
        if not ours:
            made = self._remote.get_issue(number).create_comment(body)
            ours = _oldest_first(made, *self._our_comments(number, marker))
        oldest, *younger = ours
        for twin in younger:
            _gone(twin.delete)
        if oldest.body != body:
            oldest.edit(body)
        return oldest.id

    def _our_comments(self, number: int, marker: str) -> list[IssueComment]:
        found = self._list(IssueComment, f"/issues/{number}/comments", {})
        return _oldest_first(*(c for c in found if marker in (c.body or "") and self._is_ours(c)))

    def _is_ours(self, thing: IssueComment | Issue) -> bool:
        """A login with brackets cannot be registered: only our App has `<slug>[bot]`."""
        return thing.user is not None and thing.user.login == self._login()

    def ensure_check(self, sha: str, external_id: str, text: CheckText) -> int:
        """A check run cannot be deleted: should there be twins, all show the same."""
        ours = self._our_checks(sha, external_id)
        if not ours:
            made = self._remote.create_check_run(head_sha=sha, external_id=external_id, **_check(text, 0))
            ours = _oldest_first(made, *self._our_checks(sha, external_id))
            if len(ours) == 1:
                return made.id
        for check in ours:
            check.edit(**_check(text, check.output.annotations_count or 0))
        return ours[0].id

    def _our_checks(self, sha: str, external_id: str) -> list[CheckRun]:
        wanted = {"app_id": self._app_id, "filter": "all"}
        found = self._list(CheckRun, f"/commits/{quote(sha, safe='')}/check-runs", wanted, "check_runs")
        return _oldest_first(*(check for check in found if check.external_id == external_id))

    def ensure_issue(self, marker: str, title: str, body: str, labels: Sequence[str]) -> int:
        body = _marked(body, marker)
        ours = self._our_issues(marker)
        if not ours:
            if closed := self._closed_by_a_person(marker):
                return closed
            made = self._remote.create_issue(title, body=body, labels=list(labels))
            ours = _oldest_first(made, *self._our_issues(marker))
        oldest, *younger = ours
        for twin in younger:
            twin.edit(state="closed", state_reason="not_planned")
        if (oldest.title, oldest.body) != (title, body):
            oldest.edit(title=title, body=body)
        return oldest.number

    def _our_issues(self, marker: str) -> list[Issue]:
        wanted = {"state": "open", "creator": self._login(), "sort": "created", "direction": "asc"}
        found = self._list(Issue, "/issues", wanted)
        return _oldest_first(*(issue for issue in found if marker in (issue.body or "") and self._is_ours(issue)))

    def _closed_by_a_person(self, marker: str) -> int | None:
        """The newest closed issue of ours with that marker, if it was not us who closed it."""
        wanted = {"state": "closed", "creator": self._login(), "sort": "updated", "direction": "desc"}
        newest = islice(self._list(Issue, "/issues", wanted), MOST_CLOSED_ISSUES)
        ours = _oldest_first(*(issue for issue in newest if marker in (issue.body or "") and self._is_ours(issue)))
        return ours[-1].number if ours and not self._closed_it(ours[-1].number) else None

    def close_issue(self, number: int, comment: str) -> None:
        self.ensure_comment(number, CLOSING_MARK, comment)
        self._remote.get_issue(number).edit(state="closed", state_reason="completed")

    def react(self, comment_id: int, content: str) -> None:
        IssueComment(self._client, url=f"{self._path}/issues/comments/{comment_id}").create_reaction(content)

    # inside
    def _list(self, kind: type[G], path: str, wanted: dict[str, Any], item: str = "items") -> PaginatedList[G]:
        return PaginatedList(kind, self._client, f"{self._path}{path}", wanted, list_item=item)

    def _pull(self, pull: PullRequest) -> Pull:
        merged = pull.merged_at is not None
        return Pull(
            number=pull.number,
            url=pull.html_url,
            state=pull.state,
            merged=merged,
            head_branch=pull.head.ref,
            head_sha=pull.head.sha,
            base_branch=pull.base.ref,
            title=pull.title,
            body=pull.body or "",
            author=pull.user.login if pull.user is not None else "",
            closed_by_human=pull.state == "closed" and not merged and not self._closed_it(pull.number),
        )

    def _closed_it(self, number: int) -> bool:
        """Whether the bot closed this issue or pull request; of a pull request, only its issue tells who did."""
        closed_by = self._remote.get_issue(number).closed_by
        return closed_by is not None and closed_by.login == self._login()


def _remote(client: Client, path: str) -> RemoteRepository:
    """PyGithub's repository, without asking GitHub about it."""
    return RemoteRepository(client, {}, {"url": path}, completed=True)


def _is_plain(path: str) -> bool:
    """Inside the repository, and spelt the one way it can be."""
    return posixpath.normpath(path) == path and not path.startswith(("/", ".."))


def _file(where: RemoteRepository, path: str, ref: Opt[str], strict: bool) -> FileText | None:
    if not _is_plain(path):
        return None
    try:
        found = where.get_contents(path, ref)
    except Absent:
        return None
    text = None if isinstance(found, list) else _text(found)
    if text is None and strict:
        raise Malformed(f"{path} is there, but it is no text of at most {MAX_FILE_BYTES} bytes")
    return None if text is None or isinstance(found, list) else FileText(path, text, found.sha)


def _text(found: ContentFile) -> str | None:
    if found.type != "file" or found.encoding != "base64":
        return None
    content = found.decoded_content
    if len(content) > MAX_FILE_BYTES or b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _run(run: WorkflowRun, here: int) -> RunInfo:
    head: RemoteRepository | None = run.head_repository  # none where the fork is gone
    return RunInfo(
        id=run.id,
        attempt=run.run_attempt,
        status=run.status,
        conclusion=run.conclusion or "",
        head_sha=run.head_sha,
        head_branch=run.head_branch or "",
        trigger=run.event,
        workflow_path=(run.path or "").partition("@")[0],
        name=run.name or "",
        url=run.html_url,
        created_at=run.created_at,
        from_fork=head is None or head.id != here,
    )


def _job(job: WorkflowJob) -> Job:
    return Job(
        id=job.id,
        name=job.name,
        run_id=job.run_id,
        attempt=job.run_attempt or 1,
        head_sha=job.head_sha,
        conclusion=job.conclusion or "",
        status=job.status,
        steps=tuple(JobStep(step.number, step.name, step.conclusion or "") for step in job.steps or ()),
        url=job.html_url or "",
        runner=job.runner_name or "",
        runner_group=job.runner_group_name or "",
        labels=tuple(job.labels or ()),
        created_at=job.created_at,
        started_at=job.started_at,
        completed_at=job.completed_at,
    )


def _runner(runner: SelfHostedActionsRunner) -> Runner:
    return Runner(
        id=runner.id,
        name=runner.name,
        online=runner.status == "online",
        busy=bool(runner.busy),
        ephemeral=bool(runner.ephemeral),
        labels=frozenset(str(label.get("name", "")) for label in runner.labels or ()),
    )


def _tree_element(path: str, text: str | None, present: Mapping[str, str]) -> InputGitTreeElement:
    mode = present.get(path, "100644")
    if mode not in _FILE_MODES:
        raise Refused(f"{path} is not a plain file")
    if text is None:
        return InputGitTreeElement(path, mode, "blob", sha=None)
    return InputGitTreeElement(path, mode, "blob", content=text)


def _check(text: CheckText, annotations_shown: int) -> dict[str, Any]:
    """The arguments for a check run. GitHub adds annotations to those shown already, so they are sent once."""
    output: dict[str, Any] = {"title": text.title, "summary": _clip(text.summary)}
    if text.text:
        output["text"] = _clip(text.text)
    if text.annotations and not annotations_shown:
        output["annotations"] = [_annotation(one) for one in text.annotations[:MAX_ANNOTATIONS]]
    check: dict[str, Any] = {
        "name": text.name,
        "output": output,
        "actions": [
            {"label": button.label, "description": button.description, "identifier": button.identifier}
            for button in text.buttons[:MAX_BUTTONS]
        ],
    }
    if text.details_url:
        check["details_url"] = text.details_url
    if text.conclusion is None:
        return check | {"status": "in_progress"}
    return check | {"status": "completed", "conclusion": str(text.conclusion)}


def _annotation(one: Annotation) -> dict[str, Any]:
    line = max(one.line, 1)
    shown = {
        "path": one.path,
        "start_line": line,
        "end_line": line,
        "annotation_level": _LEVELS.get(one.level, "notice"),
        "message": _clip(one.message),
    }
    return shown | ({"title": one.title[:255]} if one.title else {})


def _clip(text: str) -> str:
    """At most what GitHub takes, cut at a whole character."""
    content = text.encode()
    return text if len(content) <= MAX_CHECK_BYTES else content[:MAX_CHECK_BYTES].decode(errors="ignore")


def _marked(body: str, marker: str) -> str:
    return body if marker in body else f"{body}\n\n{marker}"


def _oldest_first(*things: T) -> list[T]:
    """Each once, by id, so that everybody who looks agrees on which one stays. What was made just now is given along
    with what a list shows, because GitHub's lists may be a moment behind."""
    return [thing for _, thing in sorted({thing.id: thing for thing in things}.items())]


def _gone(delete: Callable[[], None]) -> None:
    """Another worker may have deleted the same twin."""
    try:
        delete()
    except Absent:
        return


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
