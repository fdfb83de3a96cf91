"""What monitoring systems and registries send: Alertmanager, CloudEvents, samples, MLflow. Understood without I/O."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from app.domain.delivery import Delivery
from app.domain.errors import Malformed
from app.domain.event import AlertsReported, Ignored, ModelObserved, SamplesReported
from app.domain.signal import Alert, Series
from app.domain.tenant import Repository, Sender

MOST_ALERTS = 1_000
MOST_SERIES = 500
MOST_POINTS = 1_000
MOST_LABELS = 64
LONGEST_TEXT = 1_000

ALERT = "dev.heal.alert.v1"
SAMPLES = "dev.heal.samples.v1"
OBSERVATIONS = "dev.heal.observations.v1"


def alertmanager(delivery: Delivery, repository: Repository) -> AlertsReported:
    """Alertmanager's webhook, version 4; Grafana's contact point says the same. Raises Malformed."""
    body = _object(delivery.body)
    return _reported(repository, "alertmanager", [_alert(each) for each in _list(body, "alerts", MOST_ALERTS)])


def samples(delivery: Delivery, repository: Repository) -> SamplesReported:
    """`{"series": [{"name", "points": [[seconds, value]], "labels", "limit"}]}`. Raises Malformed."""
    return _sampled(repository, "samples", _object(delivery.body))


def cloudevent(delivery: Delivery, repository: Repository) -> AlertsReported | SamplesReported | Ignored:
    """One CloudEvent; its `type` is the delivery's event, the body its data. Raises Malformed."""
    sender = delivery.headers.get("ce-source", "cloudevents")[:100]
    if delivery.event == ALERT:
        return _reported(repository, sender, [_alert(_object(delivery.body))])
    if delivery.event == SAMPLES:
        return _sampled(repository, sender, _object(delivery.body))
    return Ignored(f"the type {delivery.event} is none of {ALERT}, {SAMPLES}, {OBSERVATIONS}")


def mlflow(delivery: Delivery, repository: Repository) -> ModelObserved | Ignored:
    """A webhook of MLflow's registry. An alias that moves is a reason to look at the model again. Raises Malformed."""
    told = f"{delivery.event}.{delivery.action}"
    data = _object(delivery.body).get("data")
    if told == "model_version_alias.created" and isinstance(data, dict) and isinstance(data.get("name"), str):
        return ModelObserved(
            repository=repository, sender=Sender("mlflow", is_bot=True), model=data["name"][:100], window=""
        )
    return Ignored(f"nothing follows from {told} yet: versions and stages have no gate here")


def _reported(repository: Repository, sender: str, alerts: list[Alert]) -> AlertsReported:
    return AlertsReported(repository=repository, sender=Sender(sender, is_bot=True), alerts=tuple(alerts))


def _sampled(repository: Repository, sender: str, body: Mapping[str, Any]) -> SamplesReported:
    series = [_series(each) for each in _list(body, "series", MOST_SERIES)]
    return SamplesReported(repository=repository, sender=Sender(sender, is_bot=True), series=tuple(series))


def _alert(value: Any) -> Alert:
    if not isinstance(value, dict):
        raise Malformed("an alert is not an object")
    labels = _texts(value, "labels")
    name = labels.get("alertname") or _text(value.get("name"))
    if not name:
        raise Malformed("an alert has no label alertname")
    status = value.get("status")
    if status not in ("firing", "resolved"):
        raise Malformed("the status of an alert is neither firing nor resolved")
    return Alert(
        name=name,
        firing=status == "firing",
        labels=labels,
        annotations=_texts(value, "annotations"),
        started_at=_time(value.get("startsAt")),
        url=_text(value.get("generatorURL")),
        fingerprint=_text(value.get("fingerprint")),
    )


def _series(value: Any) -> Series:
    if not isinstance(value, dict):
        raise Malformed("a series is not an object")
    name = _text(value.get("name"))
    if not name:
        raise Malformed("a series has no name")
    points = value.get("points")
    if not isinstance(points, list) or len(points) > MOST_POINTS:
        raise Malformed(f"the points of {name[:60]} are not a list of at most {MOST_POINTS} pairs [seconds, value]")
    limit = value.get("limit")
    if limit is not None and _number(limit) is None:
        raise Malformed(f"the limit of {name[:60]} is not a number")
    found = sorted({_point(name, point) for point in points})
    return Series(name, tuple(found), _texts(value, "labels"), None if limit is None else float(limit))


def _point(name: str, value: Any) -> tuple[float, float]:
    if isinstance(value, list) and len(value) == 2:
        at, measured = _number(value[0]), _number(value[1])
        if at is not None and measured is not None and 0 <= at < 1e11:
            return at, measured
    raise Malformed(f"a point of {name[:60]} is not [seconds since 1970, value]")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = float(value)  # orjson reads no integer that is too large for one
    return number if math.isfinite(number) else None


def _texts(value: Mapping[str, Any], name: str) -> dict[str, str]:
    given = value.get(name) or {}
    if not isinstance(given, dict) or len(given) > MOST_LABELS:
        raise Malformed(f"{name} is not an object of at most {MOST_LABELS} texts")
    return {_text(key): _text(text) for key, text in given.items()}


def _text(value: Any) -> str:
    return value[:LONGEST_TEXT] if isinstance(value, str) else ""


def _time(value: Any) -> datetime | None:
    """RFC 3339; None for what is none, has no zone, or is the year 1 that stands for never."""
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is not None and at.year > 1 else None


def _list(value: Mapping[str, Any], name: str, most: int) -> list[Any]:
    given = value.get(name)
    if not isinstance(given, list) or len(given) > most:
        raise Malformed(f"{name} is not a list of at most {most}")
    return given


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise Malformed("not a JSON object")
    return value
