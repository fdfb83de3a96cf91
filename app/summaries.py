"""What the detectors keep of observations, put together: the profile of the inputs, the counts of the predictions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from app.domain.errors import Malformed
from app.domain.evidence import Observed
from app.domain.model import Columns
from detectors import degradation
from detectors.drift.profile import Profile, profile

MOST_SEASONAL = 100  # columns: beyond that a profile for each season would make the whole too large


class DetectorSummaries:
    """ports.models.Summaries. `key` gives the secret under which ids and sessions are hashed."""

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    def of(self, window: str, table: Any, columns: Columns, like: Observed | None = None) -> Observed:
        try:
            return Observed(
                window, table.num_rows, _profiled(table, columns, like), _summarised(table, columns, self._key())
            )
        except ValueError as error:
            raise Malformed(str(error)) from error

    def joined(self, first: Observed, second: Observed) -> Observed:
        try:
            summary = _either(first.summary, second.summary, degradation.merge)
        except ValueError as error:
            raise Malformed(str(error)) from error
        try:
            kept = _either(first.profile, second.profile, _merged)
        except ValueError:
            # one batch with other columns must not wipe the window; on another reference's grid it no longer compares
            alike = set(first.profile["columns"]) == set(second.profile["columns"])  # type: ignore[index]
            kept = second.profile if alike else first.profile
        return Observed(first.window, first.rows + second.rows, kept, summary)

    def labelled(self, observed: Observed, table: Any, columns: Columns) -> Observed | None:
        if observed.summary is None:
            return None
        ids, labels = _cells(table, columns.id), _cells(table, columns.label)
        before = observed.summary
        after = degradation.join(before, ids or [], labels or [], key=self._key())
        if after["labelled"] == before["labelled"]:
            return None
        # a label may belong to another window: which ones belong to none is not this window's to say
        return replace(observed, summary={**after, "unmatched": before["unmatched"]})


def _profiled(table: Any, columns: Columns, like: Observed | None) -> Mapping[str, Any] | None:
    aside = {columns.label, columns.id, columns.session, columns.time, columns.latency_ms, columns.failed}
    features = [name for name in table.column_names if name not in aside | set(columns.leave_out)]
    if not features:
        return None
    grids = Profile.from_json(like.profile) if like is not None and like.profile is not None else None
    at = _seconds(table, columns.time) if len(features) <= MOST_SEASONAL else None
    times = None if at is None else np.array([_float(value) for value in at])
    return profile(table.select(features), grids, at=times).to_json()


def _summarised(table: Any, columns: Columns, key: bytes) -> Mapping[str, Any] | None:
    prediction = _cells(table, columns.prediction)
    if not columns.task or prediction is None:
        return None
    batch = degradation.Batch(
        task=columns.task,
        prediction=prediction,
        score=_cells(table, columns.score),
        label=_cells(table, columns.label),
        id=_cells(table, columns.id),
        session=_cells(table, columns.session),
        segments={name: _cells(table, name) or [] for name in columns.segments if name in table.column_names},
        at=_seconds(table, columns.time),
        latency_ms=_cells(table, columns.latency_ms),
        failed=_cells(table, columns.failed),
        positive=columns.positive,
    )
    return degradation.summarise(batch, key=key)


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> Mapping[str, Any]:
    return Profile.from_json(first).merge(Profile.from_json(second)).to_json()


def _either(first: Any, second: Any, both: Callable[[Any, Any], Any]) -> Any:
    if first is None or second is None:
        return first if second is None else second
    return both(first, second)


def _cells(table: Any, name: str) -> list[Any] | None:
    return table[name].to_pylist() if name and name in table.column_names else None


def _seconds(table: Any, name: str) -> Sequence[Any] | None:
    """Seconds since 1970: of numbers themselves, of timestamps and of texts such as 2026-11-21T09:00:00Z; UTC where no
    zone is told."""
    if not name or name not in table.column_names:
        return None
    column = table[name]
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        exact = column.cast(pa.timestamp("us", "UTC"), safe=False) if pa.types.is_timestamp(column.type) else column
        micros = exact.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return [None if value is None else value / 1e6 for value in micros.to_pylist()]
    return [_second(value) for value in column.to_pylist()]


def _float(value: Any) -> float:
    """NaN for what is no number."""
    return float(value) if isinstance(value, int | float) else math.nan


def _second(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        at = datetime.fromisoformat(value[:40])
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
