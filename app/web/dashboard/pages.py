"""All pages of the dashboard, and its error pages."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ExceptionHandler

from app.domain.errors import Transient
from app.web.dashboard import (
    approvals,
    audit,
    deliveries,
    incident,
    incidents,
    insights,
    membership,
    models,
    repositories,
    signin,
    simulator,
    system,
)
from app.web.dashboard.frame import Desk, Frame, static
from app.web.guard import ANYBODY, LISTS, Guard, Guarded, Visit, page

SCREENS = (
    signin, incidents, incident, approvals, repositories, models, deliveries, simulator, insights, audit, membership,
    system,
)  # fmt: skip


def routes(desk: Desk) -> list[Guarded]:
    """Every address of the dashboard, each with its rule."""

    async def events(_: Visit) -> Response:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(desk.changes.stream(), media_type="text/event-stream", headers=headers)

    return [
        page("/static/{version}/{path:path}", static, ANYBODY),
        page("/events", events, LISTS),
        *(route for screen in SCREENS for route in screen.routes(desk)),
    ]


def dashboard(desk: Desk, guard: Guard) -> Starlette:
    site = Starlette(routes=routes(desk), exception_handlers=errors(desk.frame))
    site.state.guard = guard
    return site


def errors(frame: Frame) -> dict[type[Exception], ExceptionHandler]:
    """Exception handlers that answer with a page: HTTPException (404, 405, …), Transient (503), the rest (500)."""

    def answer(request: Request, error: Exception) -> Response:
        status, why = 500, ""
        if isinstance(error, HTTPException):
            status = error.status_code
            why = error.detail if status in (400, 403, 409, 411, 413, 429) else ""
        elif isinstance(error, Transient):
            status = 503
        told = frame.error(request, status, why=why)
        if isinstance(error, HTTPException) and error.headers:
            told.headers.update(error.headers)
        return told

    return {HTTPException: answer, Transient: answer, Exception: answer}
