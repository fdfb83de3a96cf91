"""One API call: who calls, what for, and how an answer or an error is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import jwt
from starlette.responses import JSONResponse, Response

from sandbox.state import Account, Issue, Json, Repository, Run, State, Token, now

DOCS = "https://docs.github.com/rest"
JWT_MOST_S = 600
JWT_DRIFT_S = 60
ORDER = {"none": 0, "read": 1, "write": 2, "admin": 3}


class ApiError(Exception):
    """An answer other than success, in GitHub's form."""

    def __init__(
        self, status: int, message: str, errors: list[Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors
        self.headers = dict(headers or {})

    def response(self) -> Response:
        body: Json = {"message": self.message, "documentation_url": DOCS, "status": str(self.status)}
        if self.errors is not None:
            body["errors"] = self.errors
        return JSONResponse(body, self.status, self.headers)


def not_found() -> ApiError:
    return ApiError(404, "Not Found")


def invalid(message: str) -> ApiError:
    """422 with one custom error, the form GitHub gives most refusals."""
    return ApiError(422, "Validation Failed", [{"resource": "Sandbox", "code": "custom", "message": message}])


@dataclass(frozen=True)
class Identity:
    """Who calls: nobody, the App itself (by JWT), an installation, or a user."""

    kind: str = "anonymous"
    token: Token | None = None

    @property
    def label(self) -> str:
        """For the request log; never the token."""
        if self.token is None:
            return self.kind
        return f"user:{self.token.login}" if self.token.login else f"installation:{self.token.installation_id}"


@dataclass(frozen=True)
class Call:
    """One request. `params` are those of the path, `body` the parsed JSON object."""

    state: State
    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Json
    identity: Identity = field(default_factory=Identity)

    @property
    def sender(self) -> Account:
        token = self.identity.token
        return self.state.account(token.login) if token and token.login else self.state.bot

    @property
    def repository(self) -> Repository:
        """The repository of the path, if the caller may know of it. Raises ApiError 404."""
        found = self.state.repository(self.params["owner"], self.params["repo"])
        token = self.identity.token
        if found is None or (token and not token.login and found.id not in token.repository_ids):
            raise not_found()
        return found

    def number(self, name: str) -> int:
        """A number of the path. Raises ApiError 404 for anything else."""
        if not self.params[name].isdecimal():
            raise not_found()
        return int(self.params[name])

    def text(self, name: str) -> str:
        """A required string of the body. Raises ApiError 422."""
        value = self.body.get(name)
        if not isinstance(value, str):
            what = f'nil is not a string for "{name}"' if value is None else f'"{name}" is not a string'
            raise ApiError(422, f"Invalid request.\n\n{what}.")
        return value

    @property
    def issue(self) -> Issue:
        found = self.repository.issues.get(self.number("number"))
        if found is None:
            raise not_found()
        return found

    @property
    def run(self) -> Run:
        found = self.state.runs.get(self.number("run_id"))
        if found is None or found.repository is not self.repository:
            raise not_found()
        return found

    def commit_sha(self, revision: str) -> str:
        sha = self.repository.git.resolve(revision)
        if sha is None:
            raise ApiError(422, f"No commit found for SHA: {revision}")
        return sha


Handler = Callable[[Call], Response]


@dataclass(frozen=True)
class Route:
    """One route of the API. `needs` is `app`, `token`, `anyone` or a permission such as `contents:write`."""

    method: str
    path: str
    handler: Handler
    needs: str


def reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(body, status, dict(headers or {}))


def paged(call: Call, items: Iterable[Any], show: Callable[[Any], Json], wrap: str = "") -> Response:
    """One page of `items` with a Link header; inside an object with `total_count` when `wrap` names the list."""
    every = list(items)
    size = page_size(call)
    page = max(_positive(call.query.get("page"), 1), 1)
    last = max((len(every) + size - 1) // size, 1)
    shown = [show(item) for item in every[(page - 1) * size : page * size]]
    links = []
    for name, number, wanted in (
        ("prev", page - 1, page > 1),
        ("next", page + 1, page < last),
        ("last", last, page < last),
        ("first", 1, page > 1),
    ):
        if wanted:
            query = urlencode({**call.query, "page": str(number)})
            links.append(f'<{call.state.base_url}{call.path}?{query}>; rel="{name}"')
    headers = {"Link": ", ".join(links)} if links else {}
    return reply({"total_count": len(every), wrap: shown} if wrap else shown, 200, headers)


def page_size(call: Call) -> int:
    return min(max(_positive(call.query.get("per_page"), 30), 1), 100)


def _positive(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() else default


def identify(state: State, authorization: str) -> Identity:
    """Who an Authorization header speaks for. Raises ApiError 401."""
    if not authorization:
        return Identity()
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() not in ("bearer", "token"):
        raise ApiError(401, "Bad credentials")
    if value.count(".") == 2:
        _check_jwt(state, value)
        return Identity("app")
    token = state.tokens.get(value)
    if token is None or (token.expires_at and token.expires_at <= now()):
        raise ApiError(401, "Bad credentials")
    return Identity("user" if token.login else "installation", token)


def _check_jwt(state: State, value: str) -> None:
    try:
        claims = jwt.decode(
            value,
            state.app.public_key_pem,
            algorithms=["RS256"],
            leeway=JWT_DRIFT_S,
            options={"require": ["iss", "iat", "exp"]},
        )
    except jwt.ExpiredSignatureError as error:
        raise ApiError(401, "'Expiration time' claim ('exp') must be a numeric value representing the future time at "
                            "which the assertion expires") from error  # fmt: skip
    except jwt.PyJWTError as error:
        raise ApiError(401, "A JSON web token could not be decoded") from error
    if str(claims["iss"]) != str(state.app.id):
        raise ApiError(404, "Integration not found")
    if claims["exp"] - now().timestamp() > JWT_MOST_S:
        raise ApiError(401, "'Expiration time' claim ('exp') is too far in the future")


def authorize(call: Call, needs: str) -> None:
    """Refuse a caller who may not do this, as GitHub would. Raises ApiError."""
    kind = call.identity.kind
    if needs == "anyone":
        return
    if needs == "app":
        if kind != "app":
            raise ApiError(401, "A JSON web token could not be decoded")
        return
    if kind == "anonymous":
        raise ApiError(401, "Requires authentication")
    if kind == "app":
        raise ApiError(403, "Resource not accessible by integration")
    token = call.identity.token
    assert token is not None
    if needs == "token":
        return
    subject, _, level = needs.partition(":")
    repository = call.repository
    if token.login:
        own = call.state.level_of(token.login, repository)
        enough = "read" if subject in ("issues", "metadata") else level
        if own == "none":
            raise not_found()
        if ORDER[own] < ORDER[enough]:
            raise ApiError(403, "Must have admin rights to Repository.")
        return
    granted = dict(token.permissions).get(subject, "none")
    if ORDER[granted] < ORDER[level]:
        raise ApiError(403, "Resource not accessible by integration")


def parse_body(raw: bytes) -> Json:
    """The JSON object of a request. Raises ApiError 400."""
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ApiError(400, "Problems parsing JSON") from error
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise ApiError(400, "Body should be a JSON object")
    return body
