"""The App itself: its installations, tokens and delivery list."""

from __future__ import annotations

import secrets
from datetime import timedelta
from urllib.parse import urlencode

from starlette.responses import Response

from sandbox import present
from sandbox.call import ORDER, ApiError, Call, Route, not_found, page_size, paged, reply
from sandbox.deliver import redeliver
from sandbox.state import Delivery, Installation, Json, Token, now, stamp

TOKEN_LIFE = timedelta(hours=1)


def get_app(call: Call) -> Response:
    return reply(present.app(call.state, call.state.app))


def list_deliveries(call: Call) -> Response:
    """Newest first; the cursor is the id of the last delivery seen."""
    size = page_size(call)
    found = sorted(call.state.deliveries, key=lambda d: d.id, reverse=True)
    if call.query.get("status") in ("success", "failure"):
        found = [d for d in found if (200 <= d.status_code < 300) == (call.query["status"] == "success")]
    cursor = call.query.get("cursor", "")
    if cursor.isdecimal():
        found = [d for d in found if d.id < int(cursor)]
    page = found[:size]
    headers = {}
    if len(found) > size:
        query = urlencode({**call.query, "cursor": str(page[-1].id)})
        headers["Link"] = f'<{call.state.base_url}{call.path}?{query}>; rel="next"'
    return reply([present.delivery(d) for d in page], 200, headers)


def get_delivery(call: Call) -> Response:
    return reply(present.delivery(_delivery(call), full=True))


def redeliver_delivery(call: Call) -> Response:
    redeliver(call.state, _delivery(call))
    return reply({}, 202)


def _delivery(call: Call) -> Delivery:
    number = call.number("delivery_id")
    found = next((d for d in call.state.deliveries if d.id == number), None)
    if found is None:
        raise not_found()
    return found


def list_installations(call: Call) -> Response:
    return paged(call, call.state.installations.values(), lambda i: present.installation(call.state, i))


def get_installation(call: Call) -> Response:
    return reply(present.installation(call.state, _installation(call)))


def get_repository_installation(call: Call) -> Response:
    where = call.state.repository(call.params["owner"], call.params["repo"])
    found = call.state.installation_of(where) if where else None
    if found is None:
        raise not_found()
    return reply(present.installation(call.state, found))


def _installation(call: Call) -> Installation:
    found = call.state.installations.get(call.number("installation_id"))
    if found is None:
        raise not_found()
    return found


def create_token(call: Call) -> Response:
    """A token for an hour; `repositories`, `repository_ids` and `permissions` narrow it."""
    state, installation = call.state, _installation(call)
    permissions = dict(installation.permissions)
    for name, level in call.body.get("permissions", {}).items():
        if ORDER.get(level, 9) > ORDER[permissions.get(name, "none")]:
            raise ApiError(422, "The permissions requested are not granted to this installation.")
    if call.body.get("permissions"):
        permissions = {"metadata": "read", **call.body["permissions"]}
    chosen = [r for r in state.repositories.values() if r.id in installation.repository_ids]
    narrowed = "repositories" in call.body or "repository_ids" in call.body
    if narrowed:
        names, ids = call.body.get("repositories", []), call.body.get("repository_ids", [])
        known = {r.name for r in chosen} | {r.id for r in chosen}
        if not known.issuperset([*names, *ids]):
            raise ApiError(422, "There is at least one repository that does not exist or is not accessible to the "
                                "parent installation.")  # fmt: skip
        chosen = [r for r in chosen if r.name in names or r.id in ids]
    token = Token(
        f"ghs_{secrets.token_urlsafe(27)}",
        installation.id,
        frozenset(r.id for r in chosen) if narrowed else frozenset(installation.repository_ids),
        tuple(permissions.items()),
        expires_at=now() + TOKEN_LIFE,
        narrowed=narrowed,
    )
    state.tokens[token.value] = token
    shown: Json = {
        "token": token.value,
        "expires_at": stamp(token.expires_at),
        "permissions": permissions,
        "repository_selection": installation.selection,
    }
    if narrowed:
        shown["repositories"] = [present.repository(state, r) for r in chosen]
    return reply(shown, 201)


def list_repositories(call: Call) -> Response:
    token = call.identity.token
    if token is None or token.login:
        raise ApiError(403, "Resource not accessible by integration")
    found = [r for r in call.state.repositories.values() if r.id in token.repository_ids]
    return paged(call, found, lambda r: present.repository(call.state, r), "repositories")


def get_rate_limit(call: Call) -> Response:
    return reply(present.rate_limit(call.state, len(call.state.requests)))


ROUTES = (
    Route("GET", "/app", get_app, "app"),
    Route("GET", "/app/hook/deliveries", list_deliveries, "app"),
    Route("GET", "/app/hook/deliveries/{delivery_id}", get_delivery, "app"),
    Route("POST", "/app/hook/deliveries/{delivery_id}/attempts", redeliver_delivery, "app"),
    Route("GET", "/app/installations", list_installations, "app"),
    Route("GET", "/app/installations/{installation_id}", get_installation, "app"),
    Route("POST", "/app/installations/{installation_id}/access_tokens", create_token, "app"),
    Route("GET", "/repos/{owner}/{repo}/installation", get_repository_installation, "app"),
    Route("GET", "/installation/repositories", list_repositories, "token"),
    Route("GET", "/rate_limit", get_rate_limit, "anyone"),
)
