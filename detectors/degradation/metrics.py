"""What labels say of a window: metrics with intervals, held against the reference's.

Variances are those of means of sessions (the linearised sandwich, `summary.moments`), so rows of one session do not
count as independent; shares have Wilson's interval at the effective number of rows. Everything that is compared at once
(metrics, and apart from them segments) shares one error rate by Holm's procedure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from detectors.degradation.summary import COMPONENTS, OTHER, moments, score_table
from detectors.drift.statistics import holm

LEVEL = 0.95
LEAST_SESSIONS = 10
CALIBRATION_BINS = 15

Floats = NDArray[np.float64]

UNITS = {
    **dict.fromkeys(("accuracy", "precision", "recall", "f1", "auc", "ece", "calibration_gap", "r2"), "ratio"),
    **dict.fromkeys(("macro_f1", "error"), "ratio"),
    "brier": "squared probability",
    "log_loss": "nats",
    **dict.fromkeys(("mae", "rmse", "bias"), "label's unit"),
}
HIGHER_IS_BETTER = frozenset(("accuracy", "precision", "recall", "f1", "macro_f1", "auc", "r2"))
ABSOLUTE = HIGHER_IS_BETTER | {"ece", "error"}
"""Metrics whose change is told in points; that of the others is told as a share of the reference."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric with its interval at `LEVEL`. `error` is its standard error, `sessions` how many independent groups of
    rows it stands on, `effective_rows` what a share is worth in independent rows (0: not a share); `noise` is what it
    would be on average if nothing were wrong (that of a calibration error is not 0)."""

    value: float
    low: float
    high: float
    error: float
    sessions: int
    effective_rows: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """A metric of the window against the reference's. `worse` is by how much, in points or as a share of the reference
    (`ABSOLUTE`); `p_value` is that of no worsening, after the correction for all that was compared."""

    metric: str
    reference: Figure
    current: Figure
    worse: float
    p_value: float


@dataclass(frozen=True, slots=True)
class SegmentChange:
    """The loss (error rate or mean absolute error) of the rows whose `column` is `value`."""

    column: str
    value: str
    rows: int
    change: Change


def matured_share(summary: Mapping[str, Any]) -> float:
    """Which share of the predictions whose label was waited for has one; 0 for none."""
    waited = summary["rows"] - summary["dropped"]
    return min(1.0, summary["labelled"] / waited) if waited > 0 else 0.0


def figures(summary: Mapping[str, Any]) -> dict[str, Figure]:
    """The metrics of the labelled rows, by name; those that cannot be told are left out."""
    sums, products, sessions = moments(summary)
    if sums[0] <= 0 or sessions < LEAST_SESSIONS or not np.isfinite(products).all():
        return {}
    sample = _Sample(COMPONENTS[summary["task"]], sums, products, sessions)
    if summary["task"] == "regression":
        return _residuals(sample)
    found = {"accuracy": sample.share("error", "rows", complement=True)}
    if summary["task"] == "binary":
        if sample.of("predicted") > 0:
            found["precision"] = sample.share("true_positive", "predicted")
        if sample.of("positive") > 0:
            found["recall"] = sample.share("true_positive", "positive")
        if sample.of("predicted") + sample.of("positive") > 0:
            found["f1"] = sample.f1()
    if sample.of("scored") > 0:
        found["brier"] = sample.ratio("brier", "scored")
        found["log_loss"] = sample.ratio("log_loss", "scored")
        found["calibration_gap"] = sample.ratio("gap", "scored")
        found |= _of_scores(summary, sample)
    return found


def macro_f1(summary: Mapping[str, Any]) -> float | None:
    """The mean of each class's F1; None without labels. Beyond `summary.CLASSES` classes the others count as one."""
    predicted: dict[str, int] = {}
    actual: dict[str, int] = {}
    right: dict[str, int] = {}
    for prediction, by_label in summary["confusion"].items():
        for label, rows in by_label.items():
            predicted[prediction] = predicted.get(prediction, 0) + rows
            actual[label] = actual.get(label, 0) + rows
            right[label] = right.get(label, 0) + rows * (label == prediction)
    names = predicted | actual
    scores = [2 * right.get(name, 0) / (predicted.get(name, 0) + actual.get(name, 0)) for name in names]
    return sum(scores) / len(scores) if scores else None


def compare(reference: Mapping[str, Figure], current: Mapping[str, Figure]) -> list[Change]:
    """Each metric that both have and that has a better and a worse, the surest worsening first."""
    names = [name for name in current if name in reference and name not in ("calibration_gap", "bias")]
    changes = _corrected([_change(name, reference[name], current[name]) for name in names])
    return sorted(changes, key=lambda change: change.p_value)


def compare_segments(
    reference: Mapping[str, Any], current: Mapping[str, Any], least_rows: int = 100
) -> list[SegmentChange]:
    """The loss in each segment that has `least_rows` labelled rows here and there, the surest worsening first."""
    metric = "mae" if current["task"] == "regression" else "error"
    found = []
    for column, table in current["segments"].items():
        for value, counts in table.items():
            before = reference["segments"].get(column, {}).get(value) if value != OTHER else None
            if before and min(before[0], counts[0]) >= least_rows and min(before[5], counts[5]) >= LEAST_SESSIONS:
                change = _change(metric, _segment(before, metric), _segment(counts, metric))
                found.append(SegmentChange(column, value, int(counts[0]), change))
    changes = _corrected([segment.change for segment in found])
    together = [replace(segment, change=change) for segment, change in zip(found, changes, strict=True)]
    return sorted(together, key=lambda segment: segment.change.p_value)


def _segment(counts: Sequence[float], metric: str) -> Figure:
    products = np.array([[counts[2], counts[3]], [counts[3], counts[4]]], dtype=float)
    sample = _Sample(("rows", metric), np.array(counts[:2], dtype=float), products, int(counts[5]))
    return sample.share(metric, "rows") if metric == "error" else sample.ratio(metric, "rows")


def _residuals(sample: "_Sample") -> dict[str, Figure]:
    found = {"mae": sample.ratio("absolute", "rows"), "bias": sample.ratio("signed", "rows")}
    square, label = sample.mean("squared"), sample.mean("label")
    spread = sample.mean("label_squared") - label**2
    if square > 0:
        found["rmse"] = sample.smooth(math.sqrt(square), {"squared": 1 / (2 * math.sqrt(square))})
    if spread > 1e-12 * sample.mean("label_squared"):
        gradient = {
            "squared": -1 / spread,
            "label_squared": square / spread**2,
            "label": -2 * label * square / spread**2,
        }
        found["r2"] = sample.smooth(1 - square / spread, gradient)
    return found


def _of_scores(summary: Mapping[str, Any], sample: "_Sample") -> dict[str, Figure]:
    """The area under the curve (DeLong's variance; binary tasks) and the expected calibration error, from bins."""
    _, table = score_table(summary)
    table = table[table[:, 2] > 0]
    labelled, scores, hits = table[:, 2], table[:, 3], table[:, 4]
    misses = labelled - hits
    effect = max(1.0, sample.design_effect("error"), sample.design_effect("positive"))
    found = {"ece": _calibration_error(labelled, scores, hits, effect, sample.sessions)}
    if summary["task"] == "binary" and hits.sum() > 1 and misses.sum() > 1:
        above_of_hits = (np.cumsum(misses) - misses / 2) / misses.sum()
        below_of_misses = 1 - (np.cumsum(hits) - hits / 2) / hits.sum()
        area = float(hits @ above_of_hits / hits.sum())
        spread = hits @ (above_of_hits - area) ** 2 / (hits.sum() * (hits.sum() - 1))
        spread += misses @ (below_of_misses - area) ** 2 / (misses.sum() * (misses.sum() - 1))
        # Where every pair is in order, the scatter is 0 and says nothing; one pair in the wrong order is the least.
        error = math.sqrt(max(float(spread), 1 / (hits.sum() * misses.sum()) ** 2) * effect)
        found["auc"] = _normal(area, error, sample.sessions, 0.0, 1.0)
    return found


def _calibration_error(labelled: Floats, scores: Floats, hits: Floats, effect: float, sessions: int) -> Figure:
    mean = scores / labelled
    place = np.minimum((mean * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    rows, said, came = (np.bincount(place, each, CALIBRATION_BINS) for each in (labelled, scores, hits))
    rows, said, came = rows[rows > 0], said[rows > 0], came[rows > 0]
    value = float(np.abs(said - came).sum() / rows.sum())
    chance = np.clip((came + 1) / (rows + 2), 0, 1)
    spread = chance * (1 - chance) * effect * rows / rows.sum() ** 2  # of each bin's share in the sum
    noise = float(np.sqrt(2 / math.pi * spread).sum())
    figure = _normal(value, math.sqrt(float(spread.sum())), sessions, 0.0, 1.0)
    return Figure(value, figure.low, figure.high, figure.error, sessions, noise=noise)


class _Sample:
    """Means of components with the scatter of sessions."""

    def __init__(self, names: Sequence[str], sums: Floats, products: Floats, sessions: int) -> None:
        self.sessions = sessions
        self._names, self._sums, self._products = names, sums, products
        self._means = sums / sums[0]

    def of(self, name: str) -> float:
        return float(self._sums[self._names.index(name)])

    def mean(self, name: str) -> float:
        return float(self._means[self._names.index(name)])

    def smooth(self, value: float, gradient: Mapping[str, float]) -> Figure:
        """A function of the means, by its gradient."""
        return _normal(value, math.sqrt(self._variance(gradient)), self.sessions)

    def ratio(self, above: str, below: str) -> Figure:
        value = self.of(above) / self.of(below)
        return self.smooth(value, {above: 1 / self.mean(below), below: -value / self.mean(below)})

    def share(self, above: str, below: str, complement: bool = False) -> Figure:
        """A ratio that is a share of rows, with Wilson's interval."""
        part, rows = self.of(above), self.of(below)
        value = part / rows
        variance = self._variance({above: 1 / self.mean(below), below: -value / self.mean(below)})
        # Where all rows agree, sessions are the safe count.
        effective = value * (1 - value) / variance if variance > 0 else rows * self.sessions / self._sums[0]
        effective = min(max(float(effective), 1.0), rows)
        value = 1 - value if complement else value
        quantile = _quantile(self.sessions)
        centre = (value + quantile**2 / (2 * effective)) / (1 + quantile**2 / effective)
        half = quantile * math.sqrt(value * (1 - value) / effective + quantile**2 / (4 * effective**2))
        half /= 1 + quantile**2 / effective
        error = math.sqrt(value * (1 - value) / effective)
        return Figure(value, max(0.0, centre - half), min(1.0, centre + half), error, self.sessions, effective)

    def f1(self) -> Figure:
        below = self.mean("predicted") + self.mean("positive")
        value = 2 * self.mean("true_positive") / below
        gradient = {"true_positive": 2 / below, "predicted": -value / below, "positive": -value / below}
        figure = self.smooth(value, gradient)
        return Figure(value, max(0.0, figure.low), min(1.0, figure.high), figure.error, self.sessions)

    def design_effect(self, name: str) -> float:
        """How many times the variance of a share exceeds that of independent rows."""
        if name not in self._names:
            return 1.0
        mean = self.mean(name)
        alone = mean * (1 - mean) / float(self._sums[0])
        return self._variance({name: 1.0}) / alone if alone > 0 else 1.0

    def _variance(self, gradient: Mapping[str, float]) -> float:
        slope = np.zeros(len(self._names))
        for name, value in gradient.items():
            slope[self._names.index(name)] += value
        slope[0] -= float(slope @ self._means)  # the count of rows is random as well
        scatter = float(slope @ self._products @ slope) / float(self._sums[0]) ** 2
        return max(0.0, scatter) * self.sessions / (self.sessions - 1)


def _normal(value: float, error: float, sessions: int, least: float = -math.inf, most: float = math.inf) -> Figure:
    half = _quantile(sessions) * error
    return Figure(value, max(least, value - half), min(most, value + half), error, sessions)


def _quantile(sessions: int) -> float:
    return float(stdtrit(sessions - 1, (1 + LEVEL) / 2))


def _change(metric: str, reference: Figure, current: Figure) -> Change:
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    before, now = reference.value - reference.noise, current.value - current.noise
    worse = sign * (now - before)
    share = worse if metric in ABSOLUTE else worse / abs(before) if before else math.copysign(math.inf, worse)
    p_value = _p_value(worse, reference, current)
    return Change(metric, reference, current, 0.0 if worse == 0 else share, p_value)


def _p_value(worse: float, reference: Figure, current: Figure) -> float:
    """One-sided: how likely a worsening like this is where there is none."""
    one, two = reference.error**2, current.error**2
    if reference.effective_rows and current.effective_rows:
        rows = reference.effective_rows, current.effective_rows
        pooled = (reference.value * rows[0] + current.value * rows[1]) / sum(rows)
        one, two = (pooled * (1 - pooled) / count for count in rows)
    if one + two <= 0:
        return 1.0
    freedom = (one + two) ** 2 / (one**2 / (reference.sessions - 1) + two**2 / (current.sessions - 1))
    return float(stdtr(freedom, -worse / math.sqrt(one + two)))


def _corrected(changes: Sequence[Change]) -> list[Change]:
    """The same with p-values that are adjusted by Holm's procedure."""
    adjusted = holm([change.p_value for change in changes], [1.0] * len(changes))
    return [replace(change, p_value=p_value) for change, p_value in zip(changes, adjusted, strict=True)]
