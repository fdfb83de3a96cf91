"""git over HTTP through git's own CGI program. Anyone may read; pushing takes the admin token or a user's."""

from __future__ import annotations

import base64
import binascii
import subprocess

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandbox import pushes
from sandbox.gitrepo import ZERO, clean_environment
from sandbox.state import Account, Repository, State


def routes(state: State) -> list[Route]:
    async def serve(request: Request) -> Response:
        raw = await request.body()
        return await run_in_threadpool(_serve, state, request, raw)

    return [Route("/{owner}/{repo}.git/{rest:path}", serve, methods=["GET", "POST"])]


def _serve(state: State, request: Request, raw: bytes) -> Response:
    where = state.repository(request.path_params["owner"], request.path_params["repo"])
    if where is None:
        return PlainTextResponse("Repository not found.", 404)
    pushing = "git-receive-pack" in (request.query_params.get("service"), request.path_params["rest"])
    who = _pusher(state, where, request.headers.get("authorization", "")) if pushing else None
    if pushing and who is None:
        return PlainTextResponse("Authentication failed.", 401, {"WWW-Authenticate": 'Basic realm="sandbox"'})
    if who is None or request.method != "POST":
        return _backend(where, request, raw, who)
    with state.lock:
        before = where.git.refs()
        answer = _backend(where, request, raw, who)
        after = where.git.refs()
        for ref in sorted(before.keys() | after.keys()):
            old, new = before.get(ref, ZERO), after.get(ref, ZERO)
            if old != new:
                pushes.moved(state, where, ref, old, new, who)
    return answer


def _pusher(state: State, where: Repository, authorization: str) -> Account | None:
    """The account behind basic authentication, if it may write here."""
    scheme, _, value = authorization.partition(" ")
    try:
        login, _, password = base64.b64decode(value).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    if scheme.lower() != "basic" or not password:
        return None
    if password == state.admin_token:
        return state.account(login or "maintainer")
    token = state.tokens.get(password)
    if token is None:
        return None
    if token.login:
        return state.account(token.login) if state.level_of(token.login, where) in ("admin", "write") else None
    covered = where.id in token.repository_ids and dict(token.permissions).get("contents") == "write"
    return state.bot if covered else None


def _backend(where: Repository, request: Request, raw: bytes, who: Account | None) -> Response:
    environment = clean_environment() | {
        "GIT_PROJECT_ROOT": str(where.git.path.parent),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": f"/{where.git.path.name}/{request.path_params['rest']}",
        "QUERY_STRING": request.url.query,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(raw)),
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
    }
    if who is not None:
        environment["REMOTE_USER"] = who.login
    done = subprocess.run(["git", "http-backend"], input=raw, env=environment, capture_output=True, check=False)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    status, headers = 200, {}
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(": ")
        if name == "Status":
            status = int(value[:3])
        elif name:
            headers[name] = value
    return Response(body, status, headers)
