"""Registering the App by a manifest, and installing it: GitHub's pages for both, and the exchange of the code.

The App that is registered takes the place of the one that the sandbox began with: it has one at a time.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from datetime import timedelta
from html import escape
from urllib.parse import urlencode, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route as HttpRoute

from sandbox import events, present
from sandbox.call import Call, Route, not_found, reply
from sandbox.state import App, Hook, Installation, Json, State, now

CODE_LIFE = timedelta(hours=1)
NAME_LENGTH = 34
LEVELS = ("read", "write", "admin")
NEEDS = {
    "check_run": "checks",
    "code_scanning_alert": "security_events",
    "dependabot_alert": "vulnerability_alerts",
    "issue_comment": "issues",
    "issues": "issues",
    "pull_request": "pull_requests",
    "push": "contents",
    "secret_scanning_alert": "secret_scanning_alerts",
    "workflow_job": "actions",
    "workflow_run": "actions",
}
PERMISSIONS = {*NEEDS.values(), "administration", "metadata", "statuses", "workflows", "members"}
PERSON = "maintainer"  # whoever looks at the pages
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


def convert(call: Call) -> Response:
    """What the App needs to know about itself, once, within an hour."""
    made_at, shown = call.state.conversions.pop(call.params["code"], (None, {}))
    if made_at is None or now() - made_at > CODE_LIFE:
        raise not_found()
    return reply(shown, 201)


ROUTES = (Route("POST", "/app-manifests/{code}/conversions", convert, "anyone"),)


def routes(state: State) -> list[HttpRoute]:
    """The pages. They come before those of repositories."""

    async def ask(request: Request) -> Response:
        form = await request.form()
        return _ask(state, request, str(form.get("manifest", "")))

    async def create(request: Request) -> Response:
        if _is_foreign(state, request):
            return _page("Forbidden", "", "'none'", 403)
        form = await request.form()
        told = {name: str(form.get(name, "")) for name in ("manifest", "state", "owner")}
        return await run_in_threadpool(_create, state, told)

    async def choose(request: Request) -> Response:
        return _choose(state, request.path_params["slug"])

    async def install(request: Request) -> Response:
        if _is_foreign(state, request):
            return _page("Forbidden", "", "'none'", 403)
        form = await request.form()
        return await run_in_threadpool(_install, state, request.path_params["slug"], str(form.get("owner", "")))

    found = [
        HttpRoute("/settings/apps/new", ask, methods=["POST"]),
        HttpRoute("/organizations/{owner}/settings/apps/new", ask, methods=["POST"]),
        HttpRoute("/settings/apps", create, methods=["POST"]),
    ]
    for apps in ("apps", "github-apps"):
        found.append(HttpRoute(f"/{apps}/{{slug}}/installations/new", choose, methods=["GET"]))
        found.append(HttpRoute(f"/{apps}/{{slug}}/installations", install, methods=["POST"]))
    return found


def _ask(state: State, request: Request, text: str) -> Response:
    """The page on which people see what they are about to register."""
    manifest, mistakes = read(state, text)
    if mistakes:
        lines = "".join(f"<li>{escape(mistake)}</li>" for mistake in mistakes)
        return _page("Invalid GitHub App configuration", f"<ul>{lines}</ul>", "'none'", 422)
    owner = request.path_params.get("owner", "")
    granted = "".join(
        f"<li>{escape(name)}: {escape(level)}</li>" for name, level in manifest.get("default_permissions", {}).items()
    )
    hidden = {"manifest": text, "state": request.query_params.get("state", ""), "owner": owner}
    inputs = "".join(f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in hidden.items())
    back = urlsplit(manifest["redirect_url"])
    # a browser holds a form to this policy also where its answer leads on to another address
    return _page(
        f"Create GitHub App for {owner or 'your account'}",
        f"<p>{escape(manifest['name'])}</p><ul>{granted}</ul>"
        f'<form method="post" action="/settings/apps">{inputs}<button>Create GitHub App</button></form>',
        f"'self' {back.scheme}://{back.netloc}",
    )


def read(state: State, text: str) -> tuple[Json, list[str]]:
    """The manifest, and what GitHub would not take of it."""
    try:
        manifest = json.loads(text)
    except ValueError:
        return {}, ["manifest is not JSON"]
    if not isinstance(manifest, dict):
        return {}, ["manifest is no object"]
    return manifest, list(_mistakes(state, manifest))


def _mistakes(state: State, manifest: Json) -> Iterator[str]:
    name = manifest.get("name", "")
    if not name or len(name) > NAME_LENGTH:
        yield f"name must have 1 to {NAME_LENGTH} characters"
    hook = manifest.get("hook_attributes", {}).get("url", "")
    for told, url in (("url", manifest.get("url", "")), ("redirect_url", manifest.get("redirect_url", ""))):
        if not re.match(r"https?://[^/]+", str(url)):
            yield f"{told} must be a valid URL"
    if not re.match(r"https?://[^/]+", str(hook)):
        yield "hook_attributes.url must be a valid URL"
    elif _is_local(hook) and not _is_local(state.base_url):
        yield f"hook_attributes.url is not supported because it isn't reachable over the public Internet ({hook})"
    permissions = manifest.get("default_permissions", {})
    yield from (f"default_permissions: {one} is not a permission" for one in sorted({*permissions} - PERMISSIONS))
    yield from (f"default_permissions: {level} is no access" for level in {*permissions.values()} - {*LEVELS})
    for event in manifest.get("default_events", []):
        if event not in NEEDS:
            yield f"default_events: {event} is not an event"
        elif NEEDS[event] not in permissions:
            yield f"default_events: {event} needs the permission {NEEDS[event]}"


def _is_foreign(state: State, request: Request) -> bool:
    """Whether the page of somebody else sends this form: only the first of them may come from elsewhere."""
    return request.headers.get("origin", state.base_url) != state.base_url


def _is_local(url: str) -> bool:
    return urlsplit(url).netloc.rpartition(":")[0] in _LOCAL


def _create(state: State, told: dict[str, str]) -> Response:
    manifest, mistakes = read(state, told["manifest"])
    if mistakes:
        return _page("Invalid GitHub App configuration", "", "'none'", 422)
    code = secrets.token_hex(20)
    with state.lock:
        shown = register(state, manifest, told["owner"])
        state.conversions[code] = now(), shown
        events.ping(state)
    query = urlencode({"code": code, "state": told["state"]})
    return RedirectResponse(f"{manifest['redirect_url']}?{query}", 302)


def register(state: State, manifest: Json, organization: str) -> Json:
    """Make the App of that manifest, and answer what its owner is handed over."""
    owner = state.account(organization, "Organization") if organization else state.account(PERSON)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    slug = re.sub(r"[^a-z0-9]+", "-", manifest["name"].lower()).strip("-")
    state.app = App(
        next(state.ids),
        slug,
        manifest["name"],
        public,
        client_id=f"Iv23{secrets.token_hex(8)}",
        client_secret=secrets.token_hex(20),
        callback_urls=tuple(manifest.get("callback_urls", ())),
        setup_url=manifest.get("setup_url", ""),
        permissions=tuple(manifest.get("default_permissions", {}).items()),
        events=tuple(manifest.get("default_events", ())),
    )
    state.bot = state.account(f"{slug}[bot]", "Bot")
    state.hook = Hook(manifest["hook_attributes"]["url"], secrets.token_hex(20))
    state.hook_id = next(state.ids)
    state.installations.clear()
    state.tokens = {value: token for value, token in state.tokens.items() if token.login}
    return present.app(state, state.app) | {
        "owner": present.account(state, owner),
        "client_id": state.app.client_id,
        "client_secret": state.app.client_secret,
        "webhook_secret": state.hook.secret,
        "pem": private.decode(),
    }


def _choose(state: State, slug: str) -> Response:
    """The page on which people choose where the App is installed."""
    if slug != state.app.slug:
        return _page("Not found", "<p>Nothing is here.</p>", "'none'", 404)
    owners = {where.owner.login for where in state.repositories.values()} | {state.owner.login}
    back = urlsplit(state.app.setup_url)
    forms = "".join(
        f'<form method="post" action="/apps/{slug}/installations"><input type="hidden" name="owner" '
        f'value="{escape(owner)}"><button>Install on {escape(owner)}</button></form>'
        for owner in sorted(owners)
    )
    allowed = f"'self' {back.scheme}://{back.netloc}" if back.netloc else "'self'"
    return _page(f"Install {state.app.name}", forms, allowed)


def _install(state: State, slug: str, login: str) -> Response:
    """On all repositories that the account has now."""
    with state.lock:
        owner = state.account(login)
        where = [each for each in state.repositories.values() if each.owner == owner]
        if slug != state.app.slug or any(each.account == owner for each in state.installations.values()):
            return _page("Not possible", "<p>It is installed there already.</p>", "'none'", 409)
        chosen = {each.id for each in where}
        made = Installation(next(state.ids), owner, now(), chosen, dict(state.app.permissions))
        state.installations[made.id] = made
        events.installation(state, "created", made, where)
    if not state.app.setup_url:
        return _page("Installed", "<p>The App is installed.</p>", "'none'")
    query = urlencode({"installation_id": made.id, "setup_action": "install"})
    return RedirectResponse(f"{state.app.setup_url}?{query}", 302)


def _page(title: str, body: str, form_action: str, status: int = 200) -> Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="/static.css"></head>'
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    policy = f"default-src 'none'; style-src 'self'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
    return HTMLResponse(text, status, {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})
