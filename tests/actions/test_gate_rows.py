"""The evaluation of a run: somebody else's file."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.gate import rows
from actions.gate.rows import Evaluation, join, number, read, spelt
from app.domain.errors import Malformed

TABLE = {
    "id": ["a", "b", "c"],
    "label": [1, 0, 1],
    "prediction": [1, 1, 0],
    "score": [0.9, 0.6, 0.25],
    "country": ["de", "fr", None],
    "secret": ["x", "y", "z"],
}


def parquet(columns: Mapping[str, Any], **how: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), sink, **how)
    return sink.getvalue()


def text(columns: Mapping[str, Sequence[Any]]) -> bytes:
    sink = io.BytesIO()
    pa_csv.write_csv(pa.table(columns), sink)
    return sink.getvalue()


def lines(columns: Mapping[str, Sequence[Any]]) -> bytes:
    size = len(next(iter(columns.values())))
    return "\n".join(json.dumps({n: values[k] for n, values in columns.items()}) for k in range(size)).encode()


WRITERS: dict[str, Callable[[Any], bytes]] = {"e.parquet": parquet, "e.csv": text, "e.jsonl": lines}


@pytest.mark.parametrize("path", WRITERS)
def test_the_known_columns_are_read_and_no_others(path: str) -> None:
    found = read(path, WRITERS[path](TABLE), ["country", "plan"])
    assert found.ids == ["a", "b", "c"]
    assert [spelt(each) for each in found.label or ()] == ["1", "0", "1"]
    assert [number(each) for each in found.score or ()] == [0.9, 0.6, 0.25]
    assert dict(found.segments) == {"country": ["de", "fr", None]}
    assert found.group is None


@pytest.mark.parametrize("path", WRITERS)
def test_a_session_is_a_group(path: str) -> None:
    found = read(path, WRITERS[path]({"id": [1, 2], "label": [1, 0], "session": ["u", "u"]}))
    assert found.group == ["u", "u"]
    assert found.prediction is None


@pytest.mark.parametrize("path", WRITERS)
def test_an_id_that_stands_twice_is_refused(path: str) -> None:
    with pytest.raises(Malformed, match="the id '7' stands twice"):
        read(path, WRITERS[path]({"id": [7, 8, 7], "label": [1, 0, 1]}))


@pytest.mark.parametrize("path", WRITERS)
def test_a_file_without_ids_is_refused(path: str) -> None:
    with pytest.raises(Malformed, match="no column id"):
        read(path, WRITERS[path]({"label": [1, 0]}))
    with pytest.raises(Malformed, match="row 2 has no id"):
        read(path, WRITERS[path]({"id": ["a", None], "label": [1, 0]}))


@pytest.mark.parametrize("path", WRITERS)
def test_a_long_text_is_refused(path: str) -> None:
    with pytest.raises(Malformed, match="the column country holds a text of more than 200 characters"):
        read(path, WRITERS[path]({"id": ["a"], "country": ["x" * 201]}), ["country"])


@pytest.mark.parametrize("path", WRITERS)
def test_more_rows_than_are_read_are_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_ROWS", 2)
    with pytest.raises(Malformed, match="more than 2 rows"):
        read(path, WRITERS[path](TABLE))


@pytest.mark.parametrize("path", ["e.parquet", "e.csv"])
def test_more_columns_than_are_read_are_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_COLUMNS", 5)
    with pytest.raises(Malformed, match="more than 5 columns"):
        read(path, WRITERS[path](TABLE))


def test_a_file_that_is_too_large_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_FILE_BYTES", 10)
    with pytest.raises(Malformed, match="more than 10 bytes"):
        read("e.csv", text(TABLE))


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    body = parquet({"id": list(range(200_000)), "label": [1] * 200_000})
    monkeypatch.setattr(rows, "MOST_BYTES", 1_000_000)
    assert len(body) < 2_000_000
    with pytest.raises(Malformed, match="when unpacked"):
        read("e.parquet", body)


def test_a_text_that_stands_once_is_not_copied_for_each_row() -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 150]))
    body = parquet(pa.table({"id": list(range(100_000)), "country": words}))
    found = read("e.parquet", body, ["country"])
    assert len({id(each) for each in found.segments["country"]}) <= 4


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1], [2]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([b"\x80\x04", b"\x80\x04"]),
        pa.array([1, 2], pa.timestamp("us")),
        pa.array([1, 2], pa.duration("s")),
    ],
    ids=str,
)
def test_what_is_no_plain_column_is_refused(column: Any) -> None:
    with pytest.raises(Malformed, match="the column label is of the type"):
        read("e.parquet", parquet(pa.table({"id": ["a", "b"], "label": column})))


def test_a_column_that_nobody_asks_for_may_be_of_any_type() -> None:
    body = parquet(pa.table({"id": ["a", "b"], "label": [1, 0], "features": pa.array([[1.0], [2.0]])}))
    assert read("e.parquet", body).ids == ["a", "b"]


def test_two_columns_of_one_name_are_refused() -> None:
    table = pa.table([pa.array(["a"]), pa.array([1]), pa.array([0])], names=["id", "label", "label"])
    with pytest.raises(Malformed, match="the column label stands twice"):
        read("e.parquet", parquet(table))
    with pytest.raises(Malformed, match="the column label stands twice"):
        read("e.csv", b"id,label,label\na,1,0\n")


@pytest.mark.parametrize("body", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"id,label\n1,2\n", b"\xff" * 50])
def test_what_is_no_parquet_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed, match="no Parquet file"):
        read("e.parquet", body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"id,label\na,1,2\n", "line 2 has 3 cells, the first has 2"),
        (b"id,label\n\xff,1\n", "not CSV in UTF-8"),
        (b'id,label\n"a,1\n', "not CSV"),
        (b"", "no column id"),
    ],
)
def test_what_is_no_csv_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        read("e.csv", body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"id": 1}\n{', "line 2 is no JSON"),
        (b"[1, 2]", "line 1 is no object"),
        (b'{"id": 1, "label": [1]}', "line 1: label is neither text nor number"),
        (b'{"id": {"a": 1}}', "line 1: id is neither text nor number"),
        (b"[" * 100_000, "line 1 is no JSON"),
    ],
)
def test_what_is_no_jsonl_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        read("e.jsonl", body)


@pytest.mark.parametrize("path", ["evaluation", "evaluation.pkl", "evaluation.json", "evaluation.npy"])
def test_other_kinds_of_file_are_not_opened(path: str) -> None:
    with pytest.raises(Malformed, match="must end in"):
        read(path, b"cos\nsystem\n")


def told(path: str, body: bytes) -> str:
    """Why it is refused; "" if it is read. Anything but Malformed is a bug."""
    try:
        read(path, body, ["country"])
    except Malformed as error:
        return str(error)
    return ""


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_parquet_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(parquet(TABLE))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    assert len(told("e.parquet", bytes(content))) < 500


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=200), path=st.sampled_from(["e.csv", "e.jsonl"]))
def test_any_bytes_are_read_or_refused(body: bytes, path: str) -> None:
    assert len(told(path, body)) < 500


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "1"),
        (1, "1"),
        (1.0, "1"),
        ("1", "1"),
        ("1.0", "1"),
        ("-3", "-3"),
        (0.5, "0.5"),
        ("0.5", "0.5"),
        ("007", "007"),
        ("-007", "-007"),
        ("1_000", "1_000"),
        ("nan", "nan"),
        ("inf", "inf"),
        (" a  b ", "a b"),
        ("", None),
        ("  ", None),
        (None, None),
        (float("nan"), None),
        ("12345678901234567890123", "12345678901234567890123"),
        ("Ω", "Ω"),
        ("٣", "3"),
    ],
)
def test_classes_are_spelt_as_observations_spell_them(value: Any, name: str | None) -> None:
    assert spelt(value) == name


@pytest.mark.parametrize("value", [None, "", "x", "nan", "inf", float("inf"), "9" * 400, 1e200, "1" * 100])
def test_what_is_no_finite_number_is_missing(value: Any) -> None:
    assert number(value) != number(value)


def test_rows_are_joined_by_id_and_what_only_one_has_is_counted() -> None:
    one = Evaluation(["a", "b", "c", "d"], label=[1, 0, None, 1])
    other = Evaluation(["d", "x", "b", "c"], label=[0, 1, 0, 1])
    found = join(one, other, numeric=False)
    assert (found.rows, found.apart, found.unlabelled, found.unlike) == (5, 2, 1, 1)
    assert list(found.places) == [(1, 2), (3, 0)]
    assert found.coverage == pytest.approx(2 / 5)


def test_numeric_labels_may_differ_by_what_a_32_bit_float_forgets() -> None:
    one, other = Evaluation(["a", "b"], label=[0.1, 1e6]), Evaluation(["a", "b"], label=[0.10000000149, 1e6 + 10])
    assert join(one, other, numeric=True).unlike == 1


def test_nothing_in_common_is_no_row() -> None:
    found = join(Evaluation([]), Evaluation([]), numeric=False)
    assert (found.rows, found.coverage) == (0, 0.0)


def test_truths_in_csv_are_truths() -> None:
    found = read("e.csv", b"id,label,prediction\na,True,true\nb,False,1\ntrue,FALSE,no\n")
    assert [spelt(each) for each in found.label or ()] == ["1", "0", "0"]
    assert [spelt(each) for each in found.prediction or ()] == ["1", "1", "no"]
    assert found.ids == ["a", "b", "true"]
