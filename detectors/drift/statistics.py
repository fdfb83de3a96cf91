"""The p-values of a check: of counts, so that they cost the same for a thousand rows and for a million.

Each takes what rows in sessions do to the variance (`inflation`, the design effect) and how well that is known
(`freedom`, degrees of freedom; infinite where rows are independent).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import chdtrc, fdtrc, gammaln, kolmogorov, ndtr, stdtr

from detectors.drift.grid import Floats

_EXACT, _NEVER = 2_000, 1e-12


def shift(ref: Floats, cur: Floats, scores: Floats, inflation: float, freedom: float) -> tuple[float, float]:
    """Do the mean scores of two sets of counts (bins) differ? Difference, and its two-sided p by the permutation
    variance of linear rank statistics."""
    n, m = ref.sum(), cur.sum()
    if not n or not m:
        return 0.0, 1.0
    pooled = ref + cur
    mean = pooled @ scores / (n + m)
    variance = pooled @ (scores - mean) ** 2 / (n + m - 1)
    difference = float(cur @ scores / m - ref @ scores / n)
    if variance <= 1e-12:
        return 0.0, 1.0
    z = difference / math.sqrt(variance * (1 / n + 1 / m) * inflation)
    return difference, 2 * tail(abs(z), freedom)


def tail(z: float, freedom: float) -> float:
    """P(Z > z), Student's t where the freedom is finite."""
    return float(ndtr(-z)) if math.isinf(freedom) else float(stdtr(freedom, -z))


def ks(ref: Floats, cur: Floats, inflation: float) -> tuple[float, float]:
    """Kolmogorov and Smirnov on bins: largest distance of the distribution functions, and p (never too small)."""
    n, m = ref.sum(), cur.sum()
    if not n or not m:
        return 0.0, 1.0
    distance = float(np.abs(np.cumsum(ref) / n - np.cumsum(cur) / m).max())
    return distance, float(kolmogorov(math.sqrt(n * m / (n + m) / inflation) * distance))


def excess(ref: float, n: float, cur: float, m: float, inflation: float) -> float:
    """One-sided p of at least `cur` among `m` where `ref` among `n` were seen: exact (hypergeometric) for independent
    rows; with an inflation the counts weigh accordingly less."""
    ref, n, cur, m = (value / inflation for value in (ref, n, cur, m))
    marked, most = ref + cur, min(ref + cur, m)
    if cur * n <= ref * m:
        return 1.0
    k = np.arange(cur, most + 1e-9)[: int(60 + 12 * math.sqrt(cur))]  # what is left out adds nothing
    if not len(k):
        k = np.array([cur])
    terms = _choose(marked, k) + _choose(n + m - marked, m - k) - _choose(n + m, m)
    return float(min(1.0, np.exp(terms).sum()))


def _choose(n: float, k: Floats | float) -> Floats:
    return np.asarray(gammaln(n + 1) - gammaln(np.asarray(k) + 1) - gammaln(np.maximum(n - np.asarray(k), 0) + 1))


def mix(ref: Floats, cur: Floats, inflation: float, freedom: float) -> float:
    """p of Pearson's statistic for two rows of counts, by a gamma law with its exact permutation mean and variance
    (Dawson 1954, Mielke and Berry 1985): holds for sparse tables, too. Rows in sessions: the F law of Rao and Scott."""
    kept = ref + cur > 0
    ref, cur = ref[kept], cur[kept]
    n, m, k = ref.sum(), cur.sum(), len(ref)
    total = n + m
    if k < 2 or not n or not m or total < 4:
        return 1.0
    pooled = ref + cur
    x = float(((ref - pooled * n / total) ** 2 / (pooled * n / total)).sum() * (1 + n / m))
    mean = total / (total - 1) * (k - 1)
    v1, v2 = (total - 2) / (total - 1), (total - k) * (k - 1) / (total - 1)
    w1 = (total * (1 / n + 1 / m) - 4) / (total - 2)
    w2 = (total * (1 / pooled).sum() - k * k) / (total - 2)
    variance = 2 * total / (total - 3) * (v1 - w1) * (v2 - w2) + total**2 / (total - 1) * w1 * w2
    if variance <= 0:
        return 1.0
    p = float(chdtrc(2 * mean**2 / variance, 2 * mean / variance * x / inflation))
    return p if math.isinf(freedom) else max(p, float(fdtrc(k - 1, freedom, x / inflation / (k - 1))))


def unseen(pooled: Floats, share: float, rows: float, inflation: float) -> float:
    """p of at least `rows` rows whose levels are in the current window alone.

    Were both windows alike, each level with t rows in both together (`pooled`) would lie wholly in the current one with
    chance share^t (`share`: the current window's share of the rows). The law of the sum is exact up to `_EXACT` rows;
    beyond, Chernoff's bound.
    """
    if rows <= 0:
        return 1.0
    t = np.maximum(np.round(pooled[pooled > 0] / inflation), 1.0)
    rows = max(1.0, math.floor(rows / inflation))
    sizes, counts = np.unique(t, return_counts=True)
    chances = share**sizes
    if rows <= _EXACT:
        law = np.zeros(int(rows) + 1)  # the last: at least so many
        law[0] = 1.0
        for size, count, chance in zip(sizes.astype(int), counts, chances, strict=True):
            for _ in range(count if chance > _NEVER else 0):
                moved = np.zeros_like(law)
                step = min(size, len(law) - 1)
                moved[step:] = law[: len(law) - step]
                moved[-1] += law[len(law) - step :].sum()
                law += chance * (moved - law)
        return float(min(1.0, max(law[-1], _NEVER)))
    theta = np.concatenate([[0.0], np.geomspace(1e-3, 30, 160)])[:, None]
    inner = np.logaddexp(np.log1p(-np.minimum(chances, 1 - 1e-16)), sizes * math.log(share) + theta * sizes)
    return float(min(1.0, np.exp((inner @ counts - theta[:, 0] * rows).min())))


def alone(pooled: Floats, share: float, inflation: float) -> float:
    """The chance that the current window holds any level alone, were both alike (at most 1)."""
    t = np.maximum(pooled[pooled > 0] / inflation, 1.0)
    return float(min(1.0, (share**t).sum()))


def holm(p: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values with weights: family-wise error is controlled whatever depends on whatever."""
    order = sorted(range(len(p)), key=lambda i: p[i] / weights[i])
    left = sum(weights)
    adjusted, before = [0.0] * len(p), 0.0
    for i in order:
        before = max(before, min(1.0, p[i] / weights[i] * left))
        adjusted[i] = before
        left -= weights[i]
    return adjusted
