"""The web process: intake, health, dashboard, and (embedded) the workers."""

import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio.to_thread
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.db.reads import Reads
from app.db.tokens import Tokens
from app.healing.receive import Intake
from app.settings import Settings
from app.web import health
from app.web.api import routes as api
from app.web.api.door import Door
from app.web.dashboard import pages
from app.web.dashboard.live import Changes
from app.web.dashboard.security import SecurityHeaders
from app.web.webhook import webhook_route
from app.wiring import Wired, embedded_workers, logs, wire


class Site:
    """The intake first, with any method and before any other routing: it is the hot path. All else goes to FastAPI."""

    def __init__(self, intake: Route, rest: ASGIApp, end_streams: Callable[[], None]) -> None:
        self._intake = intake.app
        self._path = intake.path
        self._rest = rest
        self.end_streams = end_streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hot = scope["type"] == "http" and scope["path"] == self._path
        await (self._intake if hot else self._rest)(scope, receive, send)


def create(wired: Wired | None = None) -> Site:
    """The application of one process. Without an argument it reads the settings: the factory for several processes.

    Call `end_streams` before the server stops: it waits for open connections.
    """
    if wired is None:
        settings = Settings()
        logs(settings)
        wired = wire(settings)
    settings = wired.settings
    intake = Intake(wired.store)
    pump = embedded_workers(wired)
    reads = Reads(wired.engine)
    changes = Changes(reads.latest_change)

    def working() -> bool:
        return pump is None or pump.alive()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        intake.start()
        if pump is not None:
            pump.start()
        yield
        await anyio.to_thread.run_sync(intake.close)
        if pump is not None:
            await anyio.to_thread.run_sync(pump.stop)

    rest = FastAPI(title="Self-Healing MLOps Bot", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    rest.add_middleware(SecurityHeaders)
    route = webhook_route(intake, settings.webhook_secrets())
    rest.router.routes.extend(health.routes(wired.engine, wired.bell, working))
    rest.router.routes.extend(api.routes(Door(intake, Tokens(wired.engine, wired.store.secret), settings.api), reads))
    if is_loopback(settings.web.host):  # sign-in does not exist yet: the dashboard is for this machine alone
        rest.mount("/", dashboard(settings, reads, changes))
    return Site(route, rest, changes.close)


def dashboard(settings: Settings, reads: Reads, changes: Changes) -> ASGIApp:
    """Its pages, and its error pages. A request that names another host is refused: that is how DNS rebinding looks."""
    release = version("self-healing-mlops-bot")
    return Starlette(
        routes=pages.routes(reads, forge_web_url=settings.github.web_url, version=release, changes=changes),
        exception_handlers=pages.errors(version=release),
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[settings.web.host, "127.0.0.1", "localhost"])],
    )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
