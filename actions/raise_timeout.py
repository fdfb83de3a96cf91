"""Give a job (or a step) more time, where it was slower than usual and not stuck."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import math
import re

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml.nodes import ScalarNode

from actions import workflow_offer
from actions.workflow_edits import Job, Path, Workflow, child, dotted
from actions.workflow_offer import PROOF, CannotSay, failed_job
from app.domain.finding import Finding
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools

FACTOR = 1.5
MOST_SLOWER = 3.0
DEFAULT_MINUTES = 360  # of a job that names none
_MOST_RUNS = 3
_STEP = re.compile(r"The action '(?P<name>.{1,200})' has timed out after (?P<minutes>\d{1,5}) minutes")


class TimeoutParams(BaseModel):
    """`cap_minutes`: no timeout is raised above it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    cap_minutes: int = Field(default=360, ge=1, le=4320)


class RaiseTimeout:
    kind = "raise_timeout"
    Params: type[BaseModel] = TimeoutParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: TimeoutParams, tools: Tools) -> Plan:
        return workflow_offer.planned(
            "Raise the timeout", incident, tools, lambda workflow: _raised(workflow, incident, params, tools)
        )

    def apply(self, repair: Repair, params: TimeoutParams, plan: Plan, tools: Tools) -> Outcome:
        return workflow_offer.offer(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return workflow_offer.take_back(repair, tools)


def _raised(workflow: Workflow, incident: Incident, params: TimeoutParams, tools: Tools) -> Plan:
    finding = incident.finding
    if finding.facts.get("kind") == "cancelled" or finding.facts.get("cancelled"):
        raise CannotSay("the job was cancelled, and not for its time")
    if finding.facts.get("kind") == "time_limit":
        raise CannotSay("the limit is not set in the workflow: it is that of a scheduler or of a command")
    job = failed_job(workflow, finding)
    path, name = _place(job, finding)
    present = _minutes(workflow, path)
    if present is None and name == job.id and _limit_told(finding) is None:
        raise CannotSay(f"{job.id} has no timeout-minutes, and no log tells of the limit of {DEFAULT_MINUTES} minutes")
    limit = present or DEFAULT_MINUTES
    new = min(math.ceil(limit * FACTOR), params.cap_minutes)
    if new <= limit:
        raise CannotSay(f"{name} may take {limit} minutes already, and the cap is {params.cap_minutes}")
    usual = _usual_minutes(incident, tools) if name == job.id else None
    slower = _slower(finding, limit, usual)
    if slower is not None and slower > MOST_SLOWER:
        raise CannotSay(
            f"{name} takes more than {slower:.1f} times what it usually takes: more time would only hide why it hangs"
        )
    if present is None:
        workflow.add_key(path[:-1], f"timeout-minutes: {new}", before="steps")
    else:
        workflow.put(path, str(new))
    return Plan(
        f"Raise the timeout of {job.id} from {limit} to {new} minutes",
        why=f"it was stopped after {limit} minutes"
        + (f"; its last successful runs took up to {usual:.1f} minutes" if usual else ""),
        edits=(workflow.finish(),),
        risk="a job that hangs is paid for longer",
        proof=PROOF,
    )


def _place(job: Job, finding: Finding) -> tuple[Path, str]:
    """The timeout that ran out: of the step that the evidence names, if it has one of its own, else of the job."""
    for line in finding.lines:
        found = _STEP.search(line.text[:1_000])
        if found is None:
            continue
        steps = [step for step in job.steps if step.title == found["name"] or step.get("id") == found["name"]]
        steps = [step for step in steps if child(step.node, "timeout-minutes") is not None]
        if len(steps) != 1:
            raise CannotSay(f"cannot tell which step of {job.id} timed out: {len(steps)} fit {found['name'][:80]!r}")
        return (*steps[0].path, "timeout-minutes"), found["name"][:80]
    own = [step for step in job.steps if child(step.node, "timeout-minutes") is not None]
    told = _limit_told(finding)
    if own and told is not None and str(told) != job.get("timeout-minutes"):
        raise CannotSay(f"{job.id} and its steps have timeouts, and the log does not tell which of them ran out")
    return (*job.path, "timeout-minutes"), job.id


def _minutes(workflow: Workflow, path: Path) -> int | None:
    node: object = workflow.root
    for part in path:
        node = node.value[part] if isinstance(part, int) else child(node, part)  # type: ignore[attr-defined, arg-type]
    if node is None:
        return None
    if not isinstance(node, ScalarNode) or not re.fullmatch(r"[1-9]\d{0,4}", node.value):
        raise CannotSay(f"{dotted(path)} is no plain number of minutes")
    return int(node.value)


def _limit_told(finding: Finding) -> int | None:
    minutes = str(finding.facts.get("minutes", ""))
    return int(minutes) if re.fullmatch(r"\d{1,5}", minutes) else None


def _slower(finding: Finding, limit: int, usual: float | None) -> float | None:
    """How many times the usual time it took at least; None where nothing tells."""
    told = finding.facts.get("slower")
    if isinstance(told, int | float):
        return float(told)
    return limit / usual if usual else None


def _usual_minutes(incident: Incident, tools: Tools) -> float | None:
    """The longest that the job took in its last successful runs."""
    names = incident.finding.failed_jobs
    runs = tools.forge.runs(branch=incident.branch, conclusion="success")
    ours = [run for run in runs if run.workflow_path == incident.workflow_path][:_MOST_RUNS]
    took = [
        (job.completed_at - job.started_at).total_seconds() / 60
        for run in ours
        for job in tools.forge.jobs(run.id, run.attempt)
        if job.name in names and job.conclusion == "success" and job.started_at and job.completed_at
    ]
    return max(took, default=0) or None
