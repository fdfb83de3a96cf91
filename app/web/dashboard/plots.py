"""Where the lines, bars and marks of a plot stand. Values go in, places and labels come out; templates/plots.html draws
them, and puts the same values in a table."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.i18n import formats
from app.web.words import Words

WIDTH, HEIGHT = 400, 180
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 22
KINDS = 6  # of lines and bars that can be told apart; the seventh looks like the first
MOST_DOTS = 60  # more would hide the line
MOST_POINTS = 300  # of one line: about what the eye can tell apart
MOST_ROWS = 40  # of the table

_PREFIXES = {12: "T", 9: "G", 6: "M", 3: "k", 0: "", -3: "m", -6: "µ", -9: "n"}
_MINUTE, _HOUR, _DAY = 60.0, 3_600.0, 86_400.0
_TIME_STEPS = (
    *(1.0, 5.0, 15.0, 30.0, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR),
    *(_DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY, 90 * _DAY, 365 * _DAY),
)

Say = Callable[[float], str]
Place = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Curve:
    """What a line shows: (x, y), in the order of x. A y that is None or not finite is a gap. `spans` are intervals of
    some of them: x → (low, high)."""

    name: str
    points: Sequence[tuple[float, float | None]]
    spans: Mapping[float, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limit:
    """A line across the plot: a threshold, or (`usual`) what is usual."""

    name: str
    value: float
    usual: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Dot:
    x: float
    y: float
    told: str


@dataclass(frozen=True, slots=True)
class Line:
    """`path` is SVG's, `whiskers` those of the intervals; `kind` is 0 to KINDS - 1, for the style sheet; `low`, `high`
    and `last` are told in words."""

    name: str
    kind: int
    path: str
    whiskers: str
    dots: tuple[Dot, ...]
    low: str
    high: str
    last: str


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    kind: int
    told: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A Limit, drawn at `y`."""

    name: str
    y: float
    told: str
    usual: bool


@dataclass(frozen=True, slots=True)
class Sum:
    """All of a group of bars, in words."""

    name: str
    kind: int
    told: str


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """`lines` or `bars`, with their axes. `rows` are the newest values, in the order of the plot; `left_out` of them
    are in no row. `names` head the columns of the table. `base` is where bars stand."""

    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    names: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: int = 0
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    marks: tuple[Mark, ...] = ()
    sums: tuple[Sum, ...] = ()
    base: float = HEIGHT - BOTTOM
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def lines(
    curves: Sequence[Curve],
    words: Words,
    *,
    limits: Sequence[Limit] = (),
    times: bool = False,
    names: Sequence[str] = (),
) -> Plot | None:
    """Lines over a common axis. `times`: x are seconds since 1970; `names`: x are places in that list. None where there
    is nothing to draw."""
    kept = [_finite(curve) for curve in curves]
    kept = [curve for curve in kept if any(y is not None for _, y in curve.points)]
    if not kept:
        return None
    limits = [limit for limit in limits if math.isfinite(limit.value)]
    xs = sorted({x for curve in kept for x, _ in curve.points})
    ys = [y for curve in kept for _, y in curve.points if y is not None] + [limit.value for limit in limits]
    ys += [end for curve in kept for span in curve.spans.values() for end in span]
    low, high = _roomy(min(ys), max(ys))
    left, right = _apart(xs[0], xs[-1], _DAY / 2 if times else 0.5 if names else 0.0)

    def place_x(x: float) -> float:
        return _round(LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT))

    def place_y(y: float) -> float:
        return _round(_up(y, low, high))

    up, say_y = _ticks_up(low, high, words)
    across, say_x = _ticks_across(left, right, place_x, words, times=times, names=names)
    drawn = tuple(_line(curve, at % KINDS, place_x, place_y, say_x, say_y) for at, curve in enumerate(kept))
    by_x = [(dict(curve.points), curve.spans) for curve in kept]
    rows = tuple(
        Row(say_x(x), tuple(_cell(points.get(x), spans.get(x), say_y) for points, spans in by_x))
        for x in xs[-MOST_ROWS:]
    )
    return Plot(
        across=across,
        up=up,
        names=tuple(curve.name for curve in kept),
        rows=rows,
        left_out=len(xs) - len(rows),
        lines=drawn,
        marks=tuple(Mark(limit.name, place_y(limit.value), say_y(limit.value), limit.usual) for limit in limits),
    )


def bars(
    names: Sequence[str], groups: Mapping[str, Sequence[float]], words: Words, *, stacked: bool = False
) -> Plot | None:
    """For each name a bar of each group, side by side or on top of each other. None where there is nothing to draw."""
    if not names or not groups:
        return None
    values = {group: [_known(each) or 0.0 for each in told] for group, told in groups.items()}
    tops = [sum(column) if stacked else max(column) for column in zip(*values.values(), strict=True)]
    lows = [0.0 if stacked else min(column) for column in zip(*values.values(), strict=True)]
    low, high = min([0.0, *lows]), max([0.0, *tops])
    high = high if high > low else low + 1.0
    whole = all(float(each).is_integer() for told in values.values() for each in told)
    up, say = _ticks_up(low, high, words, least=1.0 if whole else 0.0)
    slot = (WIDTH - LEFT - RIGHT) / len(names)
    room = slot * 0.8 if slot > 3 else slot
    thin = room if stacked else room / len(values)
    base = _up(0.0, low, high)
    drawn = []
    for place, name in enumerate(names):
        reached = 0.0
        for kind, (group, told) in enumerate(values.items()):
            value, start = told[place], reached if stacked else 0.0
            ends = sorted((_up(start, low, high), _up(start + value, low, high)))
            reached += value if stacked else 0.0
            x = LEFT + place * slot + (slot - room) / 2 + (0 if stacked else kind * thin)
            if value:
                box = (_round(x), _round(ends[0]), _round(thin), _round(ends[1] - ends[0]))
                drawn.append(Bar(*box, kind % KINDS, f"{name}, {group}: {say(value)}"))
    rows = [
        Row(name, tuple(say(told[place]) for told in values.values()))
        for place, name in enumerate(names)
        if any(told[place] for told in values.values()) or len(names) <= MOST_ROWS
    ]
    return Plot(
        across=tuple(Tick(_round(LEFT + (at + 0.5) * slot), names[at]) for at in _some(len(names), 3)),
        up=up,
        names=tuple(values),
        rows=tuple(rows[-MOST_ROWS:]),
        left_out=max(0, len(rows) - MOST_ROWS),
        bars=tuple(drawn),
        sums=tuple(Sum(group, kind % KINDS, say(sum(told))) for kind, (group, told) in enumerate(values.items())),
        base=_round(base),
    )


def _line(curve: Curve, kind: int, place_x: Place, place_y: Place, say_x: Say, say_y: Say) -> Line:
    known = [y for _, y in curve.points if y is not None]
    shown = _thinned(curve.points)
    path, pen = [], "M"
    for x, y in shown:
        if y is None:
            pen = "M"
            continue
        path.append(f"{pen}{place_x(x):g} {place_y(y):g}")
        pen = "L"
    dotted = [(x, y) for x, y in curve.points if y is not None]
    dots = (
        Dot(place_x(x), place_y(y), f"{say_x(x)}, {curve.name}: {_cell(y, curve.spans.get(x), say_y)}")
        for x, y in dotted
    )
    whiskers = (
        f"M{place_x(x):g} {place_y(low):g}L{place_x(x):g} {place_y(high):g}" for x, (low, high) in curve.spans.items()
    )
    return Line(
        name=curve.name,
        kind=kind,
        path="".join(path),
        whiskers="".join(whiskers) if len(dotted) <= MOST_DOTS else "",
        dots=tuple(dots) if len(dotted) <= MOST_DOTS else (),
        low=say_y(min(known)),
        high=say_y(max(known)),
        last=say_y(known[-1]),
    )


def _thinned(points: Sequence[tuple[float, float | None]]) -> Iterator[tuple[float, float | None]]:
    """Of each stretch of a long line its lowest and its highest point: no peak is lost."""
    size = max(1, math.ceil(2 * len(points) / MOST_POINTS))
    if size == 1:
        yield from points
        return
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        known = [(x, y) for x, y in stretch if y is not None]
        if not known:
            yield stretch[0]
            continue
        ends = {min(known, key=lambda point: point[1]), max(known, key=lambda point: point[1])}
        yield from sorted(ends)


def _ticks_up(low: float, high: float, words: Words, least: float = 0.0) -> tuple[tuple[Tick, ...], Say]:
    step = max(_round_step((high - low) / 4), least)
    say = _speaker(max(abs(low), abs(high)), step, words)
    values = [place * step for place in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    exact = _speaker(max(abs(low), abs(high)), step / 100, words)
    return tuple(Tick(_round(_up(value, low, high)), say(value)) for value in values), exact


def _ticks_across(
    left: float, right: float, place: Place, words: Words, *, times: bool, names: Sequence[str]
) -> tuple[tuple[Tick, ...], Say]:
    if names:
        told = [(float(at), names[at]) for at in _some(len(names), 3)]
        return tuple(Tick(place(x), name) for x, name in told if left <= x <= right), lambda x: names[round(x)]
    if times:
        return _ticks_of_time(left, right, place, words)
    step = _round_step((right - left) / 5)
    whole = [number * step for number in range(math.ceil(left / step - 1e-9), math.floor(right / step + 1e-9) + 1)]
    say = _speaker(max(abs(left), abs(right)), step, words)
    exact = _speaker(max(abs(left), abs(right)), min(step / 100, 1.0), words, short=False)
    return tuple(Tick(place(x), say(x)) for x in whole), exact


def _ticks_of_time(left: float, right: float, place: Place, words: Words) -> tuple[tuple[Tick, ...], Say]:
    """At round times of the reader's zone; their days where the steps are days."""
    step = next((step for step in _TIME_STEPS if (right - left) / step <= 4), _TIME_STEPS[-1])
    offset = datetime.fromtimestamp(left, UTC).astimezone(words.zone).utcoffset()
    shift = offset.total_seconds() if offset else 0.0
    first = math.ceil((left + shift) / step) * step - shift
    ticks: list[Tick] = []
    while first <= right and len(ticks) < 8:
        at = datetime.fromtimestamp(first, UTC)
        label = words.date(at) if step >= _DAY else formats.time(at, words.language, words.zone)
        ticks.append(Tick(place(first), label))
        first += step
    return tuple(ticks), lambda x: words.moment(datetime.fromtimestamp(x, UTC))


def _speaker(size: float, step: float, words: Words, *, short: bool = True) -> Say:
    """Says numbers of about that size with the figures that a step of `step` can change; large ones with the SI's
    prefix, so that they fit beside the axis."""
    power = 3 * math.floor(math.log10(size) / 3) if size > 0 else 0
    power = min(12, max(-9, power)) if short and not 1e-3 <= size < 1e4 else 0
    digits = max(0, min(9, power - math.floor(math.log10(step) + 1e-9)))

    def say(value: float) -> str:
        told = round(value / 10.0**power, digits) + 0.0  # no minus zero
        trimmed = len(f"{told:.{digits}f}".rstrip("0").rpartition(".")[2]) if digits else 0
        return words.number(told, trimmed) + _PREFIXES[power]

    return say


def _round_step(size: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(size))
    return next(power * each for each in (1, 2, 5, 10) if power * each >= size * (1 - 1e-9))


def _up(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _roomy(low: float, high: float) -> tuple[float, float]:
    low, high = _apart(low, high)
    room = (high - low) * 0.05
    return low - room if low else low, high + room


def _apart(low: float, high: float, room: float = 0.0) -> tuple[float, float]:
    """Two ends between which something can be drawn; `room` is what stands around a single value."""
    if high - low > 1e-12 * max(abs(low), abs(high)):
        return low, high
    room = room or abs(low) * 0.5 or 1.0
    return low - room, high + room


def _some(count: int, most: int) -> list[int]:
    """Places in a list, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(at * (count - 1) / (most - 1)) for at in range(most)})


def _cell(value: float | None, span: tuple[float, float] | None, say: Say) -> str:
    if value is None:
        return ""
    return f"{say(value)} ({say(span[0])} – {say(span[1])})" if span else say(value)


def _finite(curve: Curve) -> Curve:
    points = [(x, _known(y)) for x, y in curve.points if math.isfinite(x)]
    known = {x for x, y in points if y is not None}
    spans = {x: span for x, span in curve.spans.items() if x in known and all(map(math.isfinite, span))}
    return Curve(curve.name, points, spans)


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _round(place: float) -> float:
    return round(place, 1)
