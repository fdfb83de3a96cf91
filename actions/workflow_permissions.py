"""The least permissions of GITHUB_TOKEN that a step needs, added to what its job has."""

import re
from collections.abc import Mapping

from ruamel.yaml.nodes import ScalarNode

from actions.workflow_edits import Job, Step, Workflow, child, scalars_of
from actions.workflow_offer import CannotSay
from actions.workflow_versions import table

_ORDER = {"none": 0, "read": 1, "write": 2}
_MOST_LINE = 2_000


def needed(step: Step) -> dict[str, str]:
    """By the table of steps; empty where it knows nothing of this one."""
    uses, grants = step.get("uses").partition("@")[0], {}
    lines = [line[:_MOST_LINE] for line in step.get("run").replace("\\\n", " ").split("\n")]
    for entry in table("permission"):
        action = entry.get("uses", "")
        by_action = action and (uses == action or uses.startswith(f"{action}/"))
        if by_action or ("run" in entry and any(re.search(entry["run"], line) for line in lines)):
            grants.update(entry["grants"])
    return grants


def failing_step(job: Job, told: Step | None) -> Step:
    """The step that the evidence names, else the only one of the job that needs anything. Raises CannotSay."""
    if told is not None:
        return told
    found = [step for step in job.steps if needed(step)]
    if len(found) != 1:
        names = ", ".join(step.title[:80] for step in found[:6]) or "none is known to need any"
        raise CannotSay(f"cannot tell which step of {job.id} lacks a permission: {names}")
    return found[0]


def grant(workflow: Workflow, job: Job, step: Step) -> dict[str, str]:
    """Add to the job what `step` needs and it has not. Returns what was added. Raises CannotSay, Malformed."""
    wanted = needed(step)
    if not wanted:
        raise CannotSay(f"which permission {step.title[:120]!r} needs is not known")
    if not job.steps:
        raise CannotSay(f"{job.id} calls another workflow, which has to grant them itself")
    own = child(job.node, "permissions")
    if own is None:
        return _block(workflow, job, wanted)
    if isinstance(own, ScalarNode):
        raise CannotSay(f"{job.id} says `permissions: {own.value[:20]}`: write the permissions out first")
    present = scalars_of(own)
    more = {name: level for name, level in wanted.items() if _less(present.get(name, "none"), level)}
    if not more:
        raise CannotSay(f"{job.id} has {_shown(wanted)} already: the token is refused for another reason")
    for name, level in more.items():
        if name in present:
            workflow.put((*job.path, "permissions", name), level)
    added = {name: level for name, level in more.items() if name not in present}
    if added:
        workflow.add_entries((*job.path, "permissions"), added)
    return more


def _block(workflow: Workflow, job: Job, wanted: Mapping[str, str]) -> dict[str, str]:
    """A block of its own takes the place of what the workflow grants, so that is written out in it."""
    above = child(workflow.root, "permissions")
    if isinstance(above, ScalarNode):
        raise CannotSay(f"the workflow says `permissions: {above.value[:20]}`: write the permissions out first")
    inherited = scalars_of(above) if above is not None else _by_default(job)
    if above is not None and all(not _less(inherited.get(name, "none"), level) for name, level in wanted.items()):
        raise CannotSay(f"{job.id} has {_shown(wanted)} already: the token is refused for another reason")
    together = dict(inherited)
    for name, level in wanted.items():
        if _less(together.get(name, "none"), level):
            together[name] = level
    lines = ["permissions:", *(f"  {name}: {level}" for name, level in together.items())]
    workflow.add_key(job.path, "\n".join(lines), before="steps")
    return dict(wanted)


def _by_default(job: Job) -> dict[str, str]:
    """What the restricted default grants, as far as the job uses it."""
    text = " ".join(f"{step.get('uses')} {step.get('run')} {' '.join(step.inputs.values())}" for step in job.steps)
    return {"contents": "read", **({"packages": "read"} if "ghcr.io" in text else {})}


def _less(present: str, wanted: str) -> bool:
    return _ORDER.get(present, 0) < _ORDER[wanted]


def _shown(grants: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {level}" for name, level in grants.items())
