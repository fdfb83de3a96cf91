"""Workflow runs: which workflows an event starts, how their jobs run, re-runs and cancellation."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from sandbox import events, workflow
from sandbox.runner import JobResult, StepResult, WorkflowInvalid, parse_workflow, run_job, should_run, skipped_job
from sandbox.state import Account, Artifact, CheckRun, Job, Repository, Run, State, Step, Token, WorkflowFile, now

FOLDER = ".github/workflows"
# GitHub answers a re-run at once and starts it a little later; until then the old conclusion still shows.
RERUN_DELAY_S = 0.2
MOST_ATTEMPTS = 50


class RerunRefused(Exception):
    """This run cannot be run again now; the message is GitHub's."""


def workflow_files(state: State, where: Repository, sha: str) -> dict[str, str]:
    """The workflow files of a commit: path → text. Each gets its number on first sight."""
    folder = where.git.entry(sha, FOLDER)
    if folder is None or folder.type != "tree":
        return {}
    found = {}
    for entry in where.git.entries(sha, path=FOLDER):
        if entry.type == "blob" and entry.path.endswith((".yml", ".yaml")):
            found[entry.path] = where.git.blob(entry.sha).decode(errors="replace")
            where.workflows.setdefault(entry.path, WorkflowFile(next(state.ids), entry.path, entry.path, now()))
    return found


def start_for(
    state: State,
    where: Repository,
    event: str,
    *,
    sha: str,
    head_branch: str,
    actor: Account,
    head_sha: str = "",
    base_branch: str = "",
    action: str = "",
    title: str = "",
) -> list[Run]:
    """Start every workflow of commit `sha` that `event` triggers.

    For a pull request `sha` is the merge commit that is checked out, `head_sha` the commit that the run is shown on.
    """
    started = []
    head_sha = head_sha or sha
    for path, text in workflow_files(state, where, sha).items():
        file = where.workflows[path]
        try:
            parsed = parse_workflow(text)
        except WorkflowInvalid as error:
            if event == "push":
                started.append(_start(state, where, file, None, event, sha, head_sha, head_branch, actor, str(error)))
            continue
        file.name = parsed.name or path
        if parsed.starts_on(event, base_branch or head_branch, action):
            run = _start(state, where, file, parsed, event, sha, head_sha, head_branch, actor, title)
            started.append(run)
    return started


def dispatch(
    state: State, where: Repository, file: WorkflowFile, ref: str, actor: Account, inputs: Mapping[str, str]
) -> Run | None:
    """Start one workflow by hand on a branch; None if the file there has no `workflow_dispatch`."""
    sha = where.git.resolve(ref)
    text = workflow_files(state, where, sha).get(file.path) if sha else None
    if sha is None or text is None:
        return None
    parsed = parse_workflow(text)
    if "workflow_dispatch" not in parsed.on:
        return None
    branch = ref.removeprefix("refs/heads/")
    title = parsed.name or file.path
    return _start(state, where, file, parsed, "workflow_dispatch", sha, sha, branch, actor, title, inputs)


def _start(
    state: State,
    where: Repository,
    file: WorkflowFile,
    parsed: workflow.Workflow | None,
    event: str,
    sha: str,
    head_sha: str,
    branch: str,
    actor: Account,
    title: str,
    inputs: Mapping[str, str] | None = None,
) -> Run:
    file.runs += 1
    number = next(state.ids)
    suite = state.suite(where, head_sha, f"run-{number}")
    subject = where.git.commit(head_sha).message.split("\n", 1)[0]
    at = now()
    run = Run(
        number, where, file, file.name, title or subject, event, branch, head_sha, sha, file.runs, suite, actor, actor,
        at, at, at,
    )  # fmt: skip
    state.runs[number] = run
    if parsed is None:
        # An unreadable workflow file: a failed run without jobs, as on GitHub.
        run.status, run.conclusion = "completed", "failure"
        events.workflow_run(state, "requested", run)
        events.workflow_run(state, "completed", run)
        return run
    jobs = [_job(state, run, job.id, job.name, job.labels, job.needs) for job in parsed.jobs]
    _launch(state, run, parsed, jobs, inputs or {})
    return run


def _job(state: State, run: Run, key: str, name: str, labels: tuple[str, ...], needs: tuple[str, ...]) -> Job:
    job = Job(next(state.ids), run.attempt, name, list(labels), needs, key, now())
    run.jobs.append(job)
    check = CheckRun(job.id, run.repository, state.actions_app, name, run.head_sha, run.check_suite_id)
    check.details_url = f"{state.base_url}/{run.repository.full_name}/actions/runs/{run.id}/job/{job.id}"
    check.started_at = job.created_at
    state.checks[job.id] = check
    return job


def _launch(state: State, run: Run, parsed: workflow.Workflow, jobs: list[Job], inputs: Mapping[str, str]) -> None:
    run.cancelled = threading.Event()
    state.busy_runs += 1
    events.workflow_run(state, "requested", run)
    for job in jobs:
        events.check_run(state, "created", state.checks[job.id], run.triggering_actor)
    name = f"sandbox-run-{run.id}"
    threading.Thread(target=_drive, args=(state, run, parsed, jobs, inputs), name=name, daemon=True).start()


def rerun(state: State, run: Run, only: set[int] | None, actor: Account) -> None:
    """Run again: everything, or the jobs with these ids and those that need them. Raises RerunRefused."""
    if run.status != "completed" or run.rerun_waits:
        raise RerunRefused("This workflow is already running")
    if run.attempt >= MOST_ATTEMPTS:
        raise RerunRefused("Unable to re-run this workflow run because it has reached its limit of attempts")
    text = workflow_files(state, run.repository, run.checkout_sha).get(run.workflow.path, "")
    try:
        parsed = parse_workflow(text)
    except WorkflowInvalid as error:
        raise RerunRefused("This workflow run cannot be retried") from error
    run.rerun_waits = True
    state.busy_runs += 1
    timer = threading.Timer(RERUN_DELAY_S, _start_attempt, [state, run, parsed, only, actor])
    timer.daemon = True
    timer.start()


def _start_attempt(state: State, run: Run, parsed: workflow.Workflow, only: set[int] | None, actor: Account) -> None:
    with state.lock:
        if state.closing.is_set():
            state.busy_runs -= 1
            return
        before = run.jobs_of(run.attempt)
        again = {job.key for job in before if only is None or job.id in only}
        for job in parsed.jobs:
            if again.intersection(job.needs):
                again.add(job.id)
        run.rerun_waits = False
        run.attempt += 1
        run.status, run.conclusion, run.triggering_actor = "queued", None, actor
        run.started_at = run.updated_at = now()
        fresh = []
        for job in parsed.jobs:
            made = _job(state, run, job.id, job.name, job.labels, job.needs)
            old = next((o for o in before if o.key == job.id), None)
            if job.id in again or old is None:
                fresh.append(made)
            else:
                _carry_over(state, old, made)
        state.busy_runs -= 1
        _launch(state, run, parsed, fresh, {})


def _carry_over(state: State, old: Job, new: Job) -> None:
    """A job that is not run again shows up in the new attempt as it ended in the old one."""
    new.status, new.conclusion, new.log, new.steps = old.status, old.conclusion, old.log, old.steps
    new.created_at, new.started_at, new.completed_at = old.created_at, old.started_at, old.completed_at
    check = state.checks[new.id]
    check.status, check.conclusion = old.status, old.conclusion
    check.started_at, check.completed_at = old.started_at, old.completed_at


def _drive(state: State, run: Run, parsed: workflow.Workflow, jobs: list[Job], inputs: Mapping[str, str]) -> None:
    """Run the jobs in the order of their needs, then settle the run."""
    definitions = {job.id: job for job in parsed.jobs}
    waiting = {job.key: job for job in jobs}
    done = {job.key: job.conclusion or "" for job in run.jobs_of(run.attempt) if job.key not in waiting}
    running: dict[Future[JobResult], Job] = {}
    announced = False
    while waiting or running:
        ready = [job for job in waiting.values() if all(need in done for need in job.needs)]
        for job in ready:
            del waiting[job.key]
            definition = definitions[job.key]
            if run.cancelled.is_set() or not should_run(definition, done):
                done[job.key] = "cancelled" if run.cancelled.is_set() else "skipped"
                _settle(state, run, job, skipped_job(definition), done[job.key])
                continue
            if not announced:
                announced = True
                with state.lock:
                    run.status = "in_progress"
                    events.workflow_run(state, "in_progress", run)
            running[state.pool.submit(_execute, state, run, job, definition, inputs)] = job
        if running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                result = future.result()
                done[job.key] = result.conclusion
                _settle(state, run, job, result, result.conclusion)
    with state.lock:
        run.conclusion = conclusion_of(run.jobs_of(run.attempt))
        run.status, run.updated_at = "completed", now()
        events.workflow_run(state, "completed", run)
        state.busy_runs -= 1


def conclusion_of(jobs: list[Job]) -> str:
    """What a run concludes from its jobs, all of them completed. A run without jobs has failed to start."""
    conclusions = {job.conclusion for job in jobs}
    return next((c for c in ("cancelled", "failure", "success", "skipped") if c in conclusions), "failure")


def _execute(state: State, run: Run, job: Job, definition: workflow.Job, inputs: Mapping[str, str]) -> JobResult:
    with state.lock:
        job.status, job.started_at = "in_progress", now()
        check = state.checks[job.id]
        check.status, check.started_at = "in_progress", job.started_at
        environment = _environment(state, run, job)
        token = _token(state, run, definition)

    def progress(step: StepResult) -> None:
        with state.lock:
            kept = [s for s in job.steps if s.number != step.number]
            job.steps = sorted([*kept, _step(step)], key=lambda s: s.number)

    scratch = Path(tempfile.mkdtemp(prefix="job-", dir=state.root / "scratch"))
    try:
        return run_job(
            definition,
            checkout=lambda target: run.repository.git.check_out(run.checkout_sha, target),
            scratch=scratch,
            env=environment,
            progress=progress,
            cancelled=run.cancelled,
            inputs=inputs,
            token=token.value,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with state.lock:
            state.tokens.pop(token.value, None)


def _token(state: State, run: Run, definition: workflow.Job) -> Token:
    """GITHUB_TOKEN: this repository alone, with what the workflow grants, for as long as the job runs."""
    granted = {name.replace("-", "_"): level for name, level in definition.permissions.items()}
    token = Token(
        f"ghs_{secrets.token_urlsafe(27)}",
        repository_ids=frozenset({run.repository.id}),
        permissions=tuple({"metadata": "read", **granted}.items()),
        narrowed=True,
    )
    state.tokens[token.value] = token
    return token


def _step(result: StepResult) -> Step:
    return Step(result.number, result.name, result.status, result.conclusion, result.started_at, result.completed_at)


def _settle(state: State, run: Run, job: Job, result: JobResult, conclusion: str) -> None:
    with state.lock:
        job.status, job.conclusion = "completed", conclusion
        job.started_at = job.started_at or now()
        job.completed_at = now()
        job.steps = [_step(step) for step in result.steps]
        job.log = result.log
        run.artifacts += [Artifact(next(state.ids), name, content, now()) for name, content in result.artifacts]
        check = state.checks[job.id]
        check.status, check.conclusion, check.completed_at = "completed", conclusion, job.completed_at
        check.started_at = job.started_at
        check.annotations = [
            {
                "path": note.path,
                "start_line": note.line,
                "end_line": note.line,
                "annotation_level": note.level,
                "message": note.message,
                "title": note.title,
            }
            for note in result.annotations
        ]
        events.workflow_job(state, "completed", run, job)
        events.check_run(state, "completed", check, run.triggering_actor)


def _environment(state: State, run: Run, job: Job) -> dict[str, str]:
    where = run.repository
    pull = run.event == "pull_request"
    ref = f"refs/heads/{run.head_branch}"
    return {
        "GITHUB_REPOSITORY": where.full_name,
        "GITHUB_REPOSITORY_OWNER": where.owner.login,
        "GITHUB_SHA": run.checkout_sha,
        "GITHUB_REF": ref,
        "GITHUB_REF_NAME": run.head_branch,
        "GITHUB_HEAD_REF": run.head_branch if pull else "",
        "GITHUB_RUN_ID": str(run.id),
        "GITHUB_RUN_NUMBER": str(run.number),
        "GITHUB_RUN_ATTEMPT": str(run.attempt),
        "GITHUB_WORKFLOW": run.name,
        "GITHUB_JOB": job.key,
        "GITHUB_ACTOR": run.actor.login,
        "GITHUB_TRIGGERING_ACTOR": run.triggering_actor.login,
        "GITHUB_EVENT_NAME": run.event,
        "GITHUB_SERVER_URL": state.base_url,
        "GITHUB_API_URL": f"{state.base_url}/api/v3",
        "UV_DEFAULT_INDEX": f"{state.base_url}/simple/",
        "PIP_INDEX_URL": f"{state.base_url}/simple/",
        "UV_CACHE_DIR": str(state.root / "scratch" / "uv-cache"),
    }
