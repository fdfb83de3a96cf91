"""Run the web processes until told to stop."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn
from urllib.parse import urlencode

import structlog
import uvloop
from granian import Granian
from granian.constants import Interfaces, Loops
from granian.server.embed import Server

from app.db import migrate
from app.db.accounts import Accounts
from app.db.credentials import Credentials
from app.db.engine import make_engine
from app.db.setup import Setups
from app.settings import Settings, Web
from app.web.app import create
from app.web.checklist import FRESH_S, kept_of, wants_relay
from app.web.one_time_link import announce
from app.web.setup import Setup
from app.web.stage import Served, Stage
from app.wiring import Unconfigured, Unregistered, Wired, completed, missing, usable, vault, wire

log = structlog.get_logger()


def serve(settings: Settings, say: Callable[[str], None], relay: Callable[[], object] = lambda: None) -> None:
    """One process runs here, in this one; several are forked off and supervised. Ends after a graceful stop.

    Where no App is known yet, one process serves the setup, and everything else as soon as there is one; `say` tells
    people where that is. `relay` is called where the setup has chosen to fetch what GitHub cannot deliver; several
    processes leave that to `heal relay`. Raises Unconfigured.
    """
    if settings.embedded:
        engine = make_engine(settings.database_url())
        migrate.upgrade(engine)
        engine.dispose()
    web = settings.web
    try:
        wired = wire(settings)
    except Unregistered:
        stage, token, close = staged(settings, relay)
        say("The bot is not set up yet. Open this address, which is good until that is done:\n")
        say(f"  {way_in(web, token)}\n")
        if web.processes > 1:
            say(f"Until then one process serves; start it again afterwards for all {web.processes}.\n")
        log.info("serving_setup", host=web.host, port=web.port)
        _run_here(lambda: stage, web, close)
    if kept_of(wired) and (renewed := Credentials(wired.engine, wired.vault).renew()):
        log.info("credentials_sealed_anew", count=renewed)
    announce(Accounts(wired.engine), settings, say)
    log.info("serving", host=web.host, port=web.port, processes=web.processes, embedded=settings.embedded)
    if web.processes == 1:
        if wants_relay(wired):
            relay()
        _run_here(lambda: create(wired), web, wired.engine.dispose)
    Granian(
        "app.web.app:create",
        address=web.host,
        port=web.port,
        interface=Interfaces.ASGI,
        workers=web.processes,
        factory=True,
        loop=Loops.auto,
        log_enabled=False,
        workers_kill_timeout=30,
    ).serve()


def staged(
    settings: Settings, relay: Callable[[], object] = lambda: None, *, fresh_s: float = FRESH_S
) -> tuple[Stage, str, Callable[[], None]]:
    """What is served until the App is known, the token for it, and what closes all in the end. `fresh_s`: how long what
    was seen for the checklist counts as new. Raises Unconfigured."""
    engine = make_engine(settings.database_url())
    credentials = Credentials(engine, usable(vault(settings)))
    if migrate.pending(engine):
        raise Unconfigured("the database is not up to date: run `heal db upgrade`")
    setups = Setups(engine)
    found: list[Wired] = []

    def make() -> Served | None:
        if missing(completed(settings, credentials.all())):
            return None
        found[:] = [wire(settings)]
        if wants_relay(found[0]):
            relay()
        return create(found[0])

    setup = Setup(
        settings,
        setups,
        credentials,
        wired=lambda: found[0] if found else None,
        look=lambda: stage.look(),
        fresh_s=fresh_s,
    )
    stage = Stage(setup.app(), make)

    def close() -> None:
        engine.dispose()
        for wired in found:
            wired.engine.dispose()

    return stage, setups.begin(), close


def way_in(web: Web, token: str) -> str:
    """The address of the setup, as a person on this machine, or before the public address, opens it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(web.host, f"[{web.host}]" if ":" in web.host else web.host)  # noqa: S104 - a name for it
    base = web.public_url.rstrip("/") or f"http://{host}:{web.port}"
    return f"{base}/setup?{urlencode({'token': token})}"


def _run_here(make: Callable[[], Served], web: Web, close: Callable[[], None]) -> NoReturn:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_here(make, web))
    close()
    log.info("stopped")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is closed; the server's native threads abort an interpreter that ends while they do


async def _here(make: Callable[[], Served], web: Web) -> None:
    site = make()
    server = Server(
        site, address=web.host, port=web.port, interface=Interfaces.ASGI, log_enabled=False, websockets=False
    )

    def stop() -> None:
        site.end_streams()
        server.stop()  # type: ignore[no-untyped-call]  # Granian leaves it untyped

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await server.serve()
