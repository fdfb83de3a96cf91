"""Run a job on a larger runner, or one with a GPU: one of those that the team has named."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from ruamel.yaml.nodes import ScalarNode, SequenceNode

from actions import workflow_offer
from actions.workflow_edits import Path, Workflow, child
from actions.workflow_offer import PROOF, CannotSay, failed_job
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]

_WHY = {
    "gpu_not_found": "the runner has no GPU",
    "cuda_driver_mismatch": "the runner's GPU driver does not fit",
    "host_oom": "the runner's memory does not suffice",
    "disk_full": "the runner's disk does not suffice",
}


class RunnerParams(BaseModel):
    """`labels`: the runners that may be used, from the smallest to the largest."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    labels: tuple[Label, ...] = Field(default=(), max_length=20)


class MoveRunner:
    kind = "move_runner"
    Params: type[BaseModel] = RunnerParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: RunnerParams, tools: Tools) -> Plan:
        title = "Run the job on another runner"
        if not params.labels:
            return Plan(
                title,
                refusal="no other runner is named: give `move_runner` its `labels`, from the smallest to the largest, "
                f"in the playbook of {incident.finding.kind} in .github/heal.yml",
            )
        return workflow_offer.planned(
            title, incident, tools, lambda workflow: _moved(workflow, incident, params.labels)
        )

    def apply(self, repair: Repair, params: RunnerParams, plan: Plan, tools: Tools) -> Outcome:
        return workflow_offer.offer(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return workflow_offer.take_back(repair, tools)


def _moved(workflow: Workflow, incident: Incident, labels: tuple[str, ...]) -> Plan:
    finding = incident.finding
    job = failed_job(workflow, finding)
    runner = child(job.node, "runs-on")
    path: Path = (*job.path, "runs-on")
    if isinstance(runner, SequenceNode):
        present = [item.value for item in runner.value if isinstance(item, ScalarNode)]
        known = [number for number, label in enumerate(present) if label in labels]
        if len(known) != 1:
            raise CannotSay(f"{job.id} runs on several labels, and not just one of them is among those named")
        path, now = (*path, known[0]), present[known[0]]
    elif isinstance(runner, ScalarNode) and "${{" not in runner.value:
        now = runner.value
    else:
        raise CannotSay(f"the runner of {job.id} is not written as a label")
    after = labels[labels.index(now) + 1 :] if now in labels else labels
    if not after:
        raise CannotSay(f"{job.id} runs on {now} already, the largest runner that is named")
    workflow.put(path, after[0])
    return Plan(
        f"Run {job.id} on {after[0]}",
        why=f"{_WHY.get(finding.kind, 'the runner does not suffice')}; {after[0]} is the next that the team has named",
        edits=(workflow.finish(),),
        risk="another runner may cost more a minute, and waits where none is free",
        proof=PROOF,
    )
