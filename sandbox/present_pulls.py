"""GitHub's shapes: pull requests."""

from __future__ import annotations

from sandbox.present import account, repository, repository_api, repository_page
from sandbox.present_work import association, label
from sandbox.state import Issue, Json, Repository, State, node_id, stamp


def pull_simple(state: State, where: Repository, value: Issue) -> Json:
    """A pull request as lists show it."""
    pull = value.pull
    assert pull is not None
    url, page = repository_api(state, where), repository_page(state, where)
    links = {
        "self": f"{url}/pulls/{value.number}",
        "html": f"{page}/pull/{value.number}",
        "issue": f"{url}/issues/{value.number}",
        "comments": f"{url}/issues/{value.number}/comments",
        "review_comments": f"{url}/pulls/{value.number}/comments",
        "review_comment": f"{url}/pulls/comments{{/number}}",
        "commits": f"{url}/pulls/{value.number}/commits",
        "statuses": f"{url}/statuses/{pull.head_sha}",
    }

    def side(ref: str, sha: str) -> Json:
        owner = where.owner
        return {
            "label": f"{owner.login}:{ref}",
            "ref": ref,
            "sha": sha,
            "user": account(state, owner),
            "repo": repository(state, where),
        }

    return {
        "url": links["self"],
        "id": pull.id,
        "node_id": node_id("PR", pull.id),
        "html_url": links["html"],
        "diff_url": f"{links['html']}.diff",
        "patch_url": f"{links['html']}.patch",
        "issue_url": links["issue"],
        "commits_url": links["commits"],
        "review_comments_url": links["review_comments"],
        "review_comment_url": links["review_comment"],
        "comments_url": links["comments"],
        "statuses_url": links["statuses"],
        "number": value.number,
        "state": value.state,
        "locked": False,
        "title": value.title,
        "user": account(state, value.user),
        "body": value.body,
        "labels": [label(state, where, name) for name in value.labels],
        "milestone": None,
        "active_lock_reason": None,
        "created_at": stamp(value.created_at),
        "updated_at": stamp(value.updated_at),
        "closed_at": stamp(value.closed_at),
        "merged_at": stamp(pull.merged_at),
        "merge_commit_sha": pull.merge_commit_sha,
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "head": side(pull.head_ref, pull.head_sha),
        "base": side(pull.base_ref, pull.base_sha),
        "_links": {name: {"href": href} for name, href in links.items()},
        "author_association": association(state, where, value.user),
        "auto_merge": None,
        "draft": pull.draft,
    }


def pull(state: State, where: Repository, value: Issue) -> Json:
    """A pull request with what only a single one carries: mergeability and counts."""
    this = value.pull
    assert this is not None
    git = where.git
    base = git.merge_base(this.base_sha, this.head_sha) or this.base_sha
    changes = git.changes(base, this.head_sha)
    mergeable = None
    if value.state == "open":
        head_of_base = git.resolve(this.base_ref) or this.base_sha
        mergeable = git.merged_tree(head_of_base, this.head_sha) is not None
    return pull_simple(state, where, value) | {
        "merged": this.merged_at is not None,
        "mergeable": mergeable,
        "rebaseable": mergeable,
        "mergeable_state": {True: "clean", False: "dirty", None: "unknown"}[mergeable],
        "merged_by": account(state, this.merged_by) if this.merged_by else None,
        "comments": len(value.comments),
        "review_comments": 0,
        "maintainer_can_modify": False,
        "commits": len(git.between(base, this.head_sha)),
        "additions": sum(c.additions for c in changes),
        "deletions": sum(c.deletions for c in changes),
        "changed_files": len(changes),
    }
