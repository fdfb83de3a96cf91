"""What one process serves while the bot is being set up: the setup, and everything else from when the App is known."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import orjson
import structlog
from anyio.to_thread import run_sync
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.errors import HealError
from app.web.answer import RETRY_AFTER_S, say

LOOK_EVERY_S = 2.0
SETUP = "/setup"
_WAITING = {"ready": False, "probes": [{"name": "setup", "ok": False, "hint": "open the address that was printed"}]}

log = structlog.get_logger()


class Served(Protocol):
    """The whole application, as app.web.app.create makes it."""

    def end_streams(self) -> None: ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Running:
    """An application whose lifespan is played by us: the server knows of another one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises RuntimeError, or what the application raised."""
        scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self._task = asyncio.create_task(self._app(scope, self._told.get, self._said.put))  # type: ignore[arg-type]
        await self._until("startup")

    async def stop(self) -> None:
        if self._task is not None and not self._task.done():
            await self._until("shutdown")
            await self._task

    async def _until(self, phase: str) -> None:
        assert self._task is not None
        await self._told.put({"type": f"lifespan.{phase}"})
        said = asyncio.create_task(self._said.get())
        await asyncio.wait({said, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not said.done():
            said.cancel()
            await self._task
            raise RuntimeError(f"the application ended before its {phase}")
        message = said.result()
        if message["type"] != f"lifespan.{phase}.complete":
            raise RuntimeError(message.get("message", phase))


class Stage:
    """`make` gives the whole application as soon as it can be made, None until then. Others (`heal setup`) may set the
    bot up too, so it is asked again every so often."""

    def __init__(self, setup: ASGIApp, make: Callable[[], Served | None], *, every_s: float = LOOK_EVERY_S) -> None:
        self._setup = setup
        self._make = make
        self._every_s = every_s
        self._whole: Served | None = None
        self._running: Running | None = None
        self._turn = asyncio.Lock()

    def end_streams(self) -> None:
        if self._whole is not None:
            self._whole.end_streams()

    async def look(self) -> bool:
        """Whether everything is served now. Raises HealError when it cannot be, though the App is known."""
        async with self._turn:
            if self._whole is None:
                whole = await run_sync(self._make)
                if whole is None:
                    return False
                running = Running(whole)
                await running.start()
                self._whole, self._running = whole, running
                log.info("set_up")
            return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] != "http":
            await (self._whole or self._setup)(scope, receive, send)
        elif scope["path"] == SETUP or scope["path"].startswith(f"{SETUP}/"):
            await self._setup(scope, receive, send)
        elif self._whole is not None:
            await self._whole(scope, receive, send)
        else:
            await self._not_yet(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        looking = asyncio.create_task(self._look_again())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        if self._running is not None:
            await self._running.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _look_again(self) -> None:
        while True:
            try:
                if await self.look():
                    return
            except HealError as error:
                log.warning("not_set_up", reason=str(error))
            await asyncio.sleep(self._every_s)

    async def _not_yet(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/livez":
            await say(send, 200, orjson.dumps({"alive": True}))
        elif path == "/readyz":
            await say(send, 503, orjson.dumps(_WAITING))
        elif path.startswith(("/webhooks/", "/api/", "/metrics")):
            error = {
                "code": "not_set_up",
                "message": "The bot is not set up yet.",
                "hint": "Send it again once the App is registered; GitHub's can be redelivered for three days.",
            }
            await say(send, 503, orjson.dumps({"error": error}), (b"retry-after", b"%d" % RETRY_AFTER_S))
        else:
            await self._setup(scope, receive, send)
