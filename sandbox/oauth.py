"""Signing in with GitHub: the page on which people let the App know who they are, the exchange of the code, and what
the App then sees with their token.

Nobody types a password here: whoever opens the page says which of the sandbox's users they are.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import replace
from datetime import timedelta
from html import escape
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route as HttpRoute

from sandbox import present
from sandbox.call import ApiError, Call, Route, not_found, paged, reply
from sandbox.state import Installation, Json, Repository, State, Token, now, stamp

CODE_LIFE = timedelta(minutes=10)
TOKEN_LIFE = timedelta(hours=8)
REFRESH_LIFE = timedelta(days=184)
_FIELDS = ("client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method")


def routes(state: State) -> list[HttpRoute]:
    """The pages. They come before those of repositories."""

    async def ask(request: Request) -> Response:
        with state.lock:
            return _ask(state, dict(request.query_params))

    async def answer(request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        with state.lock:
            return _answered(state, request, form)

    async def exchange(request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        with state.lock:
            return JSONResponse(_exchanged(state, form))

    return [
        HttpRoute("/login/oauth/authorize", ask, methods=["GET"]),
        HttpRoute("/login/oauth/authorize", answer, methods=["POST"]),
        HttpRoute("/login/oauth/access_token", exchange, methods=["POST"]),
    ]


def _ask(state: State, told: dict[str, str]) -> Response:
    refused = _mistake(state, told)
    if refused is not None:
        return refused
    people = [who.login for who in state.accounts.values() if who.type == "User"]
    options = "".join(f"<option>{escape(login)}</option>" for login in people)
    hidden = "".join(f'<input type="hidden" name="{name}" value="{escape(told.get(name, ""))}">' for name in _FIELDS)
    back = urlsplit(_back(state, told))
    return _page(
        f"Authorize {state.app.name}",
        f'<form method="post" action="/login/oauth/authorize">{hidden}'
        f'<label>You are <select name="login">{options}</select></label> '
        '<button name="answer" value="authorize">Authorize</button> '
        '<button name="answer" value="cancel">Cancel</button>'
        "</form>",
        # a browser holds a form to this policy also where its answer leads on to another address
        f"'self' {back.scheme}://{back.netloc}",
    )


def _mistake(state: State, told: dict[str, str]) -> Response | None:
    if not state.app.client_id or told.get("client_id") != state.app.client_id:
        return _page("Not found", "<p>No such App.</p>", "'none'", 404)
    asked = told.get("redirect_uri", "")
    if asked and asked not in state.app.callback_urls:
        query = {"error": "redirect_uri_mismatch", "state": told.get("state", "")}
        return RedirectResponse(f"{_back(state, {})}?{urlencode(query)}", 302)
    if told.get("code_challenge") and told.get("code_challenge_method") != "S256":
        return _page("Bad request", "<p>The code_challenge_method must be S256.</p>", "'none'", 400)
    return None


def _back(state: State, told: dict[str, str]) -> str:
    return told.get("redirect_uri") or state.app.callback_urls[0]


def _answered(state: State, request: Request, form: dict[str, str]) -> Response:
    if request.headers.get("origin", state.base_url) != state.base_url:
        return _page("Forbidden", "", "'none'", 403)
    refused = _mistake(state, form)
    if refused is not None:
        return refused
    query = {"state": form.get("state", "")}
    if form.get("answer") != "authorize" or form.get("login", "").lower() not in state.accounts:
        query = {"error": "access_denied", "error_description": "The user has denied your application access.", **query}
    else:
        query = {"code": grant_code(state, form["login"], _back(state, form), form.get("code_challenge", "")), **query}
    return RedirectResponse(f"{_back(state, form)}?{urlencode(query)}", 302)


def grant_code(state: State, login: str, redirect_uri: str, challenge: str) -> str:
    code = secrets.token_hex(10)
    state.codes[code] = now(), {"login": login, "redirect_uri": redirect_uri, "challenge": challenge}
    return code


def _exchanged(state: State, form: dict[str, str]) -> Json:
    """GitHub answers 200 also where it refuses."""
    known = hmac.compare_digest(form.get("client_secret", ""), state.app.client_secret)
    if not state.app.client_secret or not known or form.get("client_id") != state.app.client_id:
        return _refusal("incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect.")
    made_at, code = state.codes.pop(form.get("code", ""), (None, {}))
    if made_at is None or now() - made_at > CODE_LIFE or not _proves(code["challenge"], form.get("code_verifier", "")):
        return _refusal("bad_verification_code", "The code passed is incorrect or expired.")
    if form.get("redirect_uri", code["redirect_uri"]) != code["redirect_uri"]:
        return _refusal("redirect_uri_mismatch", "The redirect_uri MUST match the registered callback URL.")
    token = Token(f"ghu_{secrets.token_urlsafe(27)}", login=code["login"], expires_at=now() + TOKEN_LIFE)
    state.tokens[token.value] = token
    return {
        "access_token": token.value,
        "expires_in": int(TOKEN_LIFE.total_seconds()),
        "refresh_token": f"ghr_{secrets.token_urlsafe(57)}",
        "refresh_token_expires_in": int(REFRESH_LIFE.total_seconds()),
        "scope": "",
        "token_type": "bearer",
    }


def _refusal(error: str, description: str) -> Json:
    return {"error": error, "error_description": description, "error_uri": "https://docs.github.com/apps"}


def _proves(challenge: str, verifier: str) -> bool:
    told = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return not challenge or hmac.compare_digest(challenge, told)


def _page(title: str, body: str, form_action: str, status: int = 200) -> Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="/static.css"></head>'
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    policy = f"default-src 'none'; style-src 'self'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
    return HTMLResponse(text, status, {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"})


# what the App sees with a person's token


def get_user(call: Call) -> Response:
    login = _login(call)
    who = call.state.account(login)
    made = stamp(call.state.started_at)
    return reply(
        present.account(call.state, who)
        | {
            "user_view_type": "public",
            "name": login,
            "company": None,
            "blog": "",
            "location": None,
            "email": None,
            "hireable": None,
            "bio": None,
            "public_repos": 0,
            "public_gists": 0,
            "followers": 0,
            "following": 0,
            "created_at": made,
            "updated_at": made,
        }
    )


def list_installations(call: Call) -> Response:
    login = _login(call)
    found = [each for each in call.state.installations.values() if _seen(call.state, login, each)]
    return paged(call, found, lambda each: present.installation(call.state, each), "installations")


def list_repositories(call: Call) -> Response:
    login, state = _login(call), call.state
    installation = state.installations.get(call.number("installation_id"))
    found = _seen(state, login, installation) if installation else []
    if not found:
        raise not_found()

    def show(each: Repository) -> Json:
        return present.repository(state, each) | {"permissions": _permissions(state.level_of(login, each))}

    return paged(call, found, show, "repositories")


def _login(call: Call) -> str:
    token = call.identity.token
    if token is None or not token.login:
        raise ApiError(403, "Resource not accessible by integration")
    return token.login


def _seen(state: State, login: str, installation: Installation) -> list[Repository]:
    here = (each for each in state.repositories.values() if each.id in installation.repository_ids)
    return [each for each in here if state.level_of(login, each) != "none"]


def _permissions(level: str) -> dict[str, bool]:
    rank = ("read", "write", "admin").index(level)
    return {"admin": rank == 2, "maintain": rank == 2, "push": rank >= 1, "triage": rank >= 1, "pull": True}


ROUTES = (
    Route("GET", "/user", get_user, "token"),
    Route("GET", "/user/installations", list_installations, "token"),
    Route("GET", "/user/installations/{installation_id}/repositories", list_repositories, "token"),
)


# what tests tell the sandbox


def set_client(call: Call) -> Response:
    """{client_id, client_secret, callback_urls}: the App that people sign in with, one that no manifest registered."""
    told: dict[str, Any] = {name: call.text(name) for name in ("client_id", "client_secret")}
    told["callback_urls"] = tuple(str(url) for url in call.body.get("callback_urls", ()))
    call.state.app = replace(call.state.app, **told)
    return reply({}, 200)


ADMIN = (Route("POST", "/client", set_client, "anyone"),)
