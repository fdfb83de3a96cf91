"""What is kept of a table."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.compare import check
from detectors.drift.profile import BUCKETS, LEVELS, Levels, Numbers, Profile, profile

CHUNK = 1_000  # whole blocks of every length, so that blocks add up exactly


def numbers(kept: Profile, column: str, part: str = "") -> Numbers:
    found = kept.columns[column].parts[part]
    assert isinstance(found, Numbers)
    return found


def levels(kept: Profile, column: str, part: str = "") -> Levels:
    found = kept.columns[column].parts[part]
    assert isinstance(found, Levels)
    return found


def table(seed: int, rows: int = CHUNK) -> dict[str, Any]:
    r = np.random.default_rng(seed)
    return {
        "amount": r.lognormal(size=rows),
        "age": np.where(r.random(rows) < 0.1, np.nan, r.normal(40, 10, rows)),
        "count": r.poisson(3, rows),
        "plan": pa.array(np.array(["free", "team", "firm"], object)[r.integers(0, 3, rows)]),
        "active": r.random(rows) < 0.5,
        "note": pa.array([f"text {i} " * int(k) for i, k in enumerate(1 + r.poisson(2, rows))]),
        "at": np.datetime64("2026-01-01", "us") + r.integers(0, 90 * 86_400, rows).astype("timedelta64[s]"),
        "vector": list(r.normal(size=(rows, 8))),
    }


def test_a_profile_survives_json() -> None:
    kept = profile(table(1)).to_json()
    assert Profile.from_json(json.loads(json.dumps(kept))).to_json() == kept


def test_a_profile_read_from_json_finds_the_same() -> None:
    reference, current = profile(table(1)), table(2)
    current["amount"] = current["amount"] * 2
    again = Profile.from_json(json.loads(json.dumps(reference.to_json())))
    assert check(again, current).columns == check(reference, current).columns == ("amount",)


@settings(max_examples=6, deadline=None)
@given(seeds=st.lists(st.integers(0, 10_000), min_size=2, max_size=4, unique=True))
def test_profiles_of_chunks_on_one_grid_add_up_to_the_whole(seeds: list[int]) -> None:
    reference = profile(table(0))
    chunks = [table(seed) for seed in seeds]
    whole = profile({name: _joined([chunk[name] for chunk in chunks]) for name in chunks[0]}, like=reference)
    merged = profile(chunks[0], like=reference)
    for chunk in chunks[1:]:
        merged = merged.merge(profile(chunk, like=reference))
    one, other = whole.to_json(), merged.to_json()
    pairs, pairs_of_chunks = one.pop("pairs"), other.pop("pairs")
    assert _close(one, other)
    assert whole.pairs is not None
    assert merged.pairs is not None
    assert np.allclose(whole.pairs.r, merged.pairs.r)
    assert pairs["blocks"] == pairs_of_chunks["blocks"]
    assert np.allclose(whole.pairs.block, merged.pairs.block, rtol=0.35, atol=0.1)  # scatter about each chunk's mean


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], pa.Array):
        return pa.concat_arrays(parts)
    return [row for part in parts for row in part] if isinstance(parts[0], list) else np.concatenate(parts)


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_close(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(_close(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) or isinstance(other, float):
        return bool(np.isclose(one, other, rtol=1e-4, atol=1e-6))
    return bool(one == other)


def test_many_small_batches_find_what_one_table_finds() -> None:
    r = np.random.default_rng(3)
    common = r.normal(size=4_000)
    reference = profile({"x": common[:2_000], "y": common[:2_000] + r.normal(size=2_000)})
    x, y = r.normal(size=2_000), r.normal(size=2_000) * np.sqrt(2)
    merged = profile({"x": x[:20], "y": y[:20]}, like=reference)
    for start in range(20, 2_000, 20):
        batch = {"x": x[start : start + 20], "y": y[start : start + 20]}
        merged = merged.merge(profile(batch, like=reference))
    assert "dependence" in {verdict.change for verdict in check(reference, merged).found}
    quiet = profile({"x": common[2_000:], "y": common[2_000:] + r.normal(size=2_000)}, like=reference)
    assert not check(reference, quiet).found


def test_profiles_on_different_grids_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="same grid"):
        profile({"x": np.arange(100.0)}).merge(profile({"x": np.arange(100.0) * 3}))


def test_profiles_of_different_columns_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="has no"):
        profile({"x": np.arange(100.0)}).merge(profile({"y": np.arange(100.0)}))


def test_twenty_columns_fit_into_51_kilobytes_of_json() -> None:
    r = np.random.default_rng(5)
    rows = 20_000
    wide: dict[str, Any] = {f"x{i}": r.standard_t(3, rows) for i in range(15)}
    for count in (2, 5, 10, 50, 500):
        wide[f"c{count}"] = pa.array(np.array([f"level_{i}" for i in range(count)], object)[r.integers(0, count, rows)])
    assert len(json.dumps(profile(wide).to_json(), separators=(",", ":"))) <= 51 * 1024


def test_no_text_of_a_row_is_kept() -> None:
    secrets = [f"person{i}@example.org" for i in range(2_000)]
    assert "person" not in json.dumps(profile({"mail": pa.array(secrets)}).to_json())


def test_a_million_levels_stay_bounded() -> None:
    r = np.random.default_rng(6)
    names = np.char.add("user", r.integers(0, 1_000_000, 200_000).astype("U7"))
    often = np.where(r.random(200_000) < 0.7, "guest", names)
    kept = levels(profile({"user": pa.array(often.astype(object)).dictionary_encode()}), "user")
    assert len(kept.counts) <= LEVELS
    assert len(kept.rest) <= BUCKETS
    assert kept.rows == 200_000
    assert kept.counts["guest"] == np.count_nonzero(often == "guest")


def test_folded_levels_still_add_up_and_compare() -> None:
    r = np.random.default_rng(7)
    names = np.array([f"n{i}" for i in range(2_000)], object)

    def drawn() -> Any:
        return pa.array(names[np.minimum(r.geometric(0.002, 20_000), 1_999)]).dictionary_encode()

    reference = profile({"name": drawn()})
    one, other = (profile({"name": drawn()}, like=reference) for _ in range(2))
    assert levels(reference, "name").rest
    assert levels(one.merge(other), "name").rows == 40_000
    assert not check(reference, one.merge(other)).found


def test_mean_and_deviation_are_right_to_the_width_of_a_cell() -> None:
    values = np.random.default_rng(8).normal(1_000, 5, 50_000)
    kept = numbers(profile({"x": values}), "x")
    assert kept.mean == pytest.approx(values.mean(), abs=0.1)
    assert kept.sd == pytest.approx(values.std(), rel=0.02)


def test_every_kind_of_column_is_told() -> None:
    kept = profile(table(1))
    kinds = {name: column.kind for name, column in kept.columns.items()}
    assert kinds == {
        "amount": "number",
        "age": "number",
        "count": "number",
        "plan": "category",
        "active": "boolean",
        "note": "text",
        "at": "time",
        "vector": "vector",
    }


def test_the_seasons_of_a_table_are_kept_apart() -> None:
    sunday = datetime(2026, 11, 22, 3, tzinfo=UTC).timestamp()
    monday = datetime(2026, 11, 23, 13, tzinfo=UTC).timestamp()
    at = np.array([sunday] * 30 + [monday] * 70 + [np.nan])
    kept = profile({"x": np.arange(101.0)}, at=at)
    assert {name: season.rows for name, season in kept.seasons.items()} == {"weekday 12-18": 70, "weekend 00-06": 30}


COLUMNS: dict[str, Any] = {
    "nothing": [None] * 60,
    "all NaN": np.full(60, np.nan),
    "constant": np.ones(60),
    "infinite": np.array([np.inf, -np.inf, np.nan] * 20),
    "a few infinite": np.array([*np.arange(57.0), np.inf, -np.inf, np.inf]),
    "huge": np.array([1e308, -1e308, 1e-308, 0, 1, 2] * 10),
    "huge whole": np.array([2**63 - 1, -(2**63), 0] * 20),
    "unsigned": np.array([2**64 - 1, 0, 5] * 20, np.uint64),
    "python integers": [10**30, 5, None] * 20,
    "mixed": [1, "two", None, 3.5, b"four", (5,)] * 10,
    "booleans and none": [True, False, None] * 20,
    "unicode": ["naïve", "日本", "😀", "‮rtl", "a\u0000b", ""] * 10,
    "decimals": [Decimal("1.10"), None, Decimal("-3")] * 20,
    "dates": [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), None] * 20,
    "days": pa.array([0, 20_000, None] * 20, pa.date32()),
    "durations": [timedelta(days=1), None, timedelta(seconds=-5)] * 20,
    "clock": pa.array([0, 3_600, None] * 20, pa.time32("s")),
    "ragged vectors": [[1.0, 2.0], [], None] * 20,
    "fixed vectors": pa.array([[1.0, 2.0], [3.0, None], None] * 20, pa.list_(pa.float32(), 2)),
    "structs": [{"a": 1}, None, {"a": 2}] * 20,
    "bytes": [b"\xff", None, b"a"] * 20,
    "text in a dictionary": pa.array([f"row {i}" for i in range(60)]).dictionary_encode(),
    "half": np.linspace(0, 1, 60).astype(np.float16),
    "big endian": np.arange(60, dtype=">f8"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_an_odd_column_is_kept_and_does_not_differ_from_itself(name: str) -> None:
    kept = profile({"x": COLUMNS[name], "y": np.arange(60.0)})
    again = Profile.from_json(json.loads(json.dumps(kept.to_json(), allow_nan=False)))
    assert check(again, {"x": COLUMNS[name], "y": np.arange(60.0)}).found == ()
    assert again.merge(profile({"x": COLUMNS[name], "y": np.arange(60.0)}, like=again)).rows == 120


@pytest.mark.parametrize("one", COLUMNS)
def test_any_column_may_stand_where_another_was(one: str) -> None:
    reference = profile({"x": COLUMNS[one]})
    for values in COLUMNS.values():
        check(reference, {"x": values})


def test_empty_tables_say_nothing() -> None:
    empty: list[dict[str, Any]] = [{}, {"x": []}, {"x": np.zeros(0)}, {"x": pa.array([], pa.string())}]
    for one in empty:
        for other in empty:
            assert check(profile(one), other).found == ()


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="different numbers of rows"):
        profile({"x": [1, 2], "y": [1]})


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"version": 2},
        {"version": 1, "rows": 1, "columns": {"x": {}}},
        {"version": 1, "rows": 1, "columns": []},
        {"version": 1, "rows": "many", "columns": {}},
    ],
)
def test_what_is_no_profile_is_refused(broken: Any) -> None:
    with pytest.raises(ValueError, match=r"profile|version|invalid"):
        Profile.from_json(broken)


cells = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.booleans(), st.binary(max_size=3))


@settings(max_examples=30, deadline=None)
@given(
    one=st.dictionaries(st.sampled_from("abc"), st.lists(cells, min_size=60, max_size=60), max_size=3),
    other=st.dictionaries(st.sampled_from("abc"), st.lists(cells, min_size=60, max_size=60), max_size=3),
)
def test_any_two_tables_compare(one: dict[str, Any], other: dict[str, Any]) -> None:
    reference = Profile.from_json(json.loads(json.dumps(profile(one).to_json(), allow_nan=False)))
    for verdict in check(reference, other).found:
        assert 0 <= verdict.p <= 1
        assert np.isfinite(verdict.effect)
