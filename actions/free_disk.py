"""Make room on GitHub's hosted Ubuntu runners: remove toolchains that come with the image and are not used."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import re

from pydantic import BaseModel, ConfigDict

from actions import workflow_offer
from actions.workflow_edits import Job, Workflow, child, scalars_of
from actions.workflow_offer import PROOF, CannotSay, failed_job
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools

NAME = "Free disk space"

# What the image brings, and what in a job tells that it is used.
# https://github.com/actions/runner-images/blob/main/images/ubuntu/Ubuntu2404-Readme.md
TOOLCHAINS = (
    ("/usr/share/dotnet", r"(?i)dotnet|nuget|msbuild"),
    ("/usr/local/lib/android", r"(?i)android|gradle"),
    ("/opt/ghc", r"(?i)\bghc|haskell|cabal|stack\b"),
    ("/usr/local/.ghcup", r"(?i)\bghc|haskell|cabal|stack\b"),
    ("/usr/share/swift", r"(?i)\bswift"),
    ("/opt/hostedtoolcache/CodeQL", r"(?i)codeql"),
    ("/opt/hostedtoolcache/Ruby", r"(?i)\bruby|\bgem\b|bundle"),
    ("/opt/hostedtoolcache/go", r"(?i)setup-go|\bgo +(?:build|test|run|install|mod|get|vet)\b"),
)
_HOSTED = re.compile(r"ubuntu-(?:latest|\d\d\.\d\d)(?:-arm)?")
_DONE = re.compile(r"rm -rf?\b[^\n]*/usr/(?:share/dotnet|local/lib/android)|free-disk-space|maximize-build-space")


class DiskParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FreeDisk:
    kind = "free_disk"
    Params: type[BaseModel] = DiskParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: DiskParams, tools: Tools) -> Plan:
        return workflow_offer.planned(
            "Free disk space before the step that failed", incident, tools, lambda workflow: _freed(workflow, incident)
        )

    def apply(self, repair: Repair, params: DiskParams, plan: Plan, tools: Tools) -> Outcome:
        return workflow_offer.offer(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return workflow_offer.take_back(repair, tools)


def _freed(workflow: Workflow, incident: Incident) -> Plan:
    finding = incident.finding
    job = failed_job(workflow, finding)
    if not _HOSTED.fullmatch(job.get("runs-on")):
        raise CannotSay(f"{job.id} does not run on one of GitHub's own Ubuntu images")
    if child(job.node, "container") is not None:
        raise CannotSay(f"{job.id} runs in a container, which does not see the runner's toolchains")
    if any(_DONE.search(f"{step.get('uses')}\n{step.get('run')}") for step in job.steps):
        raise CannotSay(f"{job.id} frees disk space already")
    step = workflow.step_of(finding, job)
    if step is None and job.steps:
        step = next((each for each in job.steps if each.get("run")), job.steps[0])
    if step is None:
        raise CannotSay(f"{job.id} has no steps")
    unused = unused_by(job)
    if not unused:
        raise CannotSay(f"{job.id} uses every toolchain that could be removed")
    index = int(step.path[-1])
    workflow.add_step(job, index, script(unused))
    return Plan(
        f"Free disk space in {job.id} before {step.title[:60]!r}",
        why="the runner's disk is full, and its image brings toolchains that this job does not use",
        edits=(workflow.finish(),),
        risk="a later step that uses one of these toolchains without saying so fails; the step takes a while",
        proof=PROOF,
    )


def unused_by(job: Job) -> list[str]:
    """The toolchains that nothing in the job speaks of."""
    said = [f"{step.title}\n{step.get('uses')}\n{step.get('run')}\n{step.inputs}" for step in job.steps]
    text = "\n".join([*said, *scalars_of(child(job.node, "env")).values()])
    return [path for path, used in TOOLCHAINS if not re.search(used, text)]


def script(paths: list[str]) -> str:
    """A step that removes `paths`. On a machine that is not GitHub's own (whatever its label says) it does nothing."""
    lines = [
        f"- name: {NAME}",
        "  shell: bash",
        "  run: |",
        '    if [ "$RUNNER_ENVIRONMENT" = "github-hosted" ]; then',
        f"      sudo rm -rf {' '.join(paths)}",
        "    fi",
        "    df -h /",
    ]
    return "\n".join(lines)
