"""The right to work on one row, kept alive while the work lasts."""

import threading
import time
from contextvars import copy_context
from functools import partial
from types import TracebackType

import structlog

from app.domain.errors import LeaseLost, Unreachable
from app.ports.store import Lease, Store

log = structlog.get_logger()


class Hold:
    """Renews a lease in the background; `guard` refuses once it can no longer be trusted.

    A process that was frozen past its lease finds, when it thaws, that its monotonic deadline has passed: `guard`
    raises before anything is written.
    """

    def __init__(self, store: Store, lease: Lease, every_s: float) -> None:
        self._store = store
        self._lease = lease
        self._every_s = every_s
        self._done = threading.Event()
        # in the caller's context: what the thread logs names the same delivery
        run = partial(copy_context().run, self._renew)
        self._thread = threading.Thread(target=run, name=f"hold-{lease.work}-{lease.row_id}", daemon=True)

    @property
    def lease(self) -> Lease:
        return self._lease

    def guard(self) -> None:
        """Raises LeaseLost unless this row is surely still ours."""
        if time.monotonic() >= self._lease.until_monotonic:
            raise LeaseLost(f"{self._lease.work} {self._lease.row_id}: the lease ran out while we worked")

    def __enter__(self) -> "Hold":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._done.wait(self._every_s):
            try:
                self._lease = self._store.renew(self._lease)
            except LeaseLost:
                log.warning("lease_lost", work=self._lease.work, row=self._lease.row_id)
                return
            except Unreachable:
                log.warning("lease_not_renewed", work=self._lease.work, row=self._lease.row_id)
