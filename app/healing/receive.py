"""Receiving: each delivery is kept durably before it is answered, many of them in one commit."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from app.domain.delivery import Delivery, Kept
from app.domain.errors import Unreachable

CAPACITY = 2048
BATCH = 200
WRITERS = 2


class Keeper(Protocol):
    """The part of ports.store.Store that is needed here."""

    def keep(self, deliveries: Sequence[Delivery]) -> list[Kept]: ...


@dataclass(slots=True)
class _Batch:
    deliveries: list[Delivery] = field(default_factory=list)
    kept: asyncio.Task[list[Kept]] | None = None


class Intake:
    """Group commit. While transactions are written, what arrives gathers for the next one. Used from one event loop.

    At most `capacity` deliveries wait, at most `batch` go into one transaction, and `writers` transactions run at the
    same time: one prepares its rows while the other waits for the disk.
    """

    def __init__(self, store: Keeper, *, capacity: int = CAPACITY, batch: int = BATCH, writers: int = WRITERS) -> None:
        self._store = store
        self._capacity = capacity
        self._batch = batch
        self._waiting = 0
        self._open: _Batch | None = None
        self._batches: set[asyncio.Task[list[Kept]]] = set()
        self._writing = asyncio.Semaphore(writers)
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="intake")
        self._closed = False

    async def keep(self, delivery: Delivery) -> Kept:
        """Returns after the commit. Raises Unreachable when the database is away, too much waits, or it is closing."""
        if self._closed:
            raise Unreachable("the server is stopping; send the delivery again")
        if self._waiting >= self._capacity:
            raise Unreachable(f"{self._waiting} deliveries wait for the database; send this one again")
        batch = self._open
        if batch is None or batch.kept is None or len(batch.deliveries) >= self._batch:
            batch = self._open = _Batch()
            batch.kept = asyncio.create_task(self._write(batch))
            self._batches.add(batch.kept)
            batch.kept.add_done_callback(self._batches.discard)
        place = len(batch.deliveries)
        batch.deliveries.append(delivery)
        self._waiting += 1
        # a sender who hangs up takes back its own waiting only: the batch is everybody's
        return (await asyncio.shield(batch.kept))[place]

    def start(self) -> None:
        """Called on the event loop, before the first delivery."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Accept nothing more, and return when all that waited is written. Called from another thread."""
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
        self._writers.shutdown()

    async def _drain(self) -> None:
        self._closed = True
        await asyncio.gather(*self._batches, return_exceptions=True)

    async def _write(self, batch: _Batch) -> list[Kept]:
        async with self._writing:
            if self._open is batch:
                self._open = None
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._writers, self._store.keep, batch.deliveries
                )
            finally:
                self._waiting -= len(batch.deliveries)
