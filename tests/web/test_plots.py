"""Where plots put things, and what they say of them."""

import math
import re
from zoneinfo import ZoneInfo

import pytest

from app.i18n import catalog
from app.web.dashboard.plots import MOST_DOTS, MOST_POINTS, MOST_ROWS, Curve, Limit, Plot, bars, lines
from app.web.words import Words

WORDS = Words(catalog("en"), ZoneInfo("UTC"))
DAYS = [f"day {number}" for number in range(90)]


def drawn(plot: Plot | None) -> Plot:
    assert plot is not None
    return plot


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def test_higher_values_stand_higher_and_later_ones_further_right() -> None:
    plot = drawn(lines([Curve("loss", [(0, 2.0), (100, 1.0), (200, 0.5)])], WORDS))
    (x0, y0), (x1, y1), (x2, y2) = places(plot.lines[0].path)
    assert plot.left == x0 < x1 < x2 == plot.right
    assert plot.top < y0 < y1 < y2 < plot.bottom
    assert (y1 - y0) == pytest.approx(2 * (y2 - y1), abs=0.2)


def test_a_label_stands_at_its_own_value() -> None:
    plot = drawn(lines([Curve("share", [(0, 0.0), (1, 1.0)])], WORDS))
    half = next(tick.at for tick in plot.up if tick.label == "0.5")
    bottom, top = places(plot.lines[0].path)
    assert half == pytest.approx((bottom[1] + top[1]) / 2, abs=0.1)


def test_what_is_not_known_is_a_gap_and_not_a_zero() -> None:
    told = [(0.0, 0.8), (1.0, None), (2.0, math.nan), (3.0, 0.7), (4.0, math.inf)]
    plot = drawn(lines([Curve("auc", told)], WORDS, names=["a", "b", "c", "d", "e"]))
    assert plot.lines[0].path.count("M") == 2
    assert [row.cells for row in plot.rows] == [("0.8",), ("",), ("",), ("0.7",), ("",)]
    assert (plot.lines[0].low, plot.lines[0].last) == ("0.7", "0.7")


@pytest.mark.parametrize("points", [[], [(0.0, None)], [(0.0, math.nan)], [(math.nan, 1.0)]])
def test_nothing_known_is_no_plot(points: list[tuple[float, float | None]]) -> None:
    assert lines([Curve("auc", points)], WORDS) is None


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e-12, 1e15])
def test_a_single_value_can_be_drawn(value: float) -> None:
    plot = drawn(lines([Curve("auc", [(7.0, value)])], WORDS))
    ((x, y),) = places(plot.lines[0].path)
    assert plot.left <= x <= plot.right
    assert plot.top <= y <= plot.bottom
    assert len(plot.lines[0].dots) == 1
    assert plot.up


def test_a_threshold_is_drawn_where_its_value_is_though_no_point_comes_near() -> None:
    plot = drawn(lines([Curve("auc", [(0, 0.80), (1, 0.82)])], WORDS, limits=[Limit("at least", 0.9)]))
    (mark,) = plot.marks
    assert (mark.name, mark.told) == ("at least", "0.9")
    assert plot.top <= mark.y < min(y for _, y in places(plot.lines[0].path))


def test_a_long_line_is_thinned_and_keeps_its_peak() -> None:
    points: list[tuple[float, float | None]] = [(float(at), 9.0 if at == 4_321 else 1.0) for at in range(10_000)]
    plot = drawn(lines([Curve("loss", points)], WORDS))
    shown = places(plot.lines[0].path)
    assert len(shown) <= MOST_POINTS
    assert min(y for _, y in shown) < max(y for _, y in shown) - 100
    assert plot.lines[0].dots == ()
    assert (len(plot.rows), plot.left_out) == (MOST_ROWS, 10_000 - MOST_ROWS)


def test_each_point_of_a_short_line_tells_its_value() -> None:
    points: list[tuple[float, float | None]] = [(float(at), float(at)) for at in range(MOST_DOTS)]
    dots = drawn(lines([Curve("auc", points)], WORDS)).lines[0].dots
    assert [dot.told for dot in dots[:2]] == ["0, auc: 0", "1, auc: 1"]


def test_large_numbers_are_told_with_a_prefix() -> None:
    plot = drawn(lines([Curve("memory", [(0, 4e9), (1, 16e9)])], WORDS))
    assert {tick.label for tick in plot.up} >= {"5G", "10G", "15G"}
    assert plot.lines[0].high == "16G"


def test_numbers_are_told_in_the_reader_s_language() -> None:
    german = Words(catalog("de"), ZoneInfo("UTC"))
    assert "0,5" in {tick.label for tick in drawn(lines([Curve("auc", [(0, 0.0), (1, 1.0)])], german)).up}


def test_times_are_told_in_the_reader_s_zone_at_its_midnights() -> None:
    tokyo = Words(catalog("en"), ZoneInfo("Asia/Tokyo"))
    start = 1_763_650_800.0  # 2025-11-21T00:00 in Tokyo
    points: list[tuple[float, float | None]] = [(start + hour * 3_600, 1.0) for hour in range(73)]
    plot = drawn(lines([Curve("disk", points)], tokyo, times=True))
    assert [tick.label for tick in plot.across] == ["Nov 21, 2025", "Nov 22, 2025", "Nov 23, 2025", "Nov 24, 2025"]
    assert (plot.across[0].at, plot.across[-1].at) == (plot.left, plot.right)


def test_lines_of_several_curves_share_their_axes_and_their_table() -> None:
    plot = drawn(lines([Curve("train", [(0, 1.0), (10, 0.5)]), Curve("valid", [(10, 0.7)])], WORDS))
    assert plot.names == ("train", "valid")
    assert [(row.label, row.cells) for row in plot.rows] == [("0", ("1", "")), ("10", ("0.5", "0.7"))]
    assert [line.kind for line in plot.lines] == [0, 1]


def test_bars_stand_on_the_ground_beside_each_other() -> None:
    plot = drawn(bars(["mon", "tue"], {"found": [2, 4], "healed": [1, 0]}, WORDS))
    found, healed, later = plot.bars
    assert [bar.told for bar in plot.bars] == ["mon, found: 2", "mon, healed: 1", "tue, found: 4"]
    assert all(bar.y + bar.height == pytest.approx(plot.base, abs=0.11) for bar in plot.bars)
    assert later.height == pytest.approx(2 * found.height, abs=0.2)
    assert found.x + found.width == pytest.approx(healed.x, abs=0.11)
    assert [(each.name, each.told) for each in plot.sums] == [("found", "6"), ("healed", "1")]


def test_stacked_bars_stand_on_each_other() -> None:
    below, above = drawn(bars(["mon"], {"a": [2], "b": [1]}, WORDS, stacked=True)).bars
    assert above.y + above.height == pytest.approx(below.y, abs=0.11)
    assert above.x == below.x


def test_bars_below_zero_hang_from_it() -> None:
    down, up = drawn(bars(["a", "b"], {"gain": [-2, 1]}, WORDS)).bars
    assert down.y == pytest.approx(up.y + up.height, abs=0.11)


def test_no_bar_is_drawn_for_nothing_and_its_day_is_in_no_row() -> None:
    told = [0.0] * 89 + [3.0]
    plot = drawn(bars(DAYS, {"found": told}, WORDS))
    assert len(plot.bars) == 1
    assert plot.bars[0].x + plot.bars[0].width <= plot.right
    assert [row.label for row in plot.rows] == ["day 89"]
    assert [tick.label for tick in plot.across][-1] == "day 89"


def test_a_quiet_time_still_has_axes() -> None:
    plot = drawn(bars(DAYS, {"found": [0.0] * 90}, WORDS))
    assert plot.bars == ()
    assert plot.up
    assert bars([], {"found": []}, WORDS) is None


def test_an_axis_of_counts_has_no_halves() -> None:
    assert [tick.label for tick in drawn(bars(["mon"], {"found": [2]}, WORDS)).up] == ["0", "1", "2"]


def test_intervals_are_drawn_through_their_points_and_told_beside_them() -> None:
    curve = Curve("auc", [(0, 0.8), (1, 0.9), (2, None)], {0: (0.7, 0.85), 1: (math.nan, 1.0), 2: (0.1, 0.2)})
    plot = drawn(lines([curve], WORDS))
    ((x0, low), (x1, high)) = places(plot.lines[0].whiskers)
    x, y = places(plot.lines[0].path)[0]
    assert x0 == x1 == x
    assert high < y < low <= plot.bottom
    assert [row.cells[0] for row in plot.rows] == ["0.8 (0.7 – 0.85)", "0.9", ""]


def test_a_single_time_stands_in_the_middle_of_its_day() -> None:
    plot = drawn(lines([Curve("ms", [(1_763_650_800.0, 10.0)])], WORDS, times=True))
    ((x, _),) = places(plot.lines[0].path)
    assert x == (plot.left + plot.right) / 2
    assert 1 <= len(plot.across) <= 5
