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
class ModelRules:
    """What heal.yml says of one model.

    `columns` are the members of Columns that it names; `window_s` is the length of windows that nobody names; `keep`
    how many are kept; `importance` weighs features; `objectives` are service levels, for the detectors.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    window_s: int = DAY_S
    keep: int = 30
    importance: Mapping[str, float] = field(default_factory=dict)
    objectives: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Query:
    """What Prometheus is asked. `limit` is where the quantity is full, in its own unit."""

    promql: str
    limit: float | None = None
