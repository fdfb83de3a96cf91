"""The dashboard over a database, served on loopback by the product's own server."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from granian.constants import Interfaces
from granian.server.embed import Server
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from app.db.reads import Reads
from app.healing.kit import Kit
from app.settings import Settings
from app.web.api.v1.app import PREFIX, api
from app.web.api.v1.machines import machines_of
from app.web.app import desk_of, guard_of
from app.web.dashboard import pages
from app.web.dashboard.live import Changes
from app.web.dashboard.security import SecurityHeaders
from app.wiring import Wired, wire
from tests.browser.incidents import FORGE


@lru_cache(1)
def key_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def settings_for(engine: Engine, **more: Any) -> Settings:
    """Of a bot on that database whose forge cannot be reached."""
    return Settings(
        **{
            "database": {"url": engine.url.render_as_string(hide_password=False)},
            "queue": {"threads": 0},
            "web": {"requests_per_minute": 1_000_000},
            "github": {
                "app_id": 1,
                "private_key": key_pem(),
                "webhook_secrets": "s3cret",
                "api_url": "http://127.0.0.1:1",
                "web_url": FORGE,
            },
            "advisories": {"url": "", "cache": str(Path(str(engine.url.database)).with_suffix(".advisories"))},
            **more,
        }
    )


def wired_for(engine: Engine, **more: Any) -> Wired:
    """The product wired up on that very engine."""
    return replace(wire(settings_for(engine, **more)), engine=engine)


def dashboard(engine: Engine, changes: Changes | None = None, kit: Kit | None = None, **more: Any) -> ASGIApp:
    """Its pages alone; `kit` in place of the real one, `more` settings by group."""
    wired = wired_for(engine, **more)
    desk = desk_of(replace(wired, kit=kit) if kit else wired, changes or Changes(Reads(engine).latest_change))
    return SecurityHeaders(pages.dashboard(desk, guard_of(wired)))


def everything(engine: Engine, changes: Changes | None = None, kit: Kit | None = None, **more: Any) -> ASGIApp:
    """Its pages and its API."""
    wired = wired_for(engine, **more)
    machines = machines_of(wired)
    guard = guard_of(wired, (machines.identify,))
    desk = desk_of(replace(wired, kit=kit) if kit else wired, changes or Changes(Reads(engine).latest_change))
    programs = Mount(PREFIX, api(desk, guard, machines, "0.1.0"))
    return SecurityHeaders(Starlette(routes=[programs, Mount("/", pages.dashboard(desk, guard))]))


@contextmanager
def serving(engine: Engine, kit: Kit | None = None) -> Iterator[str]:
    """The address, without a slash at its end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changes = Changes(Reads(engine).latest_change)
    server = Server(everything(engine, changes, kit), address="127.0.0.1", port=port, interface=Interfaces.ASGI)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    _wait_for(port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        changes.close()
        server.stop()  # type: ignore[no-untyped-call]
        thread.join(1)  # a native thread of the server may hold on to it; it ends with the process


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")
