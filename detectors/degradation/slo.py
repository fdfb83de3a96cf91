"""How fast an error budget burns: alerts on several windows and burn rates.

As in Google's Site Reliability Workbook, "Alerting on SLOs", section 6 (https://sre.google/workbook/alerting-on-slos/).

A burn rate of 1 uses up exactly the budget of thirty days in thirty days. The long window says that it matters, the
short one that it still goes on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from app.domain.finding import Severity
from detectors.degradation.summary import BUCKET_S, latency_ms

HOUR_S = 3600
LEAST_BAD = 5
"""Bad requests in the long window below which a burn rate is chance."""


@dataclass(frozen=True, slots=True)
class Window:
    """`budget` is the share of thirty days' budget that is gone when the alert comes at the earliest."""

    name: str
    burn_rate: float
    long_s: int
    short_s: int
    budget: float
    severity: Severity


WINDOWS = (
    Window("1 h", 14.4, HOUR_S, 300, 0.02, Severity.CRITICAL),
    Window("6 h", 6.0, 6 * HOUR_S, 1800, 0.05, Severity.HIGH),
    Window("3 d", 1.0, 72 * HOUR_S, 6 * HOUR_S, 0.10, Severity.MEDIUM),
)
"""The workbook's recommended parameters, the fastest burn first; the first two wake somebody, the third is a ticket."""

Bucket = tuple[float, float, float]
"""Start in seconds since the epoch, requests, bad ones."""


@dataclass(frozen=True, slots=True)
class Burning:
    """The fastest window that burns; `long` and `short` are burn rates, `bad` and `requests` those of the long one."""

    window: Window
    long: float
    short: float
    bad: float
    requests: float


def failures(service: Mapping[str, Any]) -> list[Bucket]:
    """Failed requests of `summary["service"]`."""
    return sorted((float(start), float(counts[0]), float(counts[1])) for start, counts in service.items())


def slow(service: Mapping[str, Any], threshold_ms: float) -> list[Bucket]:
    """Requests with a latency, and those above the threshold; within a bin of latencies its logarithm is even."""
    found = []
    for start, (_, _, latencies) in service.items():
        above = 0.0
        for index, count in latencies.items():
            low, high = latency_ms(int(index)), latency_ms(int(index) + 1)
            share = math.log(high / threshold_ms) / math.log(high / low) if threshold_ms > 0 else 1.0
            above += count * min(1.0, max(0.0, share))
        found.append((float(start), float(sum(latencies.values())), above))
    return sorted(found)


def from_counters(requests: Sequence[tuple[float, float]], bad: Sequence[tuple[float, float]]) -> list[Bucket]:
    """From two counters, (seconds, value) as Prometheus samples them; one that falls has begun anew."""
    buckets: dict[float, list[float]] = {}
    for place, points in enumerate((requests, bad)):
        ordered = sorted(point for point in points if all(map(math.isfinite, point)))
        for (_, before), (at, now) in pairwise(ordered):
            bucket = buckets.setdefault(at // BUCKET_S * BUCKET_S, [0.0, 0.0])
            bucket[place] += now - before if now >= before else max(0.0, now)
    return sorted((start, counts[0], min(counts)) for start, counts in buckets.items())


def from_samples(points: Iterable[tuple[float, float]], limit: float) -> list[Bucket]:
    """From samples (seconds, value), each a request that is bad above `limit`."""
    buckets: dict[float, list[float]] = {}
    for at, value in points:
        if math.isfinite(at) and math.isfinite(value):
            bucket = buckets.setdefault(at // BUCKET_S * BUCKET_S, [0.0, 0.0])
            bucket[0] += 1
            bucket[1] += value > limit
    return sorted((start, counts[0], counts[1]) for start, counts in buckets.items())


def burning(buckets: Sequence[Bucket], target: float, windows: Sequence[Window] = WINDOWS) -> Burning | None:
    """Whether the budget of `target` (0.999: one request of a thousand may be bad) burns too fast at the newest bucket.

    A window that is less than half covered by what is known says nothing.
    """
    if not buckets or not 0 < target < 1:
        return None
    end = buckets[-1][0] + BUCKET_S
    for window in windows:
        if end - buckets[0][0] < window.long_s / 2:
            continue
        long_requests, long_bad = _within(buckets, end - window.long_s)
        short_requests, short_bad = _within(buckets, end - window.short_s)
        if long_bad < LEAST_BAD or not short_requests:
            continue
        long, short = (
            bad / requests / (1 - target) for bad, requests in ((long_bad, long_requests), (short_bad, short_requests))
        )
        if long >= window.burn_rate and short >= window.burn_rate:
            return Burning(window, long, short, long_bad, long_requests)
    return None


def _within(buckets: Sequence[Bucket], start: float) -> tuple[float, float]:
    inside = [bucket for bucket in buckets if bucket[0] >= start]
    return sum(bucket[1] for bucket in inside), sum(bucket[2] for bucket in inside)
