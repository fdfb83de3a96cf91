"""Train a model anew: by the team's own workflow, or by a workload beside the bot."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from actions.starting import HEAL_ID, LEAST_PATIENCE_S, Errand, busy, call, follow, start, stop
from app.domain.errors import Malformed, Refused
from app.domain.incident import Incident
from app.domain.model import ModelRules, Retrain
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import Look, Plan, Proof, Repair
from app.ports.plugins import Tools
from app.ports.registry import Version

ID_TAG, RUN_TAG = "heal.id", "heal.run_id"  # what a training may write on its run or version
SLACK = timedelta(hours=1)  # between the registry's clock and ours
SHOWN_METRICS = 30
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

    @property
    def errand(self) -> Errand:
        key = f"models.{self.model}.retrain"
        return Errand(
            self.how,
            what="the training",
            key=key,
            limit=f"{key}.timeout",
            verb="train",
            notes=_NOTES,
            name=f"retraining/{self.model}",
            settings={"register_as": self.rules.registry},
            about=f"model {self.model}",
            model=self.model,
        )


_NOTES = "retrain"
_NOTHING: Mapping[str, str] = {}


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
            started = call(training.errand, tools)
        except (Refused, Malformed) as error:
            return Plan(title, refusal=str(error))
        rules = training.rules
        serves = f"version {champion.number} serves" if champion else f"no version is called {rules.champion} yet"
        return Plan(
            title,
            why=f"what {name} was trained on is not what it sees any more; {serves}",
            calls=(started,),
            risk="costs a training; nothing in the repository changes, and no alias moves",
            proof=f"the training succeeds and registers a new version of {rules.registry}",
            costs={"gpu_minutes": training.how.timeout_s / 60} if training.how.workload else {},
            patience_s=training.how.timeout_s + LEAST_PATIENCE_S,
        )

    def apply(self, repair: Repair, params: RetrainParams, plan: Plan, tools: Tools) -> Outcome:
        training = wanted(tools.incident, params, tools)
        if busy(training.errand, repair, tools):
            return Outcome(Conclusion.STALE, f"{training.model} is being trained already, for another incident")
        newest = tools.registry.versions(training.rules.registry, tags={}, most=1)
        first = {
            "model": training.model,
            "registry": training.rules.registry,
            "newest": newest[0].number if newest else 0,
        }
        kept = start(training.errand, repair, first, tools)
        if training.how.workflow:
            return Outcome(
                Conclusion.SUCCESS,
                f"{training.how.workflow} trains {training.model} in run {kept['run_id']}",
                data={**_told(training, kept), "run_id": int(kept["run_id"])},
            )
        return Outcome(
            Conclusion.SUCCESS,
            f"{training.words} trains {training.model}",
            data={**_told(training, kept), "handle": kept["handle"], "launcher": training.how.launcher},
        )

    def look(self, repair: Repair, params: RetrainParams, tools: Tools) -> Look:
        data = repair.outcome.data if repair.outcome else {}
        try:
            training = wanted(tools.incident, params, tools)
        except Refused as error:
            return Look(False, f"the training cannot be followed any more: {error}")
        seen = follow(training.errand, repair, data, tools)
        if seen.look is not None:
            return seen.look
        if seen.run is not None:
            return _registered(repair, training, data, tools, code_sha=seen.run.head_sha, url=seen.run.url)
        found = _registered(repair, training, data, tools, settings=seen.settings)
        return replace(found, data={**found.data, **seen.data}, run=seen.ended)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        """The training ends. A version that it has registered stays where it is: no alias points at it."""
        ended = stop(_NOTES, repair, tools)
        if ended is None:
            return Outcome(Conclusion.NEUTRAL, "no training was started")
        told = f"cancelled the training in {ended}" if ended else "the training is over, and no alias was moved"
        return Outcome(Conclusion.SUCCESS, told, data={})


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


def _told(training: Training, kept: Mapping[str, Any]) -> dict[str, Any]:
    """What look and undo need; `stands` has the training ended when nobody waits for it any more."""
    return {
        "stands": True,
        "model": training.model,
        "registry": training.rules.registry,
        "newest": kept["newest"],
        "intended_at": kept["intended_at"],
    }


def _registered(
    repair: Repair,
    training: Training,
    data: Mapping[str, Any],
    tools: Tools,
    *,
    code_sha: str = "",
    url: str = "",
    settings: Mapping[str, str] = _NOTHING,
) -> Look:
    """The version that the training has registered, with what it was made from written on it. `settings` are those that
    a workload ended with, which a repair of its run may have changed."""
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
        "heal.inputs": json.dumps(_inputs(training, settings), sort_keys=True),
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


def _inputs(training: Training, settings: Mapping[str, str]) -> dict[str, str]:
    given = {name: value for name, value in settings.items() if name not in (HEAL_ID, *training.errand.settings)}
    return {**training.how.inputs, **given}


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
