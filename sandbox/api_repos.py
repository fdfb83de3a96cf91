"""A repository's settings and content: branches, commits, comparisons, files, permissions."""

from __future__ import annotations

import base64
import binascii

from starlette.responses import Response

from sandbox import execution, links, present, present_git, pushes
from sandbox.call import ApiError, Call, Route, not_found, paged, reply
from sandbox.gitrepo import GitError
from sandbox.state import Json


def get_repository(call: Call) -> Response:
    where = call.repository
    shown = present.repository(call.state, where) | {"subscribers_count": 0, "network_count": 0}
    return reply(shown | {"organization": present.account(call.state, where.owner)})


def list_branches(call: Call) -> Response:
    where = call.repository
    url = present.repository_api(call.state, where)
    heads = where.git.refs(pushes.HEADS)

    def show(ref: str) -> Json:
        sha = heads[ref]
        return {"name": _name(ref), "commit": {"sha": sha, "url": f"{url}/commits/{sha}"}, "protected": False}

    return paged(call, heads, show)


def _name(ref: str) -> str:
    return ref.removeprefix(pushes.HEADS)


def get_branch(call: Call) -> Response:
    where, name = call.repository, call.params["branch"]
    sha = where.git.refs(pushes.HEADS).get(pushes.HEADS + name)
    if sha is None:
        raise ApiError(404, "Branch not found")
    url = f"{present.repository_api(call.state, where)}/branches/{name}"
    shown = {
        "name": name,
        "commit": present_git.commit(call.state, where, where.git.commit(sha)),
        "_links": {"self": url, "html": f"{present.repository_page(call.state, where)}/tree/{name}"},
        "protected": False,
        "protection": {
            "enabled": False,
            "required_status_checks": {"enforcement_level": "off", "contexts": [], "checks": []},
        },
        "protection_url": f"{url}/protection",
    }
    return reply(shown)


def get_commit(call: Call) -> Response:
    where, git = call.repository, call.repository.git
    commit = git.commit(call.commit_sha(call.params["ref"]))
    empty = git.write_tree(None, [])
    changes = git.changes(commit.parents[0] if commit.parents else empty, commit.sha)
    shown = present_git.commit(call.state, where, commit)
    added, removed = sum(c.additions for c in changes), sum(c.deletions for c in changes)
    shown["stats"] = {"additions": added, "deletions": removed, "total": added + removed}
    shown["files"] = [present_git.change(call.state, where, c, commit.sha) for c in changes]
    return reply(shown)


def list_commits(call: Call) -> Response:
    where, git = call.repository, call.repository.git
    start = call.commit_sha(call.query.get("sha", where.default_branch))
    path = ["--", call.query["path"]] if call.query.get("path") else []
    shas = git.run("--literal-pathspecs", "rev-list", "--max-count=1000", start, *path).decode().split()
    return paged(call, shas, lambda sha: present_git.commit(call.state, where, git.commit(sha)))


def compare(call: Call) -> Response:
    state, where, git = call.state, call.repository, call.repository.git
    base_name, dots, head_name = call.params["basehead"].partition("...")
    base, head = git.resolve(base_name), git.resolve(head_name)
    common = git.merge_base(base, head) if base and head else None
    if not dots or base is None or head is None or common is None:
        raise not_found()
    ahead, behind = git.between(base, head), git.between(head, base)
    status = {(False, False): "identical", (True, False): "ahead", (False, True): "behind", (True, True): "diverged"}
    url = f"{present.repository_api(state, where)}/compare/{base_name}...{head_name}"
    page = f"{present.repository_page(state, where)}/compare/{base_name}...{head_name}"
    shown = {
        "url": url,
        "html_url": page,
        "permalink_url": f"{present.repository_page(state, where)}/compare/{base}...{head}",
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "base_commit": present_git.commit(state, where, git.commit(base)),
        "merge_base_commit": present_git.commit(state, where, git.commit(common)),
        "status": status[bool(ahead), bool(behind)],
        "ahead_by": len(ahead),
        "behind_by": len(behind),
        "total_commits": len(ahead),
        "commits": [present_git.commit(state, where, git.commit(sha)) for sha in ahead],
        "files": [present_git.change(state, where, c, head) for c in git.changes(common, head)],
    }
    return reply(shown)


def get_content(call: Call) -> Response:
    where, git = call.repository, call.repository.git
    ref = call.query.get("ref") or where.default_branch
    sha = git.resolve(ref)
    if sha is None:
        raise ApiError(404, f"No commit found for the ref {ref}")
    path = call.params["path"].strip("/")
    entry = git.entry(sha, path) if path else None
    if path and entry is None:
        raise not_found()
    if entry is None or entry.type == "tree":
        lines = git.entries(sha, path=path)
        return reply([present_git.content(call.state, where, line, ref, None) for line in lines])
    blob = git.blob(entry.sha)
    if "raw" in call.headers.get("accept", ""):
        return Response(blob, media_type="application/vnd.github.raw; charset=utf-8")
    return reply(present_git.content(call.state, where, entry, ref, blob))


def get_archive(call: Call) -> Response:
    """302 to a link that lives a minute, as GitHub sends one to its own store of archives."""
    where, sha = call.repository, call.commit_sha(call.params["ref"])
    folder = f"{where.owner.login}-{where.name}-{sha[:7]}/"
    packed = where.git.run("archive", "--format=tar.gz", f"--prefix={folder}", sha)
    return links.lend(call, packed, "application/x-gzip")


def put_content(call: Call) -> Response:
    """Create or change one file; `sha` must be that of the file now there (409 if it is another)."""
    state, where, git, path = call.state, call.repository, call.repository.git, call.params["path"].strip("/")
    branch = call.body.get("branch") or where.default_branch
    message = call.text("message")
    head = git.refs(pushes.HEADS).get(pushes.HEADS + branch)
    if head is None:
        raise ApiError(404, f"Branch {branch} not found")
    refuse_workflow_change(call, [path])
    old = git.entry(head, path)
    expected = call.body.get("sha")
    if old is not None and expected is None:
        raise ApiError(422, 'Invalid request.\n\n"sha" wasn\'t supplied.')
    if expected is not None and (old is None or old.sha != expected):
        raise ApiError(409, f"{path} does not match {expected}")
    try:
        blob = git.write_blob(base64.b64decode(call.text("content"), validate=False))
        tree = git.write_tree(head, [(old.mode if old else "100644", blob, path)])
    except (binascii.Error, GitError) as error:
        raise ApiError(422, "content is not valid Base64, or path is malformed") from error
    who = pushes.signature(call.sender)
    sha = git.write_commit(tree, [head], who, who, message)
    git.set_ref(pushes.HEADS + branch, sha, head)
    pushes.moved(state, where, pushes.HEADS + branch, head, sha, call.sender)
    entry = git.entry(sha, path)
    assert entry is not None
    shown = {
        "content": present_git.content(state, where, entry, branch, None),
        "commit": present_git.git_commit(state, where, git.commit(sha)),
    }
    return reply(shown, 200 if old else 201)


def refuse_workflow_change(call: Call, paths: list[str]) -> None:
    """An App may change workflow files only with the `workflows` permission. Raises ApiError 403."""
    token = call.identity.token
    if token and not token.login and dict(token.permissions).get("workflows") != "write":
        for path in paths:
            if path.startswith(f"{execution.FOLDER}/"):
                raise ApiError(403, "Resource not accessible by integration")


def get_permission(call: Call) -> Response:
    state, login = call.state, call.params["username"]
    who = state.accounts.get(login.lower())
    if who is None:
        raise ApiError(404, f"{login} is not a user")
    level = state.level_of(login, call.repository)
    role = level if level in ("admin", "write", "read") else "none"
    user = present.account(state, who) | {
        "role_name": role,
        "permissions": {
            "admin": level == "admin",
            "maintain": level == "admin",
            "push": level in ("admin", "write"),
            "triage": level in ("admin", "write"),
            "pull": level != "none",
        },
    }
    return reply({"permission": level, "role_name": role, "user": user})


_REPO = "/repos/{owner}/{repo}"
ROUTES = (
    Route("GET", _REPO, get_repository, "metadata:read"),
    Route("GET", f"{_REPO}/branches", list_branches, "contents:read"),
    Route("GET", f"{_REPO}/branches/{{branch:path}}", get_branch, "contents:read"),
    Route("GET", f"{_REPO}/commits", list_commits, "contents:read"),
    Route("GET", f"{_REPO}/commits/{{ref:path}}", get_commit, "contents:read"),
    Route("GET", f"{_REPO}/compare/{{basehead:path}}", compare, "contents:read"),
    Route("GET", f"{_REPO}/contents/{{path:path}}", get_content, "contents:read"),
    Route("GET", f"{_REPO}/tarball/{{ref:path}}", get_archive, "contents:read"),
    Route("PUT", f"{_REPO}/contents/{{path:path}}", put_content, "contents:write"),
    Route("GET", f"{_REPO}/collaborators/{{username}}/permission", get_permission, "metadata:read"),
)
