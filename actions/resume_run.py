"""Start a run that failed again, from where it stopped, with settings with which it is likely to get through."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from actions.advice import advised
from actions.starting import LEAST_PATIENCE_S, Errand, failed, follow, known_run, masked, newest, start, stop
from app.domain.errors import Refused
from app.domain.incident import Incident
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import Look, Plan, Proof, Repair
from app.domain.run import Failure
from app.ports.launcher import ENDED, RunState
from app.ports.plugins import Tools

_NOTES = "resume"
_LEAST_S = 60  # of the time limit that must be left


class ResumeParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    at_most: int = Field(default=2, ge=1, le=10)
    """How often a run is started again, all told."""


@dataclass(frozen=True, slots=True)
class _Again:
    """What a run is started with: as the one before it, but for what that one advises."""

    workload: str
    launcher: str
    timeout_s: int
    inputs: Mapping[str, str]
    workflow: str = ""
    ref: str = ""


@dataclass(frozen=True, slots=True)
class _Resumption:
    """`note` is that of the run that failed, `changes` the settings that differ from its own."""

    launcher: str
    handle: str
    note: Mapping[str, Any]
    failure: Failure
    changes: Mapping[str, str]
    seconds: int

    @property
    def what(self) -> str:
        return f"{self.note['workload']} {self.note['verb']}"


class ResumeRun:
    """The run that goes on carries the settings of the one that failed, also the id by which the repair that began it
    knows what it has made: that repair follows the newest run, and goes on when it has come to its end."""

    kind = "resume_run"
    Params: type[BaseModel] = ResumeParams
    proves = Proof.OWN

    def plan(self, incident: Incident, params: ResumeParams, tools: Tools) -> Plan:
        facts = incident.finding.facts
        title = "Start the run again from where it stopped"
        try:
            found = _resumption(facts, params, tools)
        except Refused as error:
            return Plan(title, refusal=str(error))
        given = ", ".join(f"{name}={value}" for name, value in sorted(found.changes.items()))
        changed = f" with {given}" if given else ""
        return Plan(
            title,
            why=found.failure.message,
            calls=(f"resume {found.what} ({found.launcher}) from run {found.handle}{changed}",),
            risk="costs what is left of the run; nothing in the repository changes",
            proof="the run comes to its end",
            costs={"gpu_minutes": found.seconds / 60},
            patience_s=found.seconds + LEAST_PATIENCE_S,
        )

    def apply(self, repair: Repair, params: ResumeParams, plan: Plan, tools: Tools) -> Outcome:
        kept = tools.shelf.get(f"{_NOTES}/{repair.effect_key}")
        if kept is None:
            try:
                found = _resumption(tools.incident.finding.facts, params, tools)
            except Refused as error:
                return Outcome(Conclusion.NEUTRAL, str(error))
            kept = {
                "from": found.handle,
                "on": found.launcher,
                "seconds": found.seconds,
                "changes": dict(found.changes),
            }
        errand = _errand(kept, tools)
        kept = start(errand, repair, kept, tools)
        return Outcome(
            Conclusion.SUCCESS,
            f"the workload {errand.how.workload} goes on",
            data={
                "stands": True,
                "from": kept["from"],
                "changes": kept["changes"],
                "handle": kept["handle"],
                "launcher": kept["launcher"],
            },
        )

    def look(self, repair: Repair, params: ResumeParams, tools: Tools) -> Look:
        data = repair.outcome.data if repair.outcome else {}
        kept = tools.shelf.get(f"{_NOTES}/{repair.effect_key}")
        if kept is None:
            return Look(False, "it is not known any more which run was started again")
        errand = _errand(kept, tools)
        seen = follow(errand, repair, data, tools)
        if seen.look is not None:
            return seen.look
        given = ", ".join(f"{name}={value}" for name, value in sorted(kept["changes"].items()))
        changed = f" with {given}" if given else ""
        return Look(True, f"the run came to its end{changed}", data=seen.data, run=seen.ended)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        """The run ends. What it has kept stays, and so does a later one that goes on from it."""
        ended = stop(_NOTES, repair, tools, onwards=False)
        if ended is None:
            return Outcome(Conclusion.NEUTRAL, "no run was started again")
        return Outcome(Conclusion.SUCCESS, "the run that was started again is over", data={})


def _resumption(facts: Mapping[str, Any], params: ResumeParams, tools: Tools) -> _Resumption:
    """What the newest of the runs that go on from each other says of itself now. Raises Refused."""
    name, first = facts.get("launcher"), facts.get("run")
    if not isinstance(name, str) or not isinstance(first, str):
        raise Refused("only a run that a repair has started on a launcher can be started again")
    launcher = tools.launchers.get(name)
    if launcher is None:
        raise Refused(f"no launcher is called {name!r} any more")
    handle = newest(name, first, tools)
    note = known_run(name, handle, tools)
    if not note:
        raise Refused("it is not known any more how the run was started")
    status = launcher.status(handle)
    if status.state is RunState.SUCCEEDED:
        raise Refused("the run has come to its end meanwhile")
    if status.state not in ENDED:
        raise Refused("the run goes on already")
    if status.state is RunState.CANCELLED:
        raise Refused("the run was cancelled")
    failure = failed(status)
    if failure is None:
        raise Refused("the run does not say why it failed")
    if not failure.resumable:
        raise Refused(f"the run says that it cannot go on from where it stopped ({failure.kind})")
    if int(note["restarts"]) >= params.at_most:
        raise Refused(f"the run was started again {note['restarts']} times already; params.at_most is {params.at_most}")
    seconds = int((datetime.fromisoformat(str(note["until"])) - tools.clock.now()).total_seconds())
    if seconds < _LEAST_S:
        raise Refused(f"too little is left of {note['limit']}")
    return _Resumption(name, handle, note, masked(failure), advised(note["settings"], failure), seconds)


def _errand(kept: Mapping[str, Any], tools: Tools) -> Errand:
    launcher, before = str(kept["on"]), str(kept["from"])
    note = known_run(launcher, before, tools)
    settings = {**note["settings"], **kept["changes"]}
    return Errand(
        _Again(note["workload"], launcher, int(kept["seconds"]), settings),
        what=str(note["what"]),
        key="",
        limit=str(note["limit"]),
        verb=note["verb"],
        notes=_NOTES,
        name=f"resuming/{launcher}/{note['first']}",
        settings=settings,
        about=note["about"],
        model=note["model"],
        resume=before,
    )
