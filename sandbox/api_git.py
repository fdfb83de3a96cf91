"""The git data API: blobs, trees, commits, references."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime

from starlette.responses import Response

from sandbox import present, present_git, pushes
from sandbox.api_repos import refuse_workflow_change
from sandbox.call import ApiError, Call, Route, invalid, not_found, reply
from sandbox.gitrepo import SHA, ZERO, GitError, Signature
from sandbox.state import Json, node_id, now


def create_blob(call: Call) -> Response:
    text = call.text("content")
    try:
        content = base64.b64decode(text) if call.body.get("encoding") == "base64" else text.encode()
    except binascii.Error as error:
        raise invalid("content is not valid Base64") from error
    sha = call.repository.git.write_blob(content)
    return reply({"sha": sha, "url": f"{present.repository_api(call.state, call.repository)}/git/blobs/{sha}"}, 201)


def get_blob(call: Call) -> Response:
    sha = call.params["sha"]
    try:
        content = call.repository.git.blob(_sha(sha))
    except GitError as error:
        raise not_found() from error
    shown = {
        "sha": sha,
        "node_id": node_id("B", sha),
        "size": len(content),
        "url": f"{present.repository_api(call.state, call.repository)}/git/blobs/{sha}",
        "content": base64.encodebytes(content).decode(),
        "encoding": "base64",
    }
    return reply(shown)


def _sha(text: str) -> str:
    if not SHA.fullmatch(text):
        raise not_found()
    return text


def create_tree(call: Call) -> Response:
    where, git = call.repository, call.repository.git
    lines: list[Json] = call.body.get("tree", [])
    refuse_workflow_change(call, [str(line.get("path", "")) for line in lines])
    base = call.body.get("base_tree")
    entries = []
    for line in lines:
        blob = line.get("sha")
        if "content" in line:
            blob = git.write_blob(str(line["content"]).encode())
        elif "sha" not in line:
            raise invalid("tree.sha or tree.content must be supplied")
        entries.append((str(line.get("mode", "100644")), None if blob is None else _sha(blob), str(line["path"])))
    try:
        sha = git.write_tree(_sha(base) if base else None, entries)
    except GitError as error:
        raise invalid("tree contains a malformed path or an unknown object") from error
    return reply(present_git.tree(call.state, where, sha, git.entries(sha)), 201)


def get_tree(call: Call) -> Response:
    where, git = call.repository, call.repository.git
    wanted = call.params["sha"]
    name = git.resolve(wanted) or _sha(wanted)
    try:
        entries = git.entries(name, recursive=bool(call.query.get("recursive")))
        sha = git.run("rev-parse", f"{name}^{{tree}}").decode().strip()
    except GitError as error:
        raise not_found() from error
    return reply(present_git.tree(call.state, where, sha, entries))


def create_commit(call: Call) -> Response:
    """Equal input, dates included, gives an equal SHA."""
    where, git = call.repository, call.repository.git
    message, tree = call.text("message"), _sha(call.text("tree"))
    parents = [_sha(parent) for parent in call.body.get("parents", [])]
    author = _signature(call, "author") or pushes.signature(call.sender)
    committer = _signature(call, "committer") or author
    try:
        git.run("cat-file", "-e", f"{tree}^{{tree}}")
        for parent in parents:
            git.run("cat-file", "-e", f"{parent}^{{commit}}")
    except GitError as error:
        raise ApiError(422, "Tree SHA does not exist, or a parent does not") from error
    sha = git.write_commit(tree, parents, author, committer, message)
    return reply(present_git.git_commit(call.state, where, git.commit(sha)), 201)


def _signature(call: Call, name: str) -> Signature | None:
    given = call.body.get(name)
    if not given:
        return None
    try:
        at = datetime.fromisoformat(given["date"]) if given.get("date") else now()
        return Signature(str(given["name"]), str(given["email"]), at)
    except (KeyError, ValueError) as error:
        raise invalid(f"{name} is malformed") from error


def get_commit(call: Call) -> Response:
    git = call.repository.git
    try:
        commit = git.commit(_sha(call.params["sha"]))
    except GitError as error:
        raise not_found() from error
    return reply(present_git.git_commit(call.state, call.repository, commit))


def get_ref(call: Call) -> Response:
    name = f"refs/{call.params['ref']}"
    sha = call.repository.git.refs().get(name)
    if sha is None:
        raise not_found()
    return reply(present_git.ref(call.state, call.repository, name, sha))


def list_matching_refs(call: Call) -> Response:
    prefix = f"refs/{call.params['ref']}"
    found = {name: sha for name, sha in call.repository.git.refs().items() if name.startswith(prefix)}
    return reply([present_git.ref(call.state, call.repository, name, sha) for name, sha in found.items()])


def create_ref(call: Call) -> Response:
    where, name, sha = call.repository, call.text("ref"), call.text("sha")
    if not name.startswith("refs/") or name.count("/") < 2:
        raise ApiError(422, "Reference name must start with 'refs/' and have at least two slashes.")
    if where.git.resolve(sha) != sha:
        raise ApiError(422, "Object does not exist")
    if name in where.git.refs():
        raise ApiError(422, "Reference already exists")
    try:
        where.git.set_ref(name, sha, ZERO)
    except GitError as error:
        raise ApiError(422, "Reference could not be created") from error
    pushes.moved(call.state, where, name, ZERO, sha, call.sender)
    return reply(present_git.ref(call.state, where, name, sha), 201)


def update_ref(call: Call) -> Response:
    where, git, name, sha = call.repository, call.repository.git, f"refs/{call.params['ref']}", call.text("sha")
    before = git.refs().get(name)
    if before is None:
        raise ApiError(422, "Reference does not exist")
    if git.resolve(sha) != sha:
        raise ApiError(422, "Object does not exist")
    if not call.body.get("force") and not git.is_ancestor(before, sha):
        raise ApiError(422, "Update is not a fast forward")
    git.set_ref(name, sha, before)
    if sha != before:
        pushes.moved(call.state, where, name, before, sha, call.sender)
    return reply(present_git.ref(call.state, where, name, sha))


def delete_ref(call: Call) -> Response:
    where, name = call.repository, f"refs/{call.params['ref']}"
    before = where.git.refs().get(name)
    if before is None:
        raise ApiError(422, "Reference does not exist")
    where.git.delete_ref(name)
    pushes.moved(call.state, where, name, before, ZERO, call.sender)
    return Response(status_code=204)


_GIT = "/repos/{owner}/{repo}/git"
ROUTES = (
    Route("POST", f"{_GIT}/blobs", create_blob, "contents:write"),
    Route("GET", f"{_GIT}/blobs/{{sha}}", get_blob, "contents:read"),
    Route("POST", f"{_GIT}/trees", create_tree, "contents:write"),
    Route("GET", f"{_GIT}/trees/{{sha:path}}", get_tree, "contents:read"),
    Route("POST", f"{_GIT}/commits", create_commit, "contents:write"),
    Route("GET", f"{_GIT}/commits/{{sha}}", get_commit, "contents:read"),
    Route("POST", f"{_GIT}/refs", create_ref, "contents:write"),
    Route("GET", f"{_GIT}/ref/{{ref:path}}", get_ref, "contents:read"),
    Route("GET", f"{_GIT}/matching-refs/{{ref:path}}", list_matching_refs, "contents:read"),
    Route("PATCH", f"{_GIT}/refs/{{ref:path}}", update_ref, "contents:write"),
    Route("DELETE", f"{_GIT}/refs/{{ref:path}}", delete_ref, "contents:write"),
)
