"""The bot itself: for those who run it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.exceptions import HTTPException

from app.db.aside import again, discard, put_aside
from app.db.processes import Processes
from app.db.reads.system import SystemReads
from app.healing.brake import EVERYWHERE, let_go, pause
from app.ports.queue import Work
from app.web.acts import act_of, actor_of
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import Bot, Number, Sent, Told
from app.web.dashboard.frame import Desk

TAG = "system"


class Queue(Told):
    """`oldest_s`: how long the oldest row that nobody works on has been due, in seconds."""

    work: str
    due: int
    oldest_s: float
    leased: int
    later: int
    aside: int


class Switch(Told):
    """A kill switch, or a muted cause."""

    scope: str
    repository: str
    by: str
    at: datetime
    reason: str


class Breaker(Told):
    repository: str
    action: str
    failed: int
    failed_at: datetime
    until: datetime


class Process(Told):
    name: str
    kind: str
    version: str
    started_at: datetime
    seen_at: datetime
    alive: bool
    facts: dict[str, Any]


class Aside(Told):
    """What could not be worked off, and waits for somebody to say what to do with it."""

    work: str
    id: int
    what: str
    incident_id: int | None
    error: str
    attempts: int
    buried_at: datetime


class Database(Told):
    kind: str
    version: str
    bytes: int | None
    schema_revision: str
    pending: bool


class System(Told):
    queues: list[Queue]
    processes: list[Process]
    switches: list[Switch]
    breakers: list[Breaker]
    aside: list[Aside]
    database: Database
    broker_reachable: bool


class Pause(Sent):
    reason: Annotated[str, Field(max_length=500)] = ""


class Switched(Told):
    paused: bool


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:  # noqa: ARG001
    reads, processes = SystemReads(desk.engine), Processes(desk.engine)

    @router.get("/system")
    def get_system(_: Bot) -> System:
        base = reads.base()
        return System(
            queues=[Queue.model_validate(each) for each in reads.queues()],
            processes=[Process.model_validate(each) for each in processes.all()],
            switches=[Switch.model_validate(each) for each in reads.switches()],
            breakers=[Breaker.model_validate(each) for each in reads.breakers()],
            aside=[Aside.model_validate(each) for each in put_aside(desk.engine)],
            database=Database(
                kind=base.kind,
                version=base.version,
                bytes=base.bytes,
                schema_revision=base.schema,
                pending=base.pending,
            ),
            broker_reachable=desk.wired.bell.reachable(),
        )

    @router.post("/system/pause")
    def pause_everything(visit: Bot, sent: Pause) -> Switched:
        """Nothing is changed anywhere until it is resumed."""
        pause(desk.kit, actor_of(visit), sent.reason)
        return Switched(paused=True)

    @router.post("/system/resume")
    def resume_everything(visit: Bot) -> Switched:
        let_go(desk.kit, actor_of(visit), EVERYWHERE)
        return Switched(paused=False)

    @router.post("/system/aside/{work}/{row}/{verb}", status_code=204)
    def settle_what_was_put_aside(visit: Bot, work: Work, row: Number, verb: Literal["replay", "discard"]) -> None:
        """Try it again, or give it up; a repair is given up by the bot itself."""
        act = act_of(visit, verb, work.value, row)
        if verb == "replay":
            done = again(desk.kit.store, desk.engine, work, row, act)
        else:
            done = work is not Work.REPAIR and discard(desk.engine, work, row, act)
        if not done:
            raise HTTPException(409, "It is not put aside any more, is under way, or its body is not kept.")
