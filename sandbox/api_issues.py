"""Issues, their comments, reactions and labels."""

from __future__ import annotations

from datetime import datetime

from starlette.responses import Response

from sandbox import events, present, present_work, pushes
from sandbox.call import ApiError, Call, Route, invalid, not_found, paged, reply
from sandbox.state import Comment, Issue, Json, node_id, now, stamp

MOST_BODY = 65_536


def list_issues(call: Call) -> Response:
    """Pull requests are listed too, as on GitHub."""
    where, query = call.repository, call.query
    found = sorted(where.issues.values(), key=lambda i: i.number, reverse=query.get("direction", "desc") == "desc")
    wanted = query.get("state", "open")
    if wanted != "all":
        found = [i for i in found if i.state == wanted]
    if query.get("labels"):
        found = [i for i in found if set(query["labels"].split(",")) <= set(i.labels)]
    if query.get("creator"):
        found = [i for i in found if i.user.login == query["creator"]]
    if query.get("since"):
        since = _moment(query["since"])
        found = [i for i in found if i.updated_at >= since]
    return paged(call, found, lambda i: present_work.issue(call.state, where, i))


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(f"{text!r} is not a date-time") from error


def create_issue(call: Call) -> Response:
    where = call.repository
    title = call.body.get("title")
    if not isinstance(title, str | int) or not str(title):
        raise ApiError(422, 'Invalid request.\n\n"title" wasn\'t supplied.')
    at = now()
    number = len(where.issues) + 1
    issue = Issue(next(call.state.ids), number, str(title), _body(call), call.sender, at, at)
    issue.labels = _labels(call.body.get("labels", []))
    where.issues[number] = issue
    events.issues(call.state, "opened", where, issue, call.sender)
    return reply(present_work.issue(call.state, where, issue), 201)


def _body(call: Call) -> str | None:
    body = call.body.get("body")
    if body is not None and (not isinstance(body, str) or len(body) > MOST_BODY):
        raise invalid(f"body is too long (maximum is {MOST_BODY} characters)")
    return body


def _labels(labels: list[str | Json]) -> list[str]:
    return [label if isinstance(label, str) else str(label["name"]) for label in labels]


def get_issue(call: Call) -> Response:
    return reply(present_work.issue(call.state, call.repository, call.issue))


def update_issue(call: Call) -> Response:
    state, where, issue, body = call.state, call.repository, call.issue, call.body
    issue.title = str(body.get("title", issue.title))
    if "body" in body:
        issue.body = _body(call)
    if "labels" in body:
        issue.labels = _labels(body["labels"])
    issue.updated_at = now()
    if body.get("state") == "closed" and issue.state == "open":
        issue.state_reason = body.get("state_reason")
        pushes.close(state, where, issue, call.sender)
    elif body.get("state") == "open" and issue.state == "closed":
        pushes.reopen(state, where, issue, call.sender)
    return reply(present_work.issue(state, where, issue))


def add_labels(call: Call) -> Response:
    where, issue = call.repository, call.issue
    for name in _labels(call.body.get("labels", [])):
        if name not in issue.labels:
            issue.labels.append(name)
    return reply([present_work.label(call.state, where, name) for name in issue.labels])


def remove_label(call: Call) -> Response:
    where, issue = call.repository, call.issue
    if call.params["name"] not in issue.labels:
        raise ApiError(404, "Label does not exist")
    issue.labels.remove(call.params["name"])
    return reply([present_work.label(call.state, where, name) for name in issue.labels])


def list_comments(call: Call) -> Response:
    where, issue = call.repository, call.issue
    found = issue.comments
    if call.query.get("since"):
        since = _moment(call.query["since"])
        found = [c for c in found if c.updated_at >= since]
    return paged(call, found, lambda c: present_work.comment(call.state, where, issue, c))


def create_comment(call: Call) -> Response:
    state, where, issue = call.state, call.repository, call.issue
    text = _body(call)
    if not text:
        raise invalid("body cannot be blank")
    at = now()
    comment = Comment(next(state.ids), text, call.sender, at, at)
    issue.comments.append(comment)
    issue.updated_at = at
    events.issue_comment(state, "created", where, issue, comment, call.sender)
    return reply(present_work.comment(state, where, issue, comment), 201)


def _comment(call: Call) -> tuple[Issue, Comment]:
    number = call.number("comment_id")
    for issue in call.repository.issues.values():
        for comment in issue.comments:
            if comment.id == number:
                return issue, comment
    raise not_found()


def get_comment(call: Call) -> Response:
    return reply(present_work.comment(call.state, call.repository, *_comment(call)))


def update_comment(call: Call) -> Response:
    issue, comment = _comment(call)
    text = _body(call)
    if not text:
        raise invalid("body cannot be blank")
    before, comment.body, comment.updated_at = comment.body, text, now()
    events.issue_comment(call.state, "edited", call.repository, issue, comment, call.sender, before)
    return reply(present_work.comment(call.state, call.repository, issue, comment))


def delete_comment(call: Call) -> Response:
    issue, comment = _comment(call)
    issue.comments.remove(comment)
    events.issue_comment(call.state, "deleted", call.repository, issue, comment, call.sender)
    return Response(status_code=204)


def react(call: Call) -> Response:
    """One reaction of each kind a user: a second one answers 200 with the first."""
    state, content = call.state, call.text("content")
    if content not in present_work.REACTIONS:
        raise invalid(f"content is not one of {', '.join(present_work.REACTIONS)}")
    _, comment = _comment(call)
    old = next((r for r in comment.reactions if r[1:] == (content, call.sender)), None)
    reaction = old or (next(state.ids), content, call.sender)
    if old is None:
        comment.reactions.append(reaction)
    shown = {
        "id": reaction[0],
        "node_id": node_id("REA", reaction[0]),
        "user": present.account(state, call.sender),
        "content": content,
        "created_at": stamp(comment.updated_at),
    }
    return reply(shown, 200 if old else 201)


_ISSUES = "/repos/{owner}/{repo}/issues"
_COMMENT = f"{_ISSUES}/comments/{{comment_id}}"
ROUTES = (
    Route("GET", _ISSUES, list_issues, "issues:read"),
    Route("POST", _ISSUES, create_issue, "issues:write"),
    Route("GET", _COMMENT, get_comment, "issues:read"),
    Route("PATCH", _COMMENT, update_comment, "issues:write"),
    Route("DELETE", _COMMENT, delete_comment, "issues:write"),
    Route("POST", f"{_COMMENT}/reactions", react, "issues:write"),
    Route("GET", f"{_ISSUES}/{{number}}", get_issue, "issues:read"),
    Route("PATCH", f"{_ISSUES}/{{number}}", update_issue, "issues:write"),
    Route("POST", f"{_ISSUES}/{{number}}/labels", add_labels, "issues:write"),
    Route("DELETE", f"{_ISSUES}/{{number}}/labels/{{name}}", remove_label, "issues:write"),
    Route("GET", f"{_ISSUES}/{{number}}/comments", list_comments, "issues:read"),
    Route("POST", f"{_ISSUES}/{{number}}/comments", create_comment, "issues:write"),
)
