"""Has a table changed? Tables and stored profiles from files. No settings, no network, no database."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from app.domain.errors import Malformed
from detectors.drift.compare import DriftReport, check
from detectors.drift.page import drift_page
from detectors.drift.profile import Profile, profile

MOST_PROFILE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Compared:
    report: DriftReport
    reference: Profile
    current: Profile

    def page(self, title: str) -> str:
        return drift_page(self.report, self.reference, self.current, title)


def profile_of(file: Path, leave_out: Sequence[str] = (), time: str = "", like: Profile | None = None) -> Profile:
    """The profile of a file: a table (Parquet, Arrow, CSV), or a profile as `heal profile` writes it.

    Raises Malformed for what cannot be read.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(8)
            if head.lstrip().startswith(b"{"):
                if file.stat().st_size > MOST_PROFILE_BYTES:
                    raise Malformed(f"{file} is too large for a profile")
                return Profile.from_json(json.loads(head + stream.read()))
        table = _table(file, head)
        at = _seconds(table, time) if time else None
        return profile(table.drop_columns([name for name in leave_out if name in table.column_names]), like, at)
    except OSError as error:
        raise Malformed(f"{file} cannot be read: {error.strerror or error}") from error
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise Malformed(f"{file}: {str(error).splitlines()[0] if str(error) else 'not a table'}") from error


def compare(
    reference: Path,
    current: Path,
    leave_out: Sequence[str] = (),
    time: str = "",
    importance: Mapping[str, float] | None = None,
) -> Compared:
    """Both files, compared. Raises Malformed."""
    before = profile_of(reference, leave_out, time)
    after = profile_of(current, leave_out, time, like=before)
    try:
        return Compared(check(before, after, importance=importance), before, after)
    except ValueError as error:
        raise Malformed(str(error)) from error


def weights(told: Sequence[str]) -> dict[str, float]:
    """`name=weight`, several of them. Raises Malformed."""
    found = {}
    for each in told:
        name, _, weight = each.rpartition("=")
        try:
            found[name] = float(weight)
        except ValueError:
            found[name] = -1.0
        if not name or not found[name] >= 0:
            raise Malformed(f"{each!r} is not NAME=WEIGHT")
    return found


def rows(report: DriftReport) -> Iterator[tuple[str, ...]]:
    """The table that people read: column, change, what is seen, effect, corrected p."""
    for verdict in report.found:
        name = f"{verdict.column} ({verdict.part})" if verdict.part else verdict.column
        schema = verdict.change == "schema"
        numbers = ("", "") if schema else (f"{verdict.effect:.2f}", f"{verdict.p:.2g}")
        yield name, verdict.change, verdict.detail, *numbers


def verdict(report: DriftReport) -> str:
    if report.note:
        return report.note
    columns = len(report.columns)
    said = f"{columns} of {report.tested} columns drifted" if columns else f"no drift in {report.tested} columns"
    return f"{said}; the schema changed" if report.schema_changed else said


def _table(file: Path, head: bytes) -> pa.Table:
    if head.startswith(b"PAR1"):
        schema = pyarrow.parquet.read_schema(file)
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        return pyarrow.parquet.read_table(file, read_dictionary=texts)
    if head.startswith(b"ARROW1"):
        with pa.memory_map(str(file)) as source:
            return pyarrow.ipc.open_file(source).read_all()
    if head.startswith(b"\xff\xff\xff\xff"):
        with pa.memory_map(str(file)) as source:
            return pyarrow.ipc.open_stream(source).read_all()
    return pyarrow.csv.read_csv(file)


def _seconds(table: pa.Table, time: str) -> Any:
    if time not in table.column_names:
        raise Malformed(f"there is no column {time!r}")
    column = table[time]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type):
        column = pc.cast(column, pa.timestamp("us", "UTC"))
    if pa.types.is_temporal(column.type):
        zone = getattr(column.type, "tz", None)
        column = pc.divide(column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)
    return column.cast(pa.float64()).to_numpy()
