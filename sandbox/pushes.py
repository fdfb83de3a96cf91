"""What follows when a branch moves: the push event, pull requests, workflows. Call with the lock held."""

from __future__ import annotations

from sandbox import events, execution
from sandbox.gitrepo import ZERO, Signature
from sandbox.state import Account, Issue, Repository, State, now

HEADS = "refs/heads/"


def moved(state: State, where: Repository, ref: str, before: str, after: str, sender: Account) -> None:
    """React to `ref` having gone from `before` to `after` (ZERO: did not, or does not, exist)."""
    where.pushed_at = now()
    events.push(state, where, ref, before, after, sender)
    if not ref.startswith(HEADS):
        return
    branch = ref.removeprefix(HEADS)
    for issue in list(where.issues.values()):
        if issue.state == "open" and issue.pull and issue.pull.head_ref == branch:
            _follow(state, where, issue, before, after, sender)
    if after != ZERO:
        execution.start_for(state, where, "push", sha=after, head_branch=branch, actor=sender)


def _follow(state: State, where: Repository, issue: Issue, before: str, after: str, sender: Account) -> None:
    assert issue.pull is not None
    if after == ZERO:
        close(state, where, issue, sender)
        return
    issue.pull.head_sha = after
    issue.pull.base_sha = where.git.resolve(issue.pull.base_ref) or issue.pull.base_sha
    issue.updated_at = now()
    events.pull_request(state, "synchronize", where, issue, sender, before)
    run_pull_workflows(state, where, issue, "synchronize", sender)


def run_pull_workflows(state: State, where: Repository, issue: Issue, action: str, sender: Account) -> None:
    """Start the `pull_request` workflows on the merge of head and base; none when they conflict, as on GitHub."""
    pull = issue.pull
    assert pull is not None
    merge = merge_commit(where, pull.base_sha, pull.head_sha, signature(sender), f"Merge {pull.head_sha}")
    if merge is None:
        return
    execution.start_for(
        state,
        where,
        "pull_request",
        sha=merge,
        head_sha=pull.head_sha,
        head_branch=pull.head_ref,
        base_branch=pull.base_ref,
        action=action,
        actor=sender,
        title=issue.title,
    )


def close(state: State, where: Repository, issue: Issue, sender: Account) -> None:
    issue.state, issue.closed_at, issue.closed_by = "closed", now(), sender
    issue.updated_at = issue.closed_at
    if issue.pull:
        events.pull_request(state, "closed", where, issue, sender)
    else:
        issue.state_reason = issue.state_reason or "completed"
        events.issues(state, "closed", where, issue, sender)


def reopen(state: State, where: Repository, issue: Issue, sender: Account) -> None:
    issue.state, issue.closed_at, issue.closed_by, issue.updated_at = "open", None, None, now()
    if issue.pull:
        issue.pull.head_sha = where.git.resolve(issue.pull.head_ref) or issue.pull.head_sha
        events.pull_request(state, "reopened", where, issue, sender)
        run_pull_workflows(state, where, issue, "reopened", sender)
    else:
        issue.state_reason = "reopened"
        events.issues(state, "reopened", where, issue, sender)


def merge_commit(where: Repository, base: str, head: str, who: Signature, message: str) -> str | None:
    """Write the commit that merges head into base; None if they conflict. No branch moves."""
    tree = where.git.merged_tree(base, head)
    return None if tree is None else where.git.write_commit(tree, [base, head], who, who, message)


def signature(who: Account) -> Signature:
    host = "users.noreply.github.com"
    return Signature(who.login, f"{who.id}+{who.login}@{host}", now())
