"""A drift report as one page: HTML and inline SVG, no scripts, nothing fetched; light and dark. Where its charts' boxes
stand is worked out here, for this page and for others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from detectors.drift.compare import DriftReport, Verdict, like_with_like
from detectors.drift.grid import CELLS, Floats
from detectors.drift.profile import Levels, Numbers, Part, Profile, align

BARS, NAMES, SHOWN, DRAWN = 24, 12, 200, 3
WIDTH, HEIGHT = 480, 150
_ROW, _NAMED_AT, _FROM, _LONGEST = 22, 150, 158, 205
_OUTER = 0.004


@dataclass(frozen=True, slots=True)
class Box:
    """A bar in the drawing. `of` is ref or cur."""

    of: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A pair of bars: shares of the rows of reference and current, and their place in the drawing. `y` is the top of a
    level's row."""

    label: str
    reference: float
    current: float
    boxes: tuple[Box, Box]
    y: float = 0.0
    new: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """`kind` numbers: bars upright on an axis from `low` to `high`; levels: a row for each name."""

    title: str
    kind: str
    bars: Sequence[Bar]
    low: str = ""
    high: str = ""
    note: str = ""

    @property
    def width(self) -> int:
        return WIDTH

    @property
    def named_at(self) -> int:
        """Where the names of levels end."""
        return _NAMED_AT

    @property
    def height(self) -> int:
        return HEIGHT if self.kind == "numbers" else _ROW * len(self.bars) + 4


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    kind: str
    missing: tuple[float, float]
    verdicts: Sequence[Verdict]
    charts: Sequence[Chart]


def drift_page(report: DriftReport, reference: Profile, current: Profile, title: str = "Data drift") -> str:
    """The page of a report: what changed, strongest first, then each column's distributions beside each other."""
    changed, quiet = sections(report, reference, current)
    return _template().render(
        title=title,
        report=report,
        verdicts=report.found[:SHOWN],
        most=max((verdict.rank for verdict in report.found), default=1.0) or 1.0,
        changed=changed[:SHOWN],
        quiet=quiet[:SHOWN],
    )


def sections(report: DriftReport, reference: Profile, current: Profile) -> tuple[list[Section], list[Section]]:
    """Of each column what is drawn: those that changed, strongest first, and those that did not."""
    reference, _ = like_with_like(reference, current)
    found = [_section(name, report, reference, current) for name in reference.columns if name in current.columns]
    order = {name: place for place, name in enumerate(report.columns)}
    changed = sorted((each for each in found if each.verdicts), key=lambda each: order.get(each.name, len(order)))
    return changed, [each for each in found if not each.verdicts]


@cache
def _template() -> Template:
    environment = Environment(loader=PackageLoader("detectors.drift"), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment.get_template("drift.html.j2")


def _section(name: str, report: DriftReport, reference: Profile, current: Profile) -> Section:
    before, after = reference.columns[name], current.columns[name]
    verdicts = [verdict for verdict in report.found if verdict.column == name]
    told = {verdict.part for verdict in verdicts}
    parts = sorted((part for part in before.parts if part in after.parts), key=lambda part: part not in told)
    charts = [chart for part in parts[:DRAWN] if (chart := _chart(part, before.parts[part], after.parts[part]))]
    rates = (before.missing / max(before.rows, 1), after.missing / max(after.rows, 1))
    kind = before.kind if before.kind == after.kind else f"{before.kind} → {after.kind}"
    return Section(name, kind, rates, verdicts, charts)


def _chart(title: str, before: Part, after: Part) -> Chart | None:
    if isinstance(before, Numbers) and isinstance(after, Numbers) and before.grid == after.grid:
        return _numbers(title, before, after)
    if isinstance(before, Levels) and isinstance(after, Levels):
        return _levels(title, before, after)
    return None


def _numbers(title: str, before: Numbers, after: Numbers) -> Chart | None:
    """Equal steps over where nearly all values lie, from the uneven bins of the grid; what lies beyond is told."""
    grid = before.grid
    ref, cur = (part.counts / max(part.rows, 1) for part in (before, after))
    if not grid.edges or not before.rows or not after.rows:
        return None
    edges = _ends(before, after)
    inner = np.minimum(*(np.cumsum(share) for share in (ref, cur))) > _OUTER
    outer = np.minimum(*(np.cumsum(share[::-1])[::-1] for share in (ref, cur))) > _OUTER
    kept = np.flatnonzero(inner & outer)
    first, last = (kept[0], kept[-1]) if len(kept) else (0, len(ref) - 1)
    low, high = float(edges[first]), float(edges[last + 1])
    if not high > low:
        return None
    steps = np.linspace(low, high, BARS + 1)
    shares = []
    for share in (ref, cur):
        law = np.interp(steps, edges, np.concatenate([[0.0], np.cumsum(share)]))
        shares.append(np.diff(law))
    most = max(float(np.max(shares)), 1e-9)
    slot = WIDTH / BARS
    pairs = [(float(shares[0][i]), float(shares[1][i])) for i in range(BARS)]
    bars = [
        Bar(
            f"{_short(steps[i])} to {_short(steps[i + 1])}",
            ref_,
            cur_,
            _upright(i * slot, slot, ref_ / most, cur_ / most),
        )
        for i, (ref_, cur_) in enumerate(pairs)
    ]
    out = [1 - float(share.sum()) for share in shares]
    note = f"outside of the drawing: {_percent(out[0])} → {_percent(out[1])}" if max(out) > 0.001 else ""
    return Chart(title, "numbers", bars, _short(low), _short(high), note)


def _upright(x: float, slot: float, ref: float, cur: float) -> tuple[Box, Box]:
    wide = slot / 2 - 1
    return (
        Box("ref", x + 1, HEIGHT - ref * HEIGHT, wide, ref * HEIGHT),
        Box("cur", x + slot / 2, HEIGHT - cur * HEIGHT, wide, cur * HEIGHT),
    )


def _ends(before: Numbers, after: Numbers) -> Floats:
    """The edges of all bins, the outer ones where the values of both windows end."""
    grid = before.grid
    edges = grid.value(np.array(grid.edges))
    some = [part.sums for part in (before, after) if part.sums["n"]]
    low = min((sums["low"] for sums in some), default=0.0) + grid.centre
    high = max((sums["high"] for sums in some), default=0.0) + grid.centre
    top = grid.value(np.array([min(grid.edges[-1] + 1, CELLS - 1)]))
    high = high if np.isfinite(high) else float(top[0])
    found = np.concatenate([[min(low, edges[0])], edges, [max(high, edges[-1])]])
    return np.where(np.isfinite(found), found, edges[len(edges) // 2])


def _levels(title: str, before: Levels, after: Levels) -> Chart | None:
    mine, others, rest_mine, rest_others = align(before, after)
    n, m = max(before.rows, 1), max(after.rows, 1)
    names = sorted({*mine, *others}, key=lambda name: (-max(mine.get(name, 0) / n, others.get(name, 0) / m), name))
    fresh = [name for name in names if not mine.get(name) and others.get(name)][:3]
    shown = names[:NAMES] + [name for name in fresh if name not in names[:NAMES]]
    if not names and not rest_mine:
        return None
    shares = [(mine.get(name, 0) / n, others.get(name, 0) / m) for name in shown]
    fresh_ones = [not mine.get(name) and not rest_mine for name in shown]
    left = len(names) - len(shown)
    if left or rest_mine or rest_others:
        shown = [*shown, f"{left} others" if not rest_mine else "all others"]
        fresh_ones.append(False)
        shares.append((max(1 - sum(ref for ref, _ in shares), 0), max(1 - sum(cur for _, cur in shares), 0)))
    most = max(max(pair) for pair in shares) or 1.0
    bars = []
    for place, (name, (ref, cur), new) in enumerate(zip(shown, shares, fresh_ones, strict=True)):
        y = 2 + _ROW * place
        bars.append(Bar(name, ref, cur, _lying(y, ref / most, cur / most), y, new))
    return Chart(title, "levels", bars)


def _lying(y: float, ref: float, cur: float) -> tuple[Box, Box]:
    return Box("ref", _FROM, y + 1, ref * _LONGEST, 8), Box("cur", _FROM, y + 10, cur * _LONGEST, 8)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _short(value: float) -> str:
    return f"{value:.4g}"
