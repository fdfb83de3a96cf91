"""Can a classifier tell the windows apart? For changes that no column and no pair of columns shows. Needs raw rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.drift.profile import NAME, Table, columns_of

ROWS, FOLDS, LEAST_COUNT = 20_000, 2, 10
TREES, LEAVES = 60, 15
_SEED = 7


@dataclass(frozen=True, slots=True)
class Separation:
    """`auc` out of fold (0.5: the windows look alike); one-sided `p` that it is 0.5 (DeLong's variance)."""

    auc: float
    p: float
    rows: int


def separation(reference: Table, current: Table) -> Separation:
    """How well boosted trees tell the rows of two tables apart, by the columns they share.

    Both are encoded alike, or the encoding itself would tell them apart: levels are numbered in the order of their
    names, and those with fewer than `LEAST_COUNT` rows in both together are one. Rows that resemble their neighbours
    are kept together in the folds, which are of consecutive rows.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    one, other = columns_of(reference), columns_of(current)
    names = [name for name in one if name in other]
    n, m = (min(len(next(iter(table.values()), ())), ROWS) for table in (one, other))
    if not names or min(n, m) < 10 * FOLDS:
        return Separation(0.5, 1.0, n + m)
    features = np.stack([_encoded(one[name], other[name], n, m) for name in names], axis=1)
    target = np.repeat([0, 1], [n, m])
    fold = np.concatenate([np.arange(n) * FOLDS // n, np.arange(m) * FOLDS // m])
    score = np.zeros(n + m)
    for place in range(FOLDS):
        model = HistGradientBoostingClassifier(
            max_iter=TREES, max_leaf_nodes=LEAVES, learning_rate=0.1, early_stopping=False, random_state=_SEED
        )
        out = fold == place
        with threadpool_limits(1):  # its threads spin on a busy machine
            model.fit(features[~out], target[~out])
            score[out] = model.predict_proba(features[out])[:, 1]
    return _delong(score[target == 0], score[target == 1], fold[target == 0], fold[target == 1])


def _delong(ref: NDArray[Any], cur: NDArray[Any], ref_fold: NDArray[Any], cur_fold: NDArray[Any]) -> Separation:
    """Folds are not independent: each is tested by what was trained on the other, so their errors count as one."""
    total, error = 0.0, 0.0
    for place in range(FOLDS):
        a, b = ref[ref_fold == place], cur[cur_fold == place]
        n, m = len(a), len(b)
        ranks = _midranks(np.concatenate([a, b]))
        above = (ranks[n:] - _midranks(b)) / n
        below = 1 - (ranks[:n] - _midranks(a)) / m
        total += float(above.mean()) / FOLDS
        error += math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n) / FOLDS
    z = (total - 0.5) / error if error > 0 else 0.0
    return Separation(total, 0.5 * math.erfc(z / math.sqrt(2)), len(ref) + len(cur))


def _midranks(values: NDArray[Any]) -> NDArray[np.float64]:
    _, where, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[where], dtype=np.float64)


def _encoded(one: Any, other: Any, n: int, m: int) -> NDArray[np.float64]:
    values = [_spread(one, n), _spread(other, m)]
    if all(isinstance(each, np.ndarray) for each in values):
        return np.concatenate(values).astype(float)
    texts = [None if v is None else str(v)[:NAME] for each in values for v in list(each)]
    counts: dict[str, int] = {}
    for text in texts:
        if text is not None:
            counts[text] = counts.get(text, 0) + 1
    kept = sorted(text for text, count in counts.items() if count >= LEAST_COUNT)
    code: Mapping[str, float] = {text: float(place) for place, text in enumerate(kept)}
    return np.array([math.nan if text is None else code.get(text, -1.0) for text in texts])


def _spread(values: Any, rows: int) -> Any:
    """`rows` of the values, evenly spread: numbers as an array, all else as a list."""
    take = np.arange(rows) * len(values) // max(rows, 1)
    if isinstance(values, np.ndarray):
        return values[take].astype(float)
    picked = values.take(take)
    import pyarrow as pa

    if pa.types.is_integer(picked.type) or pa.types.is_floating(picked.type) or pa.types.is_boolean(picked.type):
        return np.asarray(picked.cast(pa.float64()).to_numpy(), dtype=float)
    return picked.to_pylist()
