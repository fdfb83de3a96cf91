"""GitHub's shapes: workflow runs, jobs, check runs, issues, comments."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from sandbox.present import (
    account,
    app,
    minimal_repository,
    repository_api,
    repository_page,
)
from sandbox.present_git import pushed_commit
from sandbox.state import (
    Account,
    Artifact,
    CheckRun,
    Comment,
    Issue,
    Job,
    Json,
    Repository,
    Run,
    Runner,
    State,
    Step,
    WorkflowFile,
    node_id,
    stamp,
)

REACTIONS = ("+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes")


def workflow(state: State, where: Repository, file: WorkflowFile) -> Json:
    page = repository_page(state, where)
    return {
        "id": file.id,
        "node_id": node_id("W", file.id),
        "name": file.name,
        "path": file.path,
        "state": "active",
        "created_at": stamp(file.created_at),
        "updated_at": stamp(file.created_at),
        "url": f"{repository_api(state, where)}/actions/workflows/{file.id}",
        "html_url": f"{page}/blob/{where.default_branch}/{file.path}",
        "badge_url": f"{page}/actions/workflows/{file.path.rsplit('/', 1)[-1]}/badge.svg",
    }


def minimal_pulls(state: State, where: Repository, head_sha: str) -> list[Json]:
    """The open pull requests whose head is this commit, as runs and check runs list them."""
    url = repository_api(state, where)
    home = {"id": where.id, "url": url, "name": where.name}
    return [
        {
            "id": issue.pull.id,
            "number": issue.number,
            "url": f"{url}/pulls/{issue.number}",
            "head": {"ref": issue.pull.head_ref, "sha": issue.pull.head_sha, "repo": home},
            "base": {"ref": issue.pull.base_ref, "sha": issue.pull.base_sha, "repo": home},
        }
        for issue in where.issues.values()
        if issue.pull and issue.state == "open" and issue.pull.head_sha == head_sha
    ]


def run(state: State, value: Run) -> Json:
    where = value.repository
    url = f"{repository_api(state, where)}/actions/runs/{value.id}"
    head = pushed_commit(state, where, where.git.commit(value.head_sha))
    return {
        "id": value.id,
        "name": value.name,
        "node_id": node_id("WFR", value.id),
        "head_branch": value.head_branch,
        "head_sha": value.head_sha,
        "path": value.workflow.path,
        "display_title": value.title,
        "run_number": value.number,
        "event": value.event,
        "status": value.status,
        "conclusion": value.conclusion,
        "workflow_id": value.workflow.id,
        "check_suite_id": value.check_suite_id,
        "check_suite_node_id": node_id("CS", value.check_suite_id),
        "url": url,
        "html_url": f"{repository_page(state, where)}/actions/runs/{value.id}",
        "pull_requests": minimal_pulls(state, where, value.head_sha),
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.updated_at),
        "actor": account(state, value.actor),
        "triggering_actor": account(state, value.triggering_actor),
        "run_attempt": value.attempt,
        "referenced_workflows": [],
        "run_started_at": stamp(value.started_at),
        "jobs_url": f"{url}/jobs",
        "logs_url": f"{url}/logs",
        "check_suite_url": f"{repository_api(state, where)}/check-suites/{value.check_suite_id}",
        "artifacts_url": f"{url}/artifacts",
        "cancel_url": f"{url}/cancel",
        "rerun_url": f"{url}/rerun",
        "previous_attempt_url": f"{url}/attempts/{value.attempt - 1}" if value.attempt > 1 else None,
        "workflow_url": f"{repository_api(state, where)}/actions/workflows/{value.workflow.id}",
        "head_commit": {k: head[k] for k in ("id", "tree_id", "message", "timestamp", "author", "committer")},
        "repository": minimal_repository(state, where),
        "head_repository": minimal_repository(state, where),
    }


def runner(value: Runner) -> Json:
    return {
        "id": value.id,
        "name": value.name,
        "os": "linux",
        "status": value.status,
        "busy": value.busy,
        "ephemeral": value.ephemeral,
        "labels": [{"id": number, "name": name, "type": "custom"} for number, name in enumerate(value.labels)],
    }


def step(value: Step) -> Json:
    return {
        "name": value.name,
        "status": value.status,
        "conclusion": value.conclusion,
        "number": value.number,
        "started_at": stamp(value.started_at),
        "completed_at": stamp(value.completed_at),
    }


def artifact(state: State, of: Run, value: Artifact) -> Json:
    url = f"{repository_api(state, of.repository)}/actions/artifacts/{value.id}"
    return {
        "id": value.id,
        "node_id": node_id("A", value.id),
        "name": value.name,
        "size_in_bytes": len(value.content),
        "url": url,
        "archive_download_url": f"{url}/zip",
        "expired": False,
        "digest": f"sha256:{hashlib.sha256(value.content).hexdigest()}",
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.created_at),
        "expires_at": stamp(value.created_at + timedelta(days=90)),
        "workflow_run": {
            "id": of.id,
            "repository_id": of.repository.id,
            "head_repository_id": of.repository.id,
            "head_branch": of.head_branch,
            "head_sha": of.head_sha,
        },
    }


def job(state: State, of: Run, value: Job) -> Json:
    url = repository_api(state, of.repository)
    running = value.status != "queued"
    return {
        "id": value.id,
        "run_id": of.id,
        "workflow_name": of.name,
        "head_branch": of.head_branch,
        "run_url": f"{url}/actions/runs/{of.id}",
        "run_attempt": value.run_attempt,
        "node_id": node_id("CR", value.id),
        "head_sha": of.head_sha,
        "url": f"{url}/actions/jobs/{value.id}",
        "html_url": f"{repository_page(state, of.repository)}/actions/runs/{of.id}/job/{value.id}",
        "status": value.status,
        "conclusion": value.conclusion,
        "created_at": stamp(value.created_at),
        "started_at": stamp(value.started_at or value.created_at),
        "completed_at": stamp(value.completed_at),
        "name": value.name,
        "steps": [step(s) for s in value.steps],
        "check_run_url": f"{url}/check-runs/{value.id}",
        "labels": value.labels,
        "runner_id": 1 if running else None,
        "runner_name": "sandbox 1" if running else None,
        "runner_group_id": 1 if running else None,
        "runner_group_name": "sandbox" if running else None,
    }


def check_run(state: State, value: CheckRun) -> Json:
    url = f"{repository_api(state, value.repository)}/check-runs/{value.id}"
    page = f"{repository_page(state, value.repository)}/runs/{value.id}"
    return {
        "id": value.id,
        "name": value.name,
        "node_id": node_id("CR", value.id),
        "head_sha": value.head_sha,
        "external_id": value.external_id,
        "url": url,
        "html_url": page,
        "details_url": value.details_url or page,
        "status": value.status,
        "conclusion": value.conclusion,
        "started_at": stamp(value.started_at),
        "completed_at": stamp(value.completed_at),
        "output": {
            "title": value.output.get("title"),
            "summary": value.output.get("summary"),
            "text": value.output.get("text"),
            "annotations_count": len(value.annotations),
            "annotations_url": f"{url}/annotations",
        },
        "check_suite": {"id": value.check_suite_id},
        "app": app(state, value.app),
        "pull_requests": minimal_pulls(state, value.repository, value.head_sha),
    }


def label(state: State, where: Repository, name: str) -> Json:
    number = where.labels.setdefault(name, len(where.labels) + 1)
    return {
        "id": where.id * 1000 + number,
        "node_id": node_id("LA", f"{where.id}:{number}"),
        "url": f"{repository_api(state, where)}/labels/{name.replace(' ', '%20')}",
        "name": name,
        "description": "",
        "color": "ededed",
        "default": False,
    }


def _reactions(url: str, reactions: list[tuple[int, str, Account]]) -> Json:
    contents = [content for _, content, _ in reactions]
    counts = {name: contents.count(name) for name in REACTIONS}
    return {"url": f"{url}/reactions", "total_count": len(contents), **counts}


def association(state: State, where: Repository, who: Account) -> str:
    return "MEMBER" if state.level_of(who.login, where) in ("admin", "write") else "NONE"


def issue(state: State, where: Repository, value: Issue) -> Json:
    url = f"{repository_api(state, where)}/issues/{value.number}"
    page = f"{repository_page(state, where)}/{'pull' if value.pull else 'issues'}/{value.number}"
    shown: Json = {
        "id": value.id,
        "node_id": node_id("I", value.id),
        "url": url,
        "repository_url": repository_api(state, where),
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "html_url": page,
        "number": value.number,
        "state": value.state,
        "state_reason": value.state_reason,
        "title": value.title,
        "body": value.body,
        "user": account(state, value.user),
        "labels": [label(state, where, name) for name in value.labels],
        "assignee": None,
        "assignees": [],
        "milestone": None,
        "locked": False,
        "active_lock_reason": None,
        "comments": len(value.comments),
        "closed_at": stamp(value.closed_at),
        "closed_by": account(state, value.closed_by) if value.closed_by else None,
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.updated_at),
        "author_association": association(state, where, value.user),
        "reactions": _reactions(url, []),
        "performed_via_github_app": None,
    }
    if value.pull:
        shown["pull_request"] = {
            "url": f"{repository_api(state, where)}/pulls/{value.number}",
            "html_url": page,
            "diff_url": f"{page}.diff",
            "patch_url": f"{page}.patch",
            "merged_at": stamp(value.pull.merged_at),
        }
    return shown


def comment(state: State, where: Repository, on: Issue, value: Comment) -> Json:
    url = f"{repository_api(state, where)}/issues/comments/{value.id}"
    kind = "pull" if on.pull else "issues"
    return {
        "id": value.id,
        "node_id": node_id("IC", value.id),
        "url": url,
        "html_url": f"{repository_page(state, where)}/{kind}/{on.number}#issuecomment-{value.id}",
        "issue_url": f"{repository_api(state, where)}/issues/{on.number}",
        "body": value.body,
        "user": account(state, value.user),
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.updated_at),
        "author_association": association(state, where, value.user),
        "reactions": _reactions(url, value.reactions),
        "performed_via_github_app": app(state, state.app) if value.user == state.bot else None,
    }
