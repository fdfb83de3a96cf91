"""Where the numbers of a column lie: a fine grid that costs two nanoseconds a value, and bins laid on it.

A value is placed by the upper bits of `float32(value - centre)`: 64 cells for each doubling of the distance from the
centre, so heavy tails and fine detail near the centre fit into the same 32,768 cells. The bins are laid once, by the
quantiles of the values that found the grid, and stay: counts of windows on one grid add up and compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SHIFT = 17
CELLS = 1 << (32 - _SHIFT)
_HALF = CELLS // 2
_RAW = np.arange(CELLS)
_PLACE = np.where(_RAW >= _HALF, CELLS - 1 - _RAW, _RAW + _HALF)
"""Cell as the bits say (sign first) → cell in the order of the values."""
_INFINITE = int(np.array([np.inf], np.float32).view(np.uint32)[0] >> _SHIFT)
_TOP = _INFINITE + _HALF
_BOTTOM = CELLS - 1 - _INFINITE - _HALF
"""The cells of both infinities; beyond them lies what is not a number."""

_SAFE = 1 << 62

FOUNDERS = 16_384
_TAILS = (0.001, 0.002, 0.005, 0.01, 0.02)
_TARGETS = np.array([*_TAILS, *np.arange(1, 32) / 32, *(1 - tail for tail in reversed(_TAILS))])
_ATOM = 0.02
CUTS = (0.0, 0.001, 0.01)
"""Upper and lower tails that are watched, as the share of the founders beyond: 0 is beyond all of them."""


@dataclass(frozen=True)
class Grid:
    """`edges`: the first cell of each bin but the first, ascending. `base`: the founders in each bin (edges + 1)."""

    centre: float
    edges: tuple[int, ...]
    base: tuple[int, ...]

    @classmethod
    def found(cls, values: NDArray[Any]) -> Grid:
        """Lay a grid for values like these (numbers; what is not finite is left out)."""
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if not len(finite):
            return cls(0.0, (), (0,))
        if len(finite) > FOUNDERS:
            finite = finite[:: -(-len(finite) // FOUNDERS)]
        middle = np.partition(finite, len(finite) // 2)[len(finite) // 2]
        centre = int(middle) if values.dtype.kind in "iu" else float(middle)
        cells = np.sort(cls(centre, (), ()).place(finite))
        size = len(cells)
        edges = set(cells[np.minimum((_TARGETS * size).astype(int), size - 1)].tolist())
        names, counts = np.unique(cells, return_counts=True)
        for name in names[counts >= max(2.0, _ATOM * size)].tolist():  # a value that stands out has its own bin
            edges |= {name, name + 1}
        edges |= {int(cells[0]), int(cells[-1]) + 1}
        for cut in CUTS[1:]:
            edges |= {int(cells[int(cut * size)]), int(cells[size - 1 - int(cut * size)]) + 1}
        kept = np.array(sorted(edges), dtype=np.int64)
        base = np.bincount(np.searchsorted(kept, cells, side="right"), minlength=len(kept) + 1)
        return cls(centre, tuple(kept.tolist()), tuple(base.tolist()))

    def place(self, values: NDArray[Any]) -> Ints:
        """The cell of each value, 0…CELLS - 1, in the order of the values."""
        return _PLACE[self._raw(values)]

    def _raw(self, values: NDArray[Any]) -> Ints:
        away = np.empty(len(values), np.float32)
        if values.dtype.kind in "iub":  # whole numbers may be larger than what a float holds exactly
            near = isinstance(self.centre, int) and abs(self.centre) < _SAFE and len(values)
            if near and int(values.min()) > -_SAFE and int(values.max()) < _SAFE:
                away[:] = values.astype(np.int64) - self.centre
            else:
                away[:] = values.astype(float) - self.centre
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                np.subtract(values, self.centre, out=away, casting="same_kind")
        raw = np.empty(len(values), np.int64)
        np.right_shift(away.view(np.uint32), _SHIFT, out=raw, casting="unsafe")
        return raw

    def count(self, values: NDArray[Any]) -> Ints:
        """Values in each cell (CELLS)."""
        counts = np.empty(CELLS, np.int64)
        counts[_PLACE] = np.bincount(self._raw(values), minlength=CELLS)
        return counts

    def bins(self, cells: Ints) -> Ints:
        """Of the counts of cells, those of the bins (edges + 1); what is not a number is in none."""
        numbers = cells.copy()
        numbers[:_BOTTOM] = 0
        numbers[_TOP + 1 :] = 0
        return np.add.reduceat(numbers, [0, *self.edges]) if self.edges else numbers.sum(keepdims=True)

    @cached_property
    def lookup(self) -> NDArray[np.int16]:
        """The bin of each cell; -1 for what is not a number."""
        steps = np.zeros(CELLS, np.int16)
        steps[list(self.edges)] = 1
        found = np.cumsum(steps, dtype=np.int16)
        found[:_BOTTOM] = -1
        found[_TOP + 1 :] = -1
        return found

    @cached_property
    def scores(self) -> Floats:
        """(2, bins): what a value in each bin adds to location and to spread, in normal scores of the founders."""
        base = np.asarray(self.base, float)
        total = base.sum()
        if not total:
            return np.zeros((2, len(base)))
        rank = (np.cumsum(base) - base / 2 + 0.25) / (total + 0.5)
        location = ndtri(rank)
        return np.stack([location, (location**2 - 1) / np.sqrt(2)])

    def cuts(self) -> list[tuple[str, float, slice]]:
        """The tails: side, share of the founders beyond, and which bins lie beyond."""
        base = np.asarray(self.base, float)
        total = base.sum()
        found: list[tuple[str, float, slice]] = []
        if len(base) < 3 or not total:
            return found
        below, above = np.cumsum(base) / total, np.cumsum(base[::-1]) / total
        for cut in CUTS:
            low, high = int(np.sum(below <= cut + 1e-12)), int(np.sum(above <= cut + 1e-12))
            found += [("below", cut, slice(0, low))] * (low > 0)
            found += [("above", cut, slice(len(base) - high, None))] * (high > 0)
        unique = {(side, part.start, part.stop): (side, cut, part) for side, cut, part in reversed(found)}
        return list(unique.values())

    def value(self, cell: int | Ints) -> Floats:
        """The smallest value of a cell."""
        cell = np.atleast_1d(np.asarray(cell, dtype=np.int64))
        raw = np.where(cell >= _HALF, cell - _HALF, CELLS - 1 - cell)
        # cells below the centre hold their bits' largest distance at the lower end: one more step outwards
        bits = (raw + (cell < _HALF)).astype(np.uint32) << np.uint32(_SHIFT)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(self.centre + bits.view(np.float32).astype(float))

    def to_json(self) -> dict[str, Any]:
        return {"centre": self.centre, "edges": list(self.edges), "base": list(self.base)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Grid:
        """Raises ValueError for what is no grid."""
        edges = tuple(int(edge) for edge in data["edges"])
        base = tuple(int(count) for count in data["base"])
        rising = all(left < right for left, right in pairwise(edges))
        if len(base) != len(edges) + 1 or not rising or any(not 0 < edge < CELLS for edge in edges) or min(base) < 0:
            raise ValueError("not the bins of a grid")
        centre = data["centre"]
        return cls(centre if isinstance(centre, int) else float(centre), edges, base)


_FINITE = np.zeros(CELLS, bool)
_FINITE[_BOTTOM + 1 : _TOP] = True


def spread(grid: Grid, cells: Ints) -> dict[str, float]:
    """Sum and sum of squares of the distances from the centre, and the ends, to the width of a cell (1.6 %)."""
    where = np.flatnonzero(cells * _FINITE)
    if not len(where):
        return {"n": 0, "sum": 0.0, "square": 0.0, "low": 0.0, "high": 0.0}
    low = grid.value(where) - grid.centre
    high = grid.value(where + 1) - grid.centre
    middle = (low + high) / 2
    counts = cells[where]
    return {
        "n": int(counts.sum()),
        "sum": float(counts @ middle),
        "square": float(counts @ middle**2),
        "low": float(low[0]),
        "high": float(high[-1]),
    }
