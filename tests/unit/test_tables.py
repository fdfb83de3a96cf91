"""Tables that somebody sends: whatever it is, it is a bounded table or a Malformed."""

import io
import struct
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.adapters import observations, tables
from app.domain.delivery import Delivery
from app.domain.errors import Malformed

TABLE = pa.table(
    {
        "n": pa.array([1, None, 3]),
        "x": pa.array([0.5, float("nan"), None]),
        "s": pa.array(["a", None, "b"]),
        "d": pa.array(["u", "v", "u"]).dictionary_encode(),
        "b": pa.array([True, False, None]),
        "t": pa.array([0, 1, 2], pa.timestamp("ms", "UTC")),
        "e": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    }
)


def arrow(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def parquet(table: pa.Table, **words: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **words)
    return sink.getvalue()


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda: tables.from_arrow(arrow(TABLE)), id="arrow"),
        pytest.param(lambda: tables.from_parquet(parquet(TABLE)), id="parquet"),
        pytest.param(lambda: tables.from_parquet(parquet(TABLE, compression="zstd", row_group_size=1)), id="groups"),
    ],
)
def test_the_same_table_comes_out_of_every_format(read: Any) -> None:
    found = read()
    assert found.column_names == TABLE.column_names
    assert found.num_rows == 3
    assert found["s"].to_pylist() == ["a", None, "b"]
    assert found["d"].to_pylist() == ["u", "v", "u"]
    assert pa.types.is_string(found["d"].type)


def test_rows_and_columns_of_json_are_the_same() -> None:
    rows = tables.from_rows([{"a": 1, "b": "x"}, {"a": 2.5}, {"b": None, "a": 3}])
    columns = tables.from_columns({"a": [1, 2.5, 3], "b": ["x", None, None]})
    assert rows.equals(columns)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1, "a", None], ["1", "a", None]),
        ([2**63, 1], [2.0**63, 1.0]),
        ([2**64, 1], [2.0**64, 1.0]),
        ([True, "x"], ["True", "x"]),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ([None, None], [None, None]),
    ],
)
def test_a_column_of_json_becomes_a_plain_one(values: list[Any], found: list[Any]) -> None:
    assert tables.from_columns({"c": values})["c"].to_pylist() == found


@pytest.mark.parametrize(
    "column",
    [
        pa.array([{"a": 1}] * 3),
        pa.array([b"raw"] * 3),
        pa.array([["a"], ["b"], ["c"]]),
        pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
    ],
    ids=["struct", "binary", "list of texts", "map"],
)
def test_types_of_which_nothing_can_be_made_are_refused(column: pa.Array) -> None:
    for read, write in ((tables.from_arrow, arrow), (tables.from_parquet, parquet)):
        with pytest.raises(Malformed, match="nothing can be made"):
            read(write(pa.table({"c": column})))


def test_two_columns_of_one_name_are_refused() -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(Malformed, match="same name"):
        tables.from_arrow(arrow(twice))


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_an_arrow_stream_with_compressed_buffers_is_refused(compression: str) -> None:
    for table in (TABLE, TABLE.select(["d"]), TABLE.select(["n"])):
        with pytest.raises(Malformed, match="Content-Encoding"):
            tables.from_arrow(arrow(table, compression))


def test_more_rows_columns_or_bytes_than_are_taken_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 10)
    monkeypatch.setattr(tables, "MOST_COLUMNS", 3)
    long, wide = pa.table({"a": range(11)}), pa.table({name: [1] for name in "abcd"})
    for table, says in ((long, "rows"), (wide, "columns")):
        for read, write in ((tables.from_arrow, arrow), (tables.from_parquet, parquet)):
            with pytest.raises(Malformed, match=says):
                read(write(table))
        with pytest.raises(Malformed, match=says):
            tables.from_columns(table.to_pydict())
        with pytest.raises(Malformed, match=says):
            tables.from_rows(table.to_pylist())


def test_a_few_bytes_that_unpack_to_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_BYTES", 1_000_000)
    text = "x" * 60_000
    repeated = pa.table({"s": pa.array([text] * 100).dictionary_encode()})
    for packed, read in ((arrow(repeated), tables.from_arrow), (parquet(repeated), tables.from_parquet)):
        assert len(packed) < 100_000
        with pytest.raises(Malformed, match="when unpacked"):
            read(packed)
    zeros = pa.table({"n": [0] * 500_000})
    with pytest.raises(Malformed, match="when unpacked"):
        tables.from_parquet(parquet(zeros, use_dictionary=False))


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(Malformed, match="text of more than"):
        tables.from_rows([{"s": "x" * 70_000}])


def test_a_dictionary_that_points_outside_itself_is_refused() -> None:
    wrong = pa.DictionaryArray.from_arrays(pa.array([0, 7]), pa.array(["a"]), safe=False)
    with pytest.raises(Malformed):
        tables.from_arrow(arrow(pa.table({"d": wrong})))


few = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@few
@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_malformed(raw: bytes) -> None:
    for read in (tables.from_arrow, tables.from_parquet):
        with pytest.raises(Malformed):
            read(raw)


def _changed(whole: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    raw = bytearray(whole)
    for place, value in changes:
        raw[place % len(raw)] = value
    return bytes(raw[: len(raw) - cut % len(raw)])


@few
@given(
    st.sampled_from(["arrow", "compressed", "parquet"]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    st.one_of(st.just(0), st.integers(0, 10_000)),
)
def test_a_damaged_file_is_a_sound_table_or_malformed(kind: str, changes: list[tuple[int, int]], cut: int) -> None:
    whole, read = {
        "arrow": (arrow(TABLE), tables.from_arrow),
        "compressed": (arrow(TABLE, "zstd"), tables.from_arrow),
        "parquet": (parquet(TABLE), tables.from_parquet),
    }[kind]
    try:
        found = read(_changed(whole, changes, cut))
    except Malformed:
        return
    found.validate(full=True)
    assert found.num_columns <= tables.MOST_COLUMNS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
members = st.sampled_from(["rows", "columns", "window", "role", "task", "curves", "close", "segments", "positive", "x"])


@few
@given(json_values | st.dictionaries(members, json_values, max_size=5))
def test_any_json_is_a_batch_or_malformed(value: Any) -> None:
    try:
        body = orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return
    try:
        batch = observations.read(Delivery("g", "observations", "observations", "m", body))
    except Malformed:
        return
    assert batch.table is None or batch.table.num_rows > 0


def test_few_bytes_of_rows_do_not_become_many_cells() -> None:
    rows = [{f"c{number}": 1 for number in range(500)}, *([{}] * (tables.MOST_CELLS // 500))]
    with pytest.raises(Malformed, match="in several batches"):
        tables.from_rows(rows)


def test_a_column_of_views_on_one_word_is_not_written_out() -> None:
    view = struct.pack("<i4sii", 65536, b"xxxx", 0, 0)
    parts = [None, pa.py_buffer(view * 10), pa.py_buffer(b"x" * 65536)]
    column = pa.Array.from_buffers(pa.string_view(), 10, parts)
    with pytest.raises(Malformed, match="cast it to string"):
        tables.from_arrow(arrow(pa.table({"a": column})))
