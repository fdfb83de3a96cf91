"""Intervals of a gate's report, laid out for a drawing: as text for a check run, as places for a page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GATE, BENCHMARK = "gate", "benchmark"  # the kinds of reports that have intervals
DRAWN = (GATE, BENCHMARK)
_VERDICTS = {GATE: ("passed", "CLOSED"), BENCHMARK: ("held", "WORSE")}


@dataclass(frozen=True, slots=True)
class Interval:
    """A gain with its interval: right of 0 the challenger is better. `low` must lie above `bound`, or (`judged` other)
    the interval only shows what was judged by more than itself. None: not known."""

    label: str
    value: float
    low: float
    high: float
    bound: float | None = None
    passed: bool = False
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """From `low` to `high`, with marks at round numbers."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """0 at the left end, 1 at the right one; what lies outside stands at the end."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def intervals_of(report: Mapping[str, Any]) -> tuple[Interval, ...]:
    """Those that a report holds and that can be drawn."""
    found = []
    for each in report.get("intervals") or ():
        told = [_number(each.get(name)) for name in ("value", "low", "high")]
        if None not in told:
            value, low, high = (number or 0.0 for number in told)
            found.append(
                Interval(
                    label=str(each.get("label", ""))[:100],
                    value=value,
                    low=low,
                    high=high,
                    bound=_number(each.get("bound")),
                    passed=each.get("passed") is True,
                    rows=int(_number(each.get("rows")) or 0),
                )
            )
    return tuple(found)


def _number(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None  # type: ignore[arg-type]


def scale(intervals: Sequence[Interval]) -> Scale:
    """Wide enough for all of them, their bounds, and 0."""
    ends = [0.0]
    for each in intervals:
        ends += [each.low, each.high, each.value, *([] if each.bound is None else [each.bound])]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.05 or 1.0
    low, high = low - room, high + room
    step = _round_step((high - low) / 5)
    first, last = math.ceil(low / step), math.floor(high / step)
    return Scale(low, high, tuple(place * step for place in range(first, last + 1)))


def _round_step(size: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(size))
    return next(power * each for each in (1, 2, 5, 10) if power * each >= size)


def signed(value: float) -> str:
    """A gain in words: with its sign, to three figures that matter."""
    if value == 0:
        return "0"
    digits = max(0, min(8, 2 - math.floor(math.log10(abs(value))))) if abs(value) < 1_000 else 0
    return f"{value:+.{digits}f}".replace("-", "−")


def drawn(report: Mapping[str, Any], width: int = 40, most: int = 20) -> str:
    """The intervals as lines of text for a fixed-width font; "" for a report that has none.

    `●` is the gain, `├` and `┤` end its interval, `╎` is no difference, `┊` the bound where it is another.
    """
    intervals = intervals_of(report)
    verdicts = _VERDICTS.get(str(report.get("kind")))
    if verdicts is None or not intervals:
        return ""
    shown = intervals[:most]
    over = scale(shown)
    names = max(len(_cut(each.label)) for each in shown)
    lines = [_line(each, over, names, width, verdicts) for each in shown]
    if len(intervals) > most:
        lines.append(f"and {len(intervals) - most} more")
    ends = signed(over.low), signed(over.high)
    axis = f"{'':<{names}} {ends[0]}{ends[1]:>{max(1, width - len(ends[0]))}}"
    return "\n".join([*lines, axis])


def _cut(label: str) -> str:
    flat = " ".join(label.split())
    return flat if len(flat) <= 28 else f"{flat[:27]}…"


def _line(each: Interval, over: Scale, names: int, width: int, verdicts: tuple[str, str]) -> str:
    cells = [" "] * width

    def at(value: float) -> int:
        return round(over.at(value) * (width - 1))

    for cell in range(at(each.low), at(each.high) + 1):
        cells[cell] = "─"
    cells[at(0.0)] = "╎"
    if each.bound is not None and each.bound != 0:
        cells[at(each.bound)] = "┊"
    cells[at(each.low)], cells[at(each.high)] = "├", "┤"
    cells[at(each.value)] = "●"
    verdict = verdicts[0 if each.passed else 1]
    told = f"{signed(each.value)} ({signed(each.low)} to {signed(each.high)})"
    return f"{_cut(each.label):<{names}} {''.join(cells)} {told} {verdict}"
