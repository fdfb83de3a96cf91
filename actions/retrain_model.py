"""Train a model anew: by the team's own workflow, or by a workload that comes with the bot."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from actions.workflow_edits import child, load, scalars_of
from app.domain.errors import Malformed, Refused
from app.domain.evidence import Job
from app.domain.incident import Incident
from app.domain.model import ModelRules, Retrain
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import Look, Plan, Proof, Repair
from app.ports.forge import RunInfo
from app.ports.launcher import ENDED, Launcher, RunSpec, RunState
from app.ports.plugins import Tools
from app.ports.registry import Version
from app.security.masking import mask

HEAL_ID = "heal_id"  # the workflow's input, and the workload's setting, that we fill if it is asked for
ID_TAG, RUN_TAG = "heal.id", "heal.run_id"  # what a training may write on its run or version
SLACK = timedelta(hours=1)  # between the registry's clock and ours
LEAST_PATIENCE_S = 600
SHOWN_METRICS = 30
SHOWN_LINES = 15
LONGEST_LINE = 300
CONTRACT = "docs/how-to/retrain.md says what a training must do"


class RetrainParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(default="", max_length=100)
    """The model's name in heal.yml; where it is left out, the one that the finding is about."""


@dataclass(frozen=True, slots=True)
class Training:
    """What heal.yml says of the training of one model."""

    model: str
    rules: ModelRules
    how: Retrain

    @property
    def words(self) -> str:
        return self.how.workflow or f"the workload {self.how.workload}"


class RetrainModel:
    """A training runs at most once for each repair. Before it is started the newest version is written down, so that a
    new one is recognised whatever the registry's clock says; and the workflow's newest run, so that one which was
    started by a worker that died is found again."""

    kind = "retrain_model"
    Params: type[BaseModel] = RetrainParams
    proves = Proof.OWN

    def plan(self, incident: Incident, params: RetrainParams, tools: Tools) -> Plan:
        name = params.model or model_of(incident)
        title = f"Train {name} anew" if name else "Train the model anew"
        try:
            training = wanted(incident, params, tools)
            champion = tools.registry.aliased(training.rules.registry, training.rules.champion)
            call = _workflow_call(training, tools) if training.how.workflow else _workload_call(training, tools)
        except (Refused, Malformed) as error:
            return Plan(title, refusal=str(error))
        rules = training.rules
        serves = f"version {champion.number} serves" if champion else f"no version is called {rules.champion} yet"
        return Plan(
            title,
            why=f"what {name} was trained on is not what it sees any more; {serves}",
            calls=(call,),
            risk="costs a training; nothing in the repository changes, and no alias moves",
            proof=f"the training succeeds and registers a new version of {rules.registry}",
            costs={"gpu_minutes": training.how.timeout_s / 60} if training.how.workload else {},
            patience_s=training.how.timeout_s + LEAST_PATIENCE_S,
        )

    def apply(self, repair: Repair, params: RetrainParams, plan: Plan, tools: Tools) -> Outcome:
        training = wanted(tools.incident, params, tools)
        busy = _busy(training, repair, tools)
        if busy:
            return Outcome(Conclusion.STALE, busy)
        kept = dict(tools.shelf.get(_shelf(repair)) or {})
        if not kept:
            newest = tools.registry.versions(training.rules.registry, tags={}, most=1)
            kept = {
                "model": training.model,
                "registry": training.rules.registry,
                "newest": newest[0].number if newest else 0,
                "intended_at": tools.clock.now().isoformat(),
            }
            if training.how.workflow:
                kept["run_before"] = max((run.id for run in _runs(training, tools)), default=0)
            tools.guard()
            _keep(repair, training, kept, tools)
        if training.how.workflow:
            return self._by_workflow(repair, training, kept, tools)
        return self._by_workload(repair, training, kept, tools)

    def _by_workflow(self, repair: Repair, training: Training, kept: dict[str, Any], tools: Tools) -> Outcome:
        if not kept.get("run_id"):
            started = [run for run in _runs(training, tools) if run.id > int(kept["run_before"])]
            run_id = _ours(started, repair)
            if run_id is None:
                tools.guard()
                run_id = tools.forge.dispatch(
                    training.how.workflow, _ref(training, tools), _inputs(training, repair, tools)
                )
            kept["run_id"] = run_id
            _keep(repair, training, kept, tools)
        return Outcome(
            Conclusion.SUCCESS,
            f"{training.how.workflow} trains {training.model} in run {kept['run_id']}",
            data={**_told(training, kept), "run_id": int(kept["run_id"])},
        )

    def _by_workload(self, repair: Repair, training: Training, kept: dict[str, Any], tools: Tools) -> Outcome:
        launcher = _launcher(training, tools)
        tools.guard()
        handle = launcher.start(_spec(training, repair))
        if kept.get("handle") != handle:
            kept |= {"handle": handle, "launcher": training.how.launcher}
            _keep(repair, training, kept, tools)
        return Outcome(
            Conclusion.SUCCESS,
            f"{training.words} trains {training.model}",
            data={**_told(training, kept), "handle": handle, "launcher": training.how.launcher},
        )

    def look(self, repair: Repair, params: RetrainParams, tools: Tools) -> Look:
        data = repair.outcome.data if repair.outcome else {}
        try:
            training = wanted(tools.incident, params, tools)
        except Refused as error:
            return Look(False, f"the training cannot be followed any more: {error}")
        return (
            _look_at_run(repair, training, data, tools)
            if data.get("run_id")
            else _look_at(repair, training, data, tools)
        )

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        """The training ends. A version that it has registered stays where it is: no alias points at it."""
        kept = {**(tools.shelf.get(_shelf(repair)) or {}), **(repair.outcome.data if repair.outcome else {})}
        if kept.get("run_id"):
            run = _run(int(kept["run_id"]), tools)
            if run is None or run.status == "completed":
                return Outcome(Conclusion.SUCCESS, "the training is over, and no alias was moved", data={})
            tools.guard()
            tools.forge.cancel_run(run.id)
            return Outcome(Conclusion.SUCCESS, f"cancelled the training in run {run.id}", data={})
        launcher = tools.launchers.get(str(kept.get("launcher", "")))
        if kept.get("handle") and launcher is not None:
            tools.guard()
            launcher.cancel(str(kept["handle"]))
            return Outcome(Conclusion.SUCCESS, "ended the training", data={})
        return Outcome(Conclusion.NEUTRAL, "no training was started")


def model_of(incident: Incident) -> str:
    """The name that the finding gives the model: in its facts, or as the first part of its subject."""
    told = incident.finding.facts.get("model")
    return told if isinstance(told, str) else incident.finding.subject.partition(" / ")[0]


def wanted(incident: Incident, params: RetrainParams, tools: Tools) -> Training:
    """Raises Refused, saying what heal.yml lacks."""
    name = params.model or model_of(incident)
    rules = tools.policy.models.get(name)
    if rules is None:
        raise Refused(
            f"heal.yml says nothing of the model {name!r}; models.{name}.registry and .retrain let it retrain"
        )
    if not rules.registry:
        raise Refused(f"heal.yml does not say where {name} is registered; add models.{name}.registry")
    if rules.retrain is None:
        raise Refused(f"heal.yml does not say how {name} is trained; add models.{name}.retrain with a workflow")
    return Training(name, rules, rules.retrain)


# --- starting ------------------------------------------------------------------------------------------------------


def _ref(training: Training, tools: Tools) -> str:
    return training.how.ref or tools.forge.repository.default_branch


def _workflow_call(training: Training, tools: Tools) -> str:
    """What would be started, in words. Raises Refused."""
    how, ref = training.how, _ref(training, tools)
    if not tools.forge.may("actions"):
        raise Refused("the App may not start workflows here; grant it *Actions: read and write*")
    declared = _declared(training, tools)
    given = set(how.inputs)
    if declared is not None:
        if strange := sorted(given - set(declared)):
            raise Refused(
                f"{how.workflow} takes no input {strange[0]!r}; models.{training.model}.retrain.inputs has one"
            )
        missing = sorted(name for name, needed in declared.items() if needed and name not in {*given, HEAL_ID})
        if missing:
            raise Refused(f"{how.workflow} asks for {missing[0]!r}; add it to models.{training.model}.retrain.inputs")
    told = [f"{name}={value}" for name, value in sorted(how.inputs.items())]
    if declared and HEAL_ID in declared:
        told.append(f"{HEAL_ID}=(this repair)")
    return f"start {how.workflow} on {ref}" + (f" with {', '.join(told)}" if told else "")


def _declared(training: Training, tools: Tools) -> dict[str, bool] | None:
    """The inputs of the workflow, and whether it cannot do without. None: the file cannot be read well enough to say.
    Raises Refused where it is not there, or cannot be started by hand."""
    how, ref = training.how, _ref(training, tools)
    path = f".github/workflows/{how.workflow}"
    try:
        file = tools.forge.file(path, ref)
    except Refused:
        file = None  # there is no such branch either
    if file is None:
        raise Refused(f"there is no {path} on {ref}; models.{training.model}.retrain names it")
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


def _inputs(training: Training, repair: Repair, tools: Tools) -> dict[str, str]:
    declared = _declared(training, tools) or {}
    return {**training.how.inputs, **({HEAL_ID: repair.effect_key} if HEAL_ID in declared else {})}


def _workload_call(training: Training, tools: Tools) -> str:
    _launcher(training, tools)
    told = [f"{name}={value}" for name, value in sorted(training.how.inputs.items())]
    return f"start {training.words} ({training.how.launcher})" + (f" with {', '.join(told)}" if told else "")


def _launcher(training: Training, tools: Tools) -> Launcher:
    found = tools.launchers.get(training.how.launcher)
    if found is None:
        known = ", ".join(sorted(tools.launchers)) or "none"
        raise Refused(f"no launcher is called {training.how.launcher!r}; this bot has {known}")
    return found


def _spec(training: Training, repair: Repair) -> RunSpec:
    settings = {**training.how.inputs, HEAL_ID: repair.effect_key, "register_as": training.rules.registry}
    return RunSpec(repair.effect_key, training.how.workload, "train", settings, training.how.timeout_s)


def _runs(training: Training, tools: Tools) -> list[RunInfo]:
    """Those of the workflow that were started by hand, newest first."""
    path = f".github/workflows/{training.how.workflow}"
    found = tools.forge.runs(branch=_ref(training, tools))
    return [run for run in found if run.trigger == "workflow_dispatch" and run.workflow_path == path]


def _run(run_id: int, tools: Tools) -> RunInfo | None:
    """None: somebody has deleted it, or it is not ours to see any more."""
    try:
        return tools.forge.run(run_id)
    except Refused:
        return None


def _ours(started: Sequence[RunInfo], repair: Repair) -> int | None:
    """Which of the runs since our intent a worker that died has started: GitHub does not tell a run's inputs, so it is
    the one that carries our id in its name, else the first."""
    named = [run.id for run in started if repair.effect_key in run.name]
    return min(named or [run.id for run in started], default=None)


def _shelf(repair: Repair) -> str:
    return f"retrain/{repair.effect_key}"


def _keep(repair: Repair, training: Training, kept: Mapping[str, Any], tools: Tools) -> None:
    tools.shelf.put(_shelf(repair), kept)
    tools.shelf.put(_latest(training), {"key": repair.effect_key, **kept})


def _latest(training: Training) -> str:
    return f"retraining/{training.model}"


def _busy(training: Training, repair: Repair, tools: Tools) -> str:
    """Why no other training of this model is started now; "" if one may be."""
    other = tools.shelf.get(_latest(training)) or {}
    if not other or other.get("key") == repair.effect_key:
        return ""
    for_s = (tools.clock.now() - datetime.fromisoformat(str(other["intended_at"]))).total_seconds()
    if for_s > training.how.timeout_s + LEAST_PATIENCE_S:
        return ""
    if other.get("run_id"):
        run = _run(int(other["run_id"]), tools)
        running = run is not None and run.status != "completed"
    elif other.get("handle"):
        launcher = tools.launchers.get(str(other.get("launcher", "")))
        running = launcher is not None and launcher.status(str(other["handle"])).state not in ENDED
    else:
        running = for_s < LEAST_PATIENCE_S  # it is about to be started
    return f"{training.model} is being trained already, for another incident" if running else ""


def _told(training: Training, kept: Mapping[str, Any]) -> dict[str, Any]:
    """What look and undo need; `stands` has the training ended when nobody waits for it any more."""
    return {
        "stands": True,
        "model": training.model,
        "registry": training.rules.registry,
        "newest": kept["newest"],
        "intended_at": kept["intended_at"],
    }


# --- following -----------------------------------------------------------------------------------------------------


def _look_at_run(repair: Repair, training: Training, data: Mapping[str, Any], tools: Tools) -> Look:
    run = _run(int(data["run_id"]), tools)
    if run is None:
        return Look(
            False, f"run {data['run_id']}, in which it was trained, cannot be read any more; it may have been deleted"
        )
    if run.status != "completed":
        if _overdue(repair, training, tools):
            tools.guard()
            tools.forge.cancel_run(run.id)
            return Look(False, _too_long(training), run.url)
        jobs = tools.forge.jobs(run.id, run.attempt)
        return Look(None, f"{training.how.workflow} is {_spoken(run.status)}", run.url, _progress(run, jobs))
    if run.conclusion != "success":
        return Look(False, f"the training in run {run.id} ended with {run.conclusion or 'no conclusion'}", run.url)
    return _registered(repair, training, data, tools, code_sha=run.head_sha, url=run.url)


def _look_at(repair: Repair, training: Training, data: Mapping[str, Any], tools: Tools) -> Look:
    launcher = tools.launchers.get(str(data.get("launcher", "")))
    if launcher is None:
        return Look(False, "the launcher that the training was started with is not there any more")
    status = launcher.status(str(data["handle"]))
    if status.state is RunState.PENDING:
        tools.guard()
        launcher.start(_spec(training, repair))  # whoever started it may have been stopped on the way
    tail = "\n".join(line[:LONGEST_LINE] for line in mask(status.tail).splitlines()[-SHOWN_LINES:])
    minutes = (tools.clock.now() - (repair.applied_at or repair.intended_at)).total_seconds() / 60
    seen = {"tail": tail, "spent": {"gpu_minutes": round(max(minutes, 0.0), 2)}}
    if status.state not in ENDED:
        if _overdue(repair, training, tools):
            tools.guard()
            launcher.cancel(str(data["handle"]))
            return Look(False, _too_long(training), data=seen)
        return Look(None, f"the training is {status.state}", progress=tail or f"The training is {status.state}.")
    if status.state is not RunState.SUCCEEDED:
        code = f" with exit code {status.exit_code}" if status.exit_code is not None else ""
        return Look(False, f"the training {_ENDS[status.state]}{code}", data=seen)
    found = _registered(repair, training, data, tools)
    return Look(found.proven, found.reason, found.url, found.progress, {**found.data, **seen})


_ENDS = {
    RunState.FAILED: "failed",
    RunState.CANCELLED: "was cancelled",
    RunState.LOST: "was lost: the machine or the process that watched it ended",
}


def _overdue(repair: Repair, training: Training, tools: Tools) -> bool:
    since = repair.applied_at or repair.intended_at
    late = tools.clock.now() - since >= timedelta(seconds=training.how.timeout_s)
    return late or (repair.proof_deadline is not None and tools.clock.now() >= repair.proof_deadline)


def _too_long(training: Training) -> str:
    return f"the training took longer than models.{training.model}.retrain.timeout allows, and was cancelled"


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


def _registered(
    repair: Repair,
    training: Training,
    data: Mapping[str, Any],
    tools: Tools,
    *,
    code_sha: str = "",
    url: str = "",
) -> Look:
    """The version that the training has registered, with what it was made from written on it."""
    registry, newest = str(data["registry"]), int(data["newest"])
    since = datetime.fromisoformat(str(data["intended_at"])) - SLACK
    found = [each for each in tools.registry.versions(registry, tags={}, since=since) if each.number > newest]
    run_id = str(data.get("run_id", ""))
    version = _made_by(found, repair.effect_key, run_id, code_sha)
    if version is None:
        why = f"the training succeeded and registered no new version of {registry}"
        if found:
            why += f" that says it is this training's (found {_numbers(found)})"
        return Look(False, f"{why}; {CONTRACT}", url)
    if not version.ready:
        return Look(None, f"version {version.number} of {registry} is being registered", version.url or url)
    lineage = {
        ID_TAG: repair.effect_key,
        RUN_TAG: run_id or str(data.get("handle", "")),
        "heal.code_sha": version.code_sha or code_sha,
        "heal.data_version": version.data_version,
        "heal.trained_by": training.how.workflow or training.how.workload,
        "heal.inputs": json.dumps(dict(training.how.inputs), sort_keys=True),
        "heal.run_url": url,
    }
    tools.guard()
    for name, value in lineage.items():
        if value and version.tags.get(name) != value:
            tools.registry.tag(registry, version.number, name, value)
    of = f" at {lineage['heal.code_sha'][:7]}" if lineage["heal.code_sha"] else ""
    return Look(
        True,
        f"version {version.number} of {registry} was trained{of}",
        version.url or url,
        data={
            "model": training.model,
            "registry": registry,
            "version": version.number,
            "mlflow_run": version.run_id,
            "code_sha": lineage["heal.code_sha"],
            "data_version": version.data_version,
            "metrics": dict(list(version.metrics.items())[:SHOWN_METRICS]),
            "training_url": url,
        },
    )


def _made_by(found: Sequence[Version], key: str, run_id: str, code_sha: str) -> Version | None:
    """By our id, by the run's, by the commit if only one has it, or because it is the only one. Those that say that
    they are another repair's are not looked at."""
    for name, value in ((ID_TAG, key), (RUN_TAG, run_id)):
        told = [each for each in found if value and each.tags.get(name) == value]
        if told:
            return max(told, key=lambda each: each.number)
    left = [each for each in found if not each.tags.get(ID_TAG) and not each.tags.get(RUN_TAG)]
    same = [each for each in left if code_sha and each.code_sha == code_sha]
    only = same if len(same) == 1 else left
    return only[0] if len(only) == 1 else None


def _numbers(versions: Sequence[Version]) -> str:
    return ", ".join(str(each.number) for each in versions[:5])
