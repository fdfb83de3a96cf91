"""Saved views: searches that a person keeps under names."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.exceptions import HTTPException

from app.db.views import MOST_VIEWS, NAME_LENGTH, Views
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import Lists, Number, Sent, Told
from app.web.dashboard.frame import Desk
from app.web.guard import Visit

TAG = "views"


class View(Told):
    """`query` is the query string of the list of incidents."""

    id: int
    name: str
    query: str


class Keep(Sent):
    """Under that name, in place of what it stood for."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]
    query: Annotated[str, Field(max_length=1_000)] = ""


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:  # noqa: ARG001
    views = Views(desk.engine)

    def person(visit: Visit) -> int:
        if visit.account is None:
            raise HTTPException(403, "Views belong to people: sign in, or use a token of yours.")
        return visit.account.id

    @router.get("/views")
    def list_views(visit: Lists) -> list[View]:
        return [View.model_validate(each) for each in views.of(person(visit))]

    @router.put("/views", status_code=204)
    def keep_view(visit: Lists, sent: Keep) -> None:
        if not views.keep(person(visit), sent.name, sent.query):
            raise HTTPException(409, f"There are {MOST_VIEWS} already: delete one first.")

    @router.delete("/views/{view}", status_code=204)
    def delete_view(visit: Lists, view: Number) -> None:
        if not views.forget(person(visit), view):
            raise HTTPException(404)
