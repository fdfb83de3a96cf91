"""The bodies of the events that GitHub sends, and sending them. Call with the state's lock held."""

from __future__ import annotations

from sandbox import present, present_git, present_pulls, present_work
from sandbox.deliver import send
from sandbox.gitrepo import ZERO
from sandbox.state import (
    Account,
    CheckRun,
    Comment,
    Installation,
    Issue,
    Job,
    Json,
    Repository,
    Run,
    State,
    node_id,
    stamp,
)


def _announce(state: State, event: str, where: Repository, sender: Account, body: Json) -> None:
    """Send one event about a repository; nobody listens where the App is not installed."""
    installation = state.installation_of(where)
    if installation is None:
        return
    full = body | {
        "repository": present.repository(state, where),
        "sender": present.account(state, sender),
        "installation": {"id": installation.id, "node_id": node_id("I", installation.id)},
    }
    if where.owner.type == "Organization":
        full["organization"] = present.organization(state, where.owner)
    send(state, event, full, where)


def ping(state: State) -> None:
    hook = {
        "type": "App",
        "id": state.hook_id,
        "name": "web",
        "active": True,
        "events": list(state.app.events or present.EVENTS),
        "config": {"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": state.hook.url or ""},
        "app_id": state.app.id,
        "deliveries_url": present.api(state, "/app/hook/deliveries"),
        "created_at": stamp(state.started_at),
        "updated_at": stamp(state.started_at),
    }
    send(state, "ping", {"zen": "Keep it logically awesome.", "hook_id": state.hook_id, "hook": hook})


def installation(state: State, action: str, which: Installation, repositories: list[Repository]) -> None:
    """`action` is "created" or "deleted"."""
    body = {
        "action": action,
        "installation": present.installation(state, which),
        "repositories": [present.short_repository(r) for r in repositories],
        "requester": None,
        "sender": present.account(state, which.account),
    }
    send(state, "installation", body)


def repositories_changed(state: State, action: str, to: Installation, repositories: list[Repository]) -> None:
    """`action` is "added" or "removed"."""
    shown = [present.short_repository(r) for r in repositories]
    body = {
        "action": action,
        "installation": present.installation(state, to),
        "repository_selection": to.selection,
        "repositories_added": shown if action == "added" else [],
        "repositories_removed": shown if action == "removed" else [],
        "requester": None,
        "sender": present.account(state, to.account),
    }
    send(state, "installation_repositories", body)


def push(state: State, where: Repository, ref: str, before: str, after: str, sender: Account) -> None:
    created, deleted = before == ZERO, after == ZERO
    git = where.git
    shas: list[str] = []
    if not deleted:
        main = git.resolve(where.default_branch)
        base = main if created and main != after else before
        shas = [after] if base in (ZERO, None) else git.between(str(base), after)[-20:]
    commits = [present_git.pushed_commit(state, where, git.commit(sha)) for sha in shas]
    for commit, sha in zip(commits, shas, strict=True):
        parents = git.commit(sha).parents
        if not parents:
            files = [entry.path for entry in git.entries(sha, recursive=True) if entry.type == "blob"]
            commit |= {"added": files, "removed": [], "modified": []}
            continue
        changes = git.changes(parents[0], sha)
        for field, statuses in (
            ("added", ("added",)),
            ("removed", ("removed",)),
            ("modified", ("modified", "renamed")),
        ):
            commit[field] = [c.path for c in changes if c.status in statuses]
    head = None if deleted else present_git.pushed_commit(state, where, git.commit(after))
    page = present.repository_page(state, where)
    body: Json = {
        "ref": ref,
        "before": before,
        "after": after,
        "pusher": {"name": sender.login, "email": f"{sender.login}@users.noreply.github.com"},
        "created": created,
        "deleted": deleted,
        "forced": not created and not deleted and not git.is_ancestor(before, after),
        "base_ref": None,
        "compare": f"{page}/compare/{before[:12]}...{after[:12]}",
        "commits": commits,
        "head_commit": head,
    }
    _announce(state, "push", where, sender, body)


def workflow_run(state: State, action: str, run: Run) -> None:
    body = {
        "action": action,
        "workflow_run": present_work.run(state, run)
        | {
            "repository": present.minimal_repository(state, run.repository),
            "head_repository": present.minimal_repository(state, run.repository),
        },
        "workflow": present_work.workflow(state, run.repository, run.workflow),
    }
    _announce(state, "workflow_run", run.repository, run.triggering_actor, body)


def workflow_job(state: State, action: str, run: Run, job: Job) -> None:
    body = {"action": action, "workflow_job": present_work.job(state, run, job)}
    _announce(state, "workflow_job", run.repository, run.triggering_actor, body)


def check_run(state: State, action: str, check: CheckRun, sender: Account, identifier: str | None = None) -> None:
    shown = present_work.check_run(state, check)
    shown["check_suite"] = {
        "id": check.check_suite_id,
        "node_id": node_id("CS", check.check_suite_id),
        "head_branch": None,
        "head_sha": check.head_sha,
        "status": check.status,
        "conclusion": check.conclusion,
        "url": f"{present.repository_api(state, check.repository)}/check-suites/{check.check_suite_id}",
        "before": None,
        "after": check.head_sha,
        "pull_requests": shown["pull_requests"],
        "app": present.app(state, check.app),
        "created_at": shown["started_at"] or stamp(state.started_at),
        "updated_at": shown["started_at"] or stamp(state.started_at),
    }
    body: Json = {"action": action, "check_run": shown}
    if identifier is not None:
        body["requested_action"] = {"identifier": identifier}
    _announce(state, "check_run", check.repository, sender, body)


def pull_request(
    state: State, action: str, where: Repository, issue: Issue, sender: Account, before: str | None = None
) -> None:
    body: Json = {"action": action, "number": issue.number, "pull_request": present_pulls.pull(state, where, issue)}
    if before is not None:
        body |= {"before": before, "after": issue.pull.head_sha if issue.pull else before}
    _announce(state, "pull_request", where, sender, body)


def issues(state: State, action: str, where: Repository, issue: Issue, sender: Account) -> None:
    _announce(state, "issues", where, sender, {"action": action, "issue": present_work.issue(state, where, issue)})


def issue_comment(
    state: State,
    action: str,
    where: Repository,
    issue: Issue,
    comment: Comment,
    sender: Account,
    before: str | None = None,
) -> None:
    """`before` is the comment's old text, for `edited`."""
    body: Json = {
        "action": action,
        "issue": present_work.issue(state, where, issue),
        "comment": present_work.comment(state, where, issue, comment),
    }
    if before is not None:
        body["changes"] = {"body": {"from": before}}
    _announce(state, "issue_comment", where, sender, body)
