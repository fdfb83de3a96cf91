"""What the demo and the tests use, under /_sandbox/: make repositories and users, push, click, switch faults on."""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from starlette.responses import Response

from sandbox import events, present, present_work, pushes
from sandbox.call import ApiError, Call, Route, not_found, reply
from sandbox.catalogue import SCENARIOS
from sandbox.gitrepo import ZERO, GitRepository
from sandbox.state import Account, Installation, Json, Repository, State, Token, now

NAME = re.compile(r"\.?[A-Za-z0-9_][A-Za-z0-9_.-]*")
LEVELS = ("admin", "write", "read", "none")


def create_repository(call: Call) -> Response:
    """{owner?, name, directory | files, default_branch?, message?, login?, installed?}: make it, install the App, push.
    `installed` false: without the App."""
    state, body = call.state, call.body
    owner = state.account(str(body.get("owner", state.owner.login)), "Organization")
    name, branch = call.text("name"), str(body.get("default_branch", "main"))
    if not NAME.fullmatch(name) or not NAME.fullmatch(owner.login) or state.repository(owner.login, name):
        raise ApiError(422, f"{owner.login}/{name} exists already or is no name for a repository")
    files = _from_directory(Path(body["directory"])) if "directory" in body else body.get("files", {})
    git = GitRepository(state.root / "repositories" / owner.login / f"{name}.git")
    git.create(branch)
    where = Repository(next(state.ids), owner, name, branch, git, now(), now())
    state.repositories[where.full_name.lower()] = where
    if body.get("installed", True):
        _install(state, where)
    message = str(body.get("message", "Add the project"))
    _commit(call, where, branch, files, message, str(body.get("login", "maintainer")))
    return reply(present.repository(state, where), 201)


def _from_directory(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise ApiError(422, f"{folder} is not a folder")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and ".git" not in path.parts
    }


def install(call: Call) -> Response:
    """{repo, selection?}: put the App on a repository; `selection` is from now on that of its account."""
    where = _repository(call)
    selection = str(call.body.get("selection", ""))
    if selection not in ("", "all", "selected"):
        raise ApiError(422, "selection is all or selected")
    _install(call.state, where, selection)
    return reply({}, 202)


def _install(state: State, where: Repository, selection: str = "") -> None:
    found = _installation(state, where.owner)
    if found is not None:
        found.repository_ids.add(where.id)
        found.selection = selection or found.selection
        for value, token in list(state.tokens.items()):
            if token.installation_id == found.id:
                state.tokens[value] = _widened(token, where.id)
        events.repositories_changed(state, "added", found, [where])
        return
    made = Installation(next(state.ids), where.owner, now(), {where.id}, dict(state.app.permissions))
    made.selection = selection or made.selection
    state.installations[made.id] = made
    events.installation(state, "created", made, [where])


def _widened(token: Token, repository_id: int) -> Token:
    """A token that covers the whole installation covers what is added to it later, too."""
    if token.narrowed:
        return token
    return replace(token, repository_ids=token.repository_ids | {repository_id})


def _installation(state: State, owner: Account) -> Installation | None:
    return next((i for i in state.installations.values() if i.account == owner), None)


def uninstall(call: Call) -> Response:
    """{owner}: the App leaves this account; its tokens are worth nothing from now on. {repo}: this repository alone."""
    state = call.state
    if "repo" in call.body:
        return _leave(state, _repository(call))
    found = _installation(state, state.account(call.text("owner")))
    if found is None:
        raise not_found()
    del state.installations[found.id]
    for value, token in list(state.tokens.items()):
        if token.installation_id == found.id:
            del state.tokens[value]
    events.installation(
        state, "deleted", found, [r for r in state.repositories.values() if r.id in found.repository_ids]
    )
    return reply({}, 202)


def _leave(state: State, where: Repository) -> Response:
    found = _installation(state, where.owner)
    if found is None or where.id not in found.repository_ids:
        raise not_found()
    found.repository_ids.remove(where.id)
    for value, token in list(state.tokens.items()):
        if token.installation_id == found.id:
            state.tokens[value] = replace(token, repository_ids=token.repository_ids - {where.id})
    events.repositories_changed(state, "removed", found, [where])
    return reply({}, 202)


def grant(call: Call) -> Response:
    """{owner, permissions: {name: level}}: what the App may on this account from now on, beside what it may already."""
    state, owner = call.state, call.state.account(call.text("owner"))
    found = _installation(state, owner)
    if found is None:
        raise not_found()
    found.permissions.update(call.body.get("permissions", {}))
    more = tuple(found.permissions.items())
    for value, token in list(state.tokens.items()):
        if token.installation_id == found.id and token.narrowed:
            state.tokens[value] = replace(token, permissions=more)
    return reply({}, 200)


def create_commit(call: Call) -> Response:
    """{repo, branch?, files: {path: text or null to remove}, message?, login?}: push one commit as a user."""
    where = _repository(call)
    branch = str(call.body.get("branch", where.default_branch))
    message, login = str(call.body.get("message", "Update")), str(call.body.get("login", "maintainer"))
    sha = _commit(call, where, branch, call.body.get("files", {}), message, login)
    return reply({"sha": sha}, 201)


def _repository(call: Call) -> Repository:
    owner, _, name = call.text("repo").partition("/")
    found = call.state.repository(owner, name)
    if found is None:
        raise not_found()
    return found


def _commit(call: Call, where: Repository, branch: str, files: dict[str, Any], message: str, login: str) -> str:
    state, git = call.state, where.git
    who = state.account(login)
    state.levels.setdefault((login.lower(), "*"), "write")
    heads = git.refs(pushes.HEADS)
    before = heads.get(pushes.HEADS + branch, ZERO)
    parent = before if before != ZERO else heads.get(pushes.HEADS + where.default_branch)
    entries = []
    for path, text in files.items():
        content = text.encode() if isinstance(text, str) else text
        mode = "100755" if content is not None and content.startswith(b"#!") else "100644"
        entries.append((mode, None if content is None else git.write_blob(content), path))
    tree = git.write_tree(parent, entries)
    signature = pushes.signature(who)
    sha = git.write_commit(tree, [parent] if parent else [], signature, signature, message)
    git.set_ref(pushes.HEADS + branch, sha, before)
    pushes.moved(state, where, pushes.HEADS + branch, before, sha, who)
    return sha


def create_user(call: Call) -> Response:
    """{login, permission, repo?}: a user, with a level on one repository or on all, and a token."""
    login, level = call.text("login"), str(call.body.get("permission", "write"))
    if level not in LEVELS:
        raise ApiError(422, f"permission is one of {', '.join(LEVELS)}")
    call.state.account(login)
    repository = _repository(call).full_name if "repo" in call.body else "*"
    call.state.levels[login.lower(), repository] = level
    token = Token(f"ghu_{secrets.token_urlsafe(27)}", login=login)
    call.state.tokens[token.value] = token
    return reply({"login": login, "token": token.value}, 201)


def click(call: Call) -> Response:
    """{identifier, login}: press a check run's button."""
    check = call.state.checks.get(call.number("check_run_id"))
    identifier = call.text("identifier")
    if check is None or identifier not in [action["identifier"] for action in check.actions]:
        raise not_found()
    sender = call.state.account(call.text("login"))
    events.check_run(call.state, "requested_action", check, sender, identifier)
    return reply({}, 202)


def set_hook(call: Call) -> Response:
    """{url}: where events go from now on; a ping goes there first."""
    call.state.hook.url = call.text("url")
    events.ping(call.state)
    return reply({}, 202)


def add_fault(call: Call) -> Response:
    try:
        return reply(asdict(call.state.faults.add(dict(call.body))), 201)
    except ValueError as error:
        raise ApiError(422, str(error)) from error


def clear_faults(call: Call) -> Response:
    call.state.faults.clear()
    return Response(status_code=204)


def list_requests(call: Call) -> Response:
    """Every API request so far: method, path, status, identity, body. For counting effects."""
    return reply(call.state.requests)


def list_deliveries(call: Call) -> Response:
    return reply([present.delivery(d) for d in call.state.deliveries])


def list_scenarios(_: Call) -> Response:
    """The repositories of the demonstration, and what heals each of them."""
    return reply(
        [{"name": s.name, "title": s.title, "directory": str(s.directory), "healed_by": s.healed_by} for s in SCENARIOS]
    )


def get_idle(call: Call) -> Response:
    return reply({"idle": call.state.idle})


def get_state(call: Call) -> Response:
    """Per repository: branches, issues, pull requests with their comments, check runs, runs with their attempts."""
    return reply({r.full_name: _summary(call.state, r) for r in call.state.repositories.values()})


def _summary(state: State, where: Repository) -> Json:
    issues = []
    for issue in where.issues.values():
        line = {"number": issue.number, "title": issue.title, "state": issue.state, "user": issue.user.login}
        line["comments"] = [{"user": c.user.login, "body": c.body} for c in issue.comments]
        if issue.pull:
            line |= {"head": issue.pull.head_ref, "base": issue.pull.base_ref, "merged": bool(issue.pull.merged_at)}
        issues.append((issue.pull is not None, line))
    return {
        "branches": where.git.refs(pushes.HEADS),
        "issues": [line for pull, line in issues if not pull],
        "pulls": [line for pull, line in issues if pull],
        "check_runs": [
            {"id": c.id, "name": c.name, "app": c.app.slug, "head_sha": c.head_sha, "status": c.status}
            | {"conclusion": c.conclusion, "external_id": c.external_id, "title": c.output.get("title")}
            for c in state.checks.values()
            if c.repository is where
        ],
        "runs": [
            {"id": r.id, "name": r.name, "event": r.event, "head_sha": r.head_sha, "head_branch": r.head_branch}
            | {"status": r.status, "conclusion": r.conclusion, "attempt": r.attempt}
            | {"jobs": [present_work.job(state, r, j) for j in r.jobs]}
            for r in state.runs.values()
            if r.repository is where
        ],
    }


ROUTES = (
    Route("POST", "/repositories", create_repository, "anyone"),
    Route("POST", "/install", install, "anyone"),
    Route("POST", "/uninstall", uninstall, "anyone"),
    Route("POST", "/permissions", grant, "anyone"),
    Route("POST", "/commits", create_commit, "anyone"),
    Route("POST", "/users", create_user, "anyone"),
    Route("POST", "/check-runs/{check_run_id}/click", click, "anyone"),
    Route("POST", "/hook", set_hook, "anyone"),
    Route("POST", "/faults", add_fault, "anyone"),
    Route("DELETE", "/faults", clear_faults, "anyone"),
    Route("GET", "/requests", list_requests, "anyone"),
    Route("GET", "/deliveries", list_deliveries, "anyone"),
    Route("GET", "/idle", get_idle, "anyone"),
    Route("GET", "/state", get_state, "anyone"),
    Route("GET", "/scenarios", list_scenarios, "anyone"),
)
