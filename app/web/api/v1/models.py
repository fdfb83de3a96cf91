"""Models: what is kept of them, and whether they have drifted."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.exceptions import HTTPException

from app.db.reads.models import ModelLine, ModelReads
from app.domain.incident import State
from app.web.acts import actor_of
from app.web.api.v1.incidents import Decided, answered
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import (
    Cursor,
    DecidesModel,
    Limit,
    Lists,
    Number,
    Page,
    SeesModel,
    Sent,
    Told,
    cursor_of,
    number_of,
)
from app.web.dashboard.frame import Desk
from app.web.dashboard.model_moves import promote, roll_back

TAG = "models"


class Window(Told):
    """Observations of a span of time, or the reference."""

    name: str
    rows: int
    begun_at: datetime
    updated_at: datetime
    closed: bool


class About(Told):
    """An incident that speaks of the model."""

    id: int
    state: State
    kind: str
    summary: str
    opened_at: datetime


class Model(Told):
    """`version` is where the bot last moved the champion's alias to; `drift` is drifted, quiet, no_reference or
    no_window."""

    id: int
    name: str
    repository_id: int
    repository: str
    added_at: datetime
    run: str
    version: int | None
    moved_at: datetime | None
    drift: str
    windows: int
    reference: Window | None
    window: Window | None
    incidents: list[About]


class Series(Told):
    """Samples of a quantity: (seconds since 1970, value); `limit` is what it may not exceed."""

    name: str
    labels: dict[str, str]
    limit: float | None
    points: list[tuple[float, float]]


class ModelRepair(Told):
    """A training, a benchmark, or a move of the champion's alias."""

    id: int
    incident_id: int
    action: str
    params: dict[str, Any]
    state: str
    intended_at: datetime
    ended_at: datetime | None
    undone: bool


class Move(Sent):
    """`repair` is the number of the promotion or roll back that was looked at; null to bring back by hand the version
    that served before, where none of the bot's own promotions stands."""

    repair: Annotated[int, Field(ge=1, lt=10**18)] | None = None
    reason: Annotated[str, Field(max_length=500)] = ""


class Moved(Decided):
    """`incident_id` is where it goes on."""

    incident_id: int | None


class ModelInFull(Model):
    series: list[Series]
    repairs: list[ModelRepair]


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:  # noqa: ARG001
    reads = ModelReads(desk.engine)

    @router.get("/models")
    def list_models(
        visit: Lists,
        q: Annotated[str, Query(max_length=200, description="words of the model's or the repository's name")] = "",
        cursor: Cursor = "",
        limit: Limit = 50,
    ) -> Page[Model]:
        shown = reads.models(visit.sight, q, number_of(cursor), limit)
        return Page(items=[Model.model_validate(line) for line in shown.lines], next=cursor_of(shown.older))

    @router.post("/models/{model}/{verb}")
    def move_champion(visit: DecidesModel, model: Number, verb: Literal["promote", "roll-back"], sent: Move) -> Moved:
        """Approve the promotion that waits behind its gate, or bring back what served before."""
        line = reads.model_line(model)
        if line is None:
            raise HTTPException(404)
        repairs, who, repair = reads.model_repairs(line), actor_of(visit), str(sent.repair or "")
        if verb == "promote":
            asked = promote(desk.kit, repairs, who, repair, sent.reason)
        else:
            asked = roll_back(desk.kit, line, repairs, who, repair, sent.reason)
        return Moved(**answered(asked.steered).model_dump(), incident_id=asked.incident_id)

    @router.get("/models/{model}")
    def get_model(visit: SeesModel, model: Number) -> ModelInFull:  # noqa: ARG001
        line: ModelLine | None = reads.model_line(model)
        if line is None:
            raise HTTPException(404)
        return ModelInFull(
            **Model.model_validate(line).model_dump(),
            series=[
                Series(
                    name=each.name,
                    labels={str(name): str(value) for name, value in each.labels.items()},
                    limit=each.limit,
                    points=list(each.points),
                )
                for each in reads.model_series(line)
            ],
            repairs=[
                ModelRepair(
                    id=each.id,
                    incident_id=each.incident_id,
                    action=each.remedy.action,
                    params=dict(each.remedy.params),
                    state=each.state.value,
                    intended_at=each.intended_at,
                    ended_at=each.ended_at,
                    undone=each.undone,
                )
                for each in reads.model_repairs(line)
            ],
        )
