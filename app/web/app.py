"""The web process: intake, health, dashboard, and (embedded) the workers."""

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio.to_thread
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.adapters.doorbells import LocalBell
from app.db.reads import Reads
from app.healing.pump import Pump
from app.healing.receive import Intake
from app.settings import Settings
from app.web import health
from app.web.dashboard import pages
from app.web.dashboard.security import SecurityHeaders
from app.web.webhook import webhook_route
from app.wiring import Wired, logs, wire


class Site:
    """The intake first, before any other routing: it is the hot path. All else goes to FastAPI."""

    def __init__(self, intake: ASGIApp, rest: ASGIApp, path: str) -> None:
        self._intake = intake
        self._rest = rest
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._intake if scope["type"] == "http" and scope["path"] == self._path else self._rest
        await app(scope, receive, send)


def create(wired: Wired | None = None) -> ASGIApp:
    """The application of one process. Without an argument it reads the settings: the factory for several processes."""
    if wired is None:
        settings = Settings()
        logs(settings)
        wired = wire(settings)
    settings, reads = wired.settings, Reads(wired.engine)
    intake = Intake(wired.store)
    pump = embedded_workers(wired)

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
    rest.router.routes.extend(health.routes(wired.engine, wired.bell, working))
    if is_loopback(settings.web.host):  # sign-in does not exist yet: the dashboard is for this machine alone
        rest.router.routes.extend(
            pages.routes(reads, forge_web_url=settings.github.web_url, version=version("self-healing-mlops-bot"))
        )
        rest.add_middleware(TrustedHostMiddleware, allowed_hosts=[settings.web.host, "127.0.0.1", "localhost", "[::1]"])
    rest.add_middleware(SecurityHeaders)
    route = webhook_route(intake, settings.webhook_secrets())
    return Site(route.app, rest, route.path)


def embedded_workers(wired: Wired) -> Pump | None:
    """Worker threads of this process, on the embedded default."""
    settings = wired.settings
    if not settings.embedded or not settings.queue.threads:
        return None
    pump = Pump(wired.kit, threads=settings.queue.threads, poll_s=settings.queue.poll_s, sweep_s=settings.queue.sweep_s)
    if isinstance(wired.bell, LocalBell):
        wired.bell.connect(pump.ring)
    return pump


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
