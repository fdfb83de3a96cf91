"""What every endpoint has in common: its rule, problems as RFC 9457 says, entity tags, idempotency keys, cursors."""

import base64
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Generic, TypeVar

import structlog
from anyio.to_thread import run_sync
from fastapi import Depends, Header, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message

from app.db.answers import Answers
from app.domain.access import Role
from app.domain.errors import Malformed, NotInstalled, Transient
from app.domain.number import row_number
from app.web.answer import PROBLEM, problem
from app.web.guard import ANYBODY, BOT, LISTS, MOST_STRANGE, SAFE, Guard, Of, Rule, SignInFirst, Visit

T = TypeVar("T")
MOST_KEY = 255
MOST_SENT = 8 * 1024 * 1024  # bytes
RETRY_AFTER_S = 30
log = structlog.get_logger()


class Problem(BaseModel):
    """RFC 9457. `code` is a constant word, `hint` says what to do."""

    type: str
    title: str
    status: int
    detail: str
    code: str = ""
    hint: str = ""


class Sent(BaseModel):
    """A body that was sent to us: nothing that is not asked for is taken."""

    model_config = ConfigDict(extra="forbid", str_max_length=100_000)


class Told(BaseModel):
    """A body that we send."""

    model_config = ConfigDict(from_attributes=True)


class ToldOnce(Told):
    """A body with a secret, which is kept nowhere: not for an Idempotency-Key either."""


class Page(Told, Generic[T]):
    """A part of a list, newest first. `next` is the `cursor` of what follows, null at the end."""

    items: list[T]
    next: str | None = None


class Needs:
    """The rule of an endpoint, as a dependency that gives its Visit."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    async def __call__(self, request: Request) -> Visit:
        guard: Guard = request.app.state.guard
        try:
            return await guard.admit(request, self.rule, for_programs=True)
        except SignInFirst:
            raise HTTPException(401, "Sign in first.", {"WWW-Authenticate": "Bearer"}) from None


Anybody = Annotated[Visit, Depends(Needs(ANYBODY))]
Lists = Annotated[Visit, Depends(Needs(LISTS))]
Bot = Annotated[Visit, Depends(Needs(BOT))]
SeesIncident = Annotated[Visit, Depends(Needs(Rule(Of.INCIDENT)))]
DecidesIncident = Annotated[Visit, Depends(Needs(Rule(Of.INCIDENT, Role.OPERATOR)))]
SeesDelivery = Annotated[Visit, Depends(Needs(Rule(Of.DELIVERY)))]
DecidesDelivery = Annotated[Visit, Depends(Needs(Rule(Of.DELIVERY, Role.OPERATOR)))]
SeesRepository = Annotated[Visit, Depends(Needs(Rule(Of.REPOSITORY)))]
DecidesRepository = Annotated[Visit, Depends(Needs(Rule(Of.REPOSITORY, Role.OPERATOR)))]
SeesModel = Annotated[Visit, Depends(Needs(Rule(Of.MODEL)))]
DecidesModel = Annotated[Visit, Depends(Needs(Rule(Of.MODEL, Role.OPERATOR)))]
SeesInstallation = Annotated[Visit, Depends(Needs(Rule(Of.INSTALLATION)))]
SetsInstallation = Annotated[Visit, Depends(Needs(Rule(Of.INSTALLATION, Role.ADMIN)))]
Number = Annotated[int, Path(ge=1, lt=10**18)]


def rule_of(route: APIRoute) -> Rule | None:
    """The rule that an endpoint names; None where it names none."""
    for found in route.dependant.dependencies:
        if isinstance(found.call, Needs):
            return found.call.rule
    return None


Limit = Annotated[int, Query(ge=1, le=200, description="how many at most")]
Cursor = Annotated[str, Query(max_length=200, description="`next` of the page before")]
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", max_length=MOST_KEY, description="the same write with the same key is done once"),
]


def cursor_of(number: int | None) -> str | None:
    return None if number is None else base64.urlsafe_b64encode(f"before:{number}".encode()).decode().rstrip("=")


def number_of(cursor: str) -> int | None:
    """Raises HTTPException for what is no cursor of ours."""
    if not cursor:
        return None
    try:
        told = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        told = ""
    word, _, last = told.partition(":")
    number = row_number(last)
    if word != "before" or number is None:
        raise HTTPException(400, "The cursor is not one that was given out here: take `next` of a page.")
    return number


class Route(APIRoute):
    """Answers a GET with its entity tag, and a write that has an Idempotency-Key once."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.method in SAFE:
                return _tagged(request, await answer(request))
            rule = rule_of(self)
            request = await _bounded(request, rule)
            key = request.headers.get("idempotency-key", "")
            if not key or rule is None or rule.of is Of.ANYBODY:
                return await answer(request)
            once = isinstance(self.response_model, type) and issubclass(self.response_model, ToldOnce)
            return await _once(request, key, answer, told_once=once)

        return handle


async def _bounded(request: Request, rule: Rule | None) -> Request:
    """The same request, whose body is read no further than to the most that may be sent. Nothing is read for whoever
    is not let in. Raises HTTPException: 401, 429, and 413 while it is read."""
    guard: Guard = request.app.state.guard
    known = await guard.identify(request) is not None
    if not known and rule is not None and rule.of is not Of.ANYBODY:
        await guard.admit(request, rule, for_programs=True)
    left = most = MOST_SENT if known else MOST_STRANGE

    async def receive() -> Message:
        nonlocal left
        message = await request.receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"What was sent is too large: at most {most} bytes.")
        return message

    return Request(request.scope, receive)


def _tagged(request: Request, answer: Response) -> Response:
    body = getattr(answer, "body", None)
    if answer.status_code != 200 or not isinstance(body, bytes):
        return answer
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    answer.headers["ETag"] = tag
    answer.headers["Cache-Control"] = "private, no-cache"
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if tag in known or known == ["*"]:
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "private, no-cache"})
    return answer


async def _once(
    request: Request, key: str, answer: Callable[[Request], Awaitable[Response]], *, told_once: bool = False
) -> Response:
    guard: Guard = request.app.state.guard
    answers: Answers = request.app.state.answers
    who = await guard.identify(request)
    if who is None or len(key) > MOST_KEY or not key.isprintable():
        return await answer(request)
    body = await request.body()
    sent = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode() + body).hexdigest()
    principal = who.principal
    known = await run_sync(answers.begin, principal, key, sent)
    if known is not None:
        if known.request != sent:
            raise HTTPException(422, "This Idempotency-Key was sent with another request. Take a new one.")
        if not known.status:
            raise HTTPException(409, "The same request is being worked on. Ask again in a moment.")
        if told_once and known.status < 400:
            raise HTTPException(
                409, "This was done before, and its answer is told once. Take a new key to do it again."
            )
        return Response(known.body, known.status, {"Idempotent-Replay": "true"}, media_type=_media(known.status))
    done = False
    try:
        told = await answer(request)
        said = getattr(told, "body", b"")
        if told.status_code < 500 and told.status_code != 429:
            kept = b"" if told_once and told.status_code < 400 else bytes(said)
            await run_sync(answers.keep, principal, key, told.status_code, kept)
            done = True
        return told
    finally:
        if not done:
            await run_sync(answers.forget, principal, key)


def _media(status: int) -> str:
    return PROBLEM if status >= 400 else "application/json"


def told(status: int, detail: str, headers: dict[str, str] | None = None, code: str = "", hint: str = "") -> Response:
    return Response(problem(status, detail, code, hint), status, headers, media_type=PROBLEM)


_WORDS = {404: "There is no such thing, or it is not for you to see."}


async def refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = error.detail if error.detail != _phrase(error.status_code) else _WORDS.get(error.status_code, error.detail)
    return told(error.status_code, detail, dict(error.headers) if error.headers else None)


async def invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults: Sequence[Any] = error.errors()
    said = "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults[:5])
    return told(422, said, code="invalid", hint="GET /api/v1/openapi.json says what may be sent.")


async def away(_: Request, error: Exception) -> Response:
    return told(503, str(error), {"Retry-After": str(RETRY_AFTER_S)}, hint="Try again in a moment; nothing is lost.")


async def malformed(_: Request, error: Exception) -> Response:
    return told(400, str(error), code="malformed")


async def gone(_: Request, error: Exception) -> Response:
    return told(409, str(error), code="not_installed")


async def broken(request: Request, error: Exception) -> Response:
    log.error("request_failed", path=request.url.path, exc_info=error)
    return told(500, "This is a mistake of ours; the server's log tells more.")


HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    HTTPException: refused,
    RequestValidationError: invalid,
    Transient: away,
    Malformed: malformed,
    NotInstalled: gone,
    Exception: broken,
}


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase
