"""A team's model, as heal.yml describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

DAY_S = 24 * 3600
JSON = "application/json"  # in which observations come
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"


class Role(StrEnum):
    REFERENCE = "reference"
    CURRENT = "current"


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what. An empty name: there is none. `task` says how predictions are judged (empty: they are not),
    `positive` which class of a binary task is the positive one. `leave_out` are columns that are no features."""

    prediction: str = ""
    score: str = ""
    label: str = ""
    id: str = ""
    session: str = ""
    time: str = ""
    latency_ms: str = ""
    failed: str = ""
    segments: tuple[str, ...] = ()
    task: str = ""
    positive: str = "1"
    leave_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Retrain:
    """How a model is trained anew: by the team's own workflow, or by a workload on a launcher.

    `inputs` are the workflow's inputs or the workload's settings. `ref` "": the default branch.
    """

    workflow: str = ""
    ref: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    workload: str = ""
    launcher: str = "process"
    timeout_s: int = 6 * 3600


@dataclass(frozen=True, slots=True)
class GateRules:
    """What a challenger must show before it is promoted.

    `metric` is a name of actions.gate; a higher value is better after its own sign. The lower confidence bound of the
    difference must lie above `margin`; rows are enough when a true difference of `effect` would be seen with `power`.
    `coverage` is the share of rows that must have a label. No segment may be worse than by `segment_margin`, no
    calibration than by `calibration_margin`, at `confidence`. `cooldown_s` is the rest after the last promotion.
    """

    metric: str = "accuracy"
    margin: float = 0.0
    effect: float = 0.02
    power: float = 0.8
    confidence: float = 0.95
    coverage: float = 0.95
    segment_margin: float = 0.05
    calibration_margin: float = 0.02
    cooldown_s: int = DAY_S


@dataclass(frozen=True, slots=True)
class ModelRules:
    """What heal.yml says of one model.

    `columns` are the members of Columns that it names; `window_s` is the length of windows that nobody names; `keep`
    how many are kept; `importance` weighs features; `objectives` are service levels, for the detectors.

    `registry` is the model's name in the registry ("": it has none), `champion` the alias of the version that serves;
    `evaluation` is the artefact in which a training run keeps its predictions on the held-out rows; `canary_s` is how
    long a promoted version is watched before the promotion counts as proven.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    window_s: int = DAY_S
    keep: int = 30
    importance: Mapping[str, float] = field(default_factory=dict)
    objectives: Mapping[str, Any] = field(default_factory=dict)
    registry: str = ""
    champion: str = "champion"
    evaluation: str = "heal/evaluation.parquet"
    retrain: Retrain | None = None
    gate: GateRules = field(default_factory=GateRules)
    canary_s: int = 3600


@dataclass(frozen=True, slots=True)
class Query:
    """What Prometheus is asked. `limit` is where the quantity is full, in its own unit."""

    promql: str
    limit: float | None = None
