"""GitHub Actions: runs, jobs, logs, re-runs, workflows."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime

from starlette.responses import Response

from sandbox import execution, links, present, present_work
from sandbox.call import ApiError, Call, Route, invalid, not_found, paged, reply
from sandbox.state import Job, Run, WorkflowFile


def list_runs(call: Call) -> Response:
    where = call.repository
    found = sorted((r for r in call.state.runs.values() if r.repository is where), key=lambda r: r.id, reverse=True)
    wanted = call.query
    if "head_sha" in wanted:
        found = [r for r in found if r.head_sha == wanted["head_sha"]]
    if "branch" in wanted:
        found = [r for r in found if r.head_branch == wanted["branch"]]
    if "event" in wanted:
        found = [r for r in found if r.event == wanted["event"]]
    if "actor" in wanted:
        found = [r for r in found if r.actor.login == wanted["actor"]]
    if "status" in wanted:
        found = [r for r in found if wanted["status"] in (r.status, r.conclusion)]
    if "created" in wanted:
        found = [r for r in found if _created(r.created_at, wanted["created"])]
    return paged(call, found, lambda r: present_work.run(call.state, r), "workflow_runs")


def _created(at: datetime, wanted: str) -> bool:
    """GitHub's date filter: >=X, >X, <=X, <X, X..Y or X."""

    def moment(text: str) -> datetime:
        try:
            return datetime.fromisoformat(text if "T" in text else f"{text}T00:00:00+00:00")
        except ValueError as error:
            raise invalid(f"{text!r} is not a date") from error

    if ".." in wanted:
        low, high = wanted.split("..", 1)
        return (low == "*" or at >= moment(low)) and (high == "*" or at <= moment(high))
    for sign, holds in (
        (">=", datetime.__ge__),
        ("<=", datetime.__le__),
        (">", datetime.__gt__),
        ("<", datetime.__lt__),
    ):
        if wanted.startswith(sign):
            return bool(holds(at, moment(wanted[len(sign) :])))
    return at.date() == moment(wanted).date()


def get_run(call: Call) -> Response:
    return reply(present_work.run(call.state, call.run))


def list_jobs(call: Call) -> Response:
    """The jobs of the latest attempt, or with filter=all those of every one."""
    run = call.run
    jobs = run.jobs if call.query.get("filter") == "all" else run.jobs_of(run.attempt)
    return paged(call, jobs, lambda j: present_work.job(call.state, run, j), "jobs")


def get_attempt(call: Call) -> Response:
    """The run as it stood at the end of an earlier attempt, or as it stands in the current one."""
    run, attempt = call.run, _attempt(call)
    shown = present_work.run(call.state, run)
    if attempt < run.attempt:
        url = present.repository_api(call.state, run.repository)
        shown |= {
            "run_attempt": attempt,
            "status": "completed",
            "conclusion": execution.conclusion_of(run.jobs_of(attempt)),
            "previous_attempt_url": f"{url}/actions/runs/{run.id}/attempts/{attempt - 1}" if attempt > 1 else None,
        }
    return reply(shown)


def _attempt(call: Call) -> int:
    attempt = call.number("attempt")
    if not 1 <= attempt <= call.run.attempt:
        raise not_found()
    return attempt


def list_attempt_jobs(call: Call) -> Response:
    run, attempt = call.run, _attempt(call)
    return paged(call, run.jobs_of(attempt), lambda j: present_work.job(call.state, run, j), "jobs")


def _job(call: Call) -> tuple[Run, Job]:
    number, where = call.number("job_id"), call.repository
    for run in call.state.runs.values():
        if run.repository is where:
            for job in run.jobs:
                if job.id == number:
                    return run, job
    raise not_found()


def get_job(call: Call) -> Response:
    return reply(present_work.job(call.state, *_job(call)))


def get_job_log(call: Call) -> Response:
    """302 to a link that lives a minute and must be fetched without the Authorization header."""
    _, job = _job(call)
    if job.status != "completed":
        raise not_found()
    return links.lend(call, job.log.encode(), "text/plain; charset=utf-8")


def get_run_logs(call: Call) -> Response:
    run = call.run
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for position, job in enumerate(run.jobs_of(run.attempt)):
            archive.writestr(f"{position}_{job.name.replace('/', '_')}.txt", job.log)
    return links.lend(call, packed.getvalue(), "application/zip")


def rerun(call: Call) -> Response:
    return _rerun(call, call.run, None)


def rerun_failed(call: Call) -> Response:
    run = call.run
    failed = {job.id for job in run.jobs_of(run.attempt) if job.conclusion in ("failure", "cancelled")}
    if run.status == "completed" and not failed:
        raise ApiError(403, "This workflow run cannot be retried")
    return _rerun(call, run, failed)


def rerun_job(call: Call) -> Response:
    run, job = _job(call)
    return _rerun(call, run, {job.id})


def _rerun(call: Call, run: Run, only: set[int] | None) -> Response:
    try:
        execution.rerun(call.state, run, only, call.sender)
    except execution.RerunRefused as error:
        raise ApiError(403, str(error)) from error
    return reply({}, 201)


def cancel(call: Call) -> Response:
    run = call.run
    if run.status == "completed":
        raise ApiError(409, "Cannot cancel a workflow run that is completed.")
    run.cancelled.set()
    return reply({}, 202)


def list_runners(call: Call) -> Response:
    return paged(call, call.repository.runners, present_work.runner, "runners")


def list_artifacts(call: Call) -> Response:
    run = call.run
    found = [artifact for artifact in run.artifacts if call.query.get("name", artifact.name) == artifact.name]
    return paged(call, found, lambda artifact: present_work.artifact(call.state, run, artifact), "artifacts")


def get_artifact(call: Call) -> Response:
    """302 to a link that lives a minute, as for logs."""
    number, where = call.number("artifact_id"), call.repository
    runs = [run for run in call.state.runs.values() if run.repository is where]
    for artifact in (artifact for run in runs for artifact in run.artifacts):
        if artifact.id == number:
            return links.lend(call, artifact.content, "application/zip")
    raise not_found()


def list_workflows(call: Call) -> Response:
    where = call.repository
    return paged(call, where.workflows.values(), lambda w: present_work.workflow(call.state, where, w), "workflows")


def _workflow(call: Call) -> WorkflowFile:
    """By number or by file name."""
    wanted = call.params["workflow_id"]
    for file in call.repository.workflows.values():
        if wanted in (str(file.id), file.path.rsplit("/", 1)[-1]):
            return file
    raise not_found()


def get_workflow(call: Call) -> Response:
    return reply(present_work.workflow(call.state, call.repository, _workflow(call)))


def dispatch(call: Call) -> Response:
    """Start a workflow by hand; with return_run_details the answer names the run."""
    where, file, ref = call.repository, _workflow(call), call.text("ref")
    if where.git.resolve(ref) is None:
        raise ApiError(422, f"No ref found for: {ref}")
    inputs = {name: str(value) for name, value in (call.body.get("inputs") or {}).items()}
    run = execution.dispatch(call.state, where, file, ref, call.sender, inputs)
    if run is None:
        raise ApiError(422, "Workflow does not have 'workflow_dispatch' trigger")
    if not call.body.get("return_run_details"):
        return Response(status_code=204)
    shown = present_work.run(call.state, run)
    return reply({"workflow_run_id": run.id, "run_url": shown["url"], "html_url": shown["html_url"]})


_RUN = "/repos/{owner}/{repo}/actions/runs/{run_id}"
_JOB = "/repos/{owner}/{repo}/actions/jobs/{job_id}"
_WORKFLOWS = "/repos/{owner}/{repo}/actions/workflows"
ROUTES = (
    Route("GET", "/repos/{owner}/{repo}/actions/runners", list_runners, "administration:read"),
    Route("GET", "/repos/{owner}/{repo}/actions/runs", list_runs, "actions:read"),
    Route("GET", _RUN, get_run, "actions:read"),
    Route("GET", f"{_RUN}/jobs", list_jobs, "actions:read"),
    Route("GET", f"{_RUN}/attempts/{{attempt}}", get_attempt, "actions:read"),
    Route("GET", f"{_RUN}/attempts/{{attempt}}/jobs", list_attempt_jobs, "actions:read"),
    Route("GET", f"{_RUN}/logs", get_run_logs, "actions:read"),
    Route("GET", f"{_RUN}/artifacts", list_artifacts, "actions:read"),
    Route("GET", "/repos/{owner}/{repo}/actions/artifacts/{artifact_id}/zip", get_artifact, "actions:read"),
    Route("POST", f"{_RUN}/rerun", rerun, "actions:write"),
    Route("POST", f"{_RUN}/rerun-failed-jobs", rerun_failed, "actions:write"),
    Route("POST", f"{_RUN}/cancel", cancel, "actions:write"),
    Route("GET", _JOB, get_job, "actions:read"),
    Route("GET", f"{_JOB}/logs", get_job_log, "actions:read"),
    Route("POST", f"{_JOB}/rerun", rerun_job, "actions:write"),
    Route("GET", _WORKFLOWS, list_workflows, "actions:read"),
    Route("GET", f"{_WORKFLOWS}/{{workflow_id}}", get_workflow, "actions:read"),
    Route("POST", f"{_WORKFLOWS}/{{workflow_id}}/dispatches", dispatch, "actions:write"),
)
