"""Offer a change of workflow files: as a pull request where the App may write them, else as a patch in an issue."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from actions import fix_pull_request
from actions.honesty import Allowed
from actions.open_issue import LABEL
from actions.workflow_edits import FOLDER, Job, Workflow, load
from app.domain.errors import Malformed, Refused
from app.domain.finding import Finding
from app.domain.incident import Incident
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import FileEdit, Plan, Repair
from app.ports.plugins import Tools
from app.ports.workflows import Fault, WorkflowCheck
from app.security.markdown import code_block, inline
from app.security.masking import mask

ALLOW = frozenset({Allowed.WORKFLOWS})
PROOF = "the jobs that failed pass on the fix branch"
_UNJUDGED = frozenset({"yaml", "schema"})
_BODY_LIMIT = 64_000  # GitHub takes 65,535 characters
_DIFF_LIMIT = 30_000


class CannotSay(Exception):
    """The reason is the plan's refusal."""


def planned(title: str, incident: Incident, tools: Tools, make: Callable[[Workflow], Plan]) -> Plan:
    """The plan that `make` draws up for the workflow that failed, if it may be offered; else a refusal."""
    try:
        return reviewed(make(workflow_of(incident, tools)), incident, tools)
    except (CannotSay, Malformed) as reason:
        return Plan(title, refusal=str(reason))


def workflow_of(incident: Incident, tools: Tools) -> Workflow:
    """The file of the workflow that failed, at the failing commit. Raises CannotSay, Malformed."""
    path, text = source_of(incident.workflow_path, incident, tools)
    return load(path, text)


def source_of(path: str, incident: Incident, tools: Tools) -> tuple[str, str]:
    if not path.startswith(FOLDER) or not path.endswith((".yml", ".yaml")):
        raise CannotSay("the workflow that failed is no file of this repository")
    file = tools.forge.file(path, incident.head_sha)
    if file is None:
        raise CannotSay(f"{path} cannot be read at {incident.head_sha[:7]}")
    return path, file.text


def failed_job(workflow: Workflow, finding: Finding) -> Job:
    """The job that GitHub shows by the finding's name, or the only one there is. Raises CannotSay."""
    job = workflow.job_of(finding) or (workflow.jobs[0] if len(workflow.jobs) == 1 else None)
    if job is None:
        raise CannotSay(f"cannot tell which job of {workflow.path} GitHub shows as {finding.job[:100]!r}")
    return job


def reviewed(plan: Plan, incident: Incident, tools: Tools) -> Plan:
    """`plan`, or a refusal where its edits may not be offered or would bring a new fault. Says how it is offered."""
    if plan.refusal:
        return plan
    refusal = fix_pull_request.forbidden(incident, plan.edits, tools.policy, ALLOW)
    refusal = refusal or next(filter(None, (worse(edit, tools.workflow_check) for edit in plan.edits)), "")
    if refusal:
        return Plan(plan.title, refusal=refusal)
    if tools.forge.may("workflows"):
        return plan
    call = "post the patch in an issue: the App has no permission to write workflow files"
    return replace(plan, calls=(*plan.calls, call))


def worse(edit: FileEdit, check: WorkflowCheck | None) -> str:
    """Which fault `edit` would bring, in one sentence; "" for none.

    The schema must be kept in any case. What the scanner finds in a file that could not be read before has been there.
    """
    if check is None:
        return "no workflow file is changed, because nothing is set up to judge it"
    try:
        before = check.faults(edit.path, edit.before or "")
        after = check.faults(edit.path, edit.after or "")
    except Refused as error:
        return str(error)
    for fault in after:
        if fault.rule in _UNJUDGED:
            return f"{edit.path} would not be valid: {told(fault)}"
    if any(fault.rule in _UNJUDGED for fault in before):
        return ""
    known = Counter(fault.rule for fault in before)
    for fault in after:
        if known[fault.rule] == 0:
            return f"{edit.path} would have a new fault: {told(fault)}"
        known[fault.rule] -= 1
    return ""


def told(fault: Fault) -> str:
    return f"{fault.message} ({fault.rule})"


def offer(repair: Repair, plan: Plan, tools: Tools) -> Outcome:
    """A pull request, or the patch in an issue. Called twice, one effect."""
    if tools.forge.may("workflows"):
        return fix_pull_request.propose(repair, plan, tools, ALLOW)
    title, body = tools.issue_text(repair)
    section = _patch(plan)
    room = _BODY_LIMIT - len(section)
    tools.guard()
    number = tools.forge.ensure_issue(tools.marker, title, f"{section}\n{body if len(body) <= room else ''}", (LABEL,))
    outcome = f"the patch is in issue #{number}: the App has no permission to write workflow files"
    return Outcome(Conclusion.NEUTRAL, outcome, data={"issue": number})


def take_back(repair: Repair, tools: Tools) -> Outcome:
    """Close the issue, or the pull request as `fix_pull_request.withdraw` does. Called twice, one effect."""
    data = repair.outcome.data if repair.outcome else {}
    if "issue" not in data:
        return fix_pull_request.withdraw(repair, tools)
    number = int(data["issue"])
    tools.guard()
    tools.forge.close_issue(number, "Taken back.")
    return Outcome(Conclusion.SUCCESS, f"closed issue #{number}", data={"issue": number})


def _patch(plan: Plan) -> str:
    """The diff as text that can be copied, and how to apply it; or why it cannot be shown."""
    diff = plan.diff()
    block = code_block(diff, language="diff", limit=_DIFF_LIMIT, line_limit=_DIFF_LIMIT)
    unix = diff.replace("\r\n", "\n")
    windows = " --ignore-whitespace" if unix != diff else ""
    told = ": ".join(part for part in (plan.title, plan.why) if part)
    risk = f" Risk: {inline(mask(plan.risk), 600)}." if plan.risk else ""
    intro = f"{inline(mask(told), 1_000)}.{risk}\n\nThe bot may not write workflow files here."
    if mask(diff) != diff or unix.strip("\n") not in block:
        files = ", ".join(f"`{edit.path}`" for edit in plan.edits if "`" not in edit.path)
        hidden = f"The patch changes {files} and holds text that is not shown, so it is not given here."
        return f"### A repair\n\n{intro} {hidden}\n"
    return (
        f"### A repair\n\n{intro} Save this as `heal.patch` and run `git apply{windows} heal.patch`, or grant the App "
        f"*Workflows: write* and use `/heal retry`.\n\n{block}\n"
    )
