"""Models, their windows, and the kept samples, within one transaction."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from app.db.dialect import insert
from app.db.engine import db_now
from app.db.rows import packed, unpacked
from app.db.tables import ModelRow, RefreshRow, RepositoryRow, SeriesRow, TokenRow, WindowRow
from app.domain.evidence import Observed
from app.domain.model import Role
from app.domain.signal import Series
from app.ports.models import Model, Window

MOST_MODELS = 100
MOST_POINTS = 1_000
MOST_SERIES = 500


class SqlModels:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # models
    def model(self, repository_id: int, name: str) -> Model | None:
        this = select(ModelRow).where(ModelRow.repository_id == repository_id, ModelRow.name == name)
        row = self._connection.execute(this).first()
        return None if row is None else _model(row)

    def add_model(self, repository_id: int, name: str) -> Model | None:
        known = self.model(repository_id, name)
        if known is not None:
            return known
        here = select(func.count()).select_from(ModelRow).where(ModelRow.repository_id == repository_id)
        if self._connection.execute(here).scalar_one() >= MOST_MODELS:
            return None
        add = insert(self._connection, ModelRow).values(
            repository_id=repository_id, name=name, curves={}, added_at=db_now()
        )
        self._connection.execute(add.on_conflict_do_nothing())
        return self.model(repository_id, name)

    def save_curves(self, model: Model) -> None:
        curves = {
            metric: [[_told(step), _told(value)] for step, value in points] for metric, points in model.curves.items()
        }
        this = update(ModelRow).where(ModelRow.id == model.id)
        self._connection.execute(this.values(run=model.run, curves=curves))

    # windows
    def window(self, model: Model, role: Role, name: str) -> Window | None:
        row = self._connection.execute(select(WindowRow).where(*_this(model, role, name))).first()
        return None if row is None else _window(row)

    def windows(self, model: Model, *, role: Role, before: str = "", most: int = 1) -> list[Window]:
        these = select(WindowRow).where(WindowRow.model_id == model.id, WindowRow.role == role.value)
        if before:
            begun = select(WindowRow.id).where(*_this(model, role, before)).scalar_subquery()
            these = these.where(WindowRow.id < begun)
        rows = self._connection.execute(these.order_by(WindowRow.id.desc()).limit(most))
        return [_window(row) for row in rows]

    def save_window(self, model: Model, window: Window) -> None:
        observed = window.observed
        values = {
            "rows": observed.rows,
            "profile": _packed(observed.profile),
            "summary": _packed(observed.summary),
            "updated_at": db_now(),
            "closed_at": db_now() if window.closed else None,
        }
        this = _this(model, window.role, observed.window)
        saved = update(WindowRow).where(*this).values(**values).returning(WindowRow.id)
        if self._connection.scalar(saved) is not None:
            return
        if window.role is Role.REFERENCE:
            former = (WindowRow.model_id == model.id, WindowRow.role == Role.REFERENCE.value)
            self._connection.execute(delete(WindowRow).where(*former))
        new = {"model_id": model.id, "role": window.role.value, "name": observed.window, "begun_at": db_now()}
        self._connection.execute(insert(self._connection, WindowRow).values(**new, **values))

    def close_others(self, model: Model, name: str) -> list[str]:
        open_ones = (
            WindowRow.model_id == model.id,
            WindowRow.role == Role.CURRENT.value,
            WindowRow.closed_at.is_(None),
            WindowRow.name != name,
        )
        closed = update(WindowRow).where(*open_ones).values(closed_at=db_now())
        rows = self._connection.execute(closed.returning(WindowRow.id, WindowRow.name)).all()
        return [row.name for row in sorted(rows, key=lambda row: row.id)]

    def forget_windows(self, model: Model, keep: int) -> None:
        current = (WindowRow.model_id == model.id, WindowRow.role == Role.CURRENT.value)
        newest = select(WindowRow.id).where(*current).order_by(WindowRow.id.desc()).limit(keep)
        kept = list(self._connection.scalars(newest))
        if len(kept) == keep:
            self._connection.execute(delete(WindowRow).where(*current, WindowRow.id < kept[-1]))

    # samples
    def add_samples(self, repository_id: int, series: Sequence[Series]) -> list[Series]:
        joined = []
        for key, each in {_key(each): each for each in _once(series)}.items():
            row = self._connection.execute(_series(repository_id, [key]).with_for_update()).first()
            points = dict(tuple(point) for point in row.points) if row is not None else {}
            points |= dict(each.points)
            newest = sorted(points.items())[-MOST_POINTS:]
            limit = each.limit if each.limit is not None or row is None else row.limit
            told = {"points": [list(point) for point in newest], "limit": limit, "updated_at": db_now()}
            new = {"repository_id": repository_id, "key": key, "name": each.name, "labels": dict(each.labels)}
            add = insert(self._connection, SeriesRow).values(**new, **told)
            saved = add.on_conflict_do_update(index_elements=["repository_id", "key"], set_=told)
            self._connection.execute(saved)
            joined.append(Series(each.name, tuple(newest), each.labels, limit))
        self._forget_series(repository_id)
        return joined

    def series(self, repository_id: int, wanted: Sequence[Series]) -> list[Series]:
        rows = self._connection.execute(_series(repository_id, [_key(each) for each in wanted]).order_by(SeriesRow.id))
        return [Series(row.name, tuple((at, value) for at, value in row.points), row.labels, row.limit) for row in rows]

    def _forget_series(self, repository_id: int) -> None:
        here = SeriesRow.repository_id == repository_id
        newest = select(SeriesRow.id).where(here).order_by(SeriesRow.updated_at.desc(), SeriesRow.id.desc())
        over = list(self._connection.scalars(newest.offset(MOST_SERIES).limit(10 * MOST_SERIES)))
        if over:
            self._connection.execute(delete(SeriesRow).where(SeriesRow.id.in_(over)))


def forget_removed(connection: Connection, older_than_s: float) -> None:
    """What is kept for repositories that the App was removed from that long ago."""
    gone = select(RepositoryRow.id).where(RepositoryRow.removed_at < db_now(-older_than_s))
    models = select(ModelRow.id).where(ModelRow.repository_id.in_(gone))
    connection.execute(delete(WindowRow).where(WindowRow.model_id.in_(models)))
    tokens = select(TokenRow.id).where(TokenRow.repository_id.in_(gone))
    connection.execute(delete(RefreshRow).where(RefreshRow.token_id.in_(tokens)))
    for row in (ModelRow, SeriesRow, TokenRow):
        connection.execute(delete(row).where(row.repository_id.in_(gone)))


def _this(model: Model, role: Role, name: str) -> tuple[Any, ...]:
    return (WindowRow.model_id == model.id, WindowRow.role == role.value, WindowRow.name == name)


def _told(value: float) -> float | str:
    """JSON has no NaN."""
    return value if math.isfinite(value) else str(value)


def _model(row: Row[Any]) -> Model:
    curves = {metric: tuple((float(step), float(at)) for step, at in points) for metric, points in row.curves.items()}
    return Model(row.id, row.name, row.run, curves)


def _window(row: Row[Any]) -> Window:
    observed = Observed(row.name, row.rows, _unpacked(row.profile), _unpacked(row.summary))
    return Window(Role(row.role), observed, closed=row.closed_at is not None)


def _packed(value: Mapping[str, Any] | None) -> bytes:
    return b"" if value is None else packed(json.dumps(value, separators=(",", ":")).encode())


def _unpacked(value: bytes) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = json.loads(unpacked(value)) if value else None
    return found


def _key(series: Series) -> str:
    told = json.dumps([series.name, sorted(series.labels.items())])
    return hashlib.sha256(told.encode()).hexdigest()


def _once(series: Sequence[Series]) -> list[Series]:
    """A series that was sent in pieces, as one."""
    whole: dict[str, Series] = {}
    for each in series:
        key = _key(each)
        before = whole[key].points if key in whole else ()
        whole[key] = Series(each.name, (*before, *each.points), each.labels, each.limit)
    return list(whole.values())


def _series(repository_id: int, keys: Sequence[str]) -> Any:
    return select(SeriesRow).where(SeriesRow.repository_id == repository_id, SeriesRow.key.in_(keys))
