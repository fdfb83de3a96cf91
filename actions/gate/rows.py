"""What a training run keeps of its held-out rows, and the rows that two runs have in common.

The file comes from a training: data that somebody else wrote. Sizes are bounded before anything is unpacked, and only
plain columns with a known name are read.
"""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from app.domain.errors import Malformed

MOST_FILE_BYTES = 64 * 1024 * 1024
MOST_BYTES = 256 * 1024 * 1024  # unpacked
MOST_ROWS = 500_000
MOST_COLUMNS = 500
LONGEST_TEXT = 200
GROUP = ("group", "session")
_CLASSES = frozenset({"label", "prediction"})
_TRUTHS = {"true": True, "false": False}  # as text has them
_KNOWN = ("id", "label", "prediction", "score", *GROUP)

Values = list[Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The columns of one run, of equal length: None where a value is missing. `ids` are different texts. A column that
    the file has not is None; `segments` are those of the names asked for that it has."""

    ids: Sequence[str]
    label: Values | None = None
    prediction: Values | None = None
    score: Values | None = None
    group: Values | None = None
    segments: Mapping[str, Values] = field(default_factory=dict)


def read(path: str, body: bytes, segments: Sequence[str] = ()) -> Evaluation:
    """By the path's ending: .parquet, .csv, .jsonl. Raises Malformed, in words that name what is wrong."""
    if len(body) > MOST_FILE_BYTES:
        raise Malformed(f"it is more than {MOST_FILE_BYTES} bytes")
    ending = path.rpartition(".")[2].lower()
    readers: Mapping[str, Callable[[bytes, Sequence[str]], dict[str, Values]]]
    readers = {"parquet": _parquet, "csv": _csv, "jsonl": _lines, "ndjson": _lines}
    if ending not in readers:
        raise Malformed("its name must end in .parquet, .csv or .jsonl")
    columns = readers[ending](body, [*dict.fromkeys([*_KNOWN, *segments])])
    return _evaluation(columns, segments)


def _evaluation(columns: Mapping[str, Values], segments: Sequence[str]) -> Evaluation:
    if "id" not in columns:
        raise Malformed("it has no column id: rows of two versions cannot be told to be the same")
    ids = [spelt(value) for value in columns["id"]]
    seen: set[str] = set()
    for number, name in enumerate(ids, start=1):
        if name is None:
            raise Malformed(f"row {number} has no id")
        if name in seen:
            raise Malformed(f"the id {name[:60]!r} stands twice")
        seen.add(name)
    group = next((columns[name] for name in GROUP if name in columns), None)
    return Evaluation(
        ids=[name for name in ids if name is not None],
        label=columns.get("label"),
        prediction=columns.get("prediction"),
        score=columns.get("score"),
        group=group,
        segments={name: columns[name] for name in segments if name in columns},
    )


def spelt(value: Any) -> str | None:
    """The name of a class, as observations spell it: true, 1, 1.0 and "1" are the same; None for what is missing."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value == int(value) else repr(value)
    text = str(value)
    if isinstance(value, str):
        try:
            number = float(text) if len(text) < 30 and text[-1].isdigit() and "_" not in text else math.nan
        except ValueError:
            number = math.nan
        if math.isfinite(number) and abs(number) < 2**53 and text.lstrip("+-")[:2] not in _LEADING_ZEROS:
            return str(int(number)) if number == int(number) else repr(number)
    return " ".join(text.split()).encode("utf-8", "replace").decode()[:LONGEST_TEXT] or None


def all_spelt(values: Sequence[Any]) -> list[str | None]:
    """Each of them; what occurs often is spelt once."""
    known: dict[Any, str | None] = {}
    for value in values:
        if value not in known:
            known[value] = spelt(value)
    return [known[value] for value in values]


_LEADING_ZEROS = frozenset(f"0{digit}" for digit in range(10))  # 007 is a name


def number(value: Any) -> float:
    """NaN for what is missing or no finite number."""
    try:
        found = float(value) if not isinstance(value, str) or len(value) < 60 else math.nan
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) and abs(found) < 1e100 else math.nan


def numbers(values: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([number(value) for value in values], dtype=float)


def _check_rows(rows: int) -> None:
    if rows > MOST_ROWS:
        raise Malformed(f"it has more than {MOST_ROWS} rows")


def _csv(body: bytes, wanted: Sequence[str]) -> dict[str, Values]:
    try:
        reader = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        header = next(reader, [])
        places = _places(header, wanted)
        columns: dict[str, Values] = {name: [] for name in places}
        for row, cells in enumerate(reader, start=1):
            _check_rows(row)
            if not cells:
                continue
            if len(cells) != len(header):
                raise Malformed(f"line {reader.line_num} has {len(cells)} cells, the first has {len(header)}")
            for name, place in places.items():
                cell = _short(name, cells[place]) or None
                columns[name].append(_TRUTHS.get(cell.lower(), cell) if cell and name in _CLASSES else cell)
    except (UnicodeDecodeError, csv.Error) as error:
        raise Malformed(f"it is not CSV in UTF-8: {str(error)[:100]}") from error
    return columns


def _places(header: Sequence[str], wanted: Sequence[str]) -> dict[str, int]:
    if len(header) > MOST_COLUMNS:
        raise Malformed(f"it has more than {MOST_COLUMNS} columns")
    twice = [name for name in wanted if header.count(name) > 1]
    if twice:
        raise Malformed(f"the column {twice[0]} stands twice")
    return {name: header.index(name) for name in wanted if name in header}


def _short(name: str, value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise Malformed(f"the column {name} holds a text of more than {LONGEST_TEXT} characters")
    return value


def _lines(body: bytes, wanted: Sequence[str]) -> dict[str, Values]:
    rows: list[dict[str, Any]] = []
    for line_number, line in enumerate(io.BytesIO(body), start=1):
        if not line.strip():
            continue
        _check_rows(len(rows) + 1)
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise Malformed(f"line {line_number} is no JSON") from error
        if not isinstance(row, dict):
            raise Malformed(f"line {line_number} is no object")
        kept = {}
        for name in wanted:
            if name in row:
                value = row[name]
                if value is not None and not isinstance(value, str | int | float | bool):
                    raise Malformed(f"line {line_number}: {name} is neither text nor number")
                kept[name] = _short(name, value)
        rows.append(kept)
    names = [name for name in wanted if any(name in row for row in rows)]
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet(body: bytes, wanted: Sequence[str]) -> dict[str, Values]:
    import pyarrow as pa  # only a process that reads such a file pays for it
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.py_buffer(body)) as file:
            told, schema = file.metadata, file.schema_arrow
            _check_rows(told.num_rows)
            places = _places(schema.names, wanted)
            groups = (told.row_group(place) for place in range(told.num_row_groups))
            _check_size(sum(max(0, group.total_byte_size) for group in groups))
            for name in places:
                _check_type(name, schema.field(name).type)
            texts = [name for name in places if pa.types.is_string(schema.field(name).type)]
        # texts stay dictionaries while they are read: what stands once must not be written out a million times
        with pq.ParquetFile(pa.py_buffer(body), read_dictionary=texts) as file:
            columns: dict[str, Values] = {name: [] for name in places}
            for batch in _bounded(file.iter_batches(batch_size=64 * 1024, columns=list(places))):
                for name in places:
                    columns[name].extend(_plain(name, batch.column(name)))
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise Malformed(f"it is no Parquet file that can be read: {_first_line(error)}") from error
    return columns


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise Malformed(f"it is more than {MOST_BYTES} bytes when unpacked")


def _bounded(batches: Any) -> Iterator[Any]:
    rows = size = 0
    for batch in batches:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        _check_rows(rows)
        _check_size(size)
        batch.validate(full=True)
        yield batch


def _check_type(name: str, kind: Any) -> None:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    plain = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string)
    if not any(is_one(kind) for is_one in (*plain, types.is_null)):
        raise Malformed(f"the column {name} is of the type {str(kind)[:60]}; it must hold numbers, truths or texts")


def _plain(name: str, column: Any) -> Values:
    """The values of one batch; a dictionary is looked up here, so that a long text is never copied."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        words = [_short(name, word) for word in column.dictionary.to_pylist()]
        return [None if place is None else words[place] for place in column.indices.to_pylist()]
    return [_short(name, value) for value in column.to_pylist()]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@dataclass(frozen=True, slots=True)
class Joined:
    """The rows that both have and whose label is known, in the champion's order.

    `rows` counts all ids of either, `apart` those that only one has, `unlabelled` those without a label, `unlike` those
    with two different labels. `places` are the labelled rows' places in the champion's file and in the challenger's.
    """

    rows: int
    apart: int
    unlabelled: int
    unlike: int
    places: Sequence[tuple[int, int]]

    @property
    def coverage(self) -> float:
        return len(self.places) / self.rows if self.rows else 0.0


def join(champion: Evaluation, challenger: Evaluation, *, numeric: bool) -> Joined:
    """By id. Numeric labels are equal when they differ by no more than a 32-bit float forgets."""
    at = {name: place for place, name in enumerate(challenger.ids)}
    both = [(place, at[name]) for place, name in enumerate(champion.ids) if name in at]
    rows = len(champion.ids) + len(challenger.ids) - len(both)
    one, other = (told.label if told.label is not None else [None] * len(told.ids) for told in (champion, challenger))
    labelled, unlike = [], 0
    if numeric:
        here, there = numbers(one), numbers(other)
        for mine, theirs in both:
            first, second = here[mine], there[theirs]
            if not (math.isnan(first) or math.isnan(second)):
                labelled.append((mine, theirs))
                unlike += not math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-12)
    else:
        names, others = all_spelt(one), all_spelt(other)
        for mine, theirs in both:
            name, second_name = names[mine], others[theirs]
            if name is not None and second_name is not None:
                labelled.append((mine, theirs))
                unlike += name != second_name
    return Joined(rows, rows - len(both), len(both) - len(labelled), unlike, labelled)
