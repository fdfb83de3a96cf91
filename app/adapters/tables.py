"""Tables that somebody sends: JSON, Arrow streams, Parquet. Bounded before anything is unpacked."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.domain.errors import Malformed

MOST_ROWS = 1_000_000
MOST_COLUMNS = 500
MOST_BYTES = 256 * 1024 * 1024  # unpacked
MOST_CELLS = MOST_BYTES // 32  # of rows: more than the largest body can name, where each row names each column
LONGEST_TEXT = 64 * 1024
LONGEST_NAME = 255


def from_rows(rows: Sequence[Any]) -> pa.Table:
    """Columns in the order in which rows name them first; what a row leaves out is missing."""
    _check_size(len(rows), 0)
    if not all(isinstance(row, dict) for row in rows):
        raise Malformed("rows must be objects: name of the column → value")
    names = dict.fromkeys(name for row in rows for name in row)
    _check_size(len(rows), len(names))
    if len(rows) * len(names) > MOST_CELLS:
        raise Malformed(
            f"more than {MOST_CELLS} cells (rows times names of columns); send the rows in several batches, or "
            "leave out the columns that few of them name"
        )
    return from_columns({name: [row.get(name) for row in rows] for name in names})


def from_columns(columns: Mapping[str, Any]) -> pa.Table:
    """Columns of equal length."""
    for name, values in columns.items():
        if not isinstance(values, list):
            raise Malformed(f"the column {_shown(name)} is not a list of values")
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise Malformed("the columns are not of one length")
    _check_size(max(lengths, default=0), len(columns))
    return _checked(pa.table({name: _array(values) for name, values in columns.items()}))


def from_arrow(body: bytes) -> pa.Table:
    """An Arrow IPC stream. Its buffers must not be compressed: a few bytes could unpack to any size."""
    try:
        for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(body)):
            if message.type in ("record batch", "dictionary") and _is_compressed(message.metadata.to_pybytes()):
                raise Malformed(
                    "the buffers of the Arrow stream are compressed: send them as they are, with Content-Encoding: zstd"
                )
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            _check_size(0, len(reader.schema))
            return _checked(pa.Table.from_batches(_bounded(reader), reader.schema))
    except (pa.ArrowException, struct.error, LookupError, OSError, ValueError, OverflowError, MemoryError) as error:
        raise Malformed(f"not an Arrow stream: {_first_line(error)}") from error


def from_parquet(body: bytes) -> pa.Table:
    """A Parquet file, read batch by batch once its own description of its size is within bounds."""
    try:
        with pq.ParquetFile(pa.py_buffer(body)) as file:
            told = file.metadata
            _check_size(told.num_rows, told.num_columns)
            groups = (told.row_group(number) for number in range(told.num_row_groups))
            _check_bytes(sum(max(0, group.total_byte_size) for group in groups))
            schema = file.schema_arrow
            _check_size(0, len(schema))
            texts = [field.name for field in schema if pa.types.is_string(field.type)]
        # texts stay dictionaries while they are read: a value that stands once must not be written out a million times
        with pq.ParquetFile(pa.py_buffer(body), read_dictionary=texts) as file:
            batches = list(_bounded(file.iter_batches(batch_size=64 * 1024)))
            return _checked(pa.Table.from_batches(batches, None if batches else file.schema_arrow))
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise Malformed(f"not a Parquet file: {_first_line(error)}") from error


def _bounded(batches: Iterable[Any]) -> Iterable[Any]:
    rows = size = 0
    for batch in batches:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        _check_size(rows, batch.num_columns)
        _check_bytes(size)
        yield batch


def _check_size(rows: int, columns: int) -> None:
    if rows > MOST_ROWS:
        raise Malformed(f"more than {MOST_ROWS} rows; send them in several batches")
    if columns > MOST_COLUMNS:
        raise Malformed(f"more than {MOST_COLUMNS} columns")


def _check_bytes(size: int) -> None:
    if size > MOST_BYTES:
        raise Malformed(f"more than {MOST_BYTES} bytes when unpacked; send them in several batches")


def _array(values: list[Any]) -> Any:
    """What JSON holds. Numbers that are too large become floats, and a column of several kinds becomes text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        return pa.array([None if value is None else float(value) for value in values])
    if any(isinstance(value, list | dict) for value in values):
        raise Malformed("a column mixes lists or objects with other values")
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _checked(table: Any) -> Any:
    """With plain types only: numbers, truths, texts, times, lists of numbers."""
    names = table.column_names
    if len(set(names)) != len(names):
        raise Malformed("two columns have the same name")
    for name in names:
        if not name or len(name) > LONGEST_NAME:
            raise Malformed(f"the name of a column is empty or longer than {LONGEST_NAME} characters")
    try:
        table.validate(full=True)
        return pa.table({name: _plain(name, table[name]) for name in names})
    except (pa.ArrowException, OverflowError) as error:
        raise Malformed(f"the table is not sound: {_first_line(error)}") from error


def _plain(name: str, column: Any) -> Any:
    kind = column.type
    types = pa.types
    if types.is_dictionary(kind):
        return _plain(name, _decoded(name, column))
    if types.is_decimal(kind) or types.is_float16(kind):
        return column.cast(pa.float64(), safe=False)
    if types.is_string_view(kind) or types.is_binary_view(kind):  # its values may all be one long word
        raise Malformed(f"the column {_shown(name)} is of the type {kind}: cast it to string")
    if types.is_large_string(kind):
        kind, column = pa.string(), column.cast(pa.string())
    if types.is_string(kind):
        if (pc.max(pc.binary_length(column)).as_py() or 0) > LONGEST_TEXT:
            raise Malformed(f"the column {_shown(name)} holds a text of more than {LONGEST_TEXT} bytes")
        return column
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        if types.is_integer(kind.value_type) or types.is_floating(kind.value_type):
            return column
    elif (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_temporal(kind)
        or types.is_null(kind)
    ):
        return column
    raise Malformed(f"the column {_shown(name)} is of the type {str(kind)[:60]}, of which nothing can be made")


def _decoded(name: str, column: Any) -> Any:
    """A dictionary written out, if that stays within bounds."""
    words = column.type.value_type
    if not (pa.types.is_string(words) or pa.types.is_large_string(words)):
        if not (pa.types.is_integer(words) or pa.types.is_floating(words) or pa.types.is_boolean(words)):
            raise Malformed(f"the column {_shown(name)} is a dictionary of {str(words)[:60]}")
        return pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], words)
    size = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
        size += pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0
        _check_bytes(size)
    return pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], words)


def _is_compressed(metadata: bytes) -> bool:
    """Whether a RecordBatch or DictionaryBatch message says so: fields of Arrow's Message.fbs, read by hand since
    pyarrow does not show them."""
    message = _table_at(metadata, 0)
    batch = _table_at(metadata, _field(metadata, message, 2))
    if metadata[_field(metadata, message, 1)] == 2:  # a DictionaryBatch: the batch is its second field
        batch = _table_at(metadata, _field(metadata, batch, 1))
    return _field(metadata, batch, 3) != 0


def _table_at(data: bytes, place: int) -> int:
    return place + int(struct.unpack_from("<I", data, place)[0])


def _field(data: bytes, table: int, number: int) -> int:
    """Where a table's field stands; 0: it is not set."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise struct.error("a table points before its start")
    size = struct.unpack_from("<H", data, vtable)[0]
    slot = 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + slot)[0] if slot + 2 <= size else 0
    return table + offset if offset else 0


def _shown(name: object) -> str:
    return repr(str(name)[:60])


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
