"""Pull requests: open, list, change, merge."""

from __future__ import annotations

from starlette.responses import Response

from sandbox import events, present_git, present_pulls, pushes
from sandbox.call import ApiError, Call, Route, invalid, not_found, paged, reply
from sandbox.state import Issue, Pull, now


def list_pulls(call: Call) -> Response:
    where, query = call.repository, call.query
    found = sorted((i for i in where.issues.values() if i.pull), key=lambda i: i.number, reverse=True)
    wanted = query.get("state", "open")
    if wanted != "all":
        found = [i for i in found if i.state == wanted]
    # Without an owner GitHub ignores the filter and lists everything.
    if ":" in query.get("head", ""):
        owner, branch = query["head"].split(":", 1)
        found = [i for i in found if i.pull and (owner, i.pull.head_ref) == (where.owner.login, branch)]
    if query.get("base"):
        found = [i for i in found if i.pull and i.pull.base_ref == query["base"]]
    return paged(call, found, lambda i: present_pulls.pull_simple(call.state, where, i))


def create_pull(call: Call) -> Response:
    state, where, git = call.state, call.repository, call.repository.git
    title, base = call.text("title"), call.text("base")
    head = call.text("head")
    owner, _, branch = head.rpartition(":")
    head_sha, base_sha = git.resolve(branch), git.resolve(base)
    for field, value, missing in (("head", head, head_sha is None or owner not in ("", where.owner.login)),
                                  ("base", base, base_sha is None)):  # fmt: skip
        if missing:
            errors = [{"resource": "PullRequest", "field": field, "code": "invalid", "value": value}]
            raise ApiError(422, "Validation Failed", errors)
    assert head_sha is not None
    assert base_sha is not None
    for issue in where.issues.values():
        if issue.pull and issue.state == "open" and (issue.pull.head_ref, issue.pull.base_ref) == (branch, base):
            raise _refused(f"A pull request already exists for {where.owner.login}:{branch}.")
    if not git.between(base_sha, head_sha):
        raise _refused(f"No commits between {base} and {branch}")
    at = now()
    pull = Pull(next(state.ids), branch, head_sha, base, base_sha, draft=bool(call.body.get("draft")))
    number = len(where.issues) + 1
    issue = Issue(next(state.ids), number, title, call.body.get("body"), call.sender, at, at, pull=pull)
    where.issues[number] = issue
    events.pull_request(state, "opened", where, issue, call.sender)
    pushes.run_pull_workflows(state, where, issue, "opened", call.sender)
    return reply(present_pulls.pull(state, where, issue), 201)


def _refused(message: str) -> ApiError:
    return ApiError(422, "Validation Failed", [{"resource": "PullRequest", "code": "custom", "message": message}])


def _pull(call: Call) -> tuple[Issue, Pull]:
    issue = call.issue
    if issue.pull is None:
        raise not_found()
    return issue, issue.pull


def get_pull(call: Call) -> Response:
    return reply(present_pulls.pull(call.state, call.repository, _pull(call)[0]))


def update_pull(call: Call) -> Response:
    state, where, body = call.state, call.repository, call.body
    issue, pull = _pull(call)
    issue.title = str(body.get("title", issue.title))
    issue.body = body.get("body", issue.body)
    issue.updated_at = now()
    if body.get("state") == "closed" and issue.state == "open":
        pushes.close(state, where, issue, call.sender)
    elif body.get("state") == "open" and issue.state == "closed":
        if pull.merged_at or where.git.resolve(pull.head_ref) is None:
            raise invalid("state cannot be changed. The pull request cannot be reopened.")
        pushes.reopen(state, where, issue, call.sender)
    return reply(present_pulls.pull(state, where, issue))


def list_files(call: Call) -> Response:
    where = call.repository
    _, pull = _pull(call)
    base = where.git.merge_base(pull.base_sha, pull.head_sha) or pull.base_sha
    changes = where.git.changes(base, pull.head_sha)
    return paged(call, changes, lambda c: present_git.change(call.state, where, c, pull.head_sha))


def list_commits(call: Call) -> Response:
    where = call.repository
    _, pull = _pull(call)
    shas = where.git.between(pull.base_sha, pull.head_sha)
    return paged(call, shas, lambda sha: present_git.commit(call.state, where, where.git.commit(sha)))


def merge_pull(call: Call) -> Response:
    """A merge commit or, with merge_method=squash, one commit; the head branch stays."""
    state, where, git, body = call.state, call.repository, call.repository.git, call.body
    issue, pull = _pull(call)
    base_sha = git.resolve(pull.base_ref)
    if issue.state != "open" or base_sha is None:
        raise ApiError(405, "Pull Request is not mergeable")
    if body.get("sha") not in (None, pull.head_sha):
        raise ApiError(409, "Head branch was modified. Review and try the merge again.")
    tree = git.merged_tree(base_sha, pull.head_sha)
    if tree is None:
        raise ApiError(405, "Pull Request is not mergeable")
    squash = body.get("merge_method", "merge") != "merge"
    default = issue.title if squash else f"Merge pull request #{issue.number} from {where.owner.login}/{pull.head_ref}"
    subject = body.get("commit_title") or (f"{default} (#{issue.number})" if squash else default)
    text = body.get("commit_message", "" if squash else issue.title)
    who = pushes.signature(call.sender)
    parents = [base_sha] if squash else [base_sha, pull.head_sha]
    sha = git.write_commit(tree, parents, who, who, f"{subject}\n\n{text}".strip())
    git.set_ref(pushes.HEADS + pull.base_ref, sha, base_sha)
    pull.merged_at, pull.merged_by, pull.merge_commit_sha = now(), call.sender, sha
    pushes.close(state, where, issue, call.sender)
    pushes.moved(state, where, pushes.HEADS + pull.base_ref, base_sha, sha, call.sender)
    return reply({"sha": sha, "merged": True, "message": "Pull Request successfully merged"})


def list_pulls_of_commit(call: Call) -> Response:
    """The pull requests that contain a commit: those whose branch has it, and the one that merged it."""
    where, git = call.repository, call.repository.git
    sha = call.commit_sha(call.params["ref"])
    found = [
        issue
        for issue in where.issues.values()
        if issue.pull
        and (
            sha in (issue.pull.merge_commit_sha, issue.pull.head_sha)
            or sha in git.between(issue.pull.base_sha, issue.pull.head_sha)
        )
    ]
    return paged(call, found, lambda i: present_pulls.pull_simple(call.state, where, i))


_PULLS = "/repos/{owner}/{repo}/pulls"
_PULL = f"{_PULLS}/{{number}}"
ROUTES = (
    Route("GET", _PULLS, list_pulls, "pull_requests:read"),
    Route("POST", _PULLS, create_pull, "pull_requests:write"),
    Route("GET", _PULL, get_pull, "pull_requests:read"),
    Route("PATCH", _PULL, update_pull, "pull_requests:write"),
    Route("GET", f"{_PULL}/files", list_files, "pull_requests:read"),
    Route("GET", f"{_PULL}/commits", list_commits, "pull_requests:read"),
    Route("PUT", f"{_PULL}/merge", merge_pull, "contents:write"),
    Route("GET", "/repos/{owner}/{repo}/commits/{ref:path}/pulls", list_pulls_of_commit, "pull_requests:read"),
)
