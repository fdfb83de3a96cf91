"""The right to work on one row, kept alive while the work lasts."""

import threading
import time
from contextvars import copy_context
from dataclasses import replace
from types import TracebackType

import structlog

from app.domain.errors import LeaseLost, Unreachable
from app.ports.store import Lease, Store

log = structlog.get_logger()


class Hold:
    """Renews a lease in the background; `guard` refuses once it can no longer be trusted.

    Most work is over before the first renewal is due. Only what lasts longer gets a thread that renews its lease.

    A process that was frozen past its lease finds, when it thaws, that its monotonic deadline has passed: `guard`
    raises before anything is written.
    """

    def __init__(self, store: Store, lease: Lease, every_s: float) -> None:
        self._store = store
        self._lease = lease
        self._every_s = every_s
        self._done = threading.Event()
        self._context = copy_context()  # what the thread logs names the same delivery
        self._thread: threading.Thread | None = None

    @property
    def lease(self) -> Lease:
        return self._lease

    def guard(self) -> None:
        """Raises LeaseLost unless this row is surely still ours."""
        if time.monotonic() >= self._lease.until_monotonic:
            raise LeaseLost(f"{self._lease.work} {self._lease.row_id}: the lease ran out while we worked")

    def __enter__(self) -> "Hold":
        _held.add(self)
        _watch.add(self, time.monotonic() + self._every_s)
        return self

    def begin_renewing(self) -> None:
        """The first renewal is due."""
        name = f"hold-{self._lease.work}-{self._lease.row_id}"
        self._thread = threading.Thread(target=self._context.run, args=(self._renew,), name=name, daemon=True)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _held.discard(self)
        _watch.remove(self)
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _renew(self) -> None:
        while not self._done.is_set():
            try:
                self._lease = self._store.renew(self._lease)
            except LeaseLost:
                log.warning("lease_lost", work=self._lease.work, row=self._lease.row_id)
                self._lease = replace(self._lease, until_monotonic=0.0)
                return
            except Unreachable:
                log.warning("lease_not_renewed", work=self._lease.work, row=self._lease.row_id)
            self._done.wait(self._every_s)


class _Watch:
    """One thread of this process that waits for the first renewal of every hold."""

    def __init__(self) -> None:
        self._due: dict[Hold, float] = {}
        self._earlier = threading.Condition()
        self._wakes_at = 0.0
        self._thread: threading.Thread | None = None

    def add(self, hold: Hold, due: float) -> None:
        with self._earlier:
            self._due[hold] = due
            if self._thread is None or not self._thread.is_alive():  # threads do not survive a fork
                self._wakes_at = due
                self._thread = threading.Thread(target=self._run, name="hold-watch", daemon=True)
                self._thread.start()
            elif due < self._wakes_at:
                self._earlier.notify()

    def remove(self, hold: Hold) -> None:
        with self._earlier:
            self._due.pop(hold, None)

    def _run(self) -> None:
        with self._earlier:
            while True:
                now = time.monotonic()
                for hold in [hold for hold, due in self._due.items() if due <= now]:
                    del self._due[hold]
                    hold.begin_renewing()
                self._wakes_at = min(self._due.values(), default=now + 60.0)
                self._earlier.wait(self._wakes_at - now)


_watch = _Watch()
_held: set[Hold] = set()


def held() -> list[Hold]:
    """What this process is working on now."""
    return list(_held)
