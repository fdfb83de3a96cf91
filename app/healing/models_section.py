"""The sections of heal.yml about models and about what monitoring is asked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from app.domain.model import DAY_S, GateRules, ModelRules, Query, Retrain
from app.healing.durations import Duration, spoken

MODEL_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}$"

Column = Annotated[str, StringConstraints(min_length=1, max_length=255)]
ModelName = Annotated[str, StringConstraints(pattern=MODEL_NAME)]
SeriesName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]{0,199}$")]
Share = Annotated[float, Field(gt=0, lt=1)]
PromQL = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


WORKLOAD_S = 2 * 3600  # of a training by a workload, all of which is reserved of the budget before it starts
METRICS = (
    "accuracy",
    "error_rate",
    "f1",
    "log_loss",
    "brier",
    "ece",
    "roc_auc",
    "average_precision",
    "mae",
    "rmse",
    "r2",
)
"""Those of the gate; besides them there is pinball_<quantile>."""


def _metric(value: str) -> str:
    if value not in METRICS and not re.fullmatch(r"pinball_0\.[0-9]{1,4}", value):
        raise ValueError(f"the gate knows no metric {value[:60]!r}; it knows {', '.join(METRICS)} and pinball_0.9")
    return value


def _told(what: str, pattern: str) -> AfterValidator:
    """A text of a certain form; what it should be is said in words, not by the pattern."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value[:60]!r} is not {what}")
        return value

    return AfterValidator(check)


def _artefact(value: str) -> str:
    parts = value.split("/")
    if any(part in ("", ".", "..") for part in parts) or not re.fullmatch(r"[A-Za-z0-9_.,=+ /-]{1,500}", value):
        raise ValueError(f"{value[:60]!r} is not the path of an artefact, such as heal/evaluation.parquet")
    return value


def _text(value: object) -> object:
    """Inputs of a workflow are texts on GitHub, too."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value}" if isinstance(value, int | float) else value


def _positive(value: object) -> object:
    """A class may be written as a number or a truth; observations spell it in one way."""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, int | float) else value


def _query(value: object) -> object:
    return {"query": value} if isinstance(value, str) else value


def _window(value: object) -> object:
    match = re.fullmatch(r"([0-9]{1,3})([hd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("the length of a window is a number of hours or days, such as 1h, 12h, 1d or 7d")
    return int(match[1]) * {"h": 3600, "d": DAY_S}[match[2]]


WindowLength = Annotated[
    int,
    Field(ge=3600, le=90 * DAY_S),
    BeforeValidator(_window),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,3}[hd]$", "examples": ["1h", "1d", "7d"]}),
]


class ColumnsSection(_Section):
    """Which column of the observations is what. What is not named is looked for under the role's own name."""

    prediction: Column | None = None
    """What the model predicted: a class, or a number in a regression."""
    score: Column | None = None
    """How sure it was, 0 to 1: the probability of the positive class, or of the predicted one."""
    label: Column | None = None
    """What was true; it may come later."""
    id: Column | None = None
    """Names a prediction, so that its label can come later."""
    session: Column | None = None
    """What rows share that resemble each other: a user, a visit, a device."""
    time: Column | None = None
    """When it was asked: seconds since 1970, a timestamp, or a text such as 2026-11-21T09:00:00Z."""
    latency_ms: Column | None = None
    """How long the answer took, in milliseconds."""
    failed: Column | None = None
    """Whether the request failed."""
    segments: tuple[Column, ...] | None = Field(default=None, max_length=4)
    """At most four columns whose values are looked at one by one."""
    leave_out: tuple[Column, ...] | None = Field(default=None, max_length=500)
    """Columns that are no features."""


class ErrorsSection(_Section):
    """How many requests may fail."""

    target: Share
    """The share of requests that must not fail, over thirty days."""


class LatencySection(_Section):
    """How many requests may be slow."""

    target: Share
    """The share of requests that must be answered in time, over thirty days."""
    threshold_ms: Annotated[float, Field(gt=0)] | None = None
    """What in time means, in milliseconds; 10,000 where it is left out."""


class ObjectivesSection(_Section):
    """Service levels of a model."""

    errors: ErrorsSection | None = None
    """Of failed requests."""
    latency: LatencySection | None = None
    """Of slow requests."""


RegisteredName = Annotated[
    str,
    _told("a name in the registry: letters, digits, spaces, _, . and -", r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}"),
]
Alias = Annotated[
    str,
    _told(
        "an alias: letters, digits, _ and -, and neither latest nor v1", r"(?!latest$)(?![vV]\d+$)[A-Za-z0-9_-]{1,100}"
    ),
]
WorkflowFile = Annotated[
    str, _told("the name of a file in .github/workflows, such as train.yml", r"[A-Za-z0-9_.-]{1,100}\.ya?ml")
]
GitRef = Annotated[
    str, _told("a branch or a tag", r"(?![-/.])(?!.*(?:\.\.|//|@\{|\.lock$|[./]$))[A-Za-z0-9_./@+-]{1,200}")
]
WorkloadName = Annotated[str, _told("the name of a workload", r"[a-z][a-z0-9_-]{0,63}")]
LauncherName = Annotated[str, _told("the name of a launcher, such as process", r"[a-z][a-z0-9_-]{0,30}")]
InputName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$")]
InputValue = Annotated[
    str,
    StringConstraints(max_length=1_000),
    BeforeValidator(_text),
    WithJsonSchema({"type": ["string", "number", "boolean"], "maxLength": 1_000}),
]
Margin = Annotated[float, Field(ge=0, le=1_000_000)]
LeastMargin = Annotated[float, Field(gt=0, le=1_000_000)]


class RetrainSection(_Section):
    """How the model is trained anew: by a workflow of the repository, or by a workload."""

    workflow: WorkflowFile | None = None
    """The file in .github/workflows that trains and registers the model; it needs `on: workflow_dispatch`."""
    ref: GitRef | None = None
    """The branch or tag on which it runs; the default branch where it is left out."""
    inputs: dict[InputName, InputValue] = Field(default_factory=dict, max_length=20)
    """Inputs of the workflow."""
    workload: WorkloadName | None = None
    """The workload, in place of a workflow."""
    launcher: LauncherName | None = None
    """What starts the workload; `process` where it is left out."""
    settings: dict[InputName, InputValue] = Field(default_factory=dict, max_length=100)
    """Settings of the workload."""
    timeout: Annotated[Duration, Field(ge=60, le=7 * DAY_S)] | None = None
    """How long a training may take; 6h where it is left out, 2h of a workload."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.workflow is None) == (self.workload is None):
            raise ValueError("say either `workflow`, a file in .github/workflows, or `workload`, one of the bot's own")
        if self.workflow is not None and (self.launcher is not None or self.settings):
            raise ValueError("`launcher` and `settings` belong to a workload; a workflow has `ref` and `inputs`")
        if self.workload is not None and (self.ref is not None or self.inputs):
            raise ValueError("`ref` and `inputs` belong to a workflow; a workload has `launcher` and `settings`")
        return self

    def rules(self) -> Retrain:
        told: dict[str, Any] = {
            "workflow": self.workflow,
            "ref": self.ref,
            "workload": self.workload,
            "launcher": self.launcher,
            "timeout_s": self.timeout or (WORKLOAD_S if self.workload else None),
            "inputs": {**self.inputs, **self.settings},
        }
        return Retrain(**{name: value for name, value in told.items() if value is not None})


class GateSection(_Section):
    """What a new version must show before it takes the champion's place."""

    metric: Annotated[str, AfterValidator(_metric)] | None = None
    """What is compared, on the same rows."""
    margin: Margin | None = None
    """By how much it must be better for certain: the lower confidence bound lies above."""
    effect: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """The difference that must be found if it is there; it decides how many rows are enough."""
    power: Annotated[float, Field(ge=0.5, le=0.999)] | None = None
    """How surely it must be found."""
    confidence: Annotated[float, Field(ge=0.5, le=0.9999)] | None = None
    """The confidence of all intervals."""
    coverage: Annotated[float, Field(gt=0, le=1)] | None = None
    """The share of rows that must have a label."""
    segment_margin: LeastMargin | None = None
    """By how much no segment may be worse."""
    calibration_margin: LeastMargin | None = None
    """By how much calibration may be worse."""
    cooldown: Annotated[Duration, Field(le=30 * DAY_S)] | None = None
    """Rest after the last promotion."""

    def rules(self) -> GateRules:
        told = self.model_dump(exclude_none=True)
        if "cooldown" in told:
            told["cooldown_s"] = told.pop("cooldown")
        return GateRules(**told)


class CanarySection(_Section):
    """How a promotion is watched."""

    hold: Annotated[Duration, Field(ge=1, le=30 * DAY_S)] | None = None
    """How long a promoted version must stay well before the promotion counts as proven."""


class ModelSection(_Section):
    """One model."""

    task: Literal["binary", "multiclass", "regression"] | None = None
    """How its predictions are judged. Without one only its inputs are looked at."""
    positive: Annotated[str, BeforeValidator(_positive)] | None = None
    """The positive class of a binary task."""
    columns: ColumnsSection = ColumnsSection()
    window: WindowLength | None = None
    """How long a window is whose name is not told."""
    keep: Annotated[int, Field(ge=2, le=100)] | None = None
    """How many windows are kept."""
    importance: dict[Column, Annotated[float, Field(ge=0)]] = Field(default_factory=dict, max_length=500)
    """How much each feature weighs."""
    objectives: ObjectivesSection = ObjectivesSection()
    """Service levels, in place of those in the detector's settings."""
    registry: RegisteredName | None = None
    """Its name in the model registry."""
    champion: Alias | None = None
    """The alias of the version that serves."""
    evaluation: Annotated[str, AfterValidator(_artefact)] | None = None
    """The artefact in which a training keeps its predictions on the held-out rows."""
    retrain: RetrainSection | None = None
    """How it is trained anew."""
    gate: GateSection = GateSection()
    """What a new version must show before it is promoted."""
    canary: CanarySection = CanarySection()
    """How a promotion is watched."""

    @model_validator(mode="after")
    def _registered(self) -> Self:
        named = {"champion", "retrain", "gate", "canary", "evaluation"} & self.model_fields_set
        if named and self.registry is None:
            raise ValueError(f"`{min(named)}` needs `registry`: the model's name in the model registry")
        return self

    def rules(self) -> ModelRules:
        told: dict[str, Any] = {
            "window_s": self.window,
            "keep": self.keep,
            "registry": self.registry,
            "champion": self.champion,
            "evaluation": self.evaluation,
            "retrain": self.retrain.rules() if self.retrain else None,
            "canary_s": self.canary.hold,
        }
        columns = self.columns.model_dump(exclude_none=True)
        columns |= {name: value for name, value in (("task", self.task), ("positive", self.positive)) if value}
        return ModelRules(
            columns=columns,
            importance=self.importance,
            objectives=self.objectives.model_dump(exclude_none=True),
            gate=self.gate.rules(),
            **{name: value for name, value in told.items() if value is not None},
        )


_SECTIONS: Mapping[str, type[BaseModel]] = {
    "columns": ColumnsSection,
    "objectives": ObjectivesSection,
    "retrain": RetrainSection,
    "gate": GateSection,
    "canary": CanarySection,
}


def section_at(place: Sequence[str | int]) -> type[BaseModel]:
    """What may stand at this place below `models.<name>`."""
    if place == ("objectives", "errors"):
        return ErrorsSection
    if place == ("objectives", "latency"):
        return LatencySection
    return _SECTIONS.get(str(place[0]), ModelSection) if place else ModelSection


def promotion(rules: ModelRules) -> dict[str, Any]:
    """What is said of its retraining and promotion, as one would write it in the file; empty without a registry."""
    if not rules.registry:
        return {}
    found: dict[str, Any] = {"registry": rules.registry, "champion": rules.champion, "evaluation": rules.evaluation}
    if rules.retrain:
        told = asdict(rules.retrain)
        named = "settings" if rules.retrain.workload else "inputs"
        only = ("launcher",) if rules.retrain.workflow else ("ref",)
        told |= {named: told.pop("inputs"), "timeout": spoken(told.pop("timeout_s"))}
        found["retrain"] = {name: value for name, value in told.items() if value and name not in only}
    gate = asdict(rules.gate)
    found["gate"] = gate | {"cooldown": spoken(gate.pop("cooldown_s"))}
    return found | {"canary": {"hold": spoken(rules.canary_s)}}


class QuerySection(_Section):
    """A question to Prometheus."""

    query: PromQL
    """PromQL; each series of the answer is looked at."""
    limit: float | None = None
    """Where the quantity is full, in its own unit."""


class SignalsSection(_Section):
    """What monitoring is asked at each look."""

    prometheus: dict[SeriesName, Annotated[QuerySection, BeforeValidator(_query)]] = Field(
        default_factory=dict, max_length=20
    )
    """Name of the series → PromQL. Asked only where the operator lets this repository ask."""

    def queries(self) -> Mapping[str, Query]:
        return {name: Query(asked.query, asked.limit) for name, asked in self.prometheus.items()}
