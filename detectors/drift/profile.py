"""What is kept of a table: counts on fixed bins, no raw rows. Profiles of chunks on one grid add up to the whole's.

    reference = profile(table)                        # lays the grids
    current = profile(window, like=reference)         # counts on them
    both = current.merge(profile(more, like=reference))

A column is kept as parts, each a `Numbers` or a `Levels`: a number as itself, a text as its length and its script, a
time as its hour and weekday, a vector (an embedding) as its norm and its projections on fixed directions.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectors.drift.grid import FOUNDERS, Floats, Grid, Ints, spread
from detectors.drift.seasons import season_names

VERSION = 1
CHUNK_ROWS = 131_072
LEVELS, BUCKETS, NAME = 512, 64, 64
COLUMNS = 1_000
LENGTHS = (10, 50, 250, 1000)
"""Rows of the blocks whose scatter tells how far consecutive rows resemble each other."""
SAMPLED_RUNS, RUN_ROWS = 16, 1_000
PAIRED = 16
PROJECTIONS = 4
DIRECTIONS = 8
DIGITS = 6


@dataclass(frozen=True)
class Blocks:
    """Scatter of the sums of consecutive rows. Axis 0 is `LENGTHS`, axis 1 the scores of the part.

    `count` blocks with `rows` values in all, their sums added (`total`) and squared (`square`); `row` holds, over
    single rows, how many, their sum and the sum of squares (1, scores).
    """

    count: Floats
    rows: Floats
    total: Floats
    square: Floats
    row: Floats

    @classmethod
    def of(cls, scores: Floats, present: NDArray[np.bool_], runs: Sequence[int]) -> Blocks:
        """`scores` (F, rows), 0 where not `present`; `runs` are the rows of each contiguous run, in order."""
        wide = len(scores)
        count, rows = np.zeros(len(LENGTHS)), np.zeros(len(LENGTHS))
        total, square = np.zeros((len(LENGTHS), wide)), np.zeros((len(LENGTHS), wide))
        stacked = np.concatenate([scores, present[None]]).astype(float)
        start = 0
        for run in runs:
            sums, before = stacked[:, start : start + run], 1
            for place, length in enumerate(LENGTHS):  # each length is a multiple of the one before
                step = length // before
                whole = sums.shape[1] // step
                sums = np.einsum("fbs->fb", sums[:, : whole * step].reshape(wide + 1, whole, step))
                count[place] += whole
                rows[place] += sums[-1].sum()
                total[place] += sums[:-1].sum(axis=1)
                square[place] += np.einsum("fb,fb->f", sums[:-1], sums[:-1])
                before = length
            start += run
        values = stacked[:-1]
        row = np.stack([np.full(wide, stacked[-1].sum()), values.sum(axis=1), np.einsum("fr,fr->f", values, values)])
        return cls(count, rows, total, square, row)

    def merge(self, other: Blocks) -> Blocks:
        return Blocks(*(getattr(self, name) + getattr(other, name) for name in _BLOCK_FIELDS))

    @cached_property
    def ratios(self) -> Floats:
        """(LENGTHS, F): variance of block sums over what independent rows would give; NaN where it cannot be told."""
        n, total, square = self.row
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = (square - total**2 / n) / (n - 1)
            blocks = self.count[:, None]
            between = (self.square - self.total**2 / blocks) / (blocks - 1)
            found = between / (self.rows[:, None] / blocks * variance)
        return np.where((blocks > 1) & (variance > 1e-12), found, np.nan)

    def to_json(self) -> list[Any]:
        return [_rounded(getattr(self, name)) for name in _BLOCK_FIELDS]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Blocks:
        count, rows, total, square, row = (np.asarray(item, dtype=float) for item in data)
        wide = row.shape[1]
        if count.shape != (len(LENGTHS),) or rows.shape != count.shape or row.shape != (3, wide):
            raise ValueError("not the blocks of a profile")
        if total.shape != (len(LENGTHS), wide) or square.shape != total.shape:
            raise ValueError("not the blocks of a profile")
        return cls(count, rows, total, square, row)


_BLOCK_FIELDS = ("count", "rows", "total", "square", "row")


@dataclass(frozen=True, slots=True)
class Numbers:
    """Counts on the bins of a grid; `sums` are those of `detectors.drift.grid.spread`."""

    grid: Grid
    counts: Ints
    sums: Mapping[str, float]
    blocks: Blocks

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        n = self.sums["n"]
        return self.grid.centre + self.sums["sum"] / n if n else math.nan

    @property
    def sd(self) -> float:
        n = self.sums["n"]
        return math.sqrt(max(self.sums["square"] / n - (self.sums["sum"] / n) ** 2, 0.0)) if n else math.nan

    def merge(self, other: Numbers) -> Numbers:
        if self.grid != other.grid:
            raise ValueError("these profiles were not counted on the same grid")
        a, b = self.sums, other.sums
        some = [each for each in (a, b) if each["n"]]
        sums = {key: a[key] + b[key] for key in ("n", "sum", "square")}
        sums |= {
            "low": min((each["low"] for each in some), default=0.0),
            "high": max((each["high"] for each in some), default=0.0),
        }
        return Numbers(self.grid, self.counts + other.counts, sums, self.blocks.merge(other.blocks))

    def to_json(self) -> dict[str, Any]:
        return {
            "grid": self.grid.to_json(),
            "counts": self.counts.tolist(),
            "sums": {key: _digits(value) for key, value in self.sums.items()},
            "blocks": self.blocks.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Numbers:
        grid = Grid.from_json(data["grid"])
        counts = np.asarray(data["counts"], dtype=np.int64)
        if counts.shape != (len(grid.edges) + 1,) or counts.min() < 0:
            raise ValueError("not the counts of a profile")
        sums = {key: float(data["sums"][key]) for key in ("n", "sum", "square", "low", "high")}
        return cls(grid, counts, sums, Blocks.from_json(data["blocks"]))


@dataclass(frozen=True, slots=True)
class Levels:
    """Counts of names, and of the names that are too many (more than `LEVELS`), together in `BUCKETS` by their hash."""

    counts: Mapping[str, int]
    rest: Mapping[int, int]
    blocks: Blocks

    @property
    def rows(self) -> int:
        return sum(self.counts.values()) + sum(self.rest.values())

    def merge(self, other: Levels) -> Levels:
        mine, others, rest_mine, rest_others = align(self, other)
        counts = {
            name: mine.get(name, 0) + others.get(name, 0) for name in [*mine, *(n for n in others if n not in mine)]
        }
        rest = {key: rest_mine.get(key, 0) + rest_others.get(key, 0) for key in {**rest_mine, **rest_others}}
        return Levels(*_bounded(counts, rest), self.blocks.merge(other.blocks))

    def to_json(self) -> dict[str, Any]:
        return {
            "counts": dict(self.counts),
            "rest": {str(key): count for key, count in self.rest.items()},
            "blocks": self.blocks.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Levels:
        counts = {str(name): int(count) for name, count in data["counts"].items()}
        rest = {int(key): int(count) for key, count in data["rest"].items()}
        if min([*counts.values(), *rest.values()], default=0) < 0 or len(counts) > LEVELS or len(rest) > BUCKETS:
            raise ValueError("not the levels of a profile")
        return cls(counts, rest, Blocks.from_json(data["blocks"]))


Part = Numbers | Levels


def bucket(name: str) -> int:
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % BUCKETS


def align(one: Levels, other: Levels) -> tuple[dict[str, int], dict[str, int], dict[int, int], dict[int, int]]:
    """The counts of both by names that both keep apart, and the rest of both by bucket."""
    full = [set(each.counts) for each in (one, other) if each.rest]
    if not full:
        return dict(one.counts), dict(other.counts), {}, {}
    apart = set.intersection(*full)  # what one has folded into its rest, the other must fold, too
    mine, others = (({n: c for n, c in each.counts.items() if n in apart}, dict(each.rest)) for each in (one, other))
    for each, (_, rest) in ((one, mine), (other, others)):
        for name, count in each.counts.items():
            if name not in apart:
                rest[bucket(name)] = rest.get(bucket(name), 0) + count
    return mine[0], others[0], mine[1], others[1]


def _bounded(counts: dict[str, int], rest: dict[int, int]) -> tuple[dict[str, int], dict[int, int]]:
    if len(counts) <= LEVELS:
        return counts, rest
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    for name in ranked[LEVELS // 2 :]:  # half, so that what comes a little later does not fold again at once
        rest[bucket(name)] = rest.get(bucket(name), 0) + counts.pop(name)
    return counts, rest


@dataclass(frozen=True, slots=True)
class Column:
    """`kind` is number, category, boolean, time, text, vector or nothing (not one value). `missing_blocks` has one
    score: whether the value is missing."""

    kind: str
    rows: int
    missing: int
    parts: Mapping[str, Part]
    missing_blocks: Blocks
    span: tuple[float, float] | None = None

    def merge(self, other: Column) -> Column:
        if self.kind != other.kind and "nothing" not in (self.kind, other.kind):
            raise ValueError(f"a {self.kind} and a {other.kind} do not add up")
        first, second = (self, other) if self.kind != "nothing" else (other, self)
        names = [*first.parts, *(name for name in second.parts if name not in first.parts)]
        parts: dict[str, Part] = {}
        for name in names:
            a, b = first.parts.get(name), second.parts.get(name)
            if a is None or b is None:
                parts[name] = a or b  # type: ignore[assignment]
            elif type(a) is not type(b):
                raise ValueError("these profiles keep different things of a column")
            else:
                parts[name] = a.merge(b)  # type: ignore[arg-type]
        spans = [each.span for each in (self, other) if each.span]
        return Column(
            first.kind,
            self.rows + other.rows,
            self.missing + other.missing,
            parts,
            self.missing_blocks.merge(other.missing_blocks),
            (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else None,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "rows": self.rows,
            "missing": self.missing,
            "span": list(self.span) if self.span else None,
            "missing_blocks": self.missing_blocks.to_json(),
            "parts": {
                name: {"is": "numbers" if isinstance(part, Numbers) else "levels", **part.to_json()}
                for name, part in self.parts.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Column:
        kind = data["kind"]
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of column")
        parts: dict[str, Part] = {
            str(name): (Numbers if part["is"] == "numbers" else Levels).from_json(part)
            for name, part in data["parts"].items()
        }
        span = data.get("span")
        return cls(
            kind,
            int(data["rows"]),
            int(data["missing"]),
            parts,
            Blocks.from_json(data["missing_blocks"]),
            (float(span[0]), float(span[1])) if span else None,
        )


KINDS = ("number", "category", "boolean", "time", "text", "vector", "nothing")


@dataclass(frozen=True)
class Pairs:
    """How the normal scores z of the first `PAIRED` numeric columns go together, on a sample of `rows` rows.

    Of the rows that have both columns i and j, each (P, P): how many (`both`), the sums of z_i (`first`), of z_i²
    (`own`) and of z_i z_j (`cross`). `row` and `block` are the variance that the correlation of a single row would
    have, as single rows and as blocks of 50 consecutive rows tell it.
    """

    columns: tuple[str, ...]
    rows: int
    blocks: int
    both: Floats
    first: Floats
    own: Floats
    cross: Floats
    row: Floats
    block: Floats

    @classmethod
    def of(cls, columns: Sequence[str], scores: Floats, runs: Sequence[int], like: Pairs | None = None) -> Pairs:
        """`scores` (rows, P), NaN where missing. With `like` its means and correlations centre the variances."""
        rows, wide = scores.shape
        present = ~np.isnan(scores)
        seen = present.astype(float)
        z = np.where(present, scores, 0.0)
        sums = (seen.T @ seen, z.T @ seen, (z * z).T @ seen, z.T @ z)
        empty = np.zeros((wide, wide))
        found = cls(tuple(columns), rows, 0, *sums, empty, empty)
        centre = like or found
        z = np.where(present, (z - centre._means) / centre._deviations, 0.0)
        r = centre.r
        square = z * z
        cube, fourth = square * z, (square * square).T @ seen
        third = cube.T @ z
        each = square.T @ square + r**2 / 4 * (fourth + fourth.T + 2 * square.T @ square) - r * (third + third.T)
        thin = rows / np.maximum(found.both, 1.0)  # what missing values cost a pair
        total = square.T @ seen
        mean = (z.T @ z - r / 2 * (total + total.T)) / np.maximum(found.both, 1.0)
        row = np.maximum(each / np.maximum(found.both, 1.0) - mean**2, 0.0) * thin
        products, start = [], 0
        for run in runs:
            whole = run // _PAIR_ROWS
            part = z[start : start + whole * _PAIR_ROWS].reshape(whole, _PAIR_ROWS, wide)
            products.append(part.transpose(0, 2, 1) @ part)
            start += run
        product = np.concatenate(products)
        if not len(product):
            return replace(found, row=row, block=empty)
        diagonal = np.diagonal(product, axis1=1, axis2=2)
        away = product - r / 2 * (diagonal[:, :, None] + diagonal[:, None, :])
        away = away - (away.mean(axis=0) if len(away) > 1 else _PAIR_ROWS * mean)
        block = (away**2).sum(axis=0) / max(len(away) - 1, 1) / _PAIR_ROWS * thin**2
        return replace(found, blocks=len(product), row=row, block=block)

    @cached_property
    def _means(self) -> Floats:
        return np.diagonal(self.first) / np.maximum(np.diagonal(self.both), 1.0)

    @cached_property
    def _deviations(self) -> Floats:
        variance = np.diagonal(self.own) / np.maximum(np.diagonal(self.both), 1.0) - self._means**2
        return np.sqrt(np.where(variance > 1e-12, variance, np.inf))

    @cached_property
    def r(self) -> Floats:
        """Correlations; 0 where they cannot be told, and of a column with itself."""
        n = np.maximum(self.both, 1.0)
        mean, spread = self.first / n, self.own / n
        variance = spread - mean**2
        covariance = self.cross / n - mean * mean.T
        scale = np.sqrt(np.maximum(variance * variance.T, 0.0))
        found = np.where(scale > 1e-12, covariance / np.where(scale > 1e-12, scale, 1.0), 0.0)
        np.fill_diagonal(found, 0.0)
        return np.clip(found, -0.999, 0.999)

    def merge(self, other: Pairs) -> Pairs:
        if self.columns != other.columns:
            raise ValueError("these profiles pair other columns")
        rows, blocks = self.rows + other.rows, self.blocks + other.blocks
        a, b = self.rows / max(rows, 1), self.blocks / max(blocks, 1)
        return Pairs(
            self.columns,
            rows,
            blocks,
            self.both + other.both,
            self.first + other.first,
            self.own + other.own,
            self.cross + other.cross,
            a * self.row + (1 - a) * other.row,
            b * self.block + (1 - b) * other.block,
        )

    def to_json(self) -> dict[str, Any]:
        upper = np.triu_indices(len(self.columns))
        packed = {name: _rounded(getattr(self, name)[upper]) for name in ("both", "cross")}
        packed |= {name: _rounded(getattr(self, name)) for name in ("first", "own")}
        packed |= {name: _rounded(getattr(self, name)[upper], 4) for name in ("row", "block")}
        return {"columns": list(self.columns), "rows": self.rows, "blocks": self.blocks, **packed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pairs:
        columns = tuple(str(name) for name in data["columns"])
        wide = len(columns)
        if wide > PAIRED:
            raise ValueError("not the pairs of a profile")
        upper = np.triu_indices(wide)
        full: dict[str, Floats] = {}
        for name in ("both", "cross", "row", "block"):
            matrix = np.zeros((wide, wide))
            matrix[upper] = np.asarray(data[name], dtype=float)
            full[name] = matrix + np.triu(matrix, 1).T
        for name in ("first", "own"):
            full[name] = np.asarray(data[name], dtype=float)
            if full[name].shape != (wide, wide):
                raise ValueError("not the pairs of a profile")
        return cls(columns, int(data["rows"]), int(data["blocks"]), **full)


_PAIR_ROWS = 50


@dataclass(frozen=True, slots=True)
class Profile:
    rows: int
    columns: Mapping[str, Column]
    pairs: Pairs | None = None
    seasons: Mapping[str, Profile] = field(default_factory=dict)

    def merge(self, other: Profile) -> Profile:
        """Of both tables together. ValueError: not the same columns, or not counted on the same grids."""
        if set(self.columns) != set(other.columns):
            raise ValueError(f"one has no {', '.join(sorted(set(self.columns) ^ set(other.columns))[:5])}")
        pairs = self.pairs.merge(other.pairs) if self.pairs and other.pairs else self.pairs or other.pairs
        seasons = dict(self.seasons)
        for name, season in other.seasons.items():
            seasons[name] = seasons[name].merge(season) if name in seasons else season
        columns = {name: column.merge(other.columns[name]) for name, column in self.columns.items()}
        return Profile(self.rows + other.rows, columns, pairs, seasons)

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "version": VERSION,
            "rows": self.rows,
            "columns": {name: column.to_json() for name, column in self.columns.items()},
            "pairs": self.pairs.to_json() if self.pairs else None,
        }
        if self.seasons:
            found["seasons"] = {name: season.to_json() for name, season in self.seasons.items()}
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Profile:
        """Raises ValueError with a sentence for whoever stored it."""
        try:
            if data["version"] != VERSION:
                raise ValueError(f"version {data['version']!r} of a profile is not known")
            if len(data["columns"]) > COLUMNS:
                raise ValueError(f"a profile has at most {COLUMNS} columns")
            return cls(
                int(data["rows"]),
                {str(name): Column.from_json(column) for name, column in data["columns"].items()},
                Pairs.from_json(data["pairs"]) if data.get("pairs") else None,
                {str(name): cls.from_json(season) for name, season in data.get("seasons", {}).items()},
            )
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ValueError(f"this is no profile: {error!r}") from error


Table: TypeAlias = "pa.Table | Mapping[str, Any]"


def profile(table: Table, like: Profile | None = None, at: Any = None) -> Profile:
    """The profile of a table (pyarrow, or name → array), its rows in the order in which they were made.

    With `like` the counts lie on its grids. `at` (seconds since the epoch, one a row) adds a profile for each season,
    on the same grids. Raises ValueError for columns of unequal length or too many of them.
    """
    columns = columns_of(table)
    whole = _profile(columns, like)
    if at is None:
        return whole
    season = season_names(at)
    if len(season) != whole.rows:
        raise ValueError("there are not as many times as rows")
    seasons = {}
    for name in sorted(set(season.tolist()) - {""}):
        rows = np.flatnonzero(season == name)
        seasons[name] = _profile({key: _taken(values, rows) for key, values in columns.items()}, like or whole)
    return replace(whole, seasons=seasons)


def _taken(values: Any, rows: Ints) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else values.take(pa.array(rows))


def _profile(columns: Mapping[str, Any], like: Profile | None) -> Profile:
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise ValueError("the columns have different numbers of rows")
    if len(columns) > COLUMNS:
        raise ValueError(f"a profile has at most {COLUMNS} columns")
    rows = lengths.pop() if lengths else 0
    runs = _runs(rows)
    paired = [] if like is None or like.pairs is None else [n for n in like.pairs.columns if n in columns]
    found: dict[str, Column] = {}
    scores: dict[str, Floats] = {}
    for name, values in columns.items():
        before = like.columns.get(name) if like else None
        reader = _Reader(values, before, runs, rows)
        found[name] = reader.column()
        number = found[name].kind == "number" and "" in found[name].parts
        if number and (name in paired if like is not None else len(scores) < PAIRED):
            scores[name] = reader.normal
    pairs = None
    names = (
        list(scores)
        if like is None
        else (paired if len(scores) == len(like.pairs.columns if like.pairs else ()) else [])
    )
    if len(names) > 1 and rows > 1:
        pairs = Pairs.of(
            names, np.stack([scores[n] for n in names], axis=1), _run_rows(runs), like.pairs if like else None
        )
    return Profile(rows, found, pairs)


def columns_of(table: Table) -> dict[str, pa.ChunkedArray | NDArray[Any]]:
    if isinstance(table, pa.Table):
        return {str(name): table.column(place) for place, name in enumerate(table.column_names)}
    return {str(name): _arrow(values) for name, values in table.items()}


def _arrow(values: Any) -> Any:
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "fiub":
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    if isinstance(values, pa.Array):
        return pa.chunked_array([values])
    if isinstance(values, np.ndarray) and values.ndim == 2:
        values = list(values)
    try:
        return pa.chunked_array([pa.array(values, from_pandas=True)])
    except (pa.ArrowException, OverflowError, TypeError, ValueError):  # a mixture is told apart as text
        texts = [None if value is None or value != value else str(value) for value in values]
        return pa.chunked_array([pa.array(texts, pa.string())])


def _runs(rows: int) -> list[tuple[int, int]]:
    """Which rows are looked at for what needs their order: all, or runs spread evenly."""
    most = SAMPLED_RUNS * RUN_ROWS
    if rows <= most:
        return [(0, rows)] if rows else []
    step = (rows - RUN_ROWS) // (SAMPLED_RUNS - 1)
    return [(place * step, place * step + RUN_ROWS) for place in range(SAMPLED_RUNS)]


def _run_rows(runs: Sequence[tuple[int, int]]) -> list[int]:
    """Rows of each run. Runs that whole blocks fill exactly count as one: no block reaches from one into the next."""
    rows = [stop - start for start, stop in runs]
    return [sum(rows)] if all(run % LENGTHS[-1] == 0 for run in rows) else rows


class _Reader:
    """One column of one table on its way into a profile."""

    def __init__(self, values: Any, before: Column | None, runs: list[tuple[int, int]], rows: int) -> None:
        self._values, self._before, self._runs, self._rows = values, before, runs, rows
        self._sample = _gathered(values, runs)
        self.normal: Floats = np.zeros(0)

    def column(self) -> Column:
        kind = self._kind()
        if kind == "nothing":
            return Column(kind, self._rows, self._rows, {}, self._missing_blocks(np.zeros(self._sampled, bool)))
        makers = {"number": self._number, "time": self._time, "text": self._text, "vector": self._vector}
        return makers.get(kind, self._category)(kind)

    @property
    def _sampled(self) -> int:
        return sum(stop - start for start, stop in self._runs)

    @property
    def _run_rows(self) -> list[int]:
        return _run_rows(self._runs)

    def _kind(self) -> str:
        values = self._values
        before = self._before.kind if self._before else ""
        if isinstance(values, np.ndarray):
            kind = "boolean" if values.dtype.kind == "b" else "number"
            nothing = values.dtype.kind == "f" and self._rows and np.isnan(values[0]) and bool(np.isnan(values).all())
            return "nothing" if nothing or not self._rows else kind
        kind_of = values.type
        if pa.types.is_null(kind_of) or values.null_count == self._rows:
            return "nothing"
        if pa.types.is_boolean(kind_of):
            return "boolean"
        if pa.types.is_integer(kind_of) or pa.types.is_floating(kind_of) or pa.types.is_decimal(kind_of):
            return "number"
        if pa.types.is_temporal(kind_of):
            return "time" if pa.types.is_timestamp(kind_of) or pa.types.is_date(kind_of) else "number"
        lists = pa.types.is_list(kind_of) or pa.types.is_large_list(kind_of) or pa.types.is_fixed_size_list(kind_of)
        if lists and (pa.types.is_floating(kind_of.value_type) or pa.types.is_integer(kind_of.value_type)):
            return "vector"
        if pa.types.is_dictionary(kind_of):
            kind_of = kind_of.value_type
        if pa.types.is_string(kind_of) or pa.types.is_large_string(kind_of):
            return before if before in ("text", "category") else self._text_or_category()
        return "category"

    def _text_or_category(self) -> str:
        """Text is what hardly repeats: more than half of the values, and more than a handful, are different."""
        head = _strided(self._values, FOUNDERS).drop_null()
        different = len(head.unique())
        return "text" if different > max(50, len(head) / 2) else "category"

    # kinds

    def _number(self, kind: str) -> Column:
        part, missing = self._numbers("", lambda chunk: _floats(chunk), keep=True)
        return self._told(kind, {"": part}, missing)

    def _category(self, kind: str) -> Column:
        part, missing = self._levels("", lambda chunk: chunk)
        return self._told(kind, {"": part}, missing)

    def _time(self, kind: str) -> Column:
        low, high = _ends(self._values)
        span = None
        if low.is_valid and high.is_valid:
            span = (_epoch_s(low), _epoch_s(high))
        parts: dict[str, Part] = {}
        missing: NDArray[np.bool_] = np.zeros(0, bool)
        if pa.types.is_timestamp(self._values.type):
            parts["hour"], missing = self._levels("hour", lambda chunk: pc.hour(chunk).cast(pa.string()))
        parts["weekday"], missing = self._levels("weekday", lambda chunk: pc.day_of_week(chunk).cast(pa.string()))
        return self._told(kind, parts, missing, span)

    def _text(self, kind: str) -> Column:
        if pa.types.is_dictionary(self._values.type):
            plain = self._values.type.value_type
            self._values, self._sample = self._values.cast(plain), self._sample.cast(plain)
        length, missing = self._numbers("length", lambda chunk: _floats(pc.utf8_length(chunk)))
        script, _ = self._levels("script", _scripts)
        return self._told(kind, {"length": length, "script": script}, missing)

    def _vector(self, kind: str) -> Column:
        parts: dict[str, Part] = {}
        norm, missing = self._numbers("norm", lambda chunk: _projected(chunk, -1))
        parts["norm"] = norm
        for place in range(DIRECTIONS):
            parts[f"direction {place + 1}"], _ = self._numbers(
                f"direction {place + 1}", lambda chunk, place=place: _projected(chunk, place)
            )
        parts["size"], _ = self._levels("size", lambda chunk: pc.list_value_length(chunk).cast(pa.string()))
        return self._told(kind, parts, missing)

    def _told(
        self, kind: str, parts: dict[str, Part], present: NDArray[np.bool_], span: tuple[float, float] | None = None
    ) -> Column:
        rows = max(part.rows for part in parts.values())
        return Column(kind, self._rows, self._rows - rows, parts, self._missing_blocks(present), span)

    def _missing_blocks(self, present: NDArray[np.bool_]) -> Blocks:
        return Blocks.of((~present).astype(float)[None], np.ones(len(present), bool), self._run_rows)

    # parts

    def _numbers(self, name: str, read: Any, keep: bool = False) -> tuple[Numbers, NDArray[np.bool_]]:
        before = self._before.parts.get(name) if self._before else None
        grid = before.grid if isinstance(before, Numbers) else Grid.found(read(_strided(self._values, FOUNDERS)))
        cells = sum((grid.count(read(chunk)) for chunk in _chunks(self._values)), np.zeros(1, np.int64))
        cells = np.broadcast_to(cells, (1 << 15,)) if len(cells) == 1 else cells
        bins = grid.lookup[grid.place(read(self._sample))]
        present = bins >= 0
        scores = np.where(present, grid.scores[:, bins], 0.0)
        if keep:
            self.normal = np.where(present, scores[0], np.nan)
        part = Numbers(grid, grid.bins(cells), spread(grid, cells), Blocks.of(scores, present, self._run_rows))
        return part, present

    def _levels(self, name: str, read: Any) -> tuple[Levels, NDArray[np.bool_]]:
        before = self._before.parts.get(name) if self._before else None
        frozen = set(before.counts) if isinstance(before, Levels) and before.rest else None
        counts: dict[str, int] = {}
        rest: dict[int, int] = {}
        known: list[str] = []
        for chunk in _chunks(self._values):
            found = _counted(read(chunk), known)
            known = known or [key for key, _ in found if len(key) < NAME][:LEVELS]
            for key, count in found:
                apart = key in counts or (key in frozen if frozen is not None else not rest)
                if apart:
                    counts[key] = counts.get(key, 0) + count
                else:
                    rest[bucket(key)] = rest.get(bucket(key), 0) + count
            counts, rest = _bounded(counts, rest)
        codes, names = _encoded(read(self._sample))
        signs = np.array([_signs(key) for key in names] + [(0.0,) * PROJECTIONS])
        present = codes >= 0
        return Levels(counts, rest, Blocks.of(signs.T[:, codes], present, self._run_rows)), present


@lru_cache(maxsize=4096)
def _signs(name: str) -> tuple[float, ...]:
    """Fixed ±1 by name: sums of them scatter as the counts of levels do."""
    bits = zlib.crc32(name.encode("utf-8", "surrogatepass")) * 0x9E3779B97F4A7C15 % 2**64 >> 32
    return tuple(1.0 if bits >> (7 * place) & 1 else -1.0 for place in range(PROJECTIONS))


def _chunks(values: Any) -> Iterator[Any]:
    for start in range(0, len(values), CHUNK_ROWS):
        yield _slice(values, start, start + CHUNK_ROWS)


def _slice(values: Any, start: int, stop: int) -> Any:
    return values[start:stop] if isinstance(values, np.ndarray) else values.slice(start, max(stop - start, 0))


def _gathered(values: Any, runs: Sequence[tuple[int, int]]) -> Any:
    """The rows of the runs, one after the other."""
    if len(runs) == 1 and runs[0] == (0, len(values)):
        return values
    parts = [_slice(values, *run) for run in runs]
    if isinstance(values, np.ndarray):
        return np.concatenate([values[:0], *parts])
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], type=values.type)


def _strided(values: Any, most: int) -> Any:
    """At most `most` values, spread evenly."""
    step = max(1, -(-len(values) // most))
    if step == 1:
        return values
    return values[::step] if isinstance(values, np.ndarray) else values.take(pa.array(np.arange(0, len(values), step)))


def _ends(values: Any) -> tuple[Any, Any]:
    ends = pc.min_max(values)
    return ends["min"], ends["max"]


def _epoch_s(moment: Any) -> float:
    return float(pa.array([moment.as_py()]).cast(pa.timestamp("us")).cast(pa.int64())[0].as_py()) / 1e6


def _floats(chunk: Any) -> NDArray[Any]:
    """As numbers; NaN where there is none."""
    if isinstance(chunk, np.ndarray):
        return chunk
    if pa.types.is_decimal(chunk.type):
        chunk = chunk.cast(pa.float64())
    elif pa.types.is_temporal(chunk.type):
        chunk = chunk.cast(pa.int32() if pa.types.is_time32(chunk.type) else pa.int64())
    found: NDArray[Any] = chunk.to_numpy()
    return found if found.dtype.kind in "fiu" else found.astype(float)


def _encoded(chunk: Any) -> tuple[Ints, list[str]]:
    """Codes (-1: missing) and the name of each code."""
    if isinstance(chunk, np.ndarray):
        return chunk.astype(np.int64), ["false", "true"]
    if isinstance(chunk, pa.ChunkedArray):
        chunk = chunk.combine_chunks() if chunk.num_chunks != 1 else chunk.chunk(0)
    if isinstance(chunk, pa.ChunkedArray):
        return np.zeros(0, np.int64), []
    if pa.types.is_nested(chunk.type) or pa.types.is_binary(chunk.type):
        chunk = pa.array([None if value is None else repr(value)[:NAME] for value in chunk.to_pylist()], pa.string())
    if not pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_encode()
    indices = chunk.indices.fill_null(-1) if chunk.indices.null_count else chunk.indices
    codes: Ints = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    values = chunk.dictionary.to_pylist()
    names: dict[str, int] = {}
    place = [*(_named(value, names) for value in values), -1]
    if place == [*range(len(values)), -1]:
        return codes, list(names)
    return np.array(place, dtype=np.int64)[codes], list(names)


def _named(value: Any, names: dict[str, int]) -> int:
    if value is None or value != value:
        return -1
    name = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    if len(name) > NAME:
        name = f"{name[: NAME - 9]}…{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"
    return names.setdefault(name, len(names))


def _counted(chunk: Any, known: Sequence[str]) -> list[tuple[str, int]]:
    """How often each level stands in a chunk. To look strings up among the known is cheaper than to number them."""
    found: list[tuple[str, int]] = []
    if known and not isinstance(chunk, np.ndarray) and pa.types.is_string(chunk.type):
        place = pc.index_in(chunk, value_set=pa.array(known, pa.string()))
        counts = np.bincount(place.fill_null(-1).to_numpy() + 1, minlength=len(known) + 1)[1:]
        found = [(key, count) for key, count in zip(known, counts.tolist(), strict=True) if count]
        if place.null_count == chunk.null_count:
            return found
        chunk = chunk.filter(pc.and_(place.is_null(), chunk.is_valid()))
    codes, names = _encoded(chunk)
    counts = np.bincount(codes + 1, minlength=len(names) + 1)[1:]
    return found + [(key, count) for key, count in zip(names, counts.tolist(), strict=True) if count]


_SCRIPTS = (
    ("latin", r"\p{Latin}"),
    ("cyrillic", r"\p{Cyrillic}"),
    ("greek", r"\p{Greek}"),
    ("arabic", r"\p{Arabic}"),
    ("hebrew", r"\p{Hebrew}"),
    ("devanagari", r"\p{Devanagari}"),
    ("thai", r"\p{Thai}"),
    ("kana", r"[\p{Hiragana}\p{Katakana}]"),
    ("hangul", r"\p{Hangul}"),
    ("han", r"\p{Han}"),
    ("digits", r"\p{Nd}"),
)


def _scripts(chunk: Any) -> Any:
    """The script that most characters of each text are of: one of `_SCRIPTS`, or other."""
    counts = [pc.fill_null(pc.count_substring_regex(chunk, pattern), 0) for _, pattern in _SCRIPTS]
    matrix = np.stack([count.to_numpy() for count in counts], axis=1)
    names = np.array([*(name for name, _ in _SCRIPTS), "other"], dtype=object)
    most = np.where(matrix.max(axis=1) > 0, matrix.argmax(axis=1), len(_SCRIPTS))
    valid = chunk.is_valid().to_numpy()
    return pa.array(names[most], pa.string(), mask=~valid)


def _projected(chunk: Any, direction: int) -> Floats:
    """Length of each vector (-1), or its share along a fixed direction; NaN for one that is missing."""
    if isinstance(chunk, pa.ChunkedArray):
        chunk = chunk.combine_chunks()
    if isinstance(chunk, pa.ChunkedArray):
        return np.zeros(0)
    sizes = pc.list_value_length(chunk).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = chunk.flatten().to_numpy(zero_copy_only=False).astype(float)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    if direction >= 0:
        along = np.arange(len(flat)) - np.repeat(starts[:-1], sizes)
        wide = int(sizes.max(initial=0))
        flat = flat * _direction(direction, wide)[along]
    else:
        flat = flat**2
    found = np.full(len(sizes), np.nan)
    some = sizes > 0
    if some.any():
        found[some] = np.add.reduceat(flat, starts[:-1][some])
    return np.sqrt(found) if direction < 0 else found


def _direction(place: int, wide: int) -> Floats:
    """A unit vector of fixed pseudo-random signs."""
    index = np.arange(wide, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(
        (place + 1) * 0x632BE59BD9B4E019 % 2**64
    )
    index ^= index >> np.uint64(29)
    index *= np.uint64(0xBF58476D1CE4E5B9)
    return np.where(index >> np.uint64(63), 1.0, -1.0) / math.sqrt(max(wide, 1))


def _digits(value: float) -> float:
    if isinstance(value, int):
        return value
    return float(f"{value:.12g}")


def _rounded(values: Floats, digits: int = DIGITS) -> Any:
    if values.ndim > 1:
        return [_rounded(row, digits) for row in values]
    return [
        int(value) if value == int(value) and abs(value) < 1e15 else float(f"{value:.{digits}g}")
        for value in values.tolist()
    ]
