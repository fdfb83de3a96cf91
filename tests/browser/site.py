"""The dashboard over a database, served on loopback by the product's own server."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from granian.constants import Interfaces
from granian.server.embed import Server
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.middleware import Middleware

from app.db.reads import Reads
from app.web.dashboard import pages
from app.web.dashboard.live import Changes
from app.web.dashboard.security import SecurityHeaders
from tests.browser.incidents import FORGE


def dashboard(engine: Engine, changes: Changes | None = None) -> Starlette:
    return Starlette(
        routes=pages.routes(Reads(engine), forge_web_url=FORGE, version="0.1.0", changes=changes),
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers=pages.errors(version="0.1.0"),
    )


@contextmanager
def serving(engine: Engine) -> Iterator[str]:
    """The address, without a slash at its end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changes = Changes(Reads(engine).latest_change)
    server = Server(dashboard(engine, changes), address="127.0.0.1", port=port, interface=Interfaces.ASGI)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    _wait_for(port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        changes.close()
        server.stop()  # type: ignore[no-untyped-call]
        thread.join(10)  # a native thread of the server may hold on to it; it ends with the process


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")
