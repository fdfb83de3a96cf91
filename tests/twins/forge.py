"""GitHub in memory: the ports `Forge` and `App`, with every write recorded and every failure scripted."""

import difflib
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from app.domain.errors import HealError, Malformed, NotInstalled, Refused
from app.domain.event import RunFinished
from app.domain.evidence import Annotation, Job
from app.domain.fleet import Runner
from app.domain.tenant import Repository, Sender
from app.ports.forge import (
    About,
    Artifact,
    CheckText,
    FileChange,
    FileText,
    Forge,
    Pull,
    RunInfo,
    SentBody,
    SentDelivery,
)

MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Write:
    """One effect that really happened: the name of the port's method and what it changed."""

    method: str
    what: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MemoryCommit:
    sha: str
    parent: str | None
    files: Mapping[str, str]
    message: str
    at: datetime


@dataclass(slots=True)
class MemoryComment:
    id: int
    author: str
    body: str
    reactions: list[str] = field(default_factory=list)


@dataclass(slots=True)
class MemoryCheck:
    id: int
    sha: str
    external_id: str
    text: CheckText


@dataclass(slots=True)
class MemoryIssue:
    number: int
    author: str
    title: str
    body: str
    labels: tuple[str, ...]
    state: str = "open"
    closed_by_human: bool = False


@dataclass(frozen=True, slots=True)
class ScriptedJob:
    """A job of a run as a test tells it. `log` None means that GitHub has none (any more)."""

    job: Job
    log: bytes | None = b""
    annotations: tuple[Annotation, ...] = ()


@dataclass(slots=True)
class _Failure:
    method: str
    error: HealError
    after_write: bool


class MemoryForge:
    """One repository. Scripting methods stand first, the port follows.

    `on_push(branch, sha)` is called when `ensure_branch` moves a branch: a test adds the runs of that push there.
    """

    def __init__(self, repository: Repository, *, app_slug: str = "heal", now: Callable[[], datetime] | None = None):
        self._repository = repository
        self._now = now or (lambda: datetime.now(UTC))
        self.login = f"{app_slug}[bot]"
        self.installed = True
        self.commits: dict[str, MemoryCommit] = {}
        self.branches: dict[str, str] = {}
        self.pulls: dict[int, Pull] = {}
        self.authors: dict[int, str] = {}
        self.comments: dict[int, list[MemoryComment]] = {}
        self.checks: list[MemoryCheck] = []
        self.issues: dict[int, MemoryIssue] = {}
        self.permissions: dict[str, str] = {}
        self.granted: set[str] = {"actions", "checks", "contents", "issues", "pull_requests", "statuses"}
        self.dispatched: dict[int, dict[str, str]] = {}
        self.owner_files: dict[str, str] = {}
        self.nature = About()
        self.own_runners: list[Runner] | None = []
        self.uploaded: dict[int, tuple[int, str, dict[str, bytes]]] = {}
        self.writes: list[Write] = []
        self.calls: list[str] = []
        self.on_push: Callable[[str, str], None] | None = None
        self._attempts: dict[int, dict[int, RunInfo]] = {}
        self._jobs: dict[tuple[int, int], list[ScriptedJob]] = {}
        self._scripted_reruns: dict[int, list[tuple[str, tuple[ScriptedJob, ...]]]] = {}
        self._failures: list[_Failure] = []
        self._last_id = 1000
        self._last_number = 0

    # scripting: what people and GitHub do
    def push(
        self, branch: str, files: Mapping[str, str | None], *, message: str = "change", at: datetime | None = None
    ) -> str:
        """A person pushes a commit on top of `branch` (or starts it). None deletes a file. Returns the SHA."""
        sha = self._make_commit(self.branches.get(branch), files, message, at or self._now())
        self.branches[branch] = sha
        self._refresh_pulls(branch)
        return sha

    def add_run(
        self,
        *,
        head_sha: str,
        head_branch: str,
        conclusion: str = "failure",
        status: str = "completed",
        jobs: Sequence[ScriptedJob] = (),
        trigger: str = "push",
        workflow_path: str = ".github/workflows/ci.yml",
        name: str = "CI",
        run_id: int | None = None,
    ) -> RunInfo:
        """A first attempt of a new run. Jobs get this run's id, attempt and SHA."""
        run_id = run_id or self._next_id()
        run = RunInfo(
            id=run_id,
            attempt=1,
            status=status,
            conclusion=conclusion if status == "completed" else "",
            head_sha=head_sha,
            head_branch=head_branch,
            trigger=trigger,
            workflow_path=workflow_path,
            name=name,
            url=f"https://github.com/{self._repository.full_name}/actions/runs/{run_id}",
            created_at=self._now(),
        )
        self._attempts[run_id] = {1: run}
        self._set_jobs(run, jobs)
        return run

    def job(
        self, name: str, conclusion: str = "failure", log: bytes | None = b"", annotations: Sequence[Annotation] = ()
    ) -> ScriptedJob:
        """A job for `add_run`, `script_rerun` and `finish_run`."""
        now = self._now()
        blank = Job(
            id=self._next_id(),
            name=name,
            run_id=0,
            attempt=0,
            head_sha="",
            conclusion=conclusion,
            labels=("ubuntu-latest",),
            created_at=now,
            started_at=now,
            completed_at=now,
        )
        return ScriptedJob(blank, log, tuple(annotations))

    def upload(self, run_id: int, name: str, files: dict[str, bytes]) -> None:
        """A job of this run uploads an artefact."""
        self.uploaded[self._next_id()] = (run_id, name, files)

    def script_rerun(self, run_id: int, conclusion: str, jobs: Sequence[ScriptedJob] = ()) -> None:
        """The next re-run of this run ends at once, like this. Without a script it stays queued: see `finish_run`."""
        self._scripted_reruns.setdefault(run_id, []).append((conclusion, tuple(jobs)))

    def finish_run(self, run_id: int, conclusion: str, jobs: Sequence[ScriptedJob] = ()) -> RunInfo:
        """The latest attempt of this run ends."""
        run = replace(self._latest(run_id), status="completed", conclusion=conclusion)
        self._attempts[run_id][run.attempt] = run
        self._set_jobs(run, jobs)
        return run

    def finished(self, run_id: int, *, sender: str = "octocat", from_fork: bool = False) -> RunFinished:
        """The event that GitHub would send for the latest attempt."""
        run = self._latest(run_id)
        return RunFinished(
            repository=self._repository,
            sender=Sender(sender, is_bot=sender.endswith("[bot]")),
            run_id=run.id,
            attempt=run.attempt,
            workflow=run.name,
            workflow_path=run.workflow_path,
            head_sha=run.head_sha,
            head_branch=run.head_branch,
            trigger=run.trigger,
            conclusion=run.conclusion,
            from_fork=from_fork,
            url=run.url,
            started_at=run.created_at,
        )

    def merge(self, number: int) -> str:
        """A person merges a pull request: the base branch gets the head's files. Returns the merge commit's SHA."""
        pull = self.pulls[number]
        head = self.commits[self.branches.get(pull.head_branch, pull.head_sha)]
        parent = self.branches[pull.base_branch]
        base = self.commits[parent].files
        files: dict[str, str | None] = dict(head.files)
        files |= {path: None for path in base if path not in head.files}
        sha = self.push(pull.base_branch, files, message=f"Merge pull request #{number}")
        self.pulls[number] = replace(pull, state="closed", merged=True)
        return sha

    def close_by_hand(self, number: int) -> None:
        """A person closes a pull request without merging it."""
        self.pulls[number] = replace(self.pulls[number], state="closed", closed_by_human=True)

    def close_issue_by_hand(self, number: int) -> None:
        """A person closes an issue."""
        self.issues[number].state, self.issues[number].closed_by_human = "closed", True

    def pull_by_hand(self, head: str, title: str, body: str = "", *, login: str = "octocat") -> Pull:
        """Somebody (or another bot) opens a pull request from a branch of this repository."""
        number = self._next_number()
        url = f"https://github.com/{self._repository.full_name}/pull/{number}"
        base = self._repository.default_branch
        pull = Pull(number, url, "open", False, head, self.branches.get(head, ""), base, title, body, author=login)
        self.pulls[number] = pull
        self.authors[number] = login
        return pull

    def comment_by_hand(self, number: int, body: str, login: str = "octocat") -> int:
        """Somebody (or another bot) comments. Returns the comment's id."""
        comment = MemoryComment(self._next_id(), login, body)
        self.comments.setdefault(number, []).append(comment)
        return comment.id

    def fail_next(self, method: str, error: HealError, *, after_write: bool = False) -> None:
        """The next call of `method` raises `error`: before doing anything, or after everything was done."""
        self._failures.append(_Failure(method, error, after_write))

    def written(self, method: str) -> list[Mapping[str, Any]]:
        """What this method has really changed, oldest first."""
        return [write.what for write in self.writes if write.method == method]

    # the port: reading
    @property
    def repository(self) -> Repository:
        return self._repository

    def about(self) -> About:
        with self._call("about"):
            return self.nature

    def run(self, run_id: int) -> RunInfo:
        with self._call("run"):
            return self._latest(run_id)

    def runs(self, *, head_sha: str = "", branch: str = "", conclusion: str = "") -> list[RunInfo]:
        with self._call("runs"):
            latest = [attempts[max(attempts)] for attempts in self._attempts.values()]
            found = [
                run
                for run in latest
                if head_sha in ("", run.head_sha)
                and branch in ("", run.head_branch)
                and conclusion in ("", run.conclusion)
            ]
            return sorted(found, key=lambda run: (run.created_at, run.id), reverse=True)[:100]

    def runners(self) -> list[Runner]:
        with self._call("runners"):
            if self.own_runners is None:
                raise Refused("the App may not see the runners")
            return list(self.own_runners)

    def jobs(self, run_id: int, attempt: int) -> list[Job]:
        with self._call("jobs"):
            if attempt not in self._attempts.get(run_id, {}):
                raise Refused(f"no attempt {attempt} of run {run_id}")
            return [scripted.job for scripted in self._jobs[run_id, attempt]]

    def annotations(self, job: Job) -> list[Annotation]:
        with self._call("annotations"):
            return list(self._scripted(job).annotations)

    @contextmanager
    def job_log(self, job: Job) -> Iterator[BinaryIO]:
        with self._call("job_log"):
            log = self._scripted(job).log
            if log is None:
                raise Refused(f"the log of job {job.id} has expired")
        yield io.BytesIO(log)

    def artifacts(self, run_id: int) -> list[Artifact]:
        with self._call("artifacts"):
            return [Artifact(id, name, sum(map(len, files.values())))
                    for id, (of, name, files) in self.uploaded.items() if of == run_id]  # fmt: skip

    def artifact_files(self, artifact: Artifact, *, most_bytes: int) -> dict[str, bytes]:
        with self._call("artifact_files"):
            found: dict[str, bytes] = {}
            for name, content in self.uploaded[artifact.id][2].items():
                if sum(map(len, found.values())) + len(content) <= most_bytes:
                    found[name] = content
            return found

    def branch_head(self, branch: str) -> str | None:
        with self._call("branch_head"):
            return self.branches.get(branch)

    def file(self, path: str, ref: str, *, strict: bool = False) -> FileText | None:
        with self._call("file"):
            return _file(path, self._files(ref).get(path), strict)

    def owner_file(self, path: str) -> FileText | None:
        with self._call("owner_file"):
            return _file(path, self.owner_files.get(path), True)

    def paths(self, ref: str) -> list[str]:
        with self._call("paths"):
            return sorted(self._files(ref))

    def content(self, path: str, ref: str, *, most_bytes: int) -> bytes | None:
        with self._call("content"):
            text = self._files(ref).get(path)
            found = None if text is None else text.encode("utf-8", "surrogateescape")
            return found if found is not None and len(found) <= most_bytes else None

    def changes(self, base: str, head: str) -> list[FileChange]:
        with self._call("changes"):
            before, after = self._files(self._common(base, head)), self._files(head)
            return [_change(path, before.get(path), after.get(path)) for path in sorted({*before, *after})
                    if before.get(path) != after.get(path)]  # fmt: skip

    @contextmanager
    def archive(self, ref: str) -> Iterator[BinaryIO]:
        packed = io.BytesIO()
        with self._call("archive"), tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for path, text in self._files(ref).items():
                content = text.encode("utf-8", "surrogateescape")
                entry = tarfile.TarInfo(f"{self._repository.owner}-{self._repository.name}-{ref[:7]}/{path}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        packed.seek(0)
        yield packed

    def pull(self, number: int) -> Pull:
        with self._call("pull"):
            return self._pull(number)

    def open_pulls(self, *, by: str = "", base: str = "") -> list[Pull]:
        with self._call("open_pulls"):
            here = (self._pull(number) for number, p in self.pulls.items() if p.state == "open")
            wanted = [p for p in here if by in ("", p.author) and base in ("", p.base_branch)]
            return sorted(wanted, key=lambda p: -p.number)

    def may(self, permission: str) -> bool:
        with self._call("may"):
            return permission in self.granted

    def permission(self, login: str) -> str:
        with self._call("permission"):
            return self.permissions.get(login, "none")

    # the port: writing
    def dispatch(self, workflow: str, ref: str, inputs: Mapping[str, str]) -> int:
        with self._call("dispatch"):
            path = f".github/workflows/{workflow}"
            sha = self.branches.get(ref)
            text = self._files(sha).get(path) if sha else None
            if sha is None or text is None or "workflow_dispatch" not in text:
                raise Refused(f"{workflow} cannot be started by hand")
            run = self.add_run(
                head_sha=sha, head_branch=ref, status="queued", trigger="workflow_dispatch", workflow_path=path
            )
            self.dispatched[run.id] = dict(inputs)
            self._did("dispatch", workflow=workflow, ref=ref, inputs=dict(inputs), run_id=run.id)
            return run.id

    def cancel_run(self, run_id: int) -> None:
        with self._call("cancel_run"):
            if self._latest(run_id).status != "completed":
                self.finish_run(run_id, "cancelled")
                self._did("cancel_run", run_id=run_id)

    def rerun_failed_jobs(self, run_id: int, *, debug: bool = False) -> None:
        with self._call("rerun_failed_jobs"):
            run = self._latest(run_id)
            if run.status != "completed":
                raise Refused("this workflow is already running")
            again = replace(run, attempt=run.attempt + 1, status="queued", conclusion="")
            self._attempts[run_id][again.attempt] = again
            self._jobs[run_id, again.attempt] = []
            self._did("rerun_failed_jobs", run_id=run_id, attempt=again.attempt, **({"debug": True} if debug else {}))
            if self._scripted_reruns.get(run_id):
                self.finish_run(run_id, *self._scripted_reruns[run_id].pop(0))

    def commit(self, parent_sha: str, files: Mapping[str, str | None], message: str, at: datetime) -> str:
        with self._call("commit"):
            if parent_sha not in self.commits:
                raise Refused(f"no commit {parent_sha}")
            before = len(self.commits)
            sha = self._make_commit(parent_sha, files, message, at)
            if len(self.commits) > before:
                self._did("commit", sha=sha, files=dict(files), message=message)
            return sha

    def ensure_branch(self, branch: str, sha: str, *, replace: str | None = None) -> None:
        with self._call("ensure_branch"):
            if sha not in self.commits:
                raise Refused(f"no commit {sha}")
            present = self.branches.get(branch)
            if present == sha:
                return
            if present is not None and present != replace:
                raise Refused(f"branch {branch} points at {present}, somebody else moved it")
            self.branches[branch] = sha
            self._refresh_pulls(branch)
            self._did("ensure_branch", branch=branch, sha=sha)
            if self.on_push is not None:
                self.on_push(branch, sha)

    def delete_branch(self, branch: str, expect_sha: str) -> None:
        with self._call("delete_branch"):
            present = self.branches.get(branch)
            if present is None:
                return
            if present != expect_sha:
                raise Refused(f"branch {branch} points at {present}, somebody else moved it")
            del self.branches[branch]
            for pull in list(self.pulls.values()):
                if pull.head_branch == branch and pull.state == "open":
                    self.pulls[pull.number] = _closed(pull)
            self._did("delete_branch", branch=branch)

    def ensure_pull(self, *, head: str, base: str, title: str, body: str) -> Pull:
        with self._call("ensure_pull"):
            if head not in self.branches or base not in self.branches:
                raise Refused(f"no branch {head} or {base}")
            for pull in self.pulls.values():
                if (pull.head_branch, pull.base_branch, pull.state) == (head, base, "open"):
                    if (pull.title, pull.body) != (title, body):
                        pull = self.pulls[pull.number] = replace(pull, title=title, body=body)
                        self._did("ensure_pull", number=pull.number, edited=True)
                    return pull
            number = self._next_number()
            made = Pull(
                number=number,
                url=f"https://github.com/{self._repository.full_name}/pull/{number}",
                state="open",
                merged=False,
                head_branch=head,
                head_sha=self.branches[head],
                base_branch=base,
                title=title,
                body=body,
                author=self.login,
            )
            self.pulls[number] = made
            self.authors[number] = self.login
            self._did("ensure_pull", number=number, edited=False)
            return made

    def edit_pull(self, number: int, *, title: str, body: str) -> None:
        with self._call("edit_pull"):
            pull = self._pull(number)
            if (pull.title, pull.body) != (title, body):
                self.pulls[number] = replace(pull, title=title, body=body)
                self._did("edit_pull", number=number)

    def pulls_of(self, head: str) -> list[Pull]:
        with self._call("pulls_of"):
            return sorted((p for p in self.pulls.values() if p.head_branch == head), key=lambda p: -p.number)

    def close_pull(self, number: int) -> None:
        with self._call("close_pull"):
            pull = self._pull(number)
            if pull.state == "open":
                self.pulls[number] = _closed(pull)
                self._did("close_pull", number=number)

    def ensure_comment(self, number: int, marker: str, body: str) -> int:
        with self._call("ensure_comment"):
            ours = [c for c in self.comments.get(number, []) if c.author == self.login and marker in c.body]
            if not ours:
                comment = MemoryComment(self._next_id(), self.login, _marked(body, marker))
                self.comments.setdefault(number, []).append(comment)
                self._did("ensure_comment", number=number, id=comment.id, edited=False)
                return comment.id
            oldest, *younger = ours
            for twin in younger:
                self.comments[number].remove(twin)
                self._did("ensure_comment", number=number, id=twin.id, deleted=True)
            if oldest.body != _marked(body, marker):
                oldest.body = _marked(body, marker)
                self._did("ensure_comment", number=number, id=oldest.id, edited=True)
            return oldest.id

    def ensure_check(self, sha: str, external_id: str, text: CheckText) -> int:
        with self._call("ensure_check"):
            if sha not in self.commits:
                raise Refused(f"no commit {sha}")
            for check in self.checks:
                if (check.sha, check.external_id) == (sha, external_id):
                    if check.text != text:
                        check.text = text
                        self._did("ensure_check", id=check.id, edited=True)
                    return check.id
            check = MemoryCheck(self._next_id(), sha, external_id, text)
            self.checks.append(check)
            self._did("ensure_check", id=check.id, edited=False)
            return check.id

    def ensure_issue(self, marker: str, title: str, body: str, labels: Sequence[str]) -> int:
        with self._call("ensure_issue"):
            every = [i for i in self.issues.values() if i.author == self.login and marker in i.body]
            ours = [i for i in every if i.state == "open"]
            if not ours and every and every[-1].closed_by_human:
                return every[-1].number
            if not ours:
                number = self._next_number()
                self.issues[number] = MemoryIssue(number, self.login, title, _marked(body, marker), tuple(labels))
                self._did("ensure_issue", number=number, edited=False)
                return number
            oldest, *younger = ours
            for twin in younger:
                twin.state = "closed"
                self._did("ensure_issue", number=twin.number, closed=True)
            if (oldest.title, oldest.body) != (title, _marked(body, marker)):
                oldest.title, oldest.body = title, _marked(body, marker)
                self._did("ensure_issue", number=oldest.number, edited=True)
            return oldest.number

    def close_issue(self, number: int, comment: str) -> None:
        with self._call("close_issue"):
            if number not in self.issues:
                raise Refused(f"no issue {number}")
            issue = self.issues[number]
            if issue.state == "open":
                self.comments.setdefault(number, []).append(MemoryComment(self._next_id(), self.login, comment))
                issue.state = "closed"
                self._did("close_issue", number=number)

    def react(self, comment_id: int, content: str) -> None:
        with self._call("react"):
            for comment in (c for thread in self.comments.values() for c in thread):
                if comment.id == comment_id:
                    if content not in comment.reactions:
                        comment.reactions.append(content)
                        self._did("react", comment_id=comment_id, content=content)
                    return
            raise Refused(f"no comment {comment_id}")

    # inside
    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        self.calls.append(method)
        if not self.installed:
            raise NotInstalled(f"the App has no access to {self._repository.full_name}")
        failure = next((f for f in self._failures if f.method == method), None)
        if failure is not None:
            self._failures.remove(failure)
            if not failure.after_write:
                raise failure.error
        yield
        if failure is not None:
            raise failure.error

    def _did(self, method: str, **what: Any) -> None:
        self.writes.append(Write(method, what))

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _make_commit(self, parent: str | None, files: Mapping[str, str | None], message: str, at: datetime) -> str:
        whole = dict(self.commits[parent].files) if parent is not None else {}
        for path, text in files.items():
            if text is None:
                whole.pop(path, None)
            else:
                whole[path] = text
        told = json.dumps([parent, whole, message, at.astimezone(UTC).isoformat()], sort_keys=True)
        sha = hashlib.sha1(told.encode()).hexdigest()
        self.commits.setdefault(sha, MemoryCommit(sha, parent, whole, message, at))
        return sha

    def _files(self, ref: str) -> Mapping[str, str]:
        sha = self.branches.get(ref, ref)
        if sha not in self.commits:
            raise Refused(f"no commit {ref}")
        return self.commits[sha].files

    def _common(self, base: str, head: str) -> str:
        """The newest commit that is part of both histories."""
        ours = {commit.sha for commit in self._history(head)}
        return next((commit.sha for commit in self._history(base) if commit.sha in ours), base)

    def _history(self, ref: str) -> Iterator[MemoryCommit]:
        sha: str | None = self.branches.get(ref, ref)
        while sha is not None:
            if sha not in self.commits:
                raise Refused(f"no commit {sha}")
            yield self.commits[sha]
            sha = self.commits[sha].parent

    def _refresh_pulls(self, branch: str) -> None:
        for number, pull in self.pulls.items():
            if pull.head_branch == branch and pull.state == "open":
                self.pulls[number] = replace(pull, head_sha=self.branches[branch])

    def _latest(self, run_id: int) -> RunInfo:
        attempts = self._attempts.get(run_id)
        if attempts is None:
            raise Refused(f"no run {run_id}")
        return attempts[max(attempts)]

    def _set_jobs(self, run: RunInfo, jobs: Sequence[ScriptedJob]) -> None:
        self._jobs[run.id, run.attempt] = [
            replace(s, job=replace(s.job, run_id=run.id, attempt=run.attempt, head_sha=run.head_sha)) for s in jobs
        ]

    def _scripted(self, job: Job) -> ScriptedJob:
        for scripted in self._jobs.get((job.run_id, job.attempt), []):
            if scripted.job.id == job.id:
                return scripted
        raise Refused(f"no job {job.id}")

    def _pull(self, number: int) -> Pull:
        if number not in self.pulls:
            raise Refused(f"no pull request {number}")
        return self.pulls[number]


class MemoryApp:
    """The App and all repositories it is installed on."""

    def __init__(self, *, app_slug: str = "heal", now: Callable[[], datetime] | None = None) -> None:
        self._slug = app_slug
        self._now = now or (lambda: datetime.now(UTC))
        self.forges: dict[int, MemoryForge] = {}
        self.deliveries: list[SentDelivery] = []
        self.bodies: dict[int, bytes] = {}
        self.redelivered: list[int] = []
        self.refused: set[int] = set()
        self.error: HealError | None = None

    def add(self, full_name: str, *, installation_id: int = 1, default_branch: str = "main") -> MemoryForge:
        """Install the App on a new repository."""
        repository = Repository(len(self.forges) + 1, full_name, installation_id, default_branch)
        forge = self.forges[repository.id] = MemoryForge(repository, app_slug=self._slug, now=self._now)
        return forge

    def sent(
        self,
        guid: str,
        event: str,
        action: str = "",
        *,
        ok: bool = True,
        ago: timedelta = timedelta(),
        body: bytes | None = b"{}",
    ) -> None:
        """GitHub says that it sent this delivery. `body` None: it does not keep it any more."""
        row = SentDelivery(
            id=len(self.deliveries) + 1,
            guid=guid,
            event=event,
            action=action,
            status="OK" if ok else "Invalid HTTP Response: 503",
            ok=ok,
            delivered_at=self._now() - ago,
            redelivery=any(other.guid == guid for other in self.deliveries),
        )
        self.deliveries.append(row)
        if body is not None:
            self.bodies[row.id] = body

    def forge(self, repository: Repository) -> Forge:
        self._answer()
        if repository.id not in self.forges:
            raise NotInstalled(f"the App has no access to {repository.full_name}")
        return self.forges[repository.id]

    def repositories(self, installation_id: int) -> list[Repository]:
        self._answer()
        everything = [forge.repository for forge in self.forges.values() if forge.installed]
        return [repository for repository in everything if repository.installation_id == installation_id]

    def installations(self) -> list[int]:
        self._answer()
        return sorted({forge.repository.installation_id for forge in self.forges.values() if forge.installed})

    def sent_deliveries(self, *, since: datetime) -> list[SentDelivery]:
        self._answer()
        recent = [row for row in self.deliveries if row.delivered_at >= since]
        return sorted(recent, key=lambda row: (row.delivered_at, row.id), reverse=True)

    def sent_body(self, delivery_id: int) -> SentBody:
        self._answer()
        row = next((row for row in self.deliveries if row.id == delivery_id), None)
        if row is None or delivery_id not in self.bodies:
            raise Refused(f"no body of delivery {delivery_id}")
        return SentBody(row.guid, row.event, self.bodies[delivery_id])

    def redeliver(self, delivery_id: int) -> None:
        self._answer()
        if delivery_id in self.refused or all(row.id != delivery_id for row in self.deliveries):
            raise Refused(f"no delivery {delivery_id}")
        self.redelivered.append(delivery_id)

    def slug(self) -> str:
        self._answer()
        return self._slug

    def _answer(self) -> None:
        """`error`, while set, is what every call of the App gets."""
        if self.error is not None:
            raise self.error


def _file(path: str, text: str | None, strict: bool) -> FileText | None:
    if text is None:
        return None
    if "\0" in text or len(text.encode("utf-8", "surrogateescape")) > MAX_FILE_BYTES:
        if strict:
            raise Malformed(f"{path} is no text")
        return None
    return FileText(path, text, _blob_sha(text))


def _change(path: str, before: str | None, after: str | None) -> FileChange:
    status = "added" if before is None else "removed" if after is None else "modified"
    lines = difflib.unified_diff((before or "").splitlines(), (after or "").splitlines(), lineterm="")
    binary = "\0" in (before or "") or "\0" in (after or "")
    return FileChange(path, status, "" if binary else "\n".join(list(lines)[2:]))


def _closed(pull: Pull) -> Pull:
    return replace(pull, state="closed")


def _marked(body: str, marker: str) -> str:
    return body if marker in body else f"{body}\n\n{marker}"


def _blob_sha(text: str) -> str:
    content = text.encode("utf-8", "surrogateescape")
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
