"""The paired bootstrap of a difference between two models, with BCa intervals.

Rows (or whole groups of rows) are drawn with replacement, for both models at once. Sources: Efron, "Better bootstrap
confidence intervals", JASA 82 (1987); Efron and Tibshirani, "An introduction to the bootstrap" (1993), chapters 13 and
14; for groups, Davison and Hinkley, "Bootstrap methods and their application" (1997), section 3.8.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from actions.gate.metrics import Floats, Metric, Ranks, Sums

RESAMPLES = 2_000
_CELLS = 2_000_000  # of weights that are held at once
_BLOCKS = 400  # of the jackknife where each block costs a look at all rows
_UNDEFINED = 0.01  # more resamples without a value than this: the metric cannot be told from these rows


@dataclass(frozen=True, slots=True)
class Pair:
    """What one metric sees of n rows: `label` (n), what `champion` and `challenger` told (n), and the group of each row
    (n, 0…), None where rows are independent. `challenger_label` stands where the truth is each model's own: whether
    the class that it is sure of is the right one."""

    label: Floats
    champion: Floats
    challenger: Floats
    group: NDArray[np.intp] | None = None
    challenger_label: Floats | None = None

    @property
    def units(self) -> int:
        return len(self.label) if self.group is None else int(self.group.max(initial=-1)) + 1

    def of(self, places: NDArray[np.bool_]) -> "Pair":
        group = None
        if self.group is not None:
            group = np.unique(self.group[places], return_inverse=True)[1]
        other = None if self.challenger_label is None else self.challenger_label[places]
        return Pair(self.label[places], self.champion[places], self.challenger[places], group, other)


@dataclass(frozen=True, slots=True)
class Sample:
    """A difference (challenger's gain: positive is better) and what its bootstrap showed.

    `draws` (B) are sorted. `error` is the jackknife's standard error, `acceleration` and `bias` are BCa's a and z0;
    `units` are rows, or groups. `reach` is how far the value moves at most when one unit is put in.
    """

    gain: float
    champion: float
    challenger: float
    rows: int
    units: int
    draws: Floats
    error: float
    acceleration: float
    bias: float
    reach: float

    @property
    def told(self) -> bool:
        """Whether the metric has a value here, and enough resamples have one."""
        return bool(np.isfinite(self.gain)) and len(self.draws) > 0

    def interval(self, confidence: float) -> tuple[float, float]:
        """The two-sided BCa interval; nothing can be said outside of [-inf, inf] where the metric has no value."""
        if not self.told:
            return -np.inf, np.inf
        normal = ndtri((1 - confidence) / 2)
        shares = [self._share(normal), self._share(-normal)]
        low, high = np.quantile(self.draws, shares)
        return float(low), float(high)

    def _share(self, normal: float) -> float:
        """The percentile of the draws at which the endpoint with that normal quantile lies."""
        moved = self.bias + normal
        below = 1 - self.acceleration * moved
        return float(ndtr(self.bias + moved / below)) if below > 0 else (1.0 if moved > 0 else 0.0)

    def p_worse(self) -> float:
        """The p-value of "it is not worse": the least level at which the upper BCa bound of the gain lies below 0."""
        if not self.told:
            return 1.0
        not_worse = np.count_nonzero(self.draws >= 0)
        if not_worse == len(self.draws):
            return 1.0
        moved = ndtri(1 - (not_worse + 1) / (len(self.draws) + 1)) - self.bias
        below = 1 + self.acceleration * moved
        return float(1 - ndtr(moved / below - self.bias)) if below > 0 else 1.0


def sample(metric: Metric, pair: Pair, chance: np.random.Generator, resamples: int = RESAMPLES) -> Sample:
    """Draw `resamples` times; the same generator state gives the same sample."""
    sign = 1.0 if metric.higher else -1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        if isinstance(metric.how, Sums):
            champion, challenger, draws, left_out = _of_sums(metric.how, pair, chance, resamples)
        else:
            champion, challenger, draws, left_out = _of_ranks(metric.how, pair, chance, resamples)
    gain = sign * (challenger - champion)
    draws, left_out = sign * draws, sign * left_out
    units = pair.units
    kept = np.sort(draws[np.isfinite(draws)])
    if len(kept) < (1 - _UNDEFINED) * resamples or not np.isfinite(left_out).all() or len(left_out) < 2:
        kept = np.empty(0)
    if not len(kept):
        return Sample(gain, champion, challenger, len(pair.label), units, kept, np.inf, 0.0, 0.0, np.inf)
    away = left_out.mean() - left_out
    square = float((away**2).sum())
    blocks = len(left_out)
    acceleration = float((away**3).sum() / (6 * square**1.5)) if square > 0 else 0.0
    below = (np.count_nonzero(kept < gain) + np.count_nonzero(kept <= gain)) / (2 * len(kept))
    edge = 0.5 / len(kept)
    reach = max(metric.reach or 0.0, float(np.abs(away).max()) * (blocks - 1) * blocks / units)
    return Sample(
        gain=gain,
        champion=champion,
        challenger=challenger,
        rows=len(pair.label),
        units=units,
        draws=kept,
        error=float(np.sqrt((blocks - 1) / blocks * square)),
        acceleration=acceleration,
        bias=float(ndtri(min(max(below, edge), 1 - edge))),
        reach=reach,
    )


def _of_sums(how: Sums, pair: Pair, chance: np.random.Generator, resamples: int) -> tuple[float, float, Floats, Floats]:
    """Values of both, the difference's draws (B), and what it is without each unit (m)."""
    other = pair.label if pair.challenger_label is None else pair.challenger_label
    mine, theirs = how.columns(pair.label, pair.champion), how.columns(other, pair.challenger)
    split = mine.shape[1]
    table = np.column_stack([np.ones(len(mine)), mine, theirs])
    if pair.group is not None:
        table = np.column_stack([np.bincount(pair.group, weights=column) for column in table.T])

    def difference(sums: Floats) -> Floats:
        rows = sums[..., 0]
        return how.value(sums[..., 1 + split :], rows) - how.value(sums[..., 1 : 1 + split], rows)

    total = table.sum(axis=0)
    champion = float(how.value(total[1 : 1 + split], total[0]))
    challenger = float(how.value(total[1 + split :], total[0]))
    draws = difference(_drawn_sums(table, chance, resamples))
    return champion, challenger, draws, difference(total - table)


def _drawn_sums(table: Floats, chance: np.random.Generator, resamples: int) -> Floats:
    """The sums (B x k) of B resamples of the units (n x k). Units that are alike are drawn by their counts."""
    units = len(table)
    kinds, counts = _kinds(table)
    if len(kinds) * 4 <= units:
        found: Floats = chance.multinomial(units, counts / units, size=resamples) @ kinds
        return found
    return np.concatenate([weights @ table for weights in _weights(units, chance, resamples)])


def _kinds(table: Floats) -> tuple[Floats, Floats]:
    """The different rows and how often each occurs. A table that is plainly of numbers is not sorted for it."""
    some = table[:: max(1, len(table) // 200)]
    if len(np.unique(some, axis=0)) * 2 > len(some) > 50:
        return table, np.ones(len(table))
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    return kinds, counts.astype(float)


def _weights(units: int, chance: np.random.Generator, resamples: int) -> Iterator[Floats]:
    """How often each unit was drawn in each resample: matrices (b x n) of at most `_CELLS` cells, B rows in all."""
    at_once = max(1, _CELLS // max(units, 1))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        places = chance.integers(0, units, size=(rows, units))
        places += (np.arange(rows) * units)[:, None]
        yield np.bincount(places.ravel(), minlength=rows * units).reshape(rows, units).astype(float)


def _of_ranks(
    how: Ranks, pair: Pair, chance: np.random.Generator, resamples: int
) -> tuple[float, float, Floats, Floats]:
    mine, theirs = how.prepare(pair.label, pair.champion), how.prepare(pair.label, pair.challenger)
    group, units = pair.group, pair.units
    everything = np.ones((1, len(pair.label)))
    champion, challenger = float(mine(everything)[0]), float(theirs(everything)[0])
    draws = []
    for weights in _weights(units, chance, resamples):
        by_row = weights if group is None else weights[:, group]
        draws.append(theirs(by_row) - mine(by_row))
    blocks = np.arange(units) if units <= 1_000 else chance.permutation(np.arange(units) % _BLOCKS)
    block = blocks if group is None else blocks[group]
    left_out = []
    numbers = np.arange(blocks.max(initial=-1) + 1)
    at_once = max(1, _CELLS // max(len(pair.label), 1))
    for start in range(0, len(numbers), at_once):
        without = (block[None, :] != numbers[start : start + at_once, None]).astype(float)
        left_out.append(theirs(without) - mine(without))
    return champion, challenger, np.concatenate(draws), np.concatenate(left_out) if left_out else np.empty(0)
