"""A workflow that is started by hand, or a workload on a launcher: started once for a repair, and followed to its end.

GitHub tells no run's inputs, and starting is not idempotent. So the intent is written down first, with the workflow's
newest run; a worker that finds such a note and no run adopts what was started since.

Of each run on a launcher there is a note of its own, which says how it was started, from which run it goes on, and
which one goes on from it. Who follows a run follows the newest of these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from actions.workflow_edits import child, load, scalars_of
from app.domain.errors import Malformed, Refused
from app.domain.evidence import Job
from app.domain.repair import Look, Repair, RepairState
from app.domain.run import EndedRun, Failure, failure_of, run_note
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
    `about` is what a run is for ("model speech"), `model` that model's name. `resume` is the handle of the run that
    this one goes on from.
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
    about: str = ""
    model: str = ""
    resume: str = ""


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
        _launched(errand, repair, kept, tools)
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
        if launcher is None:
            return False
        handle = newest(launcher.name, str(other["handle"]), tools)
        status = launcher.status(handle)
        return status.state not in ENDED or (failed(status) is not None and _goes_on(launcher.name, handle, tools))
    return for_s < LEAST_PATIENCE_S  # it is about to be started


def stop(notes: str, repair: Repair, tools: Tools, *, onwards: bool = True) -> str | None:
    """End what was started, and what goes on from it unless told otherwise. What was done; "" if it was over, None if
    nothing was started."""
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
    handle = str(kept["handle"])
    launcher.cancel(newest(launcher.name, handle, tools) if onwards else handle)
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
    return RunSpec(repair.effect_key, how.workload, errand.verb, settings, how.timeout_s, errand.resume)


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


# --- runs on a launcher --------------------------------------------------------------------------------------------


def known_run(launcher: str, handle: str, tools: Tools) -> dict[str, Any]:
    return dict(tools.shelf.get(run_note(launcher, handle)) or {})


def newest(launcher: str, handle: str, tools: Tools) -> str:
    """The run that goes on from this one, or from that one in turn; itself, if none does."""
    for _ in range(_LONGEST_CHAIN):
        following = str(known_run(launcher, handle, tools).get("resumed_as", ""))
        if not following:
            break
        handle = following
    return handle


def failed(status: RunStatus) -> Failure | None:
    """Why it failed, if it says so itself."""
    return failure_of(status.report) if status.state in (RunState.FAILED, RunState.LOST) else None


def _goes_on(launcher: str, handle: str, tools: Tools) -> bool:
    return tools.mending(launcher, handle) is not False


def _launched(errand: Errand, repair: Repair, kept: Mapping[str, Any], tools: Tools) -> None:
    """Its note, and its name on that of the run that it goes on from. `until` is when all of them must have ended."""
    launcher, handle = str(kept["launcher"]), str(kept["handle"])
    name, spec = run_note(launcher, handle), _spec(errand, repair)
    before = known_run(launcher, errand.resume, tools) if errand.resume else {}
    if not tools.shelf.get(name):
        until = datetime.fromisoformat(str(kept["intended_at"])) + timedelta(seconds=spec.timeout_s)
        note = {
            "workload": spec.workload,
            "verb": spec.verb,
            "settings": dict(spec.settings),
            "about": errand.about,
            "model": errand.model,
            "what": before.get("what", errand.what),
            "limit": errand.limit,
            "until": before.get("until", until.isoformat()),
            "first": before.get("first", handle),
            "restarts": int(before.get("restarts", -1)) + 1,
            "key": repair.effect_key,
        }
        tools.shelf.put(name, note)
    if before and before.get("resumed_as") != handle:
        tools.shelf.put(run_note(launcher, errand.resume), {**before, "resumed_as": handle})


_LONGEST_CHAIN = 50


# --- following -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Followed:
    """How far it is. `look`: an answer already (it runs, it failed); None: it succeeded, as `run` or `status` tells.
    `ended` is that run on a launcher, and `settings` those of the newest one."""

    look: Look | None
    run: RunInfo | None = None
    status: RunStatus | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    ended: EndedRun | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


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
    own = str(data["handle"])
    handle = newest(launcher.name, own, tools)
    status = launcher.status(handle)
    if status.state is RunState.PENDING and handle == own:
        tools.guard()
        launcher.start(_spec(errand, repair))  # whoever started it may have been stopped on the way
    tail = "\n".join(line[:LONGEST_LINE] for line in mask(status.tail).splitlines()[-SHOWN_LINES:])
    ended = _ended(errand, launcher.name, handle, status, tail, tools)
    until = _until(own, over=ended is not None or handle != own, launcher=launcher.name, tools=tools)
    minutes = (until - (repair.applied_at or repair.intended_at)).total_seconds() / 60
    seen = {"tail": tail, "spent": {"gpu_minutes": round(max(minutes, 0.0), 2)}}
    if status.state not in ENDED:
        if _overdue(errand, repair, tools):
            tools.guard()
            launcher.cancel(handle)
            return Followed(Look(False, _too_long(errand), data=seen), status=status)
        is_now = f"{errand.what} is {status.state}"
        return Followed(Look(None, is_now, progress=tail or f"{is_now[0].upper()}{is_now[1:]}."), status=status)
    if status.state is not RunState.SUCCEEDED:
        code = f" with exit code {status.exit_code}" if status.exit_code is not None else ""
        why = f"{errand.what} {_ENDS[status.state]}{code}"
        failure = ended.failure if ended else None
        if failure is not None:
            why = f"{errand.what} failed, as it says itself ({failure.kind}): {failure.message or 'no more is told'}"
            if _waits(errand, repair, failure, (launcher.name, handle), tools):
                return Followed(Look(None, f"{why}; its run is being repaired", data=seen, run=ended), status=status)
        return Followed(Look(False, why, data=seen, run=ended), status=status)
    settings = known_run(launcher.name, handle, tools).get("settings", {})
    return Followed(None, status=status, data=seen, ended=ended, settings=settings)


def _ended(errand: Errand, launcher: str, handle: str, status: RunStatus, tail: str, tools: Tools) -> EndedRun | None:
    """None: it goes on, was cancelled, or says nothing of why it failed."""
    failure = failed(status)
    if failure is None and status.state is not RunState.SUCCEEDED:
        return None
    note = known_run(launcher, handle, tools)
    return EndedRun(
        launcher=launcher,
        handle=handle,
        workload=errand.how.workload,
        verb=errand.verb,
        about=errand.about,
        model=errand.model,
        first=str(note.get("first", handle)),
        restarts=int(note.get("restarts", 0)),
        failure=masked(failure) if failure else None,
        tail=tail,
    )


def masked(failure: Failure) -> Failure:
    facts = {name: mask(value) if isinstance(value, str) else value for name, value in failure.facts.items()}
    advice = {name: mask(value) for name, value in failure.advice.items()}
    return replace(failure, message=mask(failure.message), facts=facts, advice=advice)


def _until(handle: str, *, over: bool, launcher: str, tools: Tools) -> datetime:
    """Now, or when this repair's own run was first seen to have ended: what goes on from it counts for another one."""
    now = tools.clock.now()
    note = known_run(launcher, handle, tools)
    if not over or not note:
        return now
    if "ended_at" not in note:
        tools.shelf.put(run_note(launcher, handle), {**note, "ended_at": now.isoformat()})
        return now
    return datetime.fromisoformat(str(note["ended_at"]))


def _waits(errand: Errand, repair: Repair, failure: Failure, run: tuple[str, str], tools: Tools) -> bool:
    """Whether another repair gets the run through. One that goes on from another run is that repair itself."""
    if errand.resume or not failure.resumable or _overdue(errand, repair, tools):
        return False
    return _goes_on(*run, tools)


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
