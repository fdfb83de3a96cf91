"""The sections of heal.yml about models and about what monitoring is asked."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from app.domain.model import DAY_S, ModelRules, Query

MODEL_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}$"

Column = Annotated[str, StringConstraints(min_length=1, max_length=255)]
ModelName = Annotated[str, StringConstraints(pattern=MODEL_NAME)]
SeriesName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]{0,199}$")]
Share = Annotated[float, Field(gt=0, lt=1)]
PromQL = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


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

    def rules(self) -> ModelRules:
        told: dict[str, Any] = {"window_s": self.window, "keep": self.keep}
        columns = self.columns.model_dump(exclude_none=True)
        columns |= {name: value for name, value in (("task", self.task), ("positive", self.positive)) if value}
        return ModelRules(
            columns=columns,
            importance=self.importance,
            objectives=self.objectives.model_dump(exclude_none=True),
            **{name: value for name, value in told.items() if value is not None},
        )


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
