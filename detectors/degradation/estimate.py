"""How good a model is where there are no labels, from how sure it is: confidence-based performance estimation.

On the labelled reference, isotonic regression turns scores into probabilities; on a window, these probabilities say how
many predictions are right if the relation of score and truth still holds. The method is that of NannyML's CBPE
(https://nannyml.readthedocs.io/en/stable/how_it_works/performance_estimation.html); only the bins of
`summary.score_table` are needed, no rows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from detectors.degradation.metrics import LEVEL, Figure, figures
from detectors.degradation.summary import score_table

BLIND_SPOT = (
    "This is an estimate without labels. It sees inputs that have moved to where the model is less sure. It is blind to"
    " concept drift: where the relation of inputs and truth has changed, the true figure may be far lower."
)
LEAST_LABELS = 500
LEAST_ROWS = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How likely a hit is, bin by bin of the score, never falling. `bins`, `chances` and `steps` (which block of equal
    chances a bin belongs to) have one entry a bin, `rows` one a block; `effect` is the reference's design effect."""

    bins: tuple[int, ...]
    chances: tuple[float, ...]
    steps: tuple[int, ...]
    rows: tuple[float, ...]
    effect: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a window's metrics are likely to be. The intervals know of chance and of the size of reference and window,
    and hold only where the blind spot does not."""

    rows: int
    metrics: Mapping[str, Figure]
    blind_spot: str = BLIND_SPOT


def calibration(reference: Mapping[str, Any]) -> Calibration | None:
    """None: a regression, or fewer than `LEAST_LABELS` labelled rows with a score."""
    from scipy.optimize import isotonic_regression  # it takes half a second to import, and few events need it

    bins, table = score_table(reference)
    bins, table = bins[table[:, 2] > 0], table[table[:, 2] > 0]
    known = figures(reference)
    if reference["task"] == "regression" or table[:, 2].sum() < LEAST_LABELS or "accuracy" not in known:
        return None
    fitted = isotonic_regression(table[:, 4] / table[:, 2], weights=table[:, 2])
    steps = np.repeat(np.arange(len(fitted.blocks) - 1), np.diff(fitted.blocks))
    accuracy = known["accuracy"]
    effect = reference["labelled"] / accuracy.effective_rows
    return Calibration(
        tuple(bins.tolist()), tuple(fitted.x.tolist()), tuple(steps.tolist()), tuple(fitted.weights.tolist()), effect
    )


def estimate(calibration: Calibration, window: Mapping[str, Any]) -> Estimate | None:
    """The window's accuracy and, in a binary task, the area under its curve; None below `LEAST_ROWS` scored rows."""
    bins, table = score_table(window)
    rows = table[:, 0]
    bins, table, rows = bins[rows > 0], table[rows > 0], rows[rows > 0]
    if window["task"] == "regression" or rows.sum() < LEAST_ROWS:
        return None
    chances = np.interp(bins, calibration.bins, calibration.chances)
    nearest = np.clip(np.searchsorted(calibration.bins, bins), 0, len(calibration.bins) - 1)
    steps = np.array(calibration.steps)[nearest]
    if window["task"] == "multiclass":
        accuracy, slope = float(rows @ chances / rows.sum()), rows / rows.sum()
        return Estimate(int(rows.sum()), {"accuracy": _figure(accuracy, slope, rows, chances, steps, calibration)})
    positive = table[:, 1]
    accuracy = float((positive @ chances + (rows - positive) @ (1 - chances)) / rows.sum())
    slope = (2 * positive - rows) / rows.sum()
    found = {"accuracy": _figure(accuracy, slope, rows, chances, steps, calibration)}
    hits, misses = rows * chances, rows * (1 - chances)
    if min(hits.sum(), misses.sum()) >= 1:
        below = np.cumsum(misses) - misses / 2
        above = hits.sum() - np.cumsum(hits) + hits / 2
        area = float(hits @ below / (hits.sum() * misses.sum()))
        slope = rows * ((below - above) / (hits.sum() * misses.sum()) - area / hits.sum() + area / misses.sum())
        found["auc"] = _figure(area, slope, rows, chances, steps, calibration)
    return Estimate(int(rows.sum()), found)


def _figure(
    value: float, slope: Floats, rows: Floats, chances: Floats, steps: NDArray[np.int64], calibration: Calibration
) -> Figure:
    """`slope` is the derivative by each bin's chance. Two things are uncertain: the labels that the chances will give,
    and the chances themselves."""
    spread = chances * (1 - chances)
    labels = float(slope**2 @ (spread / rows))
    together = np.bincount(steps, slope, len(calibration.rows))
    by_step = np.array([calibration.chances[calibration.steps.index(step)] for step in range(len(calibration.rows))])
    fitted = float(together**2 @ (by_step * (1 - by_step) / np.array(calibration.rows)))
    error = math.sqrt((labels + fitted) * calibration.effect)
    half = float(ndtri((1 + LEVEL) / 2)) * error
    sessions = max(2, int(rows.sum() / calibration.effect))
    return Figure(value, max(0.0, value - half), min(1.0, value + half), error, sessions)
