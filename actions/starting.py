"""A workflow that is started by hand, or a workload on a launcher: started once for a repair, and followed to its end.

GitHub tells no run's inputs, and starting is not idempotent. So the intent is written down first, with the workflow's
newest run; a worker that finds such a note and no run adopts what was started since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from actions.workflow_edits import child, load, scalars_of
from app.domain.errors import Malformed, Refused
from app.domain.evidence import Job
from app.domain.repair import Look, Repair, RepairState
from app.ports.forge import RunInfo
from app.ports.launcher import ENDED, Launcher, RunSpec, RunState, RunStatus
from app.ports.plugins import Tools
from app.security.masking import mask

HEAL_ID = "heal_id"  # the workflow's input, and the workload's setting, that we fill if it is asked for
LEAST_PATIENCE_S = 600
SHOWN_LINES = 15
LONGEST_LINE = 300


class Work(Protocol):
    """A workflow, or else a workload. `inputs` are the workflow's inputs or the workload's settings; `ref` "": the
    default branch."""

    @property
    def workflow(self) -> str: ...
    @property
    def ref(self) -> str: ...
    @property
    def inputs(self) -> Mapping[str, str]: ...
    @property
    def workload(self) -> str: ...
    @property
    def launcher(self) -> str: ...
    @property
    def timeout_s(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Errand:
    """What is started, what it is called ("the training"), where heal.yml says so (`key`) and how long (`limit`).

    Its note lies on the shelf at `notes/<effect key>`; of those with one `name` one runs at a time. `settings` are more
    of a workload's; `offered` are inputs that a workflow is given only if it declares them, as it is with HEAL_ID.
    """

    how: Work
    what: str
    key: str
    limit: str
    verb: str
    notes: str
    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    offered: Mapping[str, str] = field(default_factory=dict)


# --- the dry run ---------------------------------------------------------------------------------------------------


def call(errand: Errand, tools: Tools) -> str:
    """What would be started, in words. Raises Refused, saying what is missing."""
    how = errand.how
    if not how.workflow:
        launcher_of(how, tools)
        return f"start the workload {how.workload} ({how.launcher})" + _with({**errand.offered, **how.inputs})
    if not tools.forge.may("actions"):
        raise Refused("the App may not start workflows here; grant it *Actions: read and write*")
    declared = _declared(errand, tools)
    given = set(how.inputs)
    filled = {HEAL_ID, *errand.offered}
    if declared is not None:
        if strange := sorted(given - set(declared)):
            raise Refused(f"{how.workflow} takes no input {strange[0]!r}; {errand.key}.inputs has one")
        missing = sorted(name for name, needed in declared.items() if needed and name not in {*given, *filled})
        if missing:
            raise Refused(f"{how.workflow} asks for {missing[0]!r}; add it to {errand.key}.inputs")
    offered = {name: value for name, value in errand.offered.items() if declared and name in declared}
    told = _with({**offered, **how.inputs})
    if declared and HEAL_ID in declared:
        told += f"{',' if told else ' with'} {HEAL_ID}=(this repair)"
    return f"start {how.workflow} on {_ref(how, tools)}{told}"


def _with(inputs: Mapping[str, str]) -> str:
    told = ", ".join(f"{name}={value}" for name, value in sorted(inputs.items()))
    return f" with {told}" if told else ""


def _ref(how: Work, tools: Tools) -> str:
    """Where heal.yml says; else on the fix that a repair of this incident has offered and that waits to be merged."""
    waiting = [branch for branch in (_offered(each, tools) for each in tools.repairs) if branch]
    return how.ref or (waiting[-1] if waiting else tools.forge.repository.default_branch)


def _offered(repair: Repair, tools: Tools) -> str:
    """The branch of a fix that waits to be merged."""
    data = repair.outcome.data if repair.outcome else {}
    standing = repair.state in (RepairState.APPLIED, RepairState.PROVEN) and tools.incident.merged_at is None
    return str(data.get("branch", "")) if standing and tools.incident.pull_number == data.get("pull") else ""


def _declared(errand: Errand, tools: Tools) -> dict[str, bool] | None:
    """The inputs of the workflow, and whether it cannot do without. None: the file cannot be read well enough to say.
    Raises Refused where it is not there, or cannot be started by hand."""
    how, ref = errand.how, _ref(errand.how, tools)
    path = f".github/workflows/{how.workflow}"
    try:
        file = tools.forge.file(path, ref)
    except Refused:
        file = None  # there is no such branch either
    if file is None:
        raise Refused(f"there is no {path} on {ref}; {errand.key} names it")
    try:
        triggers = child(load(path, file.text).root, "on")
    except Malformed:
        return None  # GitHub knows better: it refuses what it does not take
    if isinstance(triggers, ScalarNode):
        names = [triggers.value]
    elif isinstance(triggers, SequenceNode):
        names = [item.value for item in triggers.value]
    else:
        names = [key.value for key, _ in triggers.value] if isinstance(triggers, MappingNode) else []
    if "workflow_dispatch" not in names:
        raise Refused(f"{path} cannot be started by hand; add workflow_dispatch to its `on:`")
    inputs = child(child(triggers, "workflow_dispatch"), "inputs")
    found = {}
    for key, value in inputs.value if isinstance(inputs, MappingNode) else ():
        told = scalars_of(value)
        found[str(key.value)] = told.get("required") == "true" and "default" not in told
    return found


def launcher_of(how: Work, tools: Tools) -> Launcher:
    found = tools.launchers.get(how.launcher)
    if found is None:
        known = ", ".join(sorted(tools.launchers)) or "none"
        raise Refused(f"no launcher is called {how.launcher!r}; this bot has {known}")
    return found


# --- starting ------------------------------------------------------------------------------------------------------


def noted(errand: Errand, repair: Repair, tools: Tools) -> dict[str, Any]:
    return dict(tools.shelf.get(f"{errand.notes}/{repair.effect_key}") or {})


def start(errand: Errand, repair: Repair, more: Mapping[str, Any], tools: Tools) -> dict[str, Any]:
    """Its note: `intended_at`, `run_id` or `handle` and `launcher`, and what `more` said when it was first intended."""
    kept = noted(errand, repair, tools)
    if not kept:
        kept = {**more, "intended_at": tools.clock.now().isoformat()}
        if errand.how.workflow:
            kept["run_before"] = max((run.id for run in _runs(errand, tools)), default=0)
        tools.guard()
        _keep(errand, repair, kept, tools)
    if errand.how.workflow and not kept.get("run_id"):
        started = [run for run in _runs(errand, tools) if run.id > int(kept["run_before"])]
        run_id = _ours(started, repair)
        if run_id is None:
            tools.guard()
            how = errand.how
            run_id = tools.forge.dispatch(how.workflow, _ref(how, tools), _inputs(errand, repair, tools))
        kept["run_id"] = run_id
        _keep(errand, repair, kept, tools)
    if not errand.how.workflow:
        launcher = launcher_of(errand.how, tools)
        tools.guard()
        handle = launcher.start(_spec(errand, repair))
        if kept.get("handle") != handle:
            kept |= {"handle": handle, "launcher": errand.how.launcher}
            _keep(errand, repair, kept, tools)
    return kept


def busy(errand: Errand, repair: Repair, tools: Tools) -> bool:
    """Another one of this name is under way, for another repair."""
    other = tools.shelf.get(errand.name) or {}
    if not other or other.get("key") == repair.effect_key:
        return False
    for_s = (tools.clock.now() - datetime.fromisoformat(str(other["intended_at"]))).total_seconds()
    if for_s > errand.how.timeout_s + LEAST_PATIENCE_S:
        return False
    if other.get("run_id"):
        run = run_of(int(other["run_id"]), tools)
        return run is not None and run.status != "completed"
    if other.get("handle"):
        launcher = tools.launchers.get(str(other.get("launcher", "")))
        return launcher is not None and launcher.status(str(other["handle"])).state not in ENDED
    return for_s < LEAST_PATIENCE_S  # it is about to be started


def stop(notes: str, repair: Repair, tools: Tools) -> str | None:
    """End what was started. What was done; "" if it was over, None if nothing was started."""
    kept = {
        **(tools.shelf.get(f"{notes}/{repair.effect_key}") or {}),
        **(repair.outcome.data if repair.outcome else {}),
    }
    if kept.get("run_id"):
        run = run_of(int(kept["run_id"]), tools)
        if run is None or run.status == "completed":
            return ""
        tools.guard()
        tools.forge.cancel_run(run.id)
        return f"run {run.id}"
    launcher = tools.launchers.get(str(kept.get("launcher", "")))
    if not kept.get("handle") or launcher is None:
        return None
    tools.guard()
    launcher.cancel(str(kept["handle"]))
    return "the workload"


def run_of(run_id: int, tools: Tools) -> RunInfo | None:
    """None: somebody has deleted it, or it is not ours to see any more."""
    try:
        return tools.forge.run(run_id)
    except Refused:
        return None


def _inputs(errand: Errand, repair: Repair, tools: Tools) -> dict[str, str]:
    declared = _declared(errand, tools) or {}
    offered = {**errand.offered, HEAL_ID: repair.effect_key}
    return {**{name: value for name, value in offered.items() if name in declared}, **errand.how.inputs} | (
        {HEAL_ID: repair.effect_key} if HEAL_ID in declared else {}
    )


def _spec(errand: Errand, repair: Repair) -> RunSpec:
    how = errand.how
    settings = {**errand.offered, **how.inputs, HEAL_ID: repair.effect_key, **errand.settings}
    return RunSpec(repair.effect_key, how.workload, errand.verb, settings, how.timeout_s)


def _runs(errand: Errand, tools: Tools) -> list[RunInfo]:
    """Those of the workflow that were started by hand, newest first."""
    path = f".github/workflows/{errand.how.workflow}"
    found = tools.forge.runs(branch=_ref(errand.how, tools))
    return [run for run in found if run.trigger == "workflow_dispatch" and run.workflow_path == path]


def _ours(started: Sequence[RunInfo], repair: Repair) -> int | None:
    """Which of the runs since our intent a worker that died has started: GitHub does not tell a run's inputs, so it is
    the one that carries our id in its name, else the first."""
    named = [run.id for run in started if repair.effect_key in run.name]
    return min(named or [run.id for run in started], default=None)


def _keep(errand: Errand, repair: Repair, kept: Mapping[str, Any], tools: Tools) -> None:
    tools.shelf.put(f"{errand.notes}/{repair.effect_key}", kept)
    tools.shelf.put(errand.name, {"key": repair.effect_key, **kept})


# --- following -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Followed:
    """How far it is. `look`: an answer already (it runs, it failed); None: it succeeded, as `run` or `status` tells."""

    look: Look | None
    run: RunInfo | None = None
    status: RunStatus | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


def follow(errand: Errand, repair: Repair, data: Mapping[str, Any], tools: Tools) -> Followed:
    """`data` is the outcome's: `run_id`, or `handle` and `launcher`. Ends what takes too long."""
    return _follow_run(errand, repair, data, tools) if data.get("run_id") else _follow(errand, repair, data, tools)


def _follow_run(errand: Errand, repair: Repair, data: Mapping[str, Any], tools: Tools) -> Followed:
    run = run_of(int(data["run_id"]), tools)
    if run is None:
        gone = f"run {data['run_id']}, which was {errand.what}, cannot be read any more; it may have been deleted"
        return Followed(Look(False, gone))
    if run.status != "completed":
        if _overdue(errand, repair, tools):
            tools.guard()
            tools.forge.cancel_run(run.id)
            return Followed(Look(False, _too_long(errand), run.url), run)
        jobs = tools.forge.jobs(run.id, run.attempt)
        return Followed(
            Look(None, f"{errand.how.workflow} is {_spoken(run.status)}", run.url, _progress(run, jobs)), run
        )
    if run.conclusion != "success":
        ended = f"{errand.what} in run {run.id} ended with {run.conclusion or 'no conclusion'}"
        return Followed(Look(False, ended, run.url), run)
    return Followed(None, run)


def _follow(errand: Errand, repair: Repair, data: Mapping[str, Any], tools: Tools) -> Followed:
    launcher = tools.launchers.get(str(data.get("launcher", "")))
    if launcher is None:
        return Followed(Look(False, f"the launcher that {errand.what} was started with is not there any more"))
    status = launcher.status(str(data["handle"]))
    if status.state is RunState.PENDING:
        tools.guard()
        launcher.start(_spec(errand, repair))  # whoever started it may have been stopped on the way
    tail = "\n".join(line[:LONGEST_LINE] for line in mask(status.tail).splitlines()[-SHOWN_LINES:])
    minutes = (tools.clock.now() - (repair.applied_at or repair.intended_at)).total_seconds() / 60
    seen = {"tail": tail, "spent": {"gpu_minutes": round(max(minutes, 0.0), 2)}}
    if status.state not in ENDED:
        if _overdue(errand, repair, tools):
            tools.guard()
            launcher.cancel(str(data["handle"]))
            return Followed(Look(False, _too_long(errand), data=seen), status=status)
        is_now = f"{errand.what} is {status.state}"
        return Followed(Look(None, is_now, progress=tail or f"{is_now[0].upper()}{is_now[1:]}."), status=status)
    if status.state is not RunState.SUCCEEDED:
        code = f" with exit code {status.exit_code}" if status.exit_code is not None else ""
        return Followed(Look(False, f"{errand.what} {_ENDS[status.state]}{code}", data=seen), status=status)
    return Followed(None, status=status, data=seen)


_ENDS = {
    RunState.FAILED: "failed",
    RunState.CANCELLED: "was cancelled",
    RunState.LOST: "was lost: the machine or the process that watched it ended",
}


def _overdue(errand: Errand, repair: Repair, tools: Tools) -> bool:
    since = repair.applied_at or repair.intended_at
    late = tools.clock.now() - since >= timedelta(seconds=errand.how.timeout_s)
    return late or (repair.proof_deadline is not None and tools.clock.now() >= repair.proof_deadline)


def _too_long(errand: Errand) -> str:
    return f"{errand.what} took longer than {errand.limit} allows, and was cancelled"


def _progress(run: RunInfo, jobs: Sequence[Job]) -> str:
    """The step at which each job is; GitHub shows no log of a job that still runs."""
    lines = []
    for job in jobs[:10]:
        now = next((step.name for step in job.steps if not step.conclusion), "")
        done = sum(1 for step in job.steps if step.conclusion)
        at = f": {now}, after {done} of {len(job.steps)} steps" if now and job.status != "completed" else ""
        lines.append(f"{job.name} is {_spoken(job.conclusion or job.status)}{at}")
    return "\n".join(lines) or f"Run {run.id} is {_spoken(run.status)}."


def _spoken(status: str) -> str:
    return status.replace("_", " ")
