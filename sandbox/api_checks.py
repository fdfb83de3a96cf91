"""Check runs, with GitHub's limits, and commit statuses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.responses import Response

from sandbox import events, present, present_work
from sandbox.call import ApiError, Call, Route, invalid, not_found, paged, reply
from sandbox.state import CheckRun, Json, node_id, now, stamp

MOST_ACTIONS = 3
MOST_ANNOTATIONS = 50
MOST_TEXT = 65_535
ACTION_LENGTHS = {"label": 20, "description": 40, "identifier": 20}
STATUSES = ("queued", "in_progress", "completed", "waiting", "requested", "pending")
CONCLUSIONS = (
    "action_required", "cancelled", "failure", "neutral", "success", "skipped", "stale", "timed_out",
)  # fmt: skip
LEVELS = ("notice", "warning", "failure")


def create_check(call: Call) -> Response:
    where = call.repository
    name, sha = call.text("name"), call.text("head_sha")
    if where.git.resolve(sha) != sha:
        raise ApiError(422, f"No commit found for SHA: {sha}")
    state = call.state
    suite = state.suite(where, sha, state.app.slug)
    check = CheckRun(0, where, state.app, name, sha, suite)
    _apply(check, call.body)
    check.id = next(state.ids)
    state.checks[check.id] = check
    events.check_run(state, "created", check, state.bot)
    if check.status == "completed":
        events.check_run(state, "completed", check, state.bot)
    return reply(present_work.check_run(state, check), 201)


def update_check(call: Call) -> Response:
    check = _check(call)
    if check.app != call.state.app:
        raise ApiError(403, "Resource not accessible by integration")
    before = check.status
    _apply(check, call.body)
    if check.status == "completed" and before != "completed":
        events.check_run(call.state, "completed", check, call.state.bot)
    return reply(present_work.check_run(call.state, check))


def _apply(check: CheckRun, body: Json) -> None:
    """Put a request's settings onto a check run. Raises ApiError 422 and changes nothing when one is not allowed."""
    actions = body.get("actions", check.actions)
    _check_actions(actions)
    output = body.get("output")
    if output is not None:
        _check_output(output)
    status = body.get("status", "completed" if body.get("conclusion") else check.status)
    if status not in STATUSES:
        raise invalid(f"status {status!r} is not one of {', '.join(STATUSES)}")
    conclusion = body.get("conclusion", check.conclusion if status == "completed" else None)
    if conclusion is not None and conclusion not in CONCLUSIONS:
        raise invalid(f"conclusion {conclusion!r} is not one of {', '.join(CONCLUSIONS)}")
    if status == "completed" and conclusion is None:
        raise invalid("conclusion is required when status is completed")
    check.name = body.get("name", check.name)
    check.external_id = body.get("external_id", check.external_id)
    check.details_url = body.get("details_url", check.details_url)
    check.actions, check.status, check.conclusion = actions, status, conclusion
    check.started_at = _moment(body, "started_at") or check.started_at or now()
    check.completed_at = (_moment(body, "completed_at") or check.completed_at or now()) if conclusion else None
    if output is not None:
        check.output = check.output | {k: v for k, v in output.items() if k in ("title", "summary", "text")}
        check.annotations = check.annotations + output.get("annotations", [])


def _moment(body: Json, name: str) -> datetime | None:
    try:
        return datetime.fromisoformat(body[name]) if body.get(name) else None
    except (TypeError, ValueError) as error:
        raise invalid(f"{name} is not a date-time") from error


def _check_actions(actions: Any) -> None:
    if not isinstance(actions, list) or len(actions) > MOST_ACTIONS:
        raise invalid(f"actions exceeds the maximum of {MOST_ACTIONS}")
    for action in actions:
        for name, most in ACTION_LENGTHS.items():
            value = action.get(name)
            if not isinstance(value, str) or not 0 < len(value) <= most:
                raise invalid(f"actions: {name} must be 1 to {most} characters")


def _check_output(output: Json) -> None:
    for name in ("title", "summary"):
        if not isinstance(output.get(name), str):
            raise invalid(f"output.{name} wasn't supplied")
    for name in ("summary", "text"):
        if len(output.get(name) or "") > MOST_TEXT:
            raise invalid(f"{name} is too long (maximum is {MOST_TEXT} characters)")
    annotations = output.get("annotations", [])
    if len(annotations) > MOST_ANNOTATIONS:
        raise invalid(f"annotations exceeds the maximum of {MOST_ANNOTATIONS}")
    for note in annotations:
        for name in ("path", "start_line", "end_line", "annotation_level", "message"):
            if name not in note:
                raise invalid(f"annotations: {name} wasn't supplied")
        if note["annotation_level"] not in LEVELS:
            raise invalid(f"annotation_level is not one of {', '.join(LEVELS)}")


def _check(call: Call) -> CheckRun:
    found = call.state.checks.get(call.number("check_run_id"))
    if found is None or found.repository is not call.repository:
        raise not_found()
    return found


def get_check(call: Call) -> Response:
    return reply(present_work.check_run(call.state, _check(call)))


def list_annotations(call: Call) -> Response:
    check = _check(call)
    page = present.repository_page(call.state, check.repository)

    def show(note: Json) -> Json:
        return {
            "path": note["path"],
            "start_line": note["start_line"],
            "end_line": note["end_line"],
            "start_column": note.get("start_column"),
            "end_column": note.get("end_column"),
            "annotation_level": note["annotation_level"],
            "title": note.get("title"),
            "message": note["message"],
            "raw_details": note.get("raw_details"),
            "blob_href": f"{page}/blob/{check.head_sha}/{note['path']}",
        }

    return paged(call, check.annotations, show)


def rerequest_check(call: Call) -> Response:
    check = _check(call)
    check.status, check.conclusion, check.completed_at = "queued", None, None
    events.check_run(call.state, "rerequested", check, call.sender)
    return reply({}, 201)


def list_checks(call: Call) -> Response:
    """By commit; filter=latest (the default) keeps the newest of each name and suite."""
    sha = call.commit_sha(call.params["ref"])
    found = [c for c in call.state.checks.values() if c.repository is call.repository and c.head_sha == sha]
    if "check_name" in call.query:
        found = [c for c in found if c.name == call.query["check_name"]]
    if "status" in call.query:
        found = [c for c in found if c.status == call.query["status"]]
    if "app_id" in call.query:
        found = [c for c in found if str(c.app.id) == call.query["app_id"]]
    if call.query.get("filter", "latest") == "latest":
        found = list({(c.check_suite_id, c.name): c for c in found}.values())
    return paged(call, reversed(found), lambda c: present_work.check_run(call.state, c), "check_runs")


def create_status(call: Call) -> Response:
    state, where, sha = call.state, call.repository, call.commit_sha(call.params["sha"])
    value = call.text("state")
    if value not in ("error", "failure", "pending", "success"):
        raise invalid("state is not one of error, failure, pending, success")
    number = next(state.ids)
    shown = {
        "url": f"{present.repository_api(state, where)}/statuses/{sha}",
        "avatar_url": f"{state.base_url}/avatars/{call.sender.id}",
        "id": number,
        "node_id": node_id("SC", number),
        "state": value,
        "description": call.body.get("description"),
        "target_url": call.body.get("target_url"),
        "context": call.body.get("context", "default"),
        "created_at": stamp(now()),
        "updated_at": stamp(now()),
        "creator": present.account(state, call.sender),
    }
    state.statuses.append(shown | {"repository_id": where.id, "sha": sha})
    return reply(shown, 201)


_CHECKS = "/repos/{owner}/{repo}/check-runs"
ROUTES = (
    Route("POST", _CHECKS, create_check, "checks:write"),
    Route("GET", f"{_CHECKS}/{{check_run_id}}", get_check, "checks:read"),
    Route("PATCH", f"{_CHECKS}/{{check_run_id}}", update_check, "checks:write"),
    Route("GET", f"{_CHECKS}/{{check_run_id}}/annotations", list_annotations, "checks:read"),
    Route("POST", f"{_CHECKS}/{{check_run_id}}/rerequest", rerequest_check, "checks:write"),
    Route("GET", "/repos/{owner}/{repo}/commits/{ref:path}/check-runs", list_checks, "checks:read"),
    Route("POST", "/repos/{owner}/{repo}/statuses/{sha}", create_status, "statuses:write"),
)
