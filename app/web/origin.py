"""Under which address people see us, and from where they come: what cookies and limits depend on."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.settings import Settings


class Origin:
    """ASGI middleware. `https` is what HEAL_WEB__PUBLIC_URL says of its own host, whoever ends the TLS before us:
    X-Forwarded-Proto and -Host are never read. A proxy on this machine is believed about whose request it passes on,
    the last address of X-Forwarded-For."""

    def __init__(self, app: ASGIApp, public_url: str) -> None:
        self._app = app
        public = urlsplit(public_url)
        self._https = public.hostname if public.scheme == "https" else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            scope = dict(scope)
            if self._https is not None and _hostname(headers.get("host", "")) == self._https:
                scope["scheme"] = "https"
            client = scope.get("client")
            if client and is_loopback(client[0]) and "x-forwarded-for" in headers:
                told = headers.getlist("x-forwarded-for")[-1]  # some proxies add a line of their own
                scope["client"] = (told.rpartition(",")[2].strip()[:64], client[1])
        await self._app(scope, receive, send)


def base_of(request: Request, settings: Settings) -> str:
    """The address under which this browser sees us, without a slash at its end."""
    public = settings.web.public_url.rstrip("/")
    if public and _hostname(request.headers.get("host", "")) == urlsplit(public).hostname:
        return public
    return f"{request.url.scheme}://{request.url.netloc}"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def links_are_given(settings: Settings) -> bool:
    """Whether one-time links sign in: on the embedded default, where it listens to this machine alone."""
    return settings.embedded and is_loopback(settings.web.host)


def _hostname(netloc: str) -> str | None:
    try:
        return urlsplit(f"//{netloc}").hostname
    except ValueError:
        return None
