"""`POST /api/v1/models/{name}/observations`, and what became of a delivery."""

import re
from typing import Any

import anyio.to_thread

from app.adapters import observations
from app.db.reads import Reads
from app.domain.access import Scope
from app.domain.delivery import OBSERVATIONS, Delivery, DeliveryState
from app.domain.model import JSON
from app.healing.models_section import MODEL_NAME
from app.web.answer import Answer
from app.web.api.door import Call, Door, content_type_of, delivery, key_of

READ_AT_ONCE = 256 * 1024  # JSON bodies up to this size are read before they are kept, so that mistakes are told


class Observations:
    def __init__(self, door: Door) -> None:
        self._door = door

    async def __call__(self, call: Call) -> tuple[int, Any]:
        token = await self._door.admit(call, Scope.OBSERVATIONS)
        model = model_name(call.path["name"])
        content_type = content_type_of(call, *observations.TYPES)
        query = dict(call.query)
        observations.options(query)
        body = await self._door.body(call)
        observations.looks_right(body, content_type)
        named = (model, content_type, *(f"{name}={query[name]}" for name in sorted(query)), key_of(call, body))
        headers = {"content-type": content_type, **query}
        kept = delivery(token, OBSERVATIONS, "observations", body, named=named, action=model, headers=headers)
        await understood(kept)
        (answer,) = await self._door.keep(kept)
        return 202, {"delivery": answer.guid, "fresh": answer.fresh}


class Deliveries:
    """`GET /api/v1/sent/{delivery}`: for whoever sent it."""

    def __init__(self, door: Door, reads: Reads) -> None:
        self._door = door
        self._reads = reads

    async def __call__(self, call: Call) -> tuple[int, Any]:
        token = await self._door.admit(call)
        guid = call.path["delivery"]
        assert token.repository is not None  # others are not admitted
        found = await anyio.to_thread.run_sync(self._reads.delivery, guid, token.repository.id)
        if found is None:
            raise Answer(404, "not_found", "No such delivery is kept.", "Compare it with the answer to the request.")
        state = DeliveryState.DEAD if found.buried else found.state
        return 200, {"delivery": found.guid, "state": state, "reason": found.reason or found.last_error}


async def understood(sent: Delivery) -> None:
    """Small JSON is read before it is kept. Raises Malformed."""
    if sent.headers.get("content-type", JSON) == JSON and len(sent.body) <= READ_AT_ONCE:
        await anyio.to_thread.run_sync(observations.read, sent)


def model_name(name: str) -> str:
    if not re.fullmatch(MODEL_NAME, name):
        raise Answer(
            400,
            "wrong_name",
            "The model's name is not one.",
            "At most 100 letters, digits, and _ - . or spaces between them.",
        )
    return name
