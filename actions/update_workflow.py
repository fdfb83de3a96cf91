"""Mend a workflow file: what GitHub no longer runs, a missing permission, a plain mistake, a missing timeout."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from actions import workflow_offer, workflow_permissions, workflow_syntax, workflow_versions
from actions.workflow_edits import FOLDER, Workflow, child, data_of, kept, load
from actions.workflow_offer import PROOF, CannotSay, failed_job
from app.domain.errors import Malformed, Refused
from app.domain.finding import Finding
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import FileEdit, Plan, Proof, Repair
from app.ports.plugins import Tools
from app.ports.workflows import WorkflowCheck

Means = Literal["versions", "permissions", "syntax", "timeouts"]

_MEANS: dict[str, Means] = {
    "action_version_deprecated": "versions",
    "permissions": "permissions",
    "workflow_yaml_invalid": "syntax",
}
_COMMANDS = frozenset({"set-output", "save-state", "set-env", "add-path"})
_TITLE = "Update the workflow"
_MOST_SAID = 20_000


class UpdateParams(BaseModel):
    """`means`: what is mended, as the cause says if not given. `minutes`: the timeout of jobs that have none."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    means: Means | None = None
    minutes: int = Field(default=60, ge=1, le=360)


class UpdateWorkflow:
    kind = "update_workflow"
    Params: type[BaseModel] = UpdateParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: UpdateParams, tools: Tools) -> Plan:
        means = params.means or _MEANS.get(incident.finding.kind)
        if means is None:
            return Plan(_TITLE, refusal=f"nothing is known to mend in a workflow for {incident.finding.kind}")
        try:
            if means == "syntax":
                plan = _mended(incident, tools)
            else:
                workflow = workflow_offer.workflow_of(incident, tools)
                make = {"versions": _versions, "permissions": _permissions, "timeouts": _timeouts}[means]
                plan = make(workflow, incident.finding, params)
            return workflow_offer.reviewed(plan, incident, tools)
        except (CannotSay, Malformed) as reason:
            return Plan(_TITLE, refusal=str(reason))

    def apply(self, repair: Repair, params: UpdateParams, plan: Plan, tools: Tools) -> Outcome:  # noqa: ARG002
        return workflow_offer.offer(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return workflow_offer.take_back(repair, tools)


def _versions(workflow: Workflow, finding: Finding, _: UpdateParams) -> Plan:
    spoken = _said(finding)
    failed = [job for job in [workflow.job_of(finding)] if job] or list(workflow.jobs)
    commands = frozenset(name for name in _COMMANDS if name in spoken)
    done = workflow_versions.update_commands(workflow, commands) if commands else []
    done += workflow_versions.update_images(workflow, spoken)
    updated = [] if done else workflow_versions.update_actions(workflow, failed, spoken)
    done += updated
    if not done:
        raise CannotSay(f"{workflow.path} has nothing that is known to be gone")
    entries = workflow_versions.entries_of(updated)
    if commands and not updated:
        entries = [entry for entry in workflow_versions.table("command") if entry["name"] in commands]
    if not entries:
        entries = [e for e in workflow_versions.table("image") if any(line.startswith(e["name"]) for line in done)]
    told = list(dict.fromkeys(f"{entry['why']} ({entry['source']})" for entry in entries if "why" in entry))
    told = told or [f"GitHub disabled the command; see {entries[0]['source']}"]
    differs = list(dict.fromkeys(f"{entry['name']}: {entry['differs']}" for entry in entries if "differs" in entry))
    return Plan(
        f"Update {done[0]}" if len(done) == 1 else f"Update {done[0]} and {len(done) - 1} more",
        why="; ".join(told),
        edits=(workflow.finish(),),
        risk="; ".join(differs) or "a value of several lines needs another form in the runner's file",
        proof=PROOF,
    )


def _permissions(workflow: Workflow, finding: Finding, _: UpdateParams) -> Plan:
    if not finding.facts.get("github_integration") and "by integration" not in _said(finding):
        raise CannotSay("it is not the workflow's own token that was refused")
    job = failed_job(workflow, finding)
    step = workflow_permissions.failing_step(job, workflow.step_of(finding, job))
    added = workflow_permissions.grant(workflow, job, step)
    shown = ", ".join(f"{name}: {level}" for name, level in added.items())
    return Plan(
        f"Grant {job.id} {shown}",
        why=f"the step {step.title[:120]!r} needs it of the workflow's token, and the job does not grant it",
        edits=(workflow.finish(),),
        risk="every step of this job may use it; a permission that no step of the job was known to need is gone where "
        "the job granted nothing by itself before",
        proof=PROOF,
    )


def _timeouts(workflow: Workflow, _: Finding, params: UpdateParams) -> Plan:
    bare = [job for job in workflow.jobs if job.steps and child(job.node, "timeout-minutes") is None]
    if not bare:
        raise CannotSay(f"every job of {workflow.path} has a timeout")
    for job in bare:
        workflow.add_key(job.path, f"timeout-minutes: {params.minutes}", before="steps")
    return Plan(
        f"Give {', '.join(job.id for job in bare[:3])} a timeout of {params.minutes} minutes",
        why="a job without a timeout that hangs is paid for six hours",
        edits=(workflow.finish(),),
        risk="a job that takes longer is cancelled",
        proof=PROOF,
    )


def _mended(incident: Incident, tools: Tools) -> Plan:
    told = str(incident.finding.facts.get("path") or incident.finding.facts.get("file") or "")
    path, text = workflow_offer.source_of(told if told.startswith(FOLDER) else incident.workflow_path, incident, tools)
    check = tools.workflow_check
    if check is None:
        raise CannotSay("no workflow file is changed, because nothing is set up to judge it")
    if _valid(check, path, text):
        raise CannotSay(f"{path} is valid by the published schema: the mistake is another one")
    new, mistake = workflow_syntax.mended(text, lambda candidate: _valid(check, path, candidate))
    try:
        before = kept(data_of(text))
    except Malformed:
        before = None  # it cannot be read, so only the lines that changed tell
    if before is not None and before != kept(data_of(new)):
        raise CannotSay(f"{path}: triggers, conditions and secrets are not changed")
    return Plan(
        f"Mend {mistake} in {path.removeprefix(FOLDER)}",
        why=f"GitHub cannot read {path}",
        edits=(FileEdit(path, text, new),),
        risk="the workflow runs again, with all that it does",
        proof="the workflow runs on the fix branch and its jobs pass",
    )


def _valid(check: WorkflowCheck, path: str, text: str) -> bool:
    try:
        load(path, text)
    except Malformed:
        return False
    try:
        return not any(fault.rule in ("yaml", "schema") for fault in check.faults(path, text))
    except Refused as error:
        raise CannotSay(str(error)) from error


def _said(finding: Finding) -> str:
    """The telling lines and the facts, bounded."""
    lines = [line.text for line in finding.lines if line.root] or [line.text for line in finding.lines]
    facts = (str(value) for value in finding.facts.values())
    return "\n".join([*lines, *facts])[:_MOST_SAID]
