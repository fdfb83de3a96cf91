"""Run the web processes until told to stop."""

import asyncio
import os
import signal
import sys

import structlog
import uvloop
from granian import Granian
from granian.constants import Interfaces, Loops
from granian.server.embed import Server

from app.web.app import create
from app.wiring import Wired

log = structlog.get_logger()


def serve(wired: Wired) -> None:
    """One process runs here, in this one; several are forked off and supervised. Ends after a graceful stop."""
    web = wired.settings.web
    log.info("serving", host=web.host, port=web.port, processes=web.processes, embedded=wired.settings.embedded)
    if web.processes == 1:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_here(wired))
        wired.engine.dispose()
        log.info("stopped")
        sys.stderr.flush()
        os._exit(0)  # all is closed; the server's native threads abort an interpreter that ends while they do
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


async def _here(wired: Wired) -> None:
    web = wired.settings.web
    site = create(wired)
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
