"""GitHub's shapes: accounts, the App, installations, repositories, deliveries."""

from __future__ import annotations

import json
from datetime import timedelta

from sandbox.state import (
    Account,
    App,
    Delivery,
    Installation,
    Json,
    Repository,
    State,
    node_id,
    stamp,
)

EVENTS = [
    "check_run",
    "issue_comment",
    "issues",
    "pull_request",
    "push",
    "workflow_job",
    "workflow_run",
]
_REPOSITORY_LINKS = {
    "archive": "/{archive_format}{/ref}",
    "assignees": "/assignees{/user}",
    "blobs": "/git/blobs{/sha}",
    "branches": "/branches{/branch}",
    "collaborators": "/collaborators{/collaborator}",
    "comments": "/comments{/number}",
    "commits": "/commits{/sha}",
    "compare": "/compare/{base}...{head}",
    "contents": "/contents/{+path}",
    "contributors": "/contributors",
    "deployments": "/deployments",
    "downloads": "/downloads",
    "events": "/events",
    "forks": "/forks",
    "git_commits": "/git/commits{/sha}",
    "git_refs": "/git/refs{/sha}",
    "git_tags": "/git/tags{/sha}",
    "hooks": "/hooks",
    "issue_comment": "/issues/comments{/number}",
    "issue_events": "/issues/events{/number}",
    "issues": "/issues{/number}",
    "keys": "/keys{/key_id}",
    "labels": "/labels{/name}",
    "languages": "/languages",
    "merges": "/merges",
    "milestones": "/milestones{/number}",
    "notifications": "/notifications{?since,all,participating}",
    "pulls": "/pulls{/number}",
    "releases": "/releases{/id}",
    "stargazers": "/stargazers",
    "statuses": "/statuses/{sha}",
    "subscribers": "/subscribers",
    "subscription": "/subscription",
    "tags": "/tags",
    "teams": "/teams",
    "trees": "/git/trees{/sha}",
}


def api(state: State, path: str) -> str:
    return f"{state.base_url}/api/v3{path}"


def repository_api(state: State, repository: Repository) -> str:
    return api(state, f"/repos/{repository.full_name}")


def repository_page(state: State, repository: Repository) -> str:
    return f"{state.base_url}/{repository.full_name}"


def account(state: State, who: Account) -> Json:
    url = api(state, f"/users/{who.login}")
    return {
        "login": who.login,
        "id": who.id,
        "node_id": node_id("U", who.id),
        "avatar_url": f"{state.base_url}/avatars/{who.id}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{state.base_url}/{who.login.removesuffix('[bot]')}",
        "followers_url": f"{url}/followers",
        "following_url": f"{url}/following{{/other_user}}",
        "gists_url": f"{url}/gists{{/gist_id}}",
        "starred_url": f"{url}/starred{{/owner}}{{/repo}}",
        "subscriptions_url": f"{url}/subscriptions",
        "organizations_url": f"{url}/orgs",
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events{{/privacy}}",
        "received_events_url": f"{url}/received_events",
        "type": who.type,
        "site_admin": False,
    }


def organization(state: State, who: Account) -> Json:
    url = api(state, f"/orgs/{who.login}")
    return {
        "login": who.login,
        "id": who.id,
        "node_id": node_id("O", who.id),
        "url": url,
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events",
        "hooks_url": f"{url}/hooks",
        "issues_url": f"{url}/issues",
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"{state.base_url}/avatars/{who.id}",
        "description": "",
    }


def app(state: State, which: App) -> Json:
    return {
        "id": which.id,
        "slug": which.slug,
        "node_id": node_id("A", which.id),
        "owner": account(state, state.owner),
        "name": which.name,
        "description": "",
        "external_url": state.base_url,
        "html_url": f"{state.base_url}/apps/{which.slug}",
        "created_at": stamp(state.started_at),
        "updated_at": stamp(state.started_at),
        "permissions": dict(which.permissions),
        "events": list(which.events or EVENTS),
    }


def installation(state: State, which: Installation) -> Json:
    return {
        "id": which.id,
        "account": account(state, which.account),
        "repository_selection": which.selection,
        "access_tokens_url": api(state, f"/app/installations/{which.id}/access_tokens"),
        "repositories_url": api(state, "/installation/repositories"),
        "html_url": f"{state.base_url}/organizations/{which.account.login}/settings/installations/{which.id}",
        "app_id": state.app.id,
        "app_slug": state.app.slug,
        "target_id": which.account.id,
        "target_type": which.account.type,
        "permissions": which.permissions,
        "events": list(state.app.events or EVENTS),
        "created_at": stamp(which.created_at),
        "updated_at": stamp(which.created_at),
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": None,
        "suspended_at": None,
    }


def minimal_repository(state: State, repository: Repository) -> Json:
    url = repository_api(state, repository)
    return {
        "id": repository.id,
        "node_id": node_id("R", repository.id),
        "name": repository.name,
        "full_name": repository.full_name,
        "private": False,
        "owner": account(state, repository.owner),
        "html_url": repository_page(state, repository),
        "description": None,
        "fork": False,
        "url": url,
        **{f"{name}_url": url + path for name, path in _REPOSITORY_LINKS.items()},
    }


def repository(state: State, which: Repository) -> Json:
    page = repository_page(state, which)
    host = page.partition("://")[2]
    open_issues = sum(issue.state == "open" for issue in which.issues.values())
    return minimal_repository(state, which) | {
        "git_url": f"git://{host}.git",
        "ssh_url": f"git@{host}.git",
        "clone_url": f"{page}.git",
        "svn_url": page,
        "mirror_url": None,
        "homepage": None,
        "language": "Python",
        "license": None,
        "size": 1,
        "default_branch": which.default_branch,
        "visibility": "public",
        "topics": [],
        "is_template": False,
        "web_commit_signoff_required": False,
        "allow_forking": True,
        "forks": 0,
        "forks_count": 0,
        "stargazers_count": 0,
        "watchers": 0,
        "watchers_count": 0,
        "open_issues": open_issues,
        "open_issues_count": open_issues,
        "has_issues": True,
        "has_projects": False,
        "has_wiki": False,
        "has_pages": False,
        "has_downloads": False,
        "has_discussions": False,
        "archived": False,
        "disabled": False,
        "created_at": stamp(which.created_at),
        "updated_at": stamp(which.pushed_at),
        "pushed_at": stamp(which.pushed_at),
    }


def short_repository(which: Repository) -> Json:
    return {
        "id": which.id,
        "node_id": node_id("R", which.id),
        "name": which.name,
        "full_name": which.full_name,
        "private": False,
    }


def delivery(value: Delivery, *, full: bool = False) -> Json:
    shown: Json = {
        "id": value.id,
        "guid": value.guid,
        "delivered_at": stamp(value.delivered_at),
        "redelivery": value.redelivery,
        "duration": value.duration_s,
        "status": value.status,
        "status_code": value.status_code,
        "event": value.event,
        "action": value.action,
        "installation_id": value.installation_id or None,
        "repository_id": value.repository_id,
        "throttled_at": None,
    }
    if full:
        shown |= {
            "url": "",
            "request": {"headers": value.request_headers, "payload": json.loads(value.raw)},
            "response": {"headers": value.response_headers, "payload": value.response_payload},
        }
    return shown


def rate_limit(state: State, used: int) -> Json:
    """5,000 requests an hour, counted from the sandbox's start."""
    limit = 5_000
    core = {
        "limit": limit,
        "remaining": max(limit - used, 0),
        "reset": int((state.started_at + timedelta(hours=1)).timestamp()),
        "used": used,
        "resource": "core",
    }
    return {"resources": {"core": core, "search": core | {"resource": "search"}}, "rate": core}
