"""Offer a repair as a pull request on the incident's own branch, and take it back; shared by the actions that edit."""

import re
from collections.abc import Mapping, Sequence

from actions.honesty import Allowed, dishonest
from app.domain.changes import changes, split
from app.domain.errors import Refused
from app.domain.incident import FIX_BRANCHES, Incident
from app.domain.outcome import Conclusion, Outcome
from app.domain.policy import Policy, protects_branch
from app.domain.repair import FileEdit, Plan, Repair
from app.ports.forge import Forge, Pull
from app.ports.plugins import Tools

MOST_PULLS_LOOKED_AT = 30

WORKFLOWS = (
    ".github/**"  # protected by default; what is there to change workflows may, and asks unless named in heal.yml
)


def forbidden(
    incident: Incident, edits: Sequence[FileEdit], policy: Policy, allow: frozenset[Allowed] = frozenset()
) -> str:
    """Why these edits may not be offered; empty if they may. `allow` is what this kind of repair is there for."""
    if pattern := protects_branch(policy, incident.branch):
        return f"{incident.branch} is protected by heal.yml ({pattern})"
    for edit in edits:
        for pattern in policy.protected_paths:
            if pattern == WORKFLOWS and Allowed.WORKFLOWS in allow and edit.path.startswith(".github/workflows/"):
                continue
            if matches(pattern, edit.path):
                return f"{edit.path} is protected by heal.yml ({pattern})"
    return dishonest(edits, allow) or ""


def propose(repair: Repair, plan: Plan, tools: Tools, allow: frozenset[Allowed] = frozenset()) -> Outcome:
    """The plan's edits as one commit on the failing commit, with one pull request. Called twice, one effect.

    A fix branch is moved away only from commits of our own (`tools.ours`). Nothing is offered while somebody else has
    a pull request about the same file.
    """
    forge, incident = tools.forge, tools.incident
    branch, base = incident.fix_branch, incident.branch
    if not plan.edits:
        return Outcome(Conclusion.SKIPPED, "there is nothing to change")
    if reason := forbidden(incident, plan.edits, tools.policy, allow):
        return Outcome(Conclusion.SKIPPED, reason)
    last = next(iter(forge.pulls_of(branch)), None)
    present = forge.branch_head(branch)
    stale = forge.branch_head(base) != incident.head_sha
    if stale and present is None and last is None:
        return _stale(incident)
    tools.guard()
    sha = forge.commit(
        incident.head_sha, {edit.path: edit.after for edit in plan.edits}, _message(plan, repair), repair.intended_at
    )
    if last is not None and last.merged and last.head_sha == sha:
        return _offered(last)
    if last is not None and last.state == "closed" and not last.merged and last.closed_by_human:
        return Outcome(Conclusion.SKIPPED, f"a person closed #{last.number} without merging it")
    merged = last.head_sha if last is not None and last.merged else ""
    if present not in (None, sha, merged, *tools.ours):
        return Outcome(Conclusion.SKIPPED, f"{branch} carries commits that are not ours")
    standing = present == sha and last is not None and last.state == "open"
    if stale and not standing:
        if present == sha:
            tools.guard()
            forge.delete_branch(branch, sha)
        return _stale(incident)
    if not standing and (busy := somebody_else(plan.edits, base, forge)):
        if present == sha:
            tools.guard()
            forge.delete_branch(branch, sha)
        return Outcome(Conclusion.SKIPPED, busy)
    title, body = tools.pull_text(repair, plan)
    tools.guard()
    forge.ensure_branch(branch, sha, replace=present)
    tools.guard()
    pull = forge.ensure_pull(head=branch, base=base, title=title, body=body)
    return _offered(pull, sha)


def somebody_else(edits: Sequence[FileEdit], base: str, forge: Forge) -> str:
    """Who is on one of these files already, with an open pull request into the same branch; empty if nobody is.

    A person, or another bot. Of many open pull requests the newest are looked at, and of each its first 300 files.
    """
    paths = {edit.path for edit in edits}
    theirs = [pull for pull in forge.open_pulls(base=base) if not pull.head_branch.startswith(FIX_BRANCHES)]
    for pull in theirs[:MOST_PULLS_LOOKED_AT]:
        try:
            touched = sorted(paths & {change.path for change in forge.changes(base, pull.head_sha)})
        except Refused:
            continue  # its commits are gone, or GitHub does not compare them
        if touched:
            return f"{pull.author or 'somebody'} is on it: #{pull.number} changes {touched[0]}"
    return ""


def withdraw(repair: Repair, tools: Tools) -> Outcome:
    """Close what is open, or offer the exact reverse of what was merged. Called twice, one effect."""
    data = repair.outcome.data if repair.outcome else {}
    if "pull" not in data:
        return Outcome(Conclusion.NEUTRAL, "no pull request was opened")
    pull = tools.forge.pull(int(data["pull"]))
    if pull.merged:
        return _revert(repair, pull, tools)
    branch, sha = str(data["branch"]), str(data["head_sha"])
    if tools.forge.branch_head(branch) not in (None, sha):
        return Outcome(Conclusion.NEUTRAL, f"{branch} carries commits that are not ours; it was left alone")
    tools.guard()
    tools.forge.close_pull(pull.number)
    tools.guard()
    tools.forge.delete_branch(branch, sha)
    return Outcome(Conclusion.SUCCESS, f"closed #{pull.number} and deleted {branch}", data={"branch": branch})


def restored(edit: FileEdit, now: str | None) -> FileEdit | None:
    """What takes `edit` back from a file that says `now`; None where its lines have changed since.

    The result is empty (`before == after`) if the file already says what it said before the edit.
    """
    if now == edit.after or now == edit.before:
        return FileEdit(edit.path, now, edit.before)
    if now is None or edit.before is None or edit.after is None:
        return None
    after, before, lines = split(edit.after), split(edit.before), split(now)
    unchanged = [(start, end, there) for tag, start, end, there, _ in changes(after, lines) if tag == "equal"]
    for tag, start, end, old_start, old_end in reversed(changes(after, before)):
        if tag == "equal":
            continue
        low, high = max(0, start - 1), min(len(after), end + 1)
        shift = next((there - first for first, last, there in unchanged if first <= low and high <= last), None)
        if shift is None:
            return None
        lines[start + shift : end + shift] = before[old_start:old_end]
    return FileEdit(edit.path, now, "".join(lines))


def _revert(repair: Repair, pull: Pull, tools: Tools) -> Outcome:
    forge, base, branch = tools.forge, pull.base_branch, f"{pull.head_branch}-revert"
    head = forge.branch_head(base)
    if head is None or repair.plan is None:
        return Outcome(Conclusion.NEUTRAL, f"#{pull.number} cannot be reverted: {base} is gone")
    last = next(iter(forge.pulls_of(branch)), None)
    if last is not None and last.state == "open":
        return _offered(last)
    edits = []
    for edit in repair.plan.edits:
        now = forge.file(edit.path, head)
        back = restored(edit, now.text if now else None)
        if back is None:
            title = f"#{pull.number} cannot be reverted cleanly: {edit.path} has changed since"
            return Outcome(Conclusion.NEUTRAL, title)
        if back.before != back.after:
            edits.append(back)
    if not edits:
        return Outcome(Conclusion.NEUTRAL, f"nothing of #{pull.number} is left on {base}")
    if last is not None and not last.merged and last.closed_by_human:
        return Outcome(Conclusion.NEUTRAL, f"a person closed #{last.number}, which reverted #{pull.number}")
    plan = Plan(
        f"Revert “{repair.plan.title}”",
        why=f"takes back what #{pull.number} changed",
        edits=tuple(edits),
        risk="the failure that it repaired may return",
    )
    files = {edit.path: edit.after for edit in edits}
    tools.guard()
    sha = forge.commit(head, files, _message(plan, repair), repair.intended_at)
    present = forge.branch_head(branch)
    if present not in (None, sha) and not (last is not None and last.merged and last.head_sha == present):
        if not _holds(forge, str(present), files):
            return Outcome(Conclusion.NEUTRAL, f"{branch} carries commits that are not ours")
        sha = str(present)  # an earlier try, made before the base branch moved on
    title, body = tools.pull_text(repair, plan)
    tools.guard()
    forge.ensure_branch(branch, sha, replace=present)
    tools.guard()
    return _offered(forge.ensure_pull(head=branch, base=base, title=title, body=body), sha)


def _holds(forge: Forge, sha: str, files: Mapping[str, str | None]) -> bool:
    found = {path: forge.file(path, sha) for path in files}
    return all((file.text if file else None) == files[path] for path, file in found.items())


def _message(plan: Plan, repair: Repair) -> str:
    return f"{plan.title}\n\n{plan.why}\n\nHeal-Repair: {repair.effect_key}\n"


def _offered(pull: Pull, sha: str = "") -> Outcome:
    data = {
        "branch": pull.head_branch,
        "head_sha": sha or pull.head_sha,
        "pull": pull.number,
        "base": pull.base_branch,
    }
    return Outcome(Conclusion.SUCCESS, f"offered in #{pull.number}", data=data)


def _stale(incident: Incident) -> Outcome:
    return Outcome(Conclusion.STALE, f"{incident.branch} has moved on from {incident.head_sha[:7]}")


def matches(pattern: str, path: str) -> bool:
    """As in .gitignore files: `**/` spans any number of folders, `*` stays within one."""
    reached = {0}
    for word in re.split(r"(\*\*/|\*\*|\*|\?)", pattern):
        reached = _after(word, path, reached)
    return len(path) in reached


def _after(word: str, path: str, reached: set[int]) -> set[int]:
    """How far the path may be read when `word` was, too. No backtracking: patterns and paths are of strangers."""
    if not word or not reached:
        return reached
    if word == "**":
        return set(range(min(reached), len(path) + 1))
    if word == "**/":
        return reached | {at + 1 for at in range(min(reached), len(path)) if path[at] == "/"}
    if word == "?":
        return {at + 1 for at in reached if path[at : at + 1] not in ("", "/")}
    if word != "*":
        return {at + len(word) for at in reached if path.startswith(word, at)}
    further = set(reached)
    for at in range(len(path)):
        if at in further and path[at] != "/":
            further.add(at + 1)
    return further
