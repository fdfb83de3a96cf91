"""What would be decided about a delivery: nothing is changed anywhere."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter
from pydantic import Field

from app import simulation
from app.domain.errors import Malformed
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import Lists, Sent, Told
from app.web.dashboard.frame import Desk

TAG = "simulations"
MOST_LOG = 4 * 1024 * 1024


class Simulate(Sent):
    """`event` is GitHub's name of it, `payload` the body, `config` a heal.yml, `log` the failed job's text."""

    event: Annotated[str, Field(max_length=100)]
    payload: dict[str, Any]
    config: Annotated[str, Field(max_length=64 * 1024)] = ""
    log: Annotated[str, Field(max_length=MOST_LOG)] = ""
    job: Annotated[str, Field(max_length=200)] = ""


class Simulated(Told):
    """`incidents` are pairs of what would be found and what would be decided, with every rule that was looked at."""

    event: str
    problems: list[dict[str, Any]]
    incidents: list[dict[str, Any]]


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:  # noqa: ARG001
    @router.post("/simulations")
    def simulate(_: Lists, sent: Simulate) -> Simulated:
        config = simulation.configured(sent.config or None)
        log = sent.log.encode("utf-8", "replace") if sent.log else None
        try:
            body = orjson.dumps(sent.payload)
        except orjson.JSONEncodeError as error:  # half a character, a number that is too large, too deep
            raise Malformed(f"payload: {error}") from None
        found = simulation.simulate(body, event=sent.event, config=config, log=log, job=sent.job)
        return Simulated.model_validate(found.as_json())
