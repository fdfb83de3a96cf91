"""Repositories: how they do, what is in force there, and the switches that people throw."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.exceptions import HTTPException

from app.db.reads.repositories import RepositoryLine, RepositoryReads
from app.domain.errors import HealError, Transient, Unreachable
from app.domain.tenant import Repository as Home
from app.healing.explained import explained
from app.healing.steer import switch
from app.web.acts import actor_of
from app.web.api.v1.incidents import Decided, answered
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import (
    Cursor,
    DecidesRepository,
    Limit,
    Lists,
    Number,
    Page,
    SeesRepository,
    Sent,
    Told,
    cursor_of,
    number_of,
)
from app.web.dashboard.frame import Desk

TAG = "repositories"


class Repository(Told):
    """`open` are the incidents under way, `waiting` those of them that need approval; `mode` is that of the last
    decision, empty as long as there was none; `paused_by` is empty where nobody has paused it."""

    id: int
    full_name: str
    default_branch: str
    installation_id: int
    account: str
    selection: str
    added_at: datetime
    open: int
    waiting: int
    escalated: int
    last_failure_at: datetime | None
    last_heal_at: datetime | None
    mode: str
    paused_by: str


class Setting(Told):
    """A value in force; `line` is where it stands in the repository's own file, 0 for nowhere."""

    key: str
    value: str
    origin: str
    line: int


class Fault(Told):
    """What is wrong with heal.yml."""

    level: str
    line: int
    message: str


class Configuration(Told):
    settings: list[Setting]
    problems: list[Fault]


class Switching(Sent):
    """`kind` is the cause that mute and unmute are about."""

    kind: Annotated[str, Field(max_length=100)] = ""
    reason: Annotated[str, Field(max_length=500)] = ""


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:  # noqa: ARG001
    reads = RepositoryReads(desk.engine)

    def found(number: int) -> RepositoryLine:
        line = reads.repository_line(number)
        if line is None:
            raise HTTPException(404)
        return line

    @router.get("/repositories")
    def list_repositories(
        visit: Lists,
        q: Annotated[str, Query(max_length=200, description="words of the name")] = "",
        cursor: Cursor = "",
        limit: Limit = 50,
    ) -> Page[Repository]:
        """By name."""
        shown = reads.repositories(visit.sight, q, number_of(cursor), limit)
        return Page(items=[repository_of(line) for line in shown.lines], next=cursor_of(shown.next))

    @router.get("/repositories/{repository}")
    def get_repository(visit: SeesRepository, repository: Number) -> Repository:  # noqa: ARG001
        return repository_of(found(repository))

    @router.get("/repositories/{repository}/configuration")
    def get_configuration(visit: SeesRepository, repository: Number) -> Configuration:  # noqa: ARG001
        """What is in force, and where each value comes from; read from GitHub now."""
        line = found(repository)
        home = Home(line.id, line.full_name, line.installation_id, line.default_branch)
        try:
            told = explained(desk.kit, desk.kit.app.forge(home))
        except Transient:
            raise
        except HealError as error:
            raise Unreachable(str(error)) from error
        return Configuration(
            settings=[Setting.model_validate(each) for each in told.settings],
            problems=[Fault.model_validate(each) for each in told.configured.problems],
        )

    @router.post("/repositories/{repository}/{verb}")
    def switch_repository(
        visit: DecidesRepository,
        repository: Number,
        verb: Literal["pause", "resume", "mute", "unmute"],
        sent: Switching,
    ) -> Decided:
        """Stop or resume all repairs there, or those of one cause."""
        if verb in ("mute", "unmute") and not sent.kind:
            raise HTTPException(422, "`kind` is missing: which cause is meant?")
        return answered(switch(desk.kit, repository, verb, actor_of(visit), kind=sent.kind, reason=sent.reason))


def repository_of(line: RepositoryLine) -> Repository:
    return Repository(
        id=line.id,
        full_name=line.full_name,
        default_branch=line.default_branch,
        installation_id=line.installation_id,
        account=line.account,
        selection=line.selection,
        added_at=line.added_at,
        open=line.open,
        waiting=line.waiting,
        escalated=line.escalated,
        last_failure_at=line.failed.at if line.failed else None,
        last_heal_at=line.healed.at if line.healed else None,
        mode=line.mode,
        paused_by=line.paused.by if line.paused else "",
    )
