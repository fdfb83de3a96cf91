"""What a model's observations look like when they are sent: a table, and what it is. Understood without I/O."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from app.adapters import tables
from app.domain.delivery import Delivery
from app.domain.errors import Malformed
from app.domain.model import ARROW, JSON, PARQUET, Role
from app.ports.models import Batch, Curves

TYPES = (JSON, ARROW, PARQUET)
MOST_CURVES = 50
MOST_POINTS = 2_000

_MAGIC = {ARROW: (b"\xff\xff\xff\xff",), PARQUET: (b"PAR1",), JSON: (b"{", b"[")}

Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
WindowName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+-]{0,63}$")]


def _listed(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _spelt(value: object) -> object:
    """As observations spell a class."""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, int | float) else value


class Options(BaseModel):
    """What a request may say of its observations: in the query, or in a JSON body beside `rows` or `columns`."""

    model_config = ConfigDict(extra="forbid")

    window: WindowName | None = None
    role: Role = Role.CURRENT
    close: bool = False
    run: Annotated[str, StringConstraints(max_length=100)] = ""
    task: Literal["binary", "multiclass", "regression"] | None = None
    positive: Annotated[str, StringConstraints(max_length=100), BeforeValidator(_spelt)] | None = None
    prediction: Name | None = None
    score: Name | None = None
    label: Name | None = None
    id: Name | None = None
    session: Name | None = None
    time: Name | None = None
    latency_ms: Name | None = None
    failed: Name | None = None
    segments: Annotated[tuple[Name, ...], BeforeValidator(_listed), Field(max_length=4)] | None = None
    leave_out: Annotated[tuple[Name, ...], BeforeValidator(_listed), Field(max_length=500)] | None = None

    def said(self) -> dict[str, Any]:
        """The members of domain.model.Columns that were named."""
        return self.model_dump(exclude_none=True, exclude={"window", "role", "close", "run"})


class _Body(Options):
    rows: list[Any] | None = None
    columns: dict[str, Any] | None = None
    curves: dict[str, Any] = Field(default_factory=dict)


def options(query: Mapping[str, str]) -> Options:
    """Checked. Raises Malformed."""
    try:
        return Options.model_validate(dict(query))
    except ValidationError as error:
        raise Malformed(_told(error)) from None


def looks_right(body: bytes, content_type: str) -> None:
    """The first look, before anything is kept. Raises Malformed."""
    start = body.lstrip()[:4] if content_type == JSON else body[:4]
    if not start.startswith(_MAGIC[content_type]) or (content_type == PARQUET and body[-4:] != b"PAR1"):
        raise Malformed(f"the body is not {content_type}")


def read(delivery: Delivery) -> Batch:
    """All that was sent. `delivery.action` is the model, its headers hold the content type and the query's members.

    Raises Malformed.
    """
    headers = dict(delivery.headers)
    content_type = headers.pop("content-type", JSON)
    told = options(headers)
    if content_type == ARROW:
        return _batch(delivery.action, told, tables.from_arrow(delivery.body))
    if content_type == PARQUET:
        return _batch(delivery.action, told, tables.from_parquet(delivery.body))
    return read_json(delivery.action, delivery.body, headers)


def read_json(model: str, body: bytes, query: Mapping[str, str]) -> Batch:
    """A list of rows, or an object with `rows` or `columns` and more. The body's members come before the query's."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {str(error)[:200]}") from None
    if isinstance(value, list):
        value = {"rows": value}
    if not isinstance(value, dict):
        raise Malformed("the body must be a list of rows, or an object with rows or columns")
    try:
        told = _Body.model_validate({**query, **value})
    except ValidationError as error:
        raise Malformed(_told(error)) from None
    if told.rows is not None and told.columns is not None:
        raise Malformed("send rows or columns, not both")
    table = None
    if told.rows is not None:
        table = tables.from_rows(told.rows)
    elif told.columns is not None:
        table = tables.from_columns(told.columns)
    elif not told.curves and not told.close:
        raise Malformed("there are no rows, no columns, no curves, and no window is closed")
    return _batch(model, told, table, _curves(told.curves))


def _batch(model: str, told: Options, table: Any, curves: Curves | None = None) -> Batch:
    said = {name: value for name, value in told.said().items() if name not in ("rows", "columns", "curves")}
    if table is not None and not table.num_rows:
        table = None
    return Batch(model, table, told.role, told.window or "", told.close, said, told.run, curves or {})


def _curves(value: Mapping[str, Any]) -> Curves:
    if len(value) > MOST_CURVES:
        raise Malformed(f"more than {MOST_CURVES} curves")
    curves = {}
    for metric, points in value.items():
        if not isinstance(points, list) or len(points) > MOST_POINTS or not all(map(_is_point, points)):
            raise Malformed(f"the curve {metric[:60]!r} is not a list of at most {MOST_POINTS} pairs [step, value]")
        if not 0 < len(metric) <= tables.LONGEST_NAME:
            raise Malformed("the name of a curve is empty or too long")
        curves[metric] = tuple((float(step), float(at)) for step, at in points)
    return curves


def _is_point(point: object) -> bool:
    """A value that is missing is no point: JSON has no NaN, so a diverged loss is written as the text NaN or inf."""
    return (
        isinstance(point, list) and len(point) == 2 and _is_number(point[0]) and (_is_number(point[1]) or _lost(point))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _lost(point: list[Any]) -> bool:
    return isinstance(point[1], str) and point[1].lower() in ("nan", "inf", "-inf", "infinity", "-infinity")


def _told(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in details["loc"])[:80]
    if details["type"] == "extra_forbidden":
        return f"{name!r} is not known here; known are {', '.join(Options.model_fields)}, rows, columns and curves"
    return f"{name}: {details['msg'][:160]}"
