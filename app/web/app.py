"""The web process: intake, health, dashboard, and (embedded) the workers."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.db.accounts import Accounts
from app.db.owners import Owners
from app.db.processes import WEB, Heart
from app.db.reads import Reads
from app.db.tokens import Tokens
from app.healing.receive import Intake
from app.settings import Settings
from app.web import health
from app.web.api import routes as api
from app.web.api.door import Door
from app.web.api.v1.app import PREFIX
from app.web.api.v1.app import api as programs
from app.web.api.v1.machines import machines_of
from app.web.dashboard.frame import Desk, Frame
from app.web.dashboard.live import Changes
from app.web.dashboard.pages import dashboard
from app.web.dashboard.security import SecurityHeaders
from app.web.guard import Guard, Identify
from app.web.origin import Origin, is_loopback
from app.web.setup import installed
from app.web.signing_in import cookies_of
from app.web.webhook import webhook_route
from app.wiring import Wired, embedded_workers, logs, wire

RELEASE = version("self-healing-mlops-bot")


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
    heart = Heart(wired.engine, WEB, {"threads": settings.queue.threads} if pump is not None else {})

    def working() -> bool:
        return pump is None or pump.alive()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        intake.start()
        heart.start()
        if pump is not None:
            pump.start()
        yield
        await anyio.to_thread.run_sync(intake.close)
        if pump is not None:
            await anyio.to_thread.run_sync(pump.stop)
        await anyio.to_thread.run_sync(heart.stop)

    rest = FastAPI(title="Self-Healing MLOps Bot", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    rest.add_middleware(SecurityHeaders)
    rest.add_middleware(Origin, public_url=settings.web.public_url)
    route = webhook_route(intake, settings.webhook_secrets())
    rest.router.routes.extend(health.routes(wired.engine, wired.bell, working))
    rest.router.routes.extend(api.routes(Door(intake, Tokens(wired.engine, wired.store.secret), settings.api), reads))
    rest.router.routes.append(Route("/setup/installed", installed))
    machines = machines_of(wired)
    desk, guard = desk_of(wired, changes), guard_of(wired, (machines.identify,))
    rest.mount(PREFIX, named(settings, programs(desk, guard, machines, RELEASE)))
    rest.mount("/", named(settings, dashboard(desk, guard)))
    return Site(route, rest, changes.close)


def desk_of(wired: Wired, changes: Changes) -> Desk:
    frame = Frame(wired.settings.github.web_url, RELEASE)
    return Desk(wired.engine, wired.kit, wired.settings, frame, changes, wired)


def guard_of(wired: Wired, more: Sequence[Identify] = ()) -> Guard:
    """Who may see the dashboard: people with a session, and whom `more` knows."""
    accounts = Accounts(wired.engine)
    cookies = cookies_of(wired)
    ways = (cookies.identify, *more)
    return Guard(accounts, Owners(wired.engine), ways, per_minute=wired.settings.web.requests_per_minute)


def named(settings: Settings, pages: ASGIApp) -> ASGIApp:
    """A request that names another host than ours is refused: that is how DNS rebinding looks."""
    public = urlsplit(settings.web.public_url).hostname
    if not is_loopback(settings.web.host) and public is None:
        return pages  # which names lead here is not known
    hosts = [settings.web.host, "127.0.0.1", "localhost", *([public] if public else [])]
    return TrustedHostMiddleware(pages, allowed_hosts=hosts)
