"""A list as a file: what the page shows, with the same filter, to the end."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from starlette.responses import StreamingResponse

FORMATS = ("csv", "jsonl")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Columns = Mapping[str, Callable[[Any], Any]]


def wanted(query: Mapping[str, str]) -> str:
    """The format that the address asks for; "" for the page itself."""
    asked = query.get("format", "")
    return asked if asked in FORMATS else ""


def export(form: str, name: str, columns: Columns, rows: Iterable[Any]) -> StreamingResponse:
    """`rows` are read while they are sent; `columns` gives each its value."""
    lines = _csv(columns, rows) if form == "csv" else _jsonl(columns, rows)
    media = "text/csv" if form == "csv" else "application/jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"', "Cache-Control": "no-store"}
    return StreamingResponse(lines, media_type=media, headers=headers)


def _csv(columns: Columns, rows: Iterable[Any]) -> Iterator[str]:
    buffer = io.StringIO()
    write = csv.writer(buffer)
    write.writerow(columns)
    for row in rows:
        write.writerow([_cell(value(row)) for value in columns.values()])
        if buffer.tell() > 32_768:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _jsonl(columns: Columns, rows: Iterable[Any]) -> Iterator[str]:
    for row in rows:
        yield json.dumps({name: _plain(value(row)) for name, value in columns.items()}, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _cell(value: Any) -> Any:
    """A spreadsheet takes what begins so for a formula: an apostrophe makes it text."""
    value = _plain(value)
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
