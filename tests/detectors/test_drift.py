"""What is called drift and what is not: tables with a fixed seed, many of them where chance matters."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from detectors.drift import statistics
from detectors.drift.classifier import separation
from detectors.drift.compare import DriftReport, OtherGrid, Settings, Verdict, check
from detectors.drift.page import drift_page
from detectors.drift.profile import profile
from detectors.drift.windows import Persistence, is_over, lasting

Frame = dict[str, Any]
NAMES = np.array([f"level_{i}" for i in range(500)], object)


def table(r: Any, rows: int) -> Frame:
    """20 columns: numbers with heavy tails and ties, categories of 2 to 500 levels."""
    made: Frame = {}
    for place in range(15):
        shapes: list[Callable[[], Any]] = [
            lambda: r.normal(size=rows),
            lambda: r.lognormal(size=rows),
            lambda: r.standard_cauchy(rows),
            lambda: r.poisson(3, rows).astype(float),
            lambda: np.where(r.random(rows) < 0.5, 0.0, r.pareto(1, rows)),
        ]
        made[f"x{place}"] = shapes[place % 5]()
    for levels in (2, 5, 10, 50, 500):
        made[f"c{levels}"] = NAMES[r.integers(0, levels, rows)]
    return made


def small(r: Any, rows: int) -> Frame:
    return {
        "x": r.normal(size=rows),
        "y": r.lognormal(size=rows),
        "city": NAMES[r.integers(0, 50, rows)],
        "plan": NAMES[r.integers(0, 5, rows)],
    }


def alarms(make: Callable[[Any], tuple[Frame, Frame]], trials: int, settings: Settings | None = None) -> int:
    count = 0
    for trial in range(trials):
        one, other = make(np.random.default_rng([11, trial]))
        count += bool(check(profile(one), other, settings).found)
    return count


@pytest.mark.parametrize("rows", [200, 1_000])
def test_twenty_quiet_columns_rarely_alarm(rows: int) -> None:
    assert alarms(lambda r: (table(r, rows), table(r, rows)), 20) <= 4


def test_a_large_sample_does_not_fire_on_nothing() -> None:
    def hardly_moved(r: Any) -> tuple[Frame, Frame]:
        one, other = small(r, 100_000), small(r, 100_000)
        return one, other | {"x": other["x"] + 0.02}

    assert alarms(hardly_moved, 5) == 0


def test_a_small_sample_does_not_pretend() -> None:
    r = np.random.default_rng(1)
    report = check(profile(small(r, 40)), {**small(r, 40), "x": r.normal(9, 1, 40)})
    assert report.found == ()
    assert "fewer than 50 rows" in report.note


def in_sessions(r: Any, rows: int, session: int) -> Frame:
    groups = np.arange(rows) // session
    made: Frame = {}
    for place in range(8):
        share = 0.1 * (place % 5)
        own = math.sqrt(share) * r.normal(size=groups[-1] + 1)[groups]
        made[f"x{place}"] = own + math.sqrt(1 - share) * r.normal(size=rows)
    often = r.random(rows) < 0.3
    made["city"] = np.where(often, NAMES[r.integers(0, 20, groups[-1] + 1)][groups], NAMES[r.integers(0, 20, rows)])
    return made


def test_rows_that_come_in_sessions_do_not_alarm() -> None:
    assert alarms(lambda r: (in_sessions(r, 1_000, 50), in_sessions(r, 1_000, 50)), 20) <= 3


def test_without_the_design_effect_sessions_would_alarm() -> None:
    blind = Settings(independent=True)
    assert alarms(lambda r: (in_sessions(r, 1_000, 50), in_sessions(r, 1_000, 50)), 10, blind) >= 8


def test_the_design_effect_of_independent_rows_is_near_one() -> None:
    r = np.random.default_rng(2)
    assert np.mean([*check(profile(small(r, 20_000)), small(r, 20_000)).inflation.values()]) < 1.3


def _with(name: str, change: Callable[[Any, Any], Any]) -> Callable[[Any, int], tuple[Frame, Frame]]:
    def make(r: Any, rows: int) -> tuple[Frame, Frame]:
        one, other = small(r, rows), small(r, rows)
        other[name] = change(r, other[name])
        return one, other

    return make


def _sometimes(share: float, value: Any) -> Callable[[Any, Any], Any]:
    def change(r: Any, values: Any) -> Any:
        values = values.copy()
        values[r.random(len(values)) < share] = value
        return values

    return change


def _shared_mix(r: Any, values: Any) -> Any:
    return NAMES[r.choice(5, len(values), p=[0.25, 0.15, 0.2, 0.2, 0.2])]


FOUND: Mapping[str, tuple[Callable[[Any, int], tuple[Frame, Frame]], int, str, str]] = {
    "mean by 0.1 sd": (_with("x", lambda r, v: v + 0.1), 10_000, "x", "location"),
    "variance by 1.2": (_with("x", lambda r, v: v * math.sqrt(1.2)), 10_000, "x", "spread"),
    "1 % of the values times 10": (
        _with("x", lambda r, v: np.where(r.random(len(v)) < 0.01, v * 10, v)),
        10_000,
        "x",
        "tail",
    ),
    "a hole in the middle": (_with("x", lambda r, v: v + np.sign(v) * 0.25 * (abs(v) < 0.5)), 10_000, "x", "shape"),
    "mix by 5 points": (_with("plan", _shared_mix), 10_000, "plan", "mix"),
    "a new level": (_with("city", _sometimes(0.01, "new")), 10_000, "city", "new levels"),
    "2 % missing": (_with("x", _sometimes(0.02, np.nan)), 1_000, "x", "missing"),
    "2 % of a category missing": (_with("plan", _sometimes(0.02, None)), 1_000, "plan", "missing"),
    "mean by 0.3 sd in few rows": (_with("x", lambda r, v: v + 0.3), 1_000, "x", "location"),
}


@pytest.mark.parametrize("name", FOUND)
def test_each_change_is_found_in_its_column_by_its_kind(name: str) -> None:
    make, rows, column, change = FOUND[name]
    others = 0
    for trial in range(5):
        one, other = make(np.random.default_rng([3, trial]), rows)
        report = check(profile(one), other)
        assert (column, change) in [(verdict.column, verdict.change) for verdict in report.found]
        others += report.columns != (column,)
    assert others <= 1


def test_a_new_level_in_few_rows_is_found_more_often_than_not() -> None:
    make = _with("city", _sometimes(0.01, "new"))
    hits = sum(
        check(profile(one), other).drifted
        for one, other in (make(np.random.default_rng([4, trial]), 1_000) for trial in range(30))
    )
    assert hits >= 15


def test_a_change_of_correlation_alone_is_found() -> None:
    def drawn(r: Any, rho: float) -> Frame:
        common = r.normal(size=1_000)
        return {f"x{i}": math.sqrt(rho) * common + math.sqrt(1 - rho) * r.normal(size=1_000) for i in range(7)}

    r = np.random.default_rng(5)
    reference = profile(drawn(r, 0.5))
    report = check(reference, drawn(r, 0.35))
    assert {verdict.change for verdict in report.found} == {"dependence"}
    assert sum(check(reference, drawn(r, 0.5)).drifted for _ in range(20)) <= 2


def test_what_changed_in_the_schema_is_told_without_a_test() -> None:
    r = np.random.default_rng(6)
    one = small(r, 500)
    other = {"x": one["x"].astype(str).astype(object), "city": one["city"], "plan": one["plan"], "z": one["y"]}
    told = {verdict.column: verdict.detail for verdict in check(profile(one), other).found}
    assert told == {"x": "was number, is text", "y": "the column is gone", "z": "the column is new"}


def test_the_drift_of_texts_times_and_vectors_is_found() -> None:
    r = np.random.default_rng(7)
    rows = 4_000
    day = np.arange(rows) * (14 * 86_400 // rows)

    def drawn(words: float, word: str, night: bool, shift: float) -> Frame:
        texts = [f"{i} {word * int(k)}" for i, k in enumerate(1 + r.poisson(words, rows))]
        seconds = day // 86_400 * 86_400 + r.integers(0, 21_600, rows) if night else day
        at = np.datetime64("2026-01-05", "us") + np.sort(seconds).astype("timedelta64[s]")
        return {"text": texts, "at": at, "vector": list(r.normal(shift, 1, (rows, 16)))}

    reference = profile(drawn(4, "word ", False, 0.0))
    assert check(reference, drawn(4, "word ", False, 0.0)).found == ()
    report = check(reference, drawn(8, "слово ", True, 0.3))
    parts = {(verdict.column, verdict.part) for verdict in report.found}
    assert {("text", "length"), ("text", "script"), ("at", "hour")} <= parts
    assert "vector" in {column for column, _ in parts}


def test_a_later_time_is_no_drift() -> None:
    at = np.datetime64("2026-01-05", "us") + np.arange(3_000) * np.timedelta64(30, "m")
    assert check(profile({"at": at}), {"at": at + np.timedelta64(63, "D")}).found == ()


def test_like_is_compared_with_like() -> None:
    """Nights are different from days; a window of nights is compared with nights."""
    r = np.random.default_rng(8)
    at = np.arange(8_000) * 600.0
    night = (at % 86_400) < 21_600
    reference = profile({"load": r.normal(size=8_000) + np.where(night, -1.0, 1.0)}, at=at)
    nights = at[night][:1_000] + 56 * 86_400
    window = profile({"load": r.normal(-1, 1, 1_000)}, like=reference, at=nights)
    days_at_night = profile({"load": r.normal(1, 1, 1_000)}, like=reference, at=nights)
    weekday = nights[(nights // 86_400 + 3) % 7 < 5]
    alike = profile({"load": r.normal(-1, 1, len(weekday))}, like=reference, at=weekday)
    assert check(reference, alike).found == ()
    assert check(reference, alike).season == "weekday 00-06"
    assert check(reference, window).season == ""  # nights of all days: no season holds most of them
    busy = profile({"load": r.normal(1, 1, len(weekday))}, like=reference, at=weekday)
    assert check(reference, busy).columns == ("load",)
    assert days_at_night.rows == 1_000


def test_features_are_ranked_by_effect_times_importance() -> None:
    r = np.random.default_rng(9)
    one, other = small(r, 5_000), small(r, 5_000)
    other |= {"x": other["x"] + 0.6, "y": other["y"] * 1.3}
    reference = profile(one)
    assert check(reference, other).columns == ("x", "y")
    assert check(reference, other, importance={"y": 5.0}).columns == ("y", "x")


def test_counts_on_another_grid_do_not_compare() -> None:
    r = np.random.default_rng(10)
    with pytest.raises(OtherGrid):
        check(profile({"x": r.normal(size=500)}), profile({"x": r.normal(size=500)}))


# the statistics, against scipy and against chance


def test_the_excess_is_the_hypergeometric_tail() -> None:
    assert statistics.excess(3, 1_000, 12, 900, 1.0) == pytest.approx(stats.hypergeom.sf(11, 1_900, 15, 900))


def test_the_mix_of_sparse_levels_holds_its_level() -> None:
    r = np.random.default_rng(12)
    p = []
    for _ in range(800):
        ref, cur = (np.bincount(r.integers(0, 200, 600), minlength=200).astype(float) for _ in range(2))
        p.append(statistics.mix(ref, cur, 1.0, math.inf))
    assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.07


def test_the_mix_of_frequent_levels_is_the_chi_square() -> None:
    ref, cur = np.array([500.0, 300, 200]), np.array([450.0, 340, 210])
    plain = stats.chi2_contingency([ref, cur], correction=False).pvalue
    assert statistics.mix(ref, cur, 1.0, math.inf) == pytest.approx(plain, rel=0.02)


def test_the_shift_of_scores_holds_its_level() -> None:
    r = np.random.default_rng(13)
    scores = np.array([-1.0, 0.0, 3.0])
    p = [
        statistics.shift(r.multinomial(300, [0.6, 0.3, 0.1]), r.multinomial(200, [0.6, 0.3, 0.1]), scores, 1, math.inf)[
            1
        ]
        for _ in range(2_000)
    ]
    assert 0.035 <= np.mean(np.array(p) < 0.05) <= 0.065


def test_a_level_that_only_the_window_has_is_as_likely_as_coin_tosses() -> None:
    assert statistics.unseen(np.array([40.0] * 50 + [10.0]), 0.5, 10, 1.0) == pytest.approx(2**-10, rel=0.01)
    r = np.random.default_rng(14)
    p = []
    for _ in range(600):
        ref, cur = (np.bincount(r.zipf(1.5, 500).clip(max=400), minlength=401) for _ in range(2))
        p.append(statistics.unseen((ref + cur).astype(float), 0.5, float(cur[ref == 0].sum()), 1.0))
    assert np.mean(np.array(p) < 0.05) <= 0.07


def test_the_correction_is_holms_with_weights() -> None:
    assert statistics.holm([0.01, 0.04, 0.03], [1, 1, 1]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.01, 0.04], [0.9, 0.1]) == pytest.approx([0.01 / 0.9, 0.04])


# windows


def _report(*columns: str, effect: float = 0.1, p: float = 0.01, change: str = "location") -> DriftReport:
    return DriftReport((1_000, 1_000), tuple(Verdict(c, change, effect, p, True) for c in columns), 5)


def test_one_odd_window_does_not_count() -> None:
    assert not lasting(_report("x"), [_report("y"), _report()], Persistence()).found


def test_a_column_that_drifts_again_counts() -> None:
    assert lasting(_report("x", "y"), [_report(), _report("x")], Persistence()).columns == ("x",)
    assert not lasting(_report("x"), [_report(), _report(), _report("x")], Persistence()).found


def test_what_is_overwhelming_counts_at_once() -> None:
    clear = _report("x", effect=0.8, p=1e-30)
    assert lasting(clear, [], Persistence()).found
    assert lasting(clear, [], Persistence(), closed=False).found


def test_an_open_window_says_only_what_is_overwhelming() -> None:
    assert not lasting(_report("x"), [_report("x"), _report("x")], Persistence(), closed=False).found


def test_drift_is_over_after_quiet_windows_not_after_one() -> None:
    quiet, moved = _report(), _report("x")
    assert not is_over(quiet, [moved, moved], Persistence())
    assert is_over(quiet, [quiet, moved], Persistence())
    assert not is_over(moved, [quiet, quiet], Persistence())


# raw rows


def test_a_classifier_does_not_tell_quiet_tables_apart() -> None:
    hits = 0
    for trial in range(4):
        r = np.random.default_rng([15, trial])
        one, other = small(r, 600), small(r, 600)
        one["name"], other["name"] = (NAMES[r.integers(0, 500, 600)] for _ in range(2))
        hits += separation(one, other).p < 0.05
    assert hits <= 1


def test_a_classifier_finds_what_pairs_do_not_show() -> None:
    """The sign of x · y · z is positive in one table alone: all marginals and all pairs are equal."""
    r = np.random.default_rng(16)
    one = {name: r.normal(size=3_000) for name in "xyz"}
    other = {name: r.normal(size=3_000) for name in "xyz"}
    other["z"] = np.abs(other["z"]) * np.sign(other["x"] * other["y"])
    assert not check(profile(one), other).found
    found = separation(one, other)
    assert found.auc > 0.6
    assert found.p < 1e-6


# the page


def _page() -> str:
    r = np.random.default_rng(17)
    one, other = small(r, 2_000), small(r, 2_000)
    evil = "<script>alert(1)</script>"
    one[evil], other[evil] = one["x"], other["x"] + 1
    other["city"] = _sometimes(0.05, '"><img src=x>')(r, other["city"])
    reference = profile(one)
    current = profile(other, like=reference)
    return drift_page(check(reference, current), reference, current, "Drift of churn & co")


def test_the_page_is_one_file_without_scripts_and_escapes_what_it_shows() -> None:
    page = _page()
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "http" not in page.replace('http-equiv="', "")
    assert "prefers-color-scheme: dark" in page


def test_the_page_shows_each_column_with_both_distributions() -> None:
    page = _page()
    assert page.count("<section>") == 5
    assert page.count("<svg") == 5
    assert page.count('class="ref"') == page.count('class="cur"')
    assert "Drift of churn &amp; co" in page


def test_the_page_of_odd_tables_is_made_without_a_fault() -> None:
    odd = {
        "empty": [None] * 60,
        "one": [1.0] * 60,
        "inf": [math.inf] * 60,
        "text": pa.array([f"{i}" for i in range(60)]),
    }
    reference = profile(odd)
    for other in (odd, {"empty": [1] * 60, "one": [math.nan] * 60, "inf": [2.0] * 60, "extra": [1] * 60}, {}):
        current = profile(other, like=reference)
        assert "</html>" in drift_page(check(reference, current), reference, current)
