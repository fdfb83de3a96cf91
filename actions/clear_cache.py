"""Let a cache be forgotten: under another key it is neither restored nor grown any more."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import re
from collections.abc import Callable, Iterator

from pydantic import BaseModel, ConfigDict

from actions import workflow_offer
from actions.workflow_edits import Job, Step, Workflow, child, scalars_of
from actions.workflow_offer import PROOF, CannotSay, failed_job
from app.domain.finding import Finding
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools

_ACTIONS = frozenset({"actions/cache", "actions/cache/restore", "actions/cache/save"})
_VERSION = re.compile(r"(?<![A-Za-z0-9.])v([1-9]\d{0,4})(?![A-Za-z0-9.])")
_EXPRESSION = re.compile(r"\$\{\{(?:[^}$]|\$(?!\{\{))*\}\}")


class CacheParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClearCache:
    kind = "clear_cache"
    Params: type[BaseModel] = CacheParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: CacheParams, tools: Tools) -> Plan:
        return workflow_offer.planned(
            "Change the key of the cache", incident, tools, lambda workflow: _cleared(workflow, incident)
        )

    def apply(self, repair: Repair, params: CacheParams, plan: Plan, tools: Tools) -> Outcome:
        return workflow_offer.offer(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return workflow_offer.take_back(repair, tools)


def _cleared(workflow: Workflow, incident: Incident) -> Plan:
    finding = incident.finding
    job = failed_job(workflow, finding)
    key = _key(job, finding)
    restored = {line for step in _caches(job) if step.inputs.get("key") == key for line in _fallbacks(step)}
    newer = _newer(key)
    for each in workflow.jobs:
        for step in _caches(each):
            if step.inputs.get("key") == key:
                workflow.put((*step.path, "with", "key"), newer(key))
                for line in _fallbacks(step):
                    workflow.swap((*step.path, "with", "restore-keys"), line, newer(line))
            elif restored & {step.inputs.get("key", ""), *_fallbacks(step)}:
                raise CannotSay(f"another cache of {each.id} is restored by the same beginning of its key")
    return Plan(
        f"Forget the cache of {job.id}",
        why=f"the cache under {key[:120]!r} is restored at each run; under a new key it is built afresh",
        edits=(workflow.finish(),),
        risk="the next run fills the cache anew and takes longer",
        proof=PROOF,
    )


def _key(job: Job, finding: Finding) -> str:
    """The one key of the job's caches, or the one that the evidence speaks of. Raises CannotSay."""
    steps = list(_caches(job))
    keys = sorted({step.inputs.get("key", "") for step in steps} - {""})
    if not keys:
        raise CannotSay(f"{job.id} has no step of actions/cache with a key")
    if len(keys) > 1:
        said = "\n".join(f"{line.step}\n{line.text[:1_000]}" for line in finding.lines)
        keys = sorted({step.inputs.get("key", "") for step in steps if _spoken_of(step, said)} - {""}) or keys
    if len(keys) > 1:
        raise CannotSay(f"cannot tell which cache of {job.id} is meant: {', '.join(key[:80] for key in keys[:6])}")
    return keys[0]


def _caches(job: Job) -> Iterator[Step]:
    return (step for step in job.steps if step.get("uses").partition("@")[0] in _ACTIONS)


def _fallbacks(step: Step) -> list[str]:
    found = scalars_of(child(step.node, "with")).get("restore-keys", "")
    lines = [line.strip() for line in found.split("\n") if line.strip()]
    if len(set(lines)) != len(lines):
        raise CannotSay("a restore key stands twice")
    return lines


def _spoken_of(step: Step, said: str) -> bool:
    paths = [path for path in step.inputs.get("path", "").split() if len(path) > 2]
    named = step.get("name")
    return any(path.removeprefix("~") in said for path in paths) or bool(named and named in said)


def _newer(key: str) -> Callable[[str], str]:
    """Makes of a key (or its beginning) the next: `v1` is counted up, or `v2-` put in front of one that has none."""
    literal = _EXPRESSION.sub(lambda found: "\0" * len(found[0]), key)
    versions = list(_VERSION.finditer(literal))
    if len(versions) != 1:
        return lambda old: f"v2-{old}"
    (start, end), number = versions[0].span(), int(versions[0][1])

    def counted(old: str) -> str:
        if old[start:end] != f"v{number}":
            raise CannotSay(f"the restore key {old[:80]!r} has no v{number} where the key has it")
        return f"{old[:start]}v{number + 1}{old[end:]}"

    return counted
