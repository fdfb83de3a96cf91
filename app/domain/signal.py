"""What the world outside GitHub tells of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a monitoring system. `fingerprint` is the sender's own name for it, equal while it lasts."""

    name: str
    firing: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    started_at: datetime | None = None
    url: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Samples of one quantity: `points` are (seconds since the epoch, value), oldest first.

    `name` has its unit as in Prometheus (`gpu_memory_used_bytes`, `disk_used_ratio`); `limit` is where it is full, in
    the same unit, None where there is no such thing.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    limit: float | None = None
