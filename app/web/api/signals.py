"""`POST /api/v1/signals/…`: Alertmanager, samples, CloudEvents, MLflow."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import anyio.to_thread
import orjson

from app.adapters import signals, sources
from app.domain.access import Scope, Token
from app.domain.delivery import OBSERVATIONS, Delivery
from app.domain.model import JSON
from app.domain.number import row_number
from app.web.answer import Answer
from app.web.api.door import Call, Door, content_type_of, delivery, key_of
from app.web.api.observations import model_name, understood

EVENT, EVENTS = "application/cloudevents+json", "application/cloudevents-batch+json"
MOST_EVENTS = 100
MOST_BODY = 4 * 1024 * 1024
MOST_MLFLOW = 1024 * 1024  # whoever sends it is not known before it is read
FRESH_S = 300.0
_NEEDED = ("specversion", "id", "source", "type")


class Posted:
    """JSON of one kind, as it is: `/api/v1/signals/alertmanager` and `/api/v1/signals/samples`."""

    def __init__(self, door: Door, source: str, *, daily: bool = False) -> None:
        self._door = door
        self._source = source
        self._daily = daily

    async def __call__(self, call: Call) -> tuple[int, Any]:
        token = await self._door.admit(call, Scope.SIGNALS)
        content_type_of(call, JSON)
        body = await self._door.body(call, MOST_BODY)
        # what still fires is said again in the same words; once a day that counts as news
        today = datetime.now(UTC).strftime("%Y-%m-%d") if self._daily else ""
        kept = delivery(token, self._source, self._source, body, named=(key_of(call, body), today))
        await _understood(token, kept)
        (answer,) = await self._door.keep(kept)
        return 202, {"delivery": answer.guid, "fresh": answer.fresh}


class CloudEvents:
    """CloudEvents 1.0 in all three modes of the HTTP binding: structured, batch, binary."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def __call__(self, call: Call) -> tuple[int, Any]:
        token = await self._door.admit(call, Scope.SIGNALS, Scope.OBSERVATIONS)
        binary = "ce-specversion" in call.headers
        content_type = content_type_of(call, *((JSON,) if binary else (EVENT, EVENTS)))
        body = await self._door.body(call, MOST_BODY)
        # large JSON takes seconds: not where all requests wait for it
        kept = await anyio.to_thread.run_sync(self._deliveries, token, call, content_type, binary, body)
        for each in kept:
            await _understood(token, each)
        answers = [{"delivery": answer.guid, "fresh": answer.fresh} for answer in await self._door.keep(*kept)]
        return 202, {"deliveries": answers} if content_type == EVENTS else answers[0]

    def _deliveries(self, token: Token, call: Call, content_type: str, binary: bool, body: bytes) -> list[Delivery]:
        value = _json(body)
        if binary:
            attributes = {name[3:]: unquote(value) for name, value in call.headers.items() if name.startswith("ce-")}
            events: list[Any] = [{**attributes, "data": value}]
        elif content_type == EVENTS:
            events = value if isinstance(value, list) else [None]
        else:
            events = [value]
        if len(events) > MOST_EVENTS:
            raise Answer(413, "too_large", f"More than {MOST_EVENTS} events.", "Send them in several batches.")
        return [self._delivery(token, event) for event in events]

    def _delivery(self, token: Token, event: Any) -> Delivery:
        if not isinstance(event, dict):
            raise _malformed("An event is not a JSON object.")
        told = {name: value for name, value in event.items() if isinstance(value, str) and len(value) <= 1_000}
        for name in _NEEDED:
            if not told.get(name):
                raise _malformed(f"The attribute {name} is missing, empty or too long.")
        if told["specversion"] != "1.0":
            raise _malformed("The specversion is not 1.0.")
        kind, named = told["type"], (told["source"], told["id"])
        scope = Scope.OBSERVATIONS if kind == signals.OBSERVATIONS else Scope.SIGNALS
        if not token.may(scope):
            raise Answer(
                403,
                "wrong_scope",
                f"The token may not send {scope}.",
                f"Make one with `heal tokens create --scope {scope}`.",
            )
        data = orjson.dumps(_data(event))
        if kind == signals.OBSERVATIONS:
            model = model_name(told.get("subject", ""))
            return delivery(token, OBSERVATIONS, "observations", data, named=("cloudevents", *named), action=model)
        return delivery(token, "cloudevents", kind, data, named=named, headers={"ce-source": told["source"][:100]})


class MLflow:
    """A webhook of MLflow's registry, signed with the secret that `heal tokens create --kind mlflow` made."""

    def __init__(self, door: Door, *, now: Callable[[], float] = time.time) -> None:
        self._door = door
        self._now = now

    async def __call__(self, call: Call) -> tuple[int, Any]:
        number, known = row_number(call.path["token"]), None
        if number is not None:
            known = await anyio.to_thread.run_sync(self._door.tokens.mlflow, number)
        if known is None:
            raise Answer(401, "wrong_token", "No such webhook is known.", "Compare the URL with `heal tokens list`.")
        token, secret = known
        content_type_of(call, JSON)
        identity = call.headers.get("x-mlflow-delivery-id", "")
        told_at = call.headers.get("x-mlflow-timestamp", "")
        body = await self._door.body(call, MOST_MLFLOW)
        if not signed(call.headers.get("x-mlflow-signature", ""), secret, identity, told_at, body):
            raise Answer(
                401,
                "wrong_signature",
                "The signature does not fit.",
                "Give MLflow's webhook the secret that `heal tokens create --kind mlflow` printed.",
            )
        if not told_at.isdigit() or abs(self._now() - int(told_at[:15])) > FRESH_S:
            raise Answer(401, "stale", "The delivery is not of now.", "Compare the clocks of both machines.")
        self._door.count(token)
        await anyio.to_thread.run_sync(self._door.tokens.used, token.id)
        value = await anyio.to_thread.run_sync(_json, body)
        if not isinstance(value, dict):
            raise _malformed("The body is not a JSON object.")
        entity, action = (str(value.get(name, ""))[:100] for name in ("entity", "action"))
        kept = delivery(token, "mlflow", entity, body, named=(identity,), action=action)
        await _understood(token, kept)
        (answer,) = await self._door.keep(kept)
        return 202, {"delivery": answer.guid, "fresh": answer.fresh}


def signed(signature: str, secret: str, identity: str, told_at: str, body: bytes) -> bool:
    """MLflow's own way: `v1,` and the base64 of the HMAC over id, time and body."""
    content = f"{identity}.{told_at}.".encode("latin-1", "replace") + body
    right = base64.b64encode(hmac.digest(secret.encode(), content, hashlib.sha256))
    return bool(identity) and hmac.compare_digest(b"v1," + right, signature.encode("latin-1", "replace"))


async def _understood(token: Token, sent: Delivery) -> None:
    """What cannot be read is told to whoever sent it, and not kept. Raises Malformed."""
    if sent.source == OBSERVATIONS:
        await understood(sent)
    else:
        assert token.repository is not None  # others are not admitted
        await anyio.to_thread.run_sync(sources.interpret, sent, token.repository)


def _data(event: Mapping[str, Any]) -> Any:
    if "data_base64" not in event:
        return event.get("data")
    try:
        return _json(base64.b64decode(event["data_base64"], validate=True))
    except (TypeError, ValueError):
        raise _malformed("data_base64 is not base64.") from None


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _malformed("The body is not JSON.") from None


def _malformed(message: str) -> Answer:
    return Answer(400, "malformed", message, "See docs/reference/api.md for what may be sent.")
