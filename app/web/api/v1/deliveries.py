"""Deliveries: what came in, and what became of it."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException

from app.db.aside import again
from app.db.reads import Reads
from app.domain.delivery import DeliveryState
from app.ports.queue import Work
from app.web.acts import act_of
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import (
    Cursor,
    DecidesDelivery,
    Limit,
    Lists,
    Number,
    Page,
    SeesDelivery,
    Told,
    cursor_of,
    number_of,
)
from app.web.dashboard.frame import Desk
from app.web.guard import Visit

TAG = "deliveries"
Words = Annotated[str, Query(max_length=200)]


class Delivery(Told):
    """`buried`: it was put aside with its `last_error`."""

    id: int
    guid: str
    source: str
    event: str
    action: str
    repository: str
    state: DeliveryState
    reason: str
    attempts: int
    last_error: str
    buried: bool
    received_at: datetime
    finished_at: datetime | None


class Replayed(Told):
    delivery: int


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:  # noqa: ARG001
    reads = Reads(desk.engine)

    def found(visit: Visit, number: int) -> Delivery:
        detail = reads.delivery_numbered(number)
        if detail is None or (detail.repository_id is None and not visit.sight.everything):
            raise HTTPException(404)
        return Delivery.model_validate(detail.line)

    @router.get("/deliveries")
    def list_deliveries(
        visit: Lists,
        state: DeliveryState | None = None,
        repository: Words = "",
        event: Words = "",
        source: Words = "",
        cursor: Cursor = "",
        limit: Limit = 50,
    ) -> Page[Delivery]:
        shown = reads.deliveries(
            visit.sight, state, repository, number_of(cursor), event=event, source=source, limit=limit
        )
        return Page(items=[Delivery.model_validate(line) for line in shown.lines], next=cursor_of(shown.older))

    @router.get("/deliveries/{delivery}")
    def get_delivery(visit: SeesDelivery, delivery: Number) -> Delivery:
        return found(visit, delivery)

    @router.post("/deliveries/{delivery}/replay", status_code=202)
    def replay_delivery(visit: DecidesDelivery, delivery: Number) -> Replayed:
        """Work it off again; nothing is done twice that was done."""
        line = found(visit, delivery)
        act = act_of(visit, "replay", "delivery", delivery, guid=line.guid, event=line.event)
        if not again(desk.kit.store, desk.engine, Work.DELIVERY, delivery, act):
            raise HTTPException(409, "It is under way already, or its body is not kept any more.")
        return Replayed(delivery=delivery)
