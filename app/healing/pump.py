"""Threads that perform due rows: rung, or found by the poll. The same in the embedded process and beside Celery."""

import contextlib
import threading
import time

import structlog

from app.domain.errors import Transient, Unreachable
from app.healing.hold import held
from app.healing.kit import Kit
from app.healing.sweep import sweep
from app.healing.work import perform
from app.ports.queue import Work

log = structlog.get_logger()

_ORDER = (Work.DELIVERY, Work.REPAIR, Work.EFFECT)


class Pump:
    """`threads` workers, one thread that polls every `poll_s` seconds, and one that sweeps every `sweep_s`.

    `overdue_s` leaves young rows to those that were rung for them. A worker goes on until nothing is due, so one ring
    is enough for many rows, and a lost ring costs at most one poll.
    """

    def __init__(self, kit: Kit, *, threads: int, poll_s: float, sweep_s: float, overdue_s: float = 0.0) -> None:
        self._kit = kit
        self._poll_s = poll_s
        self._sweep_s = sweep_s
        self._overdue_s = overdue_s
        self._bell = threading.Semaphore(0)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work, name=f"heal-{n}", daemon=True) for n in range(threads)]
        self._threads += [
            threading.Thread(target=self._poll, name="heal-poll", daemon=True),
            threading.Thread(target=self._sweep, name="heal-sweep", daemon=True),
        ]
        self._workers = threads

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def alive(self) -> bool:
        """False when a thread has died of a bug."""
        return all(thread.is_alive() for thread in self._threads)

    def ring(self) -> None:
        self._bell.release()

    def stop(self, within_s: float = 25.0) -> bool:
        """Finish what runs, claim nothing new. False: something still ran and was handed back."""
        self._stopping.set()
        for _ in self._threads:
            self._bell.release()
        deadline = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if not any(thread.is_alive() for thread in self._threads):
            return True
        for hold in held():
            with contextlib.suppress(Transient):
                self._kit.store.hand_back(hold.lease)
        return False

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._bell.acquire()
            try:
                while not self._stopping.is_set() and self._perform_each():
                    pass
            except Unreachable as error:
                log.warning("database_unreachable", error=str(error))
                self._stopping.wait(self._poll_s)

    def _perform_each(self) -> bool:
        """One row of each kind, so that no kind starves another. False: nothing was due."""
        worked = False
        for work in _ORDER:
            if not self._stopping.is_set():
                worked = perform(self._kit, work) or worked
        return worked

    def _poll(self) -> None:
        while not self._stopping.wait(self._poll_s):
            try:
                due = sum(len(self._kit.store.due(work, 100, overdue_s=self._overdue_s)) for work in _ORDER)
                for _ in range(min(due, self._workers)):
                    self._bell.release()
            except Unreachable as error:
                log.warning("database_unreachable", error=str(error))

    def _sweep(self) -> None:
        while not self._stopping.wait(self._poll_s):
            try:
                sweep(self._kit, self._sweep_s)
            except Unreachable as error:
                log.warning("database_unreachable", error=str(error))
