"""Server-sent events: tells open pages that something changed."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from starlette.concurrency import run_in_threadpool

from app.domain.errors import Unreachable

POLL_S = 1.0
STREAM_S = 30.0  # then the browser connects anew, and its page is fresh whatever was missed
QUIET_S = 15.0  # proxies close connections on which nothing is said for long


class Changes:
    """One query every `poll_s` for all listeners together, and none while nobody listens.

    Pages fetch themselves anew whenever their stream opens, so a change that was missed shows after `stream_s` at the
    latest.
    """

    def __init__(self, latest: Callable[[], int], *, poll_s: float = POLL_S, stream_s: float = STREAM_S) -> None:
        self._latest = latest
        self._poll_s = poll_s
        self._stream_s = stream_s
        self._listeners: set[asyncio.Event] = set()
        self._watching: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def close(self) -> None:
        """End every stream now. Call it, from any thread, before the server stops: it waits for open connections."""
        self._closed = True
        if self._loop is not None and self._listeners:
            self._loop.call_soon_threadsafe(self._wake)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body of one answer of type text/event-stream."""
        self._loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        self._listeners.add(changed)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        ends_at = time.monotonic() + self._stream_s
        try:
            yield b"retry: 1000\n\n"
            while not self._closed and (left_s := ends_at - time.monotonic()) > 0:
                try:
                    await asyncio.wait_for(changed.wait(), min(left_s, QUIET_S))
                except TimeoutError:
                    yield b":\n\n"
                else:
                    changed.clear()
                    if not self._closed:
                        yield b"event: change\ndata: 1\n\n"
        finally:
            self._listeners.discard(changed)

    async def _watch(self) -> None:
        seen: int | None = None
        while self._listeners and not self._closed:
            try:
                latest = await run_in_threadpool(self._latest)
            except Unreachable:
                latest = seen or 0
            if seen is not None and latest != seen:
                self._wake()
            seen = latest
            await asyncio.sleep(self._poll_s)

    def _wake(self) -> None:
        for listener in self._listeners:
            listener.set()
