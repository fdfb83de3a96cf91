"""Perform one due row: claim, hold, handle, and say what became of it.

The only place that decides what is tried again.
"""

import structlog
from structlog.contextvars import bound_contextvars

from app.domain.errors import LeaseLost, Permanent, RateLimited, Transient
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.healing.process import process
from app.healing.repair import mourn, repair
from app.healing.report import report
from app.ports.queue import Work
from app.ports.store import Lease

log = structlog.get_logger()

_HANDLERS = {Work.DELIVERY: process, Work.REPAIR: repair, Work.EFFECT: report}


def perform(kit: Kit, work: Work, row_id: int | None = None) -> bool:
    """Work on that row, or on the most urgent one. False: there was nothing to claim."""
    lease = kit.store.claim(work, row_id)
    if lease is None:
        return False
    kit.passing(f"claimed {work}")
    bound = bound_contextvars(work=str(work), row=lease.row_id, delivery=lease.cause)
    with bound, Hold(kit.store, lease, kit.renew_every_s) as hold:
        _handle(kit, hold)
    return True


def _handle(kit: Kit, hold: Hold) -> None:
    work, lease = hold.lease.work, hold.lease
    try:
        _HANDLERS[work](kit, hold)
        log.info("performed", attempts=lease.attempts)
    except LeaseLost as error:
        log.warning("lease_lost", error=str(error))
    except RateLimited as error:
        log.info("rate_limited", retry_at=error.retry_at, error=str(error))
        _later(kit, hold.lease, error, counts=False)
    except Transient as error:
        log.warning("transient", attempts=lease.attempts, error=str(error))
        _later(kit, hold.lease, error, counts=True)
    except Permanent as error:
        log.warning("permanent", error=str(error))
        _put_aside(kit, hold.lease, error)
    except Exception as error:
        log.exception("bug", attempts=lease.attempts)
        _later(kit, hold.lease, Transient(f"{type(error).__name__}: {error}"), counts=True)


def _later(kit: Kit, lease: Lease, error: Transient, *, counts: bool) -> None:
    try:
        if not kit.store.retry(lease, str(error), at=error.retry_at, counts=counts):
            mourn(kit)
    except Transient as lost:
        log.warning("lease_left_to_expire", error=str(lost))


def _put_aside(kit: Kit, lease: Lease, error: Permanent) -> None:
    try:
        kit.store.bury(lease, str(error))
        mourn(kit)
    except Transient as lost:
        log.warning("lease_left_to_expire", error=str(lost))
