"""Has a table changed? A verdict needs significance, family-wise over the whole table, and an effect that matters.

Every hypothesis (where a column's numbers lie, how far they spread, their shape, their tails, the mix of levels, levels
never seen, missing values, correlations) has a p-value and a weight. Holm's correction with these weights bounds the
chance of any false alarm by `alpha`. Effects are on the scale of Cohen's d and h: 0.2 is small, 0.5 medium.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import chdtri

from detectors.drift import statistics
from detectors.drift.grid import Floats
from detectors.drift.profile import LENGTHS, Blocks, Column, Levels, Numbers, Pairs, Profile, Table, align, profile

SHARES = {"values": 0.58, "missing": 0.14, "unseen": 0.13, "dependence": 0.15}
"""Of alpha, among the hypotheses of each kind that can be tested at all in this table."""
PARTS = {"location": 0.5, "spread": 0.15, "shape": 0.15, "tail": 0.2}
RISE = 0.85
"""Of a missing rate's share, what goes to a rise; the rest to a fall."""
POOL_BELOW = 10
ENOUGH_BLOCKS = 60
FEWEST_BLOCKS = 16
PAIR_FLOOR = 0.1
"""Least change of a correlation (Fisher's z, Cohen's q) that matters."""
_KS_PER_SD = math.sqrt(2 * math.pi)
"""A small shift by d standard deviations moves a normal distribution function by d / 2.5 at most."""
_SHAPE_COUNTS = 0.6
_MOSTLY, _ENOUGH_ROWS = 0.8, 200
_ONE_DAY, _ONE_WEEK = 20 * 3600.0, 6 * 86_400.0


class OtherGrid(ValueError):
    """The profiles were not counted on the same grid: one has another reference."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`alpha`: chance of any false alarm in a table. `floor`: least effect that is worth a word. `independent`: rows do
    not resemble their neighbours, so that their order tells nothing (a shuffled or sorted table)."""

    alpha: float = 0.05
    floor: float = 0.04
    independent: bool = False
    fewest_rows: int = 50


@dataclass(frozen=True, slots=True)
class Verdict:
    """One hypothesis. `change` is location, spread, shape, tail, mix, new levels, missing, dependence or schema; `part`
    says of what the column was taken (length of a text, hour of a time). `p` is adjusted for all that was tested."""

    column: str
    change: str
    effect: float
    p: float
    drifted: bool
    part: str = ""
    detail: str = ""
    importance: float = 1.0

    @property
    def rank(self) -> float:
        return self.effect * self.importance

    def to_json(self) -> dict[str, Any]:
        return {
            "column": self.column,
            "part": self.part,
            "change": self.change,
            "effect": round(self.effect, 4),
            "p": float(f"{self.p:.3g}"),
            "importance": self.importance,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class DriftReport:
    """`found`: what drifted, of each column and change the strongest, by effect times importance. `tested`: columns
    that could be compared. `inflation`: column → design effect in force (1: rows look independent). `season`: that of
    the reference's part it was compared with."""

    rows: tuple[int, int]
    found: tuple[Verdict, ...]
    tested: int
    inflation: Mapping[str, float] = field(default_factory=dict)
    season: str = ""
    note: str = ""

    @property
    def drifted(self) -> bool:
        return any(verdict.change != "schema" for verdict in self.found)

    @property
    def schema_changed(self) -> bool:
        return any(verdict.change == "schema" for verdict in self.found)

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that drifted, strongest first, each once."""
        return tuple(dict.fromkeys(verdict.column for verdict in self.found if verdict.change != "schema"))

    def to_json(self) -> dict[str, Any]:
        return {
            "drifted": self.drifted,
            "schema_changed": self.schema_changed,
            "rows": {"reference": self.rows[0], "current": self.rows[1]},
            "tested": self.tested,
            "found": [verdict.to_json() for verdict in self.found],
            "inflation": {name: round(value, 2) for name, value in self.inflation.items() if value > 1},
            "season": self.season,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class _Test:
    kind: str
    column: str
    change: str
    p: float
    effect: float
    weight: float
    part: str = ""
    detail: str = ""
    floor: float = 0.0


def check(
    reference: Profile,
    current: Profile | Table,
    settings: Settings | None = None,
    importance: Mapping[str, float] | None = None,
) -> DriftReport:
    """Compare a window with its reference. A table is counted on the reference's grids first."""
    settings, importance = settings or Settings(), importance or {}
    if not isinstance(current, Profile):
        current = profile(current, like=reference)
    schema = list(_schema(reference, current))
    reference, season = like_with_like(reference, current)
    rows = (reference.rows, current.rows)
    if min(rows) < settings.fewest_rows:
        note = f"fewer than {settings.fewest_rows} rows: nothing can be said"
        return DriftReport(rows, tuple(schema if current.rows else ()), 0, {}, season, note)
    shared = {
        name: (column, current.columns[name])
        for name, column in reference.columns.items()
        if name in current.columns and _comparable(column, current.columns[name])
    }
    design = _Design(shared, settings)
    tests = [test for name, (ref, cur) in shared.items() for test in _column(name, ref, cur, design, settings)]
    if reference.pairs and current.pairs:
        tests += _pairs(reference.pairs, current.pairs, settings)
    adjusted = statistics.holm([test.p for test in tests], _weights(tests))
    found = [
        Verdict(
            test.column, test.change, test.effect, p, True, test.part, test.detail, importance.get(test.column, 1.0)
        )
        for test, p in zip(tests, adjusted, strict=True)
        if p <= settings.alpha and test.effect >= test.floor
    ]
    return DriftReport(rows, (*schema, *_strongest(found)), len(shared), design.told(), season)


def _strongest(found: Sequence[Verdict]) -> list[Verdict]:
    """Of what says that the same numbers moved, the one that says it best; all by effect times importance."""

    def telling(verdict: Verdict) -> float:
        return verdict.effect * (_SHAPE_COUNTS if verdict.change == "shape" else 1.0)

    best: dict[tuple[str, str, str], Verdict] = {}
    for verdict in sorted(found, key=lambda verdict: (-telling(verdict), verdict.p)):
        best.setdefault((verdict.column, verdict.part, "" if verdict.change in PARTS else verdict.change), verdict)
    return sorted(best.values(), key=lambda verdict: (-verdict.rank, verdict.p, verdict.column, verdict.change))


def like_with_like(reference: Profile, current: Profile) -> tuple[Profile, str]:
    """The part of the reference that compares with the window, and the name of its season ("" is the whole).

    A season is taken where most of the window lies in it and the reference knows it well enough.
    """
    for name, season in current.seasons.items():
        known = reference.seasons.get(name)
        if season.rows >= _MOSTLY * current.rows and known is not None and known.rows >= _ENOUGH_ROWS:
            return known, name
    return reference, ""


def _comparable(ref: Column, cur: Column) -> bool:
    return ref.kind == cur.kind or cur.kind == "nothing" or ref.kind == "nothing"


def _schema(reference: Profile, current: Profile) -> Iterator[Verdict]:
    for name, column in reference.columns.items():
        if name not in current.columns:
            yield Verdict(name, "schema", 1.0, 0.0, True, detail="the column is gone")
        elif not _comparable(column, current.columns[name]):
            yield Verdict(name, "schema", 1.0, 0.0, True, detail=f"was {column.kind}, is {current.columns[name].kind}")
    for name in current.columns:
        if name not in reference.columns:
            yield Verdict(name, "schema", 1.0, 0.0, True, detail="the column is new")


def _weights(tests: Sequence[_Test]) -> list[float]:
    """Each kind's share, divided among what it tests in this table."""
    total: dict[str, float] = {}
    for test in tests:
        total[test.kind] = total.get(test.kind, 0.0) + test.weight
    return [SHARES[test.kind] * test.weight / total[test.kind] for test in tests]


class _Design:
    """How far the rows of each column resemble their neighbours, from blocks of consecutive rows."""

    def __init__(self, shared: Mapping[str, tuple[Column, Column]], settings: Settings) -> None:
        self._independent = settings.independent
        self._used: dict[str, float] = {}
        ratios, freedoms = [], []
        for ref, cur in shared.values():
            for blocks in _both(ref, cur):
                estimate = _estimate(*blocks, LENGTHS.index(50), [0])
                if estimate:
                    ratios.append(estimate[0])
                    freedoms.append(estimate[1])
        # where the table as a whole is grouped, no column is taken for independent on a weak test
        limit = 3 * math.sqrt(2 / (np.mean(freedoms) * len(ratios))) if ratios else 0.0
        self.grouped = bool(ratios) and float(np.mean(ratios)) - 1 > limit

    def of(self, name: str, ref: Blocks, cur: Blocks, scores: Sequence[int]) -> tuple[float, float]:
        """Design effect (at least 1), and with how many degrees of freedom it is known (infinite where it is 1)."""
        best = (1.0, math.inf)
        if self._independent:
            return best
        for place in range(len(LENGTHS)):
            found = _estimate(ref, cur, place, scores)
            if not found:
                continue
            ratio, freedom = found
            limit = 1.0 if self.grouped else float(chdtri(freedom, 0.02)) / freedom
            if ratio > max(limit, best[0]):
                best = (ratio, freedom)
        self._used[name] = max(self._used.get(name, 1.0), best[0])
        return best

    def told(self) -> dict[str, float]:
        return self._used


def _both(ref: Column, cur: Column) -> Iterator[tuple[Blocks, Blocks]]:
    for name, part in ref.parts.items():
        if name in cur.parts:
            yield part.blocks, cur.parts[name].blocks


def _estimate(ref: Blocks, cur: Blocks, place: int, scores: Sequence[int]) -> tuple[float, float] | None:
    """Variance ratio and its degrees of freedom. Of the reference alone if it has blocks enough: the current window may
    be on the move itself."""
    if ref.count[place] < FEWEST_BLOCKS:
        return None
    blocks = [ref] if ref.count[place] >= ENOUGH_BLOCKS else [ref, cur]
    known = []
    for each in blocks:
        ratios = [ratio for score in scores if not math.isnan(ratio := each.ratios[place, score])]
        if each.count[place] > 1 and ratios:
            known.append((each.count[place] - 1, sum(ratios) / len(ratios)))
    freedom = float(sum(count for count, _ in known))
    if freedom < FEWEST_BLOCKS - 1:
        return None
    return float(sum(count * ratio for count, ratio in known) / freedom), freedom


def _column(name: str, ref: Column, cur: Column, design: _Design, settings: Settings) -> Iterator[_Test]:
    yield from _missing(name, ref, cur, design, settings)
    parts = {part: each for part, each in ref.parts.items() if part in cur.parts and _tellable(ref, cur, part)}
    for part, before in parts.items():
        after = cur.parts[part]
        if not before.rows or not after.rows:
            continue
        if isinstance(before, Numbers) and isinstance(after, Numbers):
            yield from _numbers(name, part, before, after, design, settings, 1 / len(parts))
        elif isinstance(before, Levels) and isinstance(after, Levels):
            yield from _levels(name, part, before, after, design, settings, 1 / len(parts))


def _tellable(ref: Column, cur: Column, part: str) -> bool:
    """Hours compare where both windows last about a day, weekdays about a week."""
    least = {"hour": _ONE_DAY, "weekday": _ONE_WEEK}.get(part) if ref.kind == "time" else None
    return least is None or all(span is not None and span[1] - span[0] >= least for span in (ref.span, cur.span))


def _missing(name: str, ref: Column, cur: Column, design: _Design, settings: Settings) -> Iterator[_Test]:
    marked = ref.missing + cur.missing
    if not marked or marked == ref.rows + cur.rows or (cur.rows / (ref.rows + cur.rows)) ** marked > 1e-2:
        return
    inflation, _ = design.of(name, ref.missing_blocks, cur.missing_blocks, [0])
    rise = statistics.excess(ref.missing, ref.rows, cur.missing, cur.rows, inflation)
    fall = statistics.excess(cur.missing, cur.rows, ref.missing, ref.rows, inflation)
    before, after = ref.missing / ref.rows, cur.missing / cur.rows
    p = min(1.0, rise / RISE, fall / (1 - RISE))
    detail = f"missing {_percent(before)} → {_percent(after)}"
    yield _Test("missing", name, "missing", p, _h(before, after), 1.0, "", detail, settings.floor)


def _numbers(
    name: str, part: str, before: Numbers, after: Numbers, design: _Design, settings: Settings, weight: float
) -> Iterator[_Test]:
    if before.grid != after.grid:
        raise OtherGrid(f"{name}: the profiles were not counted on the same grid")
    ref, cur = before.counts.astype(float), after.counts.astype(float)
    n, m = ref.sum(), cur.sum()
    effects = [design.of(name, before.blocks, after.blocks, [score]) for score in (0, 1)]
    worst = max(effects)
    grid = before.grid
    for change, score in (("location", 0), ("spread", 1)):
        effect, p = statistics.shift(ref, cur, grid.scores[score], *effects[score])
        unit = math.sqrt(max(float(ref @ grid.scores[score] ** 2 / n - (ref @ grid.scores[score] / n) ** 2), 1e-12))
        if change == "location":
            detail = f"mean {_number(before.mean)} → {_number(after.mean)}"
        else:
            detail = f"standard deviation {_number(before.sd)} → {_number(after.sd)}"
        yield _Test("values", name, change, p, abs(effect) / unit, weight * PARTS[change], part, detail, settings.floor)
    distance, p = statistics.ks(ref, cur, worst[0])
    detail = f"distribution functions differ by {_percent(distance)}"
    yield _Test(
        "values", name, "shape", p, distance * _KS_PER_SD, weight * PARTS["shape"], part, detail, settings.floor
    )
    cuts = grid.cuts()
    for side, _, beyond in cuts:
        past, now = ref[beyond].sum(), cur[beyond].sum()
        p = statistics.excess(past, n, now, m, worst[0])
        edge = grid.edges[beyond.stop - 1] if side == "below" else grid.edges[beyond.start - 1]
        detail = f"{side} {_number(float(grid.value(edge)[0]))}: {_percent(past / n)} → {_percent(now / m)}"
        effect = _h(past / n, now / m)
        yield _Test("values", name, "tail", p, effect, weight * PARTS["tail"] / len(cuts), part, detail, settings.floor)


def _levels(
    name: str, part: str, before: Levels, after: Levels, design: _Design, settings: Settings, weight: float
) -> Iterator[_Test]:
    mine, others, rest_mine, rest_others = align(before, after)
    names = sorted({*mine, *others})
    ref = np.array(
        [mine.get(key, 0) for key in names] + [rest_mine.get(b, 0) for b in sorted({*rest_mine, *rest_others})], float
    )
    cur = np.array(
        [others.get(key, 0) for key in names] + [rest_others.get(b, 0) for b in sorted({*rest_mine, *rest_others})],
        float,
    )
    n, m = ref.sum(), cur.sum()
    inflation, freedom = design.of(name, before.blocks, after.blocks, range(before.blocks.row.shape[1]))
    pooled = ref + cur
    rare = pooled < POOL_BELOW * inflation
    merged = [ref, cur]
    if rare.any():
        merged = [np.append(counts[~rare], counts[rare].sum()) for counts in (ref, cur)]
    if len(merged[0]) > 1:
        p = statistics.mix(merged[0], merged[1], inflation, freedom)
        effect = _angle(merged[0] / n, merged[1] / m, (1 / n + 1 / m) * inflation)
        moved = np.abs(cur / m - ref / n)
        most = int(np.argmax(moved[: len(names)])) if names else -1
        detail = ""
        if most >= 0:
            detail = f"{names[most]}: {_percent(ref[most] / n)} → {_percent(cur[most] / m)}"
        yield _Test("values", name, "mix", p, effect, weight, part, detail, settings.floor)
    fresh = [i for i, key in enumerate(names) if ref[i] == 0 and cur[i] > 0]
    rows = float(cur[fresh].sum())
    known = pooled[: len(names)]
    share = float(m / (n + m))
    chance = statistics.alone(known, share, inflation)
    p = statistics.unseen(known, share, rows, inflation)
    shown = ", ".join(names[i] for i in sorted(fresh, key=lambda i: -cur[i])[:3])
    more = f" and {len(fresh) - 3} more" if len(fresh) > 3 else ""
    detail = f"{shown}{more}: {_percent(rows / m)} of the rows"
    # what can hardly arise by chance in this table takes nothing from the others' share
    yield _Test(
        "unseen", name, "new levels", p, _h(0.0, rows / m), 1.0 if chance >= 1e-4 else 0.1, part, detail, settings.floor
    )


def _pairs(ref: Pairs, cur: Pairs, settings: Settings) -> list[_Test]:
    if ref.columns != cur.columns or min(ref.rows, cur.rows) < settings.fewest_rows:
        return []
    upper = np.triu_indices(len(ref.columns), 1)
    row = (ref.row / ref.rows + cur.row / cur.rows)[upper]
    block = (ref.block / ref.rows + cur.block / cur.rows)[upper]
    freedom = max(ref.blocks + cur.blocks - 2, 1)
    before, after = ref.r, cur.r
    ratio = np.where(row > 0, block / np.where(row > 0, row, 1), 1.0)
    inflation = np.ones(len(row))
    limits = 1 + 3 * math.sqrt(2 / freedom)
    if not settings.independent and freedom >= 2 * FEWEST_BLOCKS - 2:
        overall = max(1.0, float(np.mean(ratio)))
        overall = overall if overall > 1 + 2 * math.sqrt(2 / freedom / math.sqrt(len(row))) else 1.0
        inflation = np.where((ratio > limits) | (overall > 1.0), np.maximum(ratio, overall), 1.0)
    tests = []
    for place, (i, j) in enumerate(zip(*upper, strict=True)):
        a, b = float(before[i, j]), float(after[i, j])
        q = abs(math.atanh(b) - math.atanh(a))
        variance = (
            ref.row[i, j] / ref.rows / (1 - a * a) ** 2 + cur.row[i, j] / cur.rows / (1 - b * b) ** 2
        ) * inflation[place]
        p = (
            2 * statistics.tail(q / math.sqrt(variance), freedom if inflation[place] > 1 else math.inf)
            if variance > 0
            else 1.0
        )
        name = f"{ref.columns[i]} × {ref.columns[j]}"
        detail = f"correlation {a:.2f} → {b:.2f}"
        tests.append(_Test("dependence", name, "dependence", p, q, 1.0, "", detail, PAIR_FLOOR))
    return tests


def _h(before: float, after: float) -> float:
    """Cohen's h of two shares."""
    return abs(2 * math.asin(math.sqrt(min(after, 1.0))) - 2 * math.asin(math.sqrt(min(before, 1.0))))


def _angle(before: Floats, after: Floats, noise: float) -> float:
    """Cohen's h for any number of levels: twice the angle between the roots of the shares, less what chance adds."""
    seen = 2 * math.acos(min(1.0, float(np.sqrt(before * after).sum())))
    return math.sqrt(max(0.0, (2 * seen / 2) ** 2 - (np.count_nonzero(before + after) - 1) * noise))


def _percent(share: float) -> str:
    return f"{100 * share:.{1 if share >= 0.01 or not share else 2}f} %"


def _number(value: float) -> str:
    return f"{value:.4g}"
