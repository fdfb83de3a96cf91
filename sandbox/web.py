"""The HTTP side: turns requests into calls, checks who calls, plays the faults, writes headers and the request log."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route as HttpRoute

from sandbox import (
    api_actions,
    api_admin,
    api_app,
    api_checks,
    api_git,
    api_issues,
    api_pulls,
    api_repos,
    manifest,
    oauth,
)
from sandbox.call import ApiError, Call, Identity, Route, authorize, identify, not_found, parse_body
from sandbox.state import State, now

# Order matters where one path is a longer form of another.
API = (
    *api_app.ROUTES,
    *oauth.ROUTES,
    *api_actions.ROUTES,
    *api_checks.ROUTES,
    *api_issues.ROUTES,
    *api_pulls.ROUTES,
    *api_git.ROUTES,
    *api_repos.ROUTES,
    *manifest.ROUTES,
)
PREFIX = "/api/v3"
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
LIMIT = 5_000


def routes(state: State) -> list[HttpRoute]:
    """The API, the admin API and the log links."""

    async def unknown(_: Request) -> Response:
        return not_found().response()

    return [
        *(_http_route(state, PREFIX, route) for route in API),
        *(_http_route(state, "/_sandbox", route) for route in (*api_admin.ROUTES, *oauth.ADMIN)),
        HttpRoute("/_blobs/{key}", lambda request: _blob(state, request)),
        HttpRoute(f"{PREFIX}/{{rest:path}}", unknown, methods=["GET", *WRITES]),
    ]


def _http_route(state: State, prefix: str, route: Route) -> HttpRoute:
    async def endpoint(request: Request) -> Response:
        raw = await request.body()
        return await run_in_threadpool(_answer, state, route, request, raw, logged=prefix == PREFIX)

    return HttpRoute(prefix + route.path, endpoint, methods=[route.method])


def _answer(state: State, route: Route, request: Request, raw: bytes, *, logged: bool) -> Response:
    if not logged:
        if not _local(state, request):
            return ApiError(403, "The sandbox takes orders from local programs, not from web pages").response()
        return _handle(state, route, request, raw, Identity())
    subject = f"{request.method} {request.url.path}"
    slow = state.faults.take("slow", subject)
    if slow:
        time.sleep(slow.seconds)
    limited = state.faults.take("secondary_rate_limit", subject)
    identity = Identity()
    try:
        if limited:
            raise _secondary_limit(limited.status, limited.seconds)
        identity = identify(state, request.headers.get("authorization", ""))
    except ApiError as error:
        answer = error.response()
    else:
        answer = _handle(state, route, request, raw, identity)
        written = request.method in WRITES and answer.status_code < 300
        if written and state.faults.take("error_after_write", subject):
            answer = ApiError(502, "Server Error").response()
        elif written and state.faults.take("drop_after_write", subject):
            answer = _dropped()
    _log(state, request, raw, identity, answer.status_code)
    answer.headers.update(_headers(state))
    return answer


def _local(state: State, request: Request) -> bool:
    """Whether a program, not a page in a browser, calls: who may push here may run code on this machine."""
    host = request.headers.get("host", "")
    return "origin" not in request.headers and f"http://{host}" == state.base_url


def _headers(state: State) -> dict[str, str]:
    used = len(state.requests)
    return {
        "X-GitHub-Request-Id": f"{used:08X}",
        "X-RateLimit-Limit": str(LIMIT),
        "X-RateLimit-Remaining": str(max(LIMIT - used, 0)),
        "X-RateLimit-Used": str(used),
        "X-RateLimit-Reset": str(int(state.started_at.timestamp()) + 3_600),
        "X-RateLimit-Resource": "core",
    }


def _handle(state: State, route: Route, request: Request, raw: bytes, identity: Identity) -> Response:
    try:
        call = Call(
            state,
            request.method,
            request.url.path,
            request.path_params,
            dict(request.query_params),
            request.headers,
            parse_body(raw),
            identity,
        )
        with state.lock:
            authorize(call, route.needs)
            return route.handler(call)
    except ApiError as error:
        return error.response()


def _secondary_limit(status: int, seconds: float) -> ApiError:
    message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
    return ApiError(status, message, headers={"Retry-After": str(int(seconds))})


def _dropped() -> Response:
    """An answer that promises more than it holds: the client sees the connection break."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"{"

    return StreamingResponse(broken(), 200, {"Content-Length": "1000"}, "application/json")


def _log(state: State, request: Request, raw: bytes, identity: Identity, status: int) -> None:
    try:
        body = parse_body(raw)
    except ApiError:
        body = {}
    with state.lock:
        state.requests.append(
            {
                "method": request.method,
                "path": request.url.path.removeprefix(PREFIX),
                "query": request.url.query,
                "status": status,
                "identity": identity.label,
                "body": body,
                "at": now().isoformat(),
            }
        )


def _blob(state: State, request: Request) -> Response:
    """A log behind a short-lived link. With an Authorization header the storage host refuses, as GitHub's does."""
    if "authorization" in request.headers:
        return PlainTextResponse("Authentication information is not given in the correct format.", 400)
    until, content, media_type = state.log_links.get(request.path_params["key"], (0.0, b"", ""))
    if until < time.monotonic():
        return PlainTextResponse("The link has expired.", 404)
    return Response(content, media_type=media_type)
