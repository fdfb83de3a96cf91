"""The application behind `/api/v1`, and its description."""

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from app.db.answers import Answers
from app.web.api.v1 import (
    auth,
    deliveries,
    incidents,
    insights,
    installations,
    me,
    models,
    repositories,
    simulations,
    system,
    tokens,
    views,
)
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import HANDLERS, Problem, Route, rule_of
from app.web.dashboard.frame import Desk
from app.web.guard import ANYBODY, SAFE, Guard

PREFIX = "/api/v1"
PARTS = (
    me, auth, incidents, views, repositories, models, deliveries, simulations, insights, installations, tokens, system,
)  # fmt: skip
ABOUT = """
All that the dashboard does. Send `Authorization: Bearer …` with an API token (`heal_…`), or with an access token that
was exchanged for one. Errors are `application/problem+json` (RFC 9457). Lists are read with `cursor`; every GET has an
`ETag`; a write with an `Idempotency-Key` is done once, however often it is sent.
"""
_PROBLEMS = {
    400: "What was sent cannot be understood.",
    401: "Nobody is signed in, or the token is not in force.",
    403: "The role or the scope does not cover it.",
    404: "There is no such thing, or it is not for you to see.",
    409: "It cannot be done as things stand now; the detail says why.",
    422: "Something that was sent is not as described.",
    429: "Too many requests; `Retry-After` says when to come again.",
    503: "The database or GitHub does not answer; try again.",
}


def api(desk: Desk, guard: Guard, machines: Machines, version: str) -> FastAPI:
    site = FastAPI(
        title="Self-Healing MLOps Bot",
        version=version,
        description=ABOUT.strip(),
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        servers=[{"url": PREFIX}],
        root_path_in_servers=False,
        exception_handlers=dict(HANDLERS),
        redirect_slashes=False,
        separate_input_output_schemas=False,
        swagger_ui_oauth2_redirect_url=None,
        generate_unique_id_function=_name,
    )
    site.state.guard = guard
    site.state.answers = Answers(desk.engine)
    site.state.endpoints = []
    for part in PARTS:
        router = APIRouter(route_class=Route, tags=[part.TAG])
        part.add(router, desk, machines)
        site.state.endpoints += [route for route in router.routes if isinstance(route, APIRoute)]
    _describe(site)
    site.router.routes.extend(site.state.endpoints)
    return site


def endpoints(site: FastAPI) -> list[APIRoute]:
    return list(site.state.endpoints)


def _name(route: APIRoute) -> str:
    return route.name


def _describe(site: FastAPI) -> None:
    """Say of each endpoint which problems it may answer with."""
    for route in endpoints(site):
        if rule_of(route) == ANYBODY:
            route.openapi_extra = {"security": []}
        for status, told in _PROBLEMS.items():
            if status != 409 or not (route.methods or set()) <= SAFE:
                route.responses.setdefault(status, {"description": told})
    build = site.openapi

    def openapi() -> dict[str, Any]:
        if site.openapi_schema is None:
            schema = build()
            schema.setdefault("components", {}).setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
            schema["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"bearer": []}]
            content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
            for operations in schema["paths"].values():
                for operation in operations.values():
                    for status, answer in operation["responses"].items():
                        if int(status) >= 400:
                            answer["content"] = content
            site.openapi_schema = schema
        return site.openapi_schema

    site.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the description
