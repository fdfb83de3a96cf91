"""Run a benchmark, and compare it with what the same class of machine has shown before."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from actions.benchmark_baseline import (
    MOST_BYTES,
    MOST_SAMPLES,
    Comparison,
    Report,
    before,
    compare,
    drawing,
    read,
    remembered,
    report_of,
    with_run,
)
from actions.starting import LEAST_PATIENCE_S, Errand, busy, call, follow, start, stop
from app.domain.errors import Malformed, Refused
from app.domain.incident import Incident
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import Look, Plan, Proof, Repair
from app.ports.forge import RunInfo
from app.ports.plugins import Tools

CONTRACT = "docs/how-to/benchmark.md says what a report must hold"
_NOTES = "benchmarking"
_SHOWN = 3
_MOST_PACKED_BYTES = 64 * 1024 * 1024


def _spelt(value: object) -> object:
    """A value of heal.yml as GitHub's inputs have it: as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$")]
Value = Annotated[str, BeforeValidator(_spelt), StringConstraints(max_length=1_000)]


class BenchmarkParams(BaseModel):
    """A workflow or a workload; `settings` are a workload's, `ref` and `inputs` a workflow's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workflow: str = Field(default="", pattern=r"^(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\.ya?ml)?$")
    ref: str = Field(default="", max_length=200)
    inputs: dict[Name, Value] = Field(default_factory=dict, max_length=25)
    workload: str = Field(default="", pattern=r"^(?:[a-z][a-z0-9_-]{0,63})?$")
    settings: dict[Name, Value] = Field(default_factory=dict, max_length=50)
    launcher: str = Field(default="process", max_length=50)
    name: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,60}$")
    """What the baseline is kept under; another name begins another one."""
    artifact: str = Field(default="heal-benchmark", min_length=1, max_length=200)
    file: str = Field(default="benchmark.json", min_length=1, max_length=200)
    tolerance: float = Field(default=0.05, ge=0, le=10, allow_inf_nan=False)
    """The least relative change that matters."""
    repeats: int = Field(default=10, ge=5, le=MOST_SAMPLES)
    """How often it is to be measured: handed over, and the least number of samples of each metric."""
    timeout_minutes: int = Field(default=60, ge=1, le=24 * 60)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if bool(self.workflow) == bool(self.workload):
            raise ValueError("name a workflow or a workload, and not both")
        if self.workflow and self.settings:
            raise ValueError("settings are for a workload; a workflow has inputs")
        if self.workload and (self.inputs or self.ref):
            raise ValueError("ref and inputs are for a workflow; a workload has settings")
        return self


@dataclass(frozen=True, slots=True)
class _Way:
    """How it is started."""

    workflow: str
    ref: str
    inputs: Mapping[str, str]
    workload: str
    launcher: str
    timeout_s: int


class BenchmarkModel:
    """The baseline is on the shelf, under the benchmark's name and the class of machine that the report tells. A run
    that is not worse joins it; one that is worse never does."""

    kind = "benchmark_model"
    Params: type[BaseModel] = BenchmarkParams
    proves = Proof.OWN

    def plan(self, incident: Incident, params: BenchmarkParams, tools: Tools) -> Plan:
        title = f"Run the benchmark {name_of(params)}"
        try:
            started = call(_errand(params), tools)
        except (Refused, Malformed) as error:
            return Plan(title, refusal=str(error))
        seconds = params.timeout_minutes * 60
        return Plan(
            title,
            why="to know whether it got worse than it was on the same class of machine",
            calls=(started,),
            risk="costs a run of the benchmark; nothing in the repository changes",
            proof=f"no metric is worse than before by more than {100 * params.tolerance:g} % and its noise",
            costs={"gpu_minutes": seconds / 60} if params.workload else {},
            patience_s=seconds + LEAST_PATIENCE_S,
        )

    def apply(self, repair: Repair, params: BenchmarkParams, plan: Plan, tools: Tools) -> Outcome:
        errand, name = _errand(params), name_of(params)
        if busy(errand, repair, tools):
            return Outcome(Conclusion.STALE, f"{name} is being measured already, for another incident")
        kept = start(errand, repair, {}, tools)
        told = {"stands": True, "benchmark": name, "intended_at": kept["intended_at"]}
        if params.workflow:
            run_id = int(kept["run_id"])
            return Outcome(
                Conclusion.SUCCESS, f"{params.workflow} measures in run {run_id}", data={**told, "run_id": run_id}
            )
        handle = {"handle": kept["handle"], "launcher": params.launcher}
        return Outcome(Conclusion.SUCCESS, f"the workload {params.workload} measures", data={**told, **handle})

    def look(self, repair: Repair, params: BenchmarkParams, tools: Tools) -> Look:
        data = repair.outcome.data if repair.outcome else {}
        seen = follow(_errand(params), repair, data, tools)
        if seen.look is not None:
            return seen.look
        url = seen.run.url if seen.run else ""
        try:
            if seen.run is not None:
                report = _uploaded(seen.run, params, tools)
            else:
                report = report_of(dict(seen.status.report) if seen.status else {}, params.repeats)
        except (Refused, Malformed) as error:
            unread = f"the benchmark ran, and its report cannot be used: {error}; {CONTRACT}"
            return Look(False, unread, url, run=seen.ended)
        found = _judged(report, repair, params, tools)
        return Look(found.proven, found.reason, url, data={**seen.data, **found.data}, run=seen.ended)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        """A run that still runs ends. What was measured stays known."""
        ended = stop(_NOTES, repair, tools)
        if ended is None:
            return Outcome(Conclusion.NEUTRAL, "no benchmark was started")
        told = f"cancelled the benchmark in {ended}" if ended else "the benchmark is over; it has changed nothing"
        return Outcome(Conclusion.SUCCESS, told, data={})


def name_of(params: BenchmarkParams) -> str:
    """Runs with other inputs are another benchmark."""
    if params.name:
        return params.name
    given = params.inputs or params.settings
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:8]
    return (params.workflow or params.workload) + (f"-{digest}" if given else "")


def shelf_of(params: BenchmarkParams, machine_class: str) -> str:
    return f"benchmark:{name_of(params)}:{machine_class}"


def _errand(params: BenchmarkParams) -> Errand:
    way = _Way(
        params.workflow,
        params.ref,
        params.inputs or params.settings,
        params.workload,
        params.launcher,
        params.timeout_minutes * 60,
    )
    return Errand(
        way,
        what="the benchmark",
        key="params",
        limit="params.timeout_minutes",
        verb="benchmark",
        notes=_NOTES,
        name=f"{_NOTES}:{name_of(params)}",
        offered={"repeats": str(params.repeats)},
        about=f"benchmark {name_of(params)}",
    )


def _uploaded(run: RunInfo, params: BenchmarkParams, tools: Tools) -> Report:
    """Raises Refused and Malformed."""
    found = [each for each in tools.forge.artifacts(run.id) if each.name == params.artifact]
    if not found:
        raise Refused(f"run {run.id} has uploaded no artifact {params.artifact!r}")
    newest = max(found, key=lambda each: each.id)  # a later attempt may have uploaded it again
    if newest.size_bytes > _MOST_PACKED_BYTES:
        raise Refused(f"the artifact {params.artifact!r} is larger than {_MOST_PACKED_BYTES >> 20} MiB")
    raw = tools.forge.artifact_files(newest, most_bytes=MOST_BYTES).get(params.file)
    if raw is None:
        raise Refused(f"{params.file!r} is not in the artifact {params.artifact!r}, or is larger than 1 MiB")
    return read(raw, params.repeats)


def _judged(report: Report, repair: Repair, params: BenchmarkParams, tools: Tools) -> Look:
    name, where = name_of(params), report.machine_class
    shelf = shelf_of(params, where)
    baseline = tools.shelf.get(shelf) or {}
    key = repair.effect_key
    known = before(baseline, key)
    if not known:
        _keep(report, key, baseline, shelf, tools)
        first = f"the first run of {name} on {where}: it is the baseline from now on, and nothing was compared"
        return Look(True, first, data={"machine_class": where, "runs": 0})
    comparison = compare(report, known, params.tolerance, key)
    seen = {
        "machine_class": where,
        "runs": len(known),
        "report": drawing(comparison, f"{name} on {where}", sum(len(each.samples) for each in report.metrics)),
    }
    if comparison.regressed:
        return Look(
            False, "; ".join(each.words for each in comparison.regressed[:_SHOWN]) + _more(comparison), data=seen
        )
    if comparison.gone or comparison.other:
        changed = ", ".join((*comparison.gone, *comparison.other)[:_SHOWN])
        what = "tells no more, or in another unit or direction"
        anew = "another params.name begins a new baseline"
        return Look(False, f"what the baseline knows {name} {what}: {changed}; {anew}", data=seen)
    _keep(report, key, baseline, shelf, tools)
    told = "; ".join(each.words for each in comparison.changes[:_SHOWN])
    return Look(True, f"no metric of {name} got worse on {where}: {told}", data=seen)


def _more(comparison: Comparison) -> str:
    left = len(comparison.regressed) - _SHOWN
    return f"; and {left} more" if left > 0 else ""


def _keep(report: Report, key: str, baseline: Mapping[str, Any], shelf: str, tools: Tools) -> None:
    if any(run["key"] == key for run in baseline.get("runs", ())):
        return
    tools.guard()
    tools.shelf.put(shelf, with_run(baseline, remembered(report, key, tools.clock.now().isoformat())))
