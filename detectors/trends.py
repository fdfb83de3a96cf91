"""When a series reaches its limit, with an interval; and whether it stays above a threshold. Pure statistics.

The slope is estimated by generalised least squares with an error that may be independent, autocorrelated or a random
walk (after Perron and Yabu, 2009): what is nearly a random walk is taken for one, which is the cautious side. A climb
that has happened before and ended by itself (collection of garbage, rotation of logs, the course of a day) is no trend:
it counts only once it is higher than the deepest fall before it. Of such a sawtooth the peaks are looked at.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Points = Sequence[tuple[float, float]]
Array = NDArray[np.float64]

BUCKETS = 60  # a window is reduced to so many medians
SWINGS = 480  # and the whole past to so many, where climbs and falls are counted
LEAST = 15  # medians, below which nothing is said
LEAST_PEAKS = 8
SIGNIFICANCE = 0.001  # one-sided, of a slope of zero
NEAR_WALK = 1.5  # over √n: how near a random walk an error is taken for one
BENT = 2.5  # standard errors between the slopes of two halves, beyond which a window is not one line
HIGHER = 1.1  # times the deepest fall in sight
MOST_POINTS = 20_000
WINDOWS = (1.0, 0.5, 0.25, 0.125)
LOW, HIGH = 0.01, 0.025  # the tails that the interval leaves out: earlier, later


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where a series goes. Times are seconds after its last sample, infinite where the limit is not reached.

    `earliest_s` … `latest_s` is meant to hold the moment in nine of ten cases. `span_s` is how long the line that was
    followed is; `p` how often chance alone would climb like this. `climbing` is False where chance will do, or where it
    climbed and fell like this before.
    """

    eta_s: float
    earliest_s: float
    latest_s: float
    slope_per_s: float
    level: float
    p: float
    span_s: float
    climbing: bool
    sawtooth: bool = False

    def fills_within(self, horizon_s: float) -> bool:
        """Even the late end of the interval lies within the horizon, and no farther ahead than was looked back."""
        return self.climbing and self.latest_s <= min(horizon_s, self.span_s)


@dataclass(frozen=True, slots=True)
class _Line:
    """y = level + slope · (t - now) with an error that remembers `rho` of itself from one step to the next."""

    level: float
    slope: float
    slope_error: float
    level_error: float
    rho: float
    innovation: float
    step_s: float
    span_s: float
    p: float
    bend: float
    n: int
    late_s: float


def clean(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Finite points in the order of time, of one time the last; the newest 20,000."""
    kept = {float(at): float(value) for at, value in points if math.isfinite(at) and math.isfinite(value)}
    return sorted(kept.items())[-MOST_POINTS:]


def sustained(points: Points, threshold: float, *, of: int = 5, k: int = 4) -> bool | None:
    """Whether the newest sample and at least `k` of the last `of` lie above; None with fewer than `k` samples."""
    newest = [value for _, value in points[-of:]]
    if len(newest) < k:
        return None
    return newest[-1] > threshold and sum(value > threshold for value in newest) >= k


def outlook(points: Points, limit: float) -> Outlook | None:
    """When these (`clean`) points reach `limit`. None: too few samples to tell."""
    if len(points) < LEAST:
        return None
    at, value = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    scale = max(abs(limit), float(np.abs(value).max()), 1e-300)
    value, limit = value / scale, limit / scale
    line = _longest_line(at, value)
    if line is None:
        return None
    moments, medians = _medians(at, value, SWINGS)
    fall = _largest_fall(medians)
    higher = max(line.slope * line.span_s, _climb(medians, fall)) > HIGHER * fall
    peaks = None if higher else _peaks_line(_peaks(moments, medians, fall / 2), at[-1])
    line = peaks or line
    straight = abs(line.bend) < BENT and line.slope > 0 and line.p < SIGNIFICANCE
    climbing = straight and (higher or peaks is not None)
    eta, earliest, latest = _reached(line, limit, _scatter(at, value, line.span_s), float(np.median(np.diff(at))))
    return Outlook(
        eta_s=eta,
        earliest_s=earliest,
        latest_s=latest,
        slope_per_s=line.slope * scale,
        level=line.level * scale,
        p=line.p,
        span_s=line.span_s,
        climbing=bool(climbing),
        sawtooth=peaks is not None,
    )


def _medians(at: Array, value: Array, count: int) -> tuple[Array, Array]:
    """At most `count` medians of equal spans of time; empty spans are left out."""
    span = at[-1] - at[0]
    if span <= 0 or len(at) <= count:
        return at, value
    place = np.minimum(((at - at[0]) / span * count).astype(int), count - 1)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    ends = [*starts[1:], len(at)]
    pairs = [(np.median(at[start:end]), np.median(value[start:end])) for start, end in zip(starts, ends, strict=True)]
    return np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])


def _longest_line(at: Array, value: Array) -> _Line | None:
    """The longest recent window that climbs in one line; where none does, the whole."""
    whole = None
    for part in WINDOWS:
        begin = int(np.searchsorted(at, at[-1] - part * (at[-1] - at[0])))
        line = _line(*_medians(at[begin:], value[begin:], BUCKETS), at[-1])
        if line is None:
            break
        whole = whole or line
        if abs(line.bend) < BENT and line.slope > 0 and line.p < SIGNIFICANCE:
            return line
    return whole


def _scatter(at: Array, value: Array, span_s: float) -> float:
    """How far single samples lie from the medians around them, which the line does not show."""
    begin = int(np.searchsorted(at, at[-1] - span_s))
    moments, medians = _medians(at[begin:], value[begin:], BUCKETS)
    return float(stats.median_abs_deviation(value[begin:] - np.interp(at[begin:], moments, medians), scale="normal"))


def _line(at: Array, value: Array, now: float, least: int = LEAST) -> _Line | None:
    n = len(at)
    span = at[-1] - at[0] if n else 0.0
    if n < least or not span > 0:
        return None
    time = (at - at[-1]) / span  # -1 … 0
    step = 1.0 / (n - 1)
    grid = np.linspace(-1.0, 0.0, n)
    if np.abs(time - grid).max() > step:  # unequal steps: read off between the samples
        value = np.interp(grid, time, value)
    ones = np.ones(n)
    rest = value - np.polyval(np.polyfit(grid, value, 1), grid)
    rho = _memory(rest, n)
    knee = np.maximum(grid + 0.5, 0.0)
    straight, error, innovation = _fit(np.column_stack([ones, grid]), value, rho)
    bent, bent_error, _ = _fit(np.column_stack([ones, grid, knee]), value, rho)
    slope, slope_error = straight[1], error[1]
    # a value that never changes has neither slope nor error
    t = slope / slope_error if slope_error > 0 else (math.inf if slope > 0 else 0.0)
    late = now - at[-1]
    return _Line(
        level=straight[0] + slope / span * late,
        slope=slope / span,
        slope_error=slope_error / span,
        level_error=error[0],
        rho=rho,
        innovation=innovation,
        step_s=span / (n - 1),
        span_s=span,
        p=float(stats.t.sf(t, max(n - 3, 1))) if innovation > 1e-12 or slope > 1e-9 else 1.0,
        bend=bent[2] / bent_error[2] if bent_error[2] > 1e-12 else 0.0,
        n=n,
        late_s=late,
    )


def _memory(rest: Array, n: int) -> float:
    """How much of an error stays until the next step, corrected for the bias of a short detrended series; what is
    near a random walk is taken for one."""
    before, after = rest[:-1], rest[1:]
    power = float(before @ before)
    if power <= 1e-24:
        return 0.0
    found = (float(before @ after) / power * n + 2) / (n - 4) if n > 8 else 1.0
    return 1.0 if found > 1 - NEAR_WALK * n**-0.5 else max(found, 0.0)


def _fit(design: Array, value: Array, rho: float) -> tuple[Array, Array, float]:
    """Coefficients, their standard errors, and the error's new part at each step."""
    x, y = design[1:] - rho * design[:-1], value[1:] - rho * value[:-1]
    if rho < 1:
        first = math.sqrt(1 - rho * rho)
        x, y = np.vstack([first * design[:1], x]), np.concatenate([first * value[:1], y])
    else:
        x = x[:, 1:]  # a random walk has no level of its own
    inverse = np.linalg.pinv(x.T @ x)
    coefficients = inverse @ x.T @ y
    freedom = max(len(y) - x.shape[1], 1)
    variance = float(((y - x @ coefficients) ** 2).sum()) / freedom
    errors = np.sqrt(np.maximum(np.diag(inverse), 0.0) * variance)
    if rho >= 1:
        coefficients, errors = np.concatenate([[value[-1]], coefficients]), np.concatenate([[0.0], errors])
    return coefficients, errors, math.sqrt(variance)


def _largest_fall(value: Array) -> float:
    return float((np.maximum.accumulate(value) - value).max())


def _climb(value: Array, fall: float) -> float:
    """How much higher it is than after the last fall as deep as the deepest, or nearly."""
    top = low = float(value[0])
    for here in value.tolist():
        top, low = max(top, here), min(low, here)
        if fall > 0 and top - here >= 0.9 * fall:
            top = low = here
    return float(value[-1]) - low


def _peaks(at: Array, value: Array, fall: float) -> list[tuple[float, float]]:
    """The highest points, each followed by a fall of at least `fall`."""
    found: list[tuple[float, float]] = []
    top_at, top, low = float(at[0]), float(value[0]), math.inf
    for moment, here in zip(at.tolist(), value.tolist(), strict=True):
        if here >= top and low == math.inf:
            top_at, top = moment, here
        elif low == math.inf and top - here >= fall:
            found.append((top_at, top))
            low = here
        elif low < math.inf:
            low = min(low, here)
            if here - low >= fall:
                top_at, top, low = moment, here, math.inf
    return found


def _peaks_line(peaks: list[tuple[float, float]], now: float) -> _Line | None:
    if len(peaks) < LEAST_PEAKS:
        return None
    return _line(np.array([p[0] for p in peaks]), np.array([p[1] for p in peaks]), now, LEAST_PEAKS)


def _reached(line: _Line, limit: float, scatter: float, step_s: float) -> tuple[float, float, float]:
    """Seconds until the limit: by the line itself, and by the upper and lower bound of what may be seen.

    Between two samples, `step_s` apart, nothing is seen: the interval is wider by one on either side.
    """
    gap = limit - line.level
    eta = 0.0 if gap <= 0 else (gap / line.slope if line.slope > 0 else math.inf)
    ahead = np.concatenate([[0.0], np.geomspace(line.step_s / 20, 50 * line.span_s, 600)])
    steps = (ahead + line.late_s) / line.step_s
    if line.rho < 1:
        noise = line.innovation**2 * (1 - line.rho ** (2 * np.maximum(steps, 1))) / (1 - line.rho**2)
    else:
        noise = line.innovation**2 * steps
    spread = np.sqrt(line.level_error**2 + (line.slope_error * (ahead + line.late_s)) ** 2 + noise + scatter**2)
    freedom = max(line.n - 3, 1)
    path = line.level + line.slope * ahead
    earliest = _first(ahead, path + stats.t.isf(LOW, freedom) * spread, limit)
    latest = _first(ahead, path - stats.t.isf(HIGH, freedom) * spread, limit)
    return eta, max(earliest - step_s, 0.0), latest + step_s


def _first(ahead: Array, path: Array, limit: float) -> float:
    """When a path reaches the limit, read off between its points."""
    over = np.flatnonzero(path >= limit)
    if not len(over):
        return math.inf
    after = int(over[0])
    if after == 0:
        return 0.0
    part = (limit - path[after - 1]) / (path[after] - path[after - 1])
    return float(ahead[after - 1] + part * (ahead[after] - ahead[after - 1]))
