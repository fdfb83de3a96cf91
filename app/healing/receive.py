"""Receiving: each delivery is kept durably before it is answered, many of them in one commit."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol

from app.domain.delivery import Delivery, Kept
from app.domain.errors import Unreachable

CAPACITY = 2048
BATCH = 200
WRITERS = 1  # a second takes the interpreter from the event loop, and halves what one commit is shared by


class Keeper(Protocol):
    """The part of ports.store.Store that is needed here."""

    def keep(self, deliveries: Sequence[Delivery]) -> list[Kept]: ...


Waiting = tuple[Delivery, asyncio.Future[Kept]]


class Intake:
    """Group commit. While transactions are written, what arrives gathers for the next one. Used from one event loop.

    At most `capacity` deliveries wait, at most `batch` go into one transaction, and `writers` transactions run at the
    same time.
    """

    def __init__(self, store: Keeper, *, capacity: int = CAPACITY, batch: int = BATCH, writers: int = WRITERS) -> None:
        self._store = store
        self._capacity = capacity
        self._batch = batch
        self._gathered: deque[Waiting] = deque()
        self._waiting = 0  # gathered, or being written
        self._free = writers
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="intake")
        self._closed = False
        self._empty = asyncio.Event()

    async def keep(self, delivery: Delivery) -> Kept:
        """Returns after the commit. Raises Unreachable when the database is away, too much waits, or it is closing."""
        if self._closed:
            raise Unreachable("the server is stopping; send the delivery again")
        if self._waiting >= self._capacity:
            raise Unreachable(f"{self._waiting} deliveries wait for the database; send this one again")
        kept: asyncio.Future[Kept] = self._loop.create_future()
        if self._free and not self._gathered:
            self._loop.call_soon(self._write)  # not at once: whoever is ready in this turn of the loop comes along
        self._gathered.append((delivery, kept))
        self._waiting += 1
        return await kept

    def start(self) -> None:
        """Called on the event loop, before the first delivery."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Accept nothing more, and return when all that waited is written. Called from another thread."""
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
        self._writers.shutdown()

    async def _drain(self) -> None:
        self._closed = True
        if self._waiting:
            await self._empty.wait()

    def _write(self) -> None:
        while self._free and self._gathered:
            batch = [self._gathered.popleft() for _ in range(min(self._batch, len(self._gathered)))]
            self._free -= 1
            written = self._writers.submit(self._store.keep, [delivery for delivery, _ in batch])
            written.add_done_callback(partial(self._written, batch))

    def _written(self, batch: list[Waiting], written: Future[list[Kept]]) -> None:
        self._loop.call_soon_threadsafe(self._tell, batch, written)

    def _tell(self, batch: list[Waiting], written: Future[list[Kept]]) -> None:
        self._free += 1
        self._waiting -= len(batch)
        self._write()
        error = written.exception()
        for place, (_, kept) in enumerate(batch):
            if kept.done():  # a sender who hung up: the batch is everybody's
                continue
            if error:
                kept.set_exception(error)
            else:
                kept.set_result(written.result()[place])
        if self._closed and not self._waiting:
            self._empty.set()
