"""The metrics of the gate, written so that a weighted sample of rows has a value: that is what a bootstrap asks for.

Most are functions of sums over rows (`Sums`); those of ranks need the whole sample (`Ranks`). All are computed for many
weightings at once.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import Refused

Floats = NDArray[np.float64]

BINS = 10  # of equal width, for the expected calibration error
_LEAST = float(np.finfo(np.float64).eps)  # a probability below it counts as this one, as scikit-learn has it


@dataclass(frozen=True, slots=True)
class Sums:
    """A metric of `columns(label, told)` (n x k), summed over rows: `value(sums (…, k), rows (…))` → (…)."""

    columns: Callable[[Any, Any], Floats]
    value: Callable[[Floats, Floats], Floats]


@dataclass(frozen=True, slots=True)
class Ranks:
    """A metric of the order of scores. `prepare(label, score)` gives a function of weights (B x n) → values (B)."""

    prepare: Callable[[Floats, Floats], Callable[[Floats], Floats]]


@dataclass(frozen=True, slots=True)
class Metric:
    """`higher` is whether more is better. It is told from labels and `told`: "prediction" or "score". `kind` is what
    labels must be: classes, binary (0 or 1, by the positive class) or numbers. `reach` is the most that one row can
    differ between two models; None: there is no such bound."""

    name: str
    higher: bool
    told: str
    kind: str
    how: Sums | Ranks
    reach: float | None = 1.0


def _mean(columns: Callable[[Any, Any], Floats]) -> Sums:
    def value(sums: Floats, rows: Floats) -> Floats:
        return sums[..., 0] / rows

    return Sums(lambda label, told: columns(label, told)[:, None], value)


def _root(sums: Floats, rows: Floats) -> Floats:
    return np.sqrt(sums[..., 0] / rows)


def _f1_columns(label: Floats, told: Floats) -> Floats:
    """True positives, and predicted plus actual positives."""
    return np.column_stack([label * told, label + told])


def _f1(sums: Floats, rows: Floats) -> Floats:
    return 2 * sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan) + 0 * rows


def _r2_columns(label: Floats, told: Floats) -> Floats:
    return np.column_stack([(label - told) ** 2, label, label**2])


def _r2(sums: Floats, rows: Floats) -> Floats:
    spread = sums[..., 2] - sums[..., 1] ** 2 / rows
    return 1 - sums[..., 0] / np.where(spread > 1e-12 * sums[..., 2], spread, np.nan)


def _log_loss(label: Floats, score: Floats) -> Floats:
    likely = np.where(label == 1, score, 1 - score)
    loss: Floats = -np.log(np.clip(likely, _LEAST, 1))
    return loss


def _ece_columns(label: Floats, score: Floats) -> Floats:
    """In each bin of the score: the sum of score less label."""
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    columns = np.zeros((len(score), BINS))
    columns[np.arange(len(score)), place] = score - label
    return columns


def _ece(sums: Floats, rows: Floats) -> Floats:
    total: Floats = np.abs(sums).sum(axis=-1)
    return total / rows


def _pinball(quantile: float) -> Callable[[Floats, Floats], Floats]:
    def loss(label: Floats, told: Floats) -> Floats:
        return np.maximum(quantile * (label - told), (quantile - 1) * (label - told))

    return loss


def _dot(one: Floats, other: Floats) -> Floats:
    """The sum over each row of products (B x n) → (B)."""
    found: Floats = np.einsum("ij,ij->i", one, other)
    return found


def _roc_auc(label: Floats, score: Floats) -> Callable[[Floats], Floats]:
    """The chance that a positive is ranked above a negative, ties counted half (Mann and Whitney 1947)."""
    positive, negative = np.flatnonzero(label == 1), np.flatnonzero(label != 1)
    negative = negative[np.argsort(score[negative], kind="stable")]
    below = np.searchsorted(score[negative], score[positive], side="left")
    up_to = np.searchsorted(score[negative], score[positive], side="right")
    tied = bool((below != up_to).any())

    def value(weights: Floats) -> Floats:
        heavy = np.zeros((len(weights), len(negative) + 1))
        np.cumsum(weights[:, negative], axis=1, out=heavy[:, 1:])
        mine = weights[:, positive]
        beaten = heavy[:, below]
        if tied:
            beaten = (beaten + heavy[:, up_to]) / 2
        pairs = mine.sum(axis=1) * heavy[:, -1]
        return _dot(mine, beaten) / np.where(pairs > 0, pairs, np.nan)

    return value


def _average_precision(label: Floats, score: Floats) -> Callable[[Floats], Floats]:
    """Precision at each positive's score, averaged; equal scores are one threshold, as scikit-learn has it."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    positive = np.flatnonzero(label[order] == 1)
    ends = len(ranked) - 1 - np.searchsorted(ranked[::-1], ranked[positive], side="left")
    hits = np.zeros(len(ranked), dtype=int)
    hits[positive] = 1
    seen = np.cumsum(hits)[ends]  # how many positives, by row, stand at or above each threshold

    def value(weights: Floats) -> Floats:
        mine = weights[:, order]
        everything = np.cumsum(mine, axis=1)[:, ends]
        mine = mine[:, positive]
        true = np.zeros((len(mine), len(positive) + 1))
        np.cumsum(mine, axis=1, out=true[:, 1:])
        precision = true[:, seen] / np.where(everything > 0, everything, 1)
        total = true[:, -1]
        return _dot(mine, precision) / np.where(total > 0, total, np.nan)

    return value


_ALL = (
    Metric("accuracy", True, "prediction", "classes", _mean(lambda label, told: 1.0 * (label == told))),
    Metric("error_rate", False, "prediction", "classes", _mean(lambda label, told: 1.0 * (label != told))),
    Metric("f1", True, "prediction", "binary", Sums(_f1_columns, _f1)),
    Metric("log_loss", False, "score", "binary", _mean(_log_loss), None),
    Metric("brier", False, "score", "binary", _mean(lambda label, score: (label - score) ** 2)),
    Metric("ece", False, "score", "binary", Sums(_ece_columns, _ece)),
    Metric("roc_auc", True, "score", "binary", Ranks(_roc_auc)),
    Metric("average_precision", True, "score", "binary", Ranks(_average_precision)),
    Metric("mae", False, "prediction", "numbers", _mean(lambda label, told: np.abs(label - told)), None),
    Metric("rmse", False, "prediction", "numbers", Sums(lambda label, told: (label - told)[:, None] ** 2, _root), None),
    Metric("r2", True, "prediction", "numbers", Sums(_r2_columns, _r2), None),
)
METRICS = {metric.name: metric for metric in _ALL}
_OTHER_NAMES = {"auc": "roc_auc", "error": "error_rate"}
PINBALL = "pinball_<quantile>"


def metric_named(name: str) -> Metric:
    """A metric by its name; `pinball_0.9` is the loss of a forecast of the 90 % quantile. Refused: an unknown name."""
    name = _OTHER_NAMES.get(name, name)
    if match := re.fullmatch(r"pinball_(0\.[0-9]{1,4})", name):
        quantile = float(match[1])
        if 0 < quantile < 1:
            return Metric(name, False, "prediction", "numbers", _mean(_pinball(quantile)), None)
    if name not in METRICS:
        known = ", ".join([*METRICS, PINBALL])
        raise Refused(f"unknown metric {name[:60]!r}; the gate knows {known}")
    return METRICS[name]
