"""What training curves say: divergence, overfitting, a plateau. A curve is (step, value) in the order of steps.

Noise is what a curve does from one point to the next (the median of absolute differences), so that a trend is told
from it without knowing the metric's scale.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_POINTS = 20
POINTS = 2_000
"""Longer curves are thinned out by taking means of neighbours."""
LARGEST = 1e100
"""Beyond it a value counts as infinite."""
SURE = 5.0
"""How many standard errors a change of means must have."""

Floats = NDArray[np.float64]
Curve = Sequence[tuple[float, float]]

_HIGHER = re.compile(r"acc|auc|f1|precision|recall|bleu|rouge|r2|map|iou|reward|score")
_LOWER = re.compile(r"loss|err|mae|mse|rmse|nll|perplexity|ppl|wer|cer")
_HELD_OUT = re.compile(r"(?:^|[^a-z])(?:val|valid|validation|eval|evaluation|test|dev|holdout)(?![a-z])")
_TRAINED = re.compile(r"(?:^|[^a-z])(?:train|training)(?![a-z])")


@dataclass(frozen=True, slots=True)
class Diverged:
    """`how` is `not_finite`, `exploded` (worse than it began) or `fell_back` (most of what was learned is lost)."""

    metric: str
    how: str
    step: float
    best: float
    last: float


@dataclass(frozen=True, slots=True)
class Overfit:
    """`metric` was best at `step` and has been worse since, while `trained` went on to improve."""

    metric: str
    trained: str
    step: float
    best: float
    last: float


@dataclass(frozen=True, slots=True)
class Plateau:
    """Nothing has been gained since `step`; `idle` is the share of the run since then, `learned` says whether anything
    was before."""

    metric: str
    step: float
    idle: float
    learned: bool
    best: float


def diverged(curves: Mapping[str, Curve]) -> list[Diverged]:
    found = []
    for metric, curve in sorted(curves.items()):
        sign = _sign(metric)
        if not sign or not curve:
            continue
        steps, values = _columns(curve)
        bad = ~np.isfinite(values)
        if bad[-1]:  # one that recovers (a skipped step of mixed precision) is no divergence
            good = np.flatnonzero(~bad)
            since = int(good[-1]) + 1 if len(good) else 0
            best = float(sign * (sign * values[good]).min()) if len(good) else math.nan
            found.append(Diverged(metric, "not_finite", float(steps[since]), best, float(values[-1])))
            continue
        steps, values = _thinned(steps[~bad], sign * values[~bad])
        if len(values) < LEAST_POINTS or _twin(metric, curves) is not None:
            continue  # where held-out data gets worse and training data does not, the name is overfitting
        width = max(3, len(values) // 20)
        smooth = _means(values, width)
        lowest = int(np.argmin(smooth))
        first, last = float(np.median(values[:width])), float(np.median(values[-width:]))
        best = float(smooth[lowest])
        least = max(SURE * 2 * _noise_of_means(values, width), 1e-3 * abs(best), 1e-12)
        if last > first + max(least, 0.5 * (first - best)) and last > best + least:
            how = "exploded"
        elif first - best > least and last - best > max(least, 0.5 * (first - best)):
            how = "fell_back"
        else:
            continue
        # Where it left for good: the last point that was nearer to the best than to the end.
        near = np.flatnonzero(values <= (best + last) / 2)
        left = min(int(near[-1]) + 1, len(values) - 1) if len(near) else 0
        if len(values) - left >= 3:
            found.append(Diverged(metric, how, float(steps[left]), sign * best, sign * last))
    return found


def overfit(curves: Mapping[str, Curve]) -> list[Overfit]:
    """For each metric on held-out data that has a twin on the training data."""
    found = []
    for metric in sorted(curves):
        trained = _twin(metric, curves)
        sign = _sign(metric)
        if trained is None or not sign:
            continue
        steps, values = _finite(curves[metric], sign)
        train_steps, train = _finite(curves[trained], sign)
        if len(values) < LEAST_POINTS or len(train) < LEAST_POINTS:
            continue
        width = max(3, len(values) // 10)
        smooth = _means(values, width)
        lowest = int(np.argmin(smooth))
        best, last = float(smooth[lowest]), float(values[-width:].mean())
        learned = float(np.median(values[:3])) - best
        rise = last - best
        sure = SURE * _noise_of_means(values, width) * math.sqrt(2)
        since = float(steps[min(lowest + width // 2, len(steps) - 1)])
        left = len(values) - lowest - width
        if left < max(width, len(values) // 5) or rise < max(sure, 0.1 * learned, 0.02 * abs(best)):
            continue
        before, after = train[train_steps <= since], train[train_steps > since]
        if len(before) < 3 or len(after) < 3:
            continue
        near, end = max(3, len(before) // 10), max(3, len(after) // 3)
        spread = _noise(train) * math.sqrt(1 / min(near, len(before)) + 1 / end)
        rising = _rises(values[lowest + width :])
        if rising and float(before[-near:].mean() - after[-end:].mean()) > 3 * spread:
            found.append(Overfit(metric, trained, since, sign * best, sign * last))
    return found


def plateau(curves: Mapping[str, Curve], least_idle: float = 0.6) -> list[Plateau]:
    """Curves that gained nothing in the last `least_idle` of the run (a share)."""
    found = []
    for metric, curve in sorted(curves.items()):
        sign = _sign(metric)
        if not sign:
            continue
        steps, values = _finite(curve, sign)
        if len(values) < 2 * LEAST_POINTS:
            continue
        cut = int(len(values) * (1 - least_idle))
        width = max(3, (len(values) - cut) // 4)
        means = _means(values[cut:], width)
        first, last = float(means[0]), float(means[width:].min())
        unsure = 3 * math.sqrt(2) * _noise_of_means(values[cut:], width)
        start = float(np.median(values[: max(3, len(values) // 50)]))
        before = start - first
        learned = before > max(unsure, 0.02 * abs(start))
        # Silent as long as the noise could hide a gain that matters: 2 % of what was gained, or of where it began.
        if abs(first - last) + unsure >= 0.02 * (before if learned else abs(start)) or np.ptp(values) == 0:
            continue
        place = 0
        if learned:
            near = np.flatnonzero(_means(values, width) <= first + 0.02 * before)
            place = min(int(near[0]), cut) if len(near) else cut
        elif first > start + unsure:
            continue
        found.append(Plateau(metric, float(steps[place]), 1 - place / len(values), learned, sign * min(first, last)))
    return found


def _sign(metric: str) -> int:
    """1 where less is better, -1 where more is, 0 where the name does not tell."""
    name = metric[:200].lower()
    return 1 if _LOWER.search(name) else -1 if _HIGHER.search(name) else 0


def _twin(metric: str, curves: Mapping[str, Curve]) -> str | None:
    """The training curve of the same metric: `train_loss` or `loss` for `val_loss`."""
    name = metric[:200].lower()
    if not _HELD_OUT.search(name):
        return None
    bare = _HELD_OUT.sub("", name).strip("_-/. ")
    for other in sorted(curves, key=lambda other: not _TRAINED.search(other[:200].lower())):
        twin = other[:200].lower()
        if not _HELD_OUT.search(twin) and _TRAINED.sub("", twin).strip("_-/. ") == bare:
            return other
    return None


def _columns(curve: Curve) -> tuple[Floats, Floats]:
    table = np.array(curve, dtype=float).reshape(-1, 2)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0], np.where(np.abs(table[:, 1]) > LARGEST, np.inf, table[:, 1])


def _finite(curve: Curve, sign: int) -> tuple[Floats, Floats]:
    steps, values = _columns(curve)
    good = np.isfinite(values) & np.isfinite(steps)
    return _thinned(steps[good], sign * values[good])


def _thinned(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
    many = -(-len(values) // POINTS)
    if many <= 1:
        return steps, values
    whole = len(values) // many * many
    return steps[:whole].reshape(-1, many)[:, -1], values[:whole].reshape(-1, many).mean(axis=1)


def _means(values: Floats, width: int) -> Floats:
    """Means of `width` neighbours, one for each place where they all exist."""
    total = np.concatenate([[0.0], np.cumsum(values - values[0])])
    means: Floats = (total[width:] - total[:-width]) / width + values[0]
    return means


def _noise(values: Floats) -> float:
    """The standard deviation around the trend, of one point."""
    return float(np.median(np.abs(np.diff(values)))) * 1.4826 / math.sqrt(2)


def _noise_of_means(values: Floats, width: int) -> float:
    """The standard deviation of means of `width` neighbours around a line: noise that lasts counts in full."""
    alone = _noise(values) / math.sqrt(width)
    whole = len(values) // width
    if whole < 4:
        return alone
    means = values[: whole * width].reshape(whole, width).mean(axis=1)
    bends = means[2:] - 2 * means[1:-1] + means[:-2]
    return max(alone, float(np.median(np.abs(bends))) * 1.4826 / math.sqrt(6))


def _rises(values: Floats) -> bool:
    """Whether later quarters are higher than earlier ones."""
    means = [float(part.mean()) for part in np.array_split(values, 4)]
    return means[3] > means[0] and means[2] >= means[0]
