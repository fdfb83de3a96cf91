"""What no event reminds us of: deliveries that GitHub could not hand over, repairs that were put aside, old bodies."""

from collections.abc import Collection, Iterable
from datetime import timedelta

import structlog

from app.domain.delivery import Delivery
from app.domain.errors import HealError, Permanent
from app.domain.event import Ticked
from app.domain.tenant import Repository
from app.healing.kit import Kit
from app.healing.repair import mourn
from app.ports.forge import SentDelivery

log = structlog.get_logger()

_MARGIN = timedelta(minutes=10)
_WINDOW = timedelta(days=3) - 2 * _MARGIN  # GitHub redelivers no further back than three days
_FRESH = timedelta(seconds=30)  # a delivery this young may still be on its way
_MOST_REDELIVERIES = 60
_KEEP_BODIES_S = 14 * 24 * 3600.0
_MARK = "deliveries audited until"
_TICKS_AT_ONCE = 200


def sweep(kit: Kit, every_s: float) -> bool:
    """Run if it is this caller's turn. False: somebody else had it."""
    if not kit.store.take_turn("sweep", every_s):
        return False
    kit.store.prune(older_than_s=_KEEP_BODIES_S)
    erase(kit)
    tick(kit)
    mourn(kit)
    reap(kit)
    try:
        catch_up(kit)
    except HealError as error:
        log.warning("catch_up_postponed", error=str(error))
    return True


def erase(kit: Kit, repositories: Collection[int] | None = None) -> None:
    """Do away with what was kept of whom the App was removed from; of these repositories, if some are named."""
    erased = kit.store.erase(repositories)
    if erased:
        log.info("erased", **erased)


def reap(kit: Kit) -> None:
    """End what was started and belongs to no repair any more."""
    if not kit.launchers:
        return
    with kit.store.begin() as ledger:
        wanted = ledger.unfinished_repairs()
    for launcher in kit.launchers.values():
        try:
            for handle in launcher.reap(wanted):
                log.info("run_reaped", launcher=launcher.name, handle=handle)
        except HealError as error:
            log.warning("reaping_postponed", launcher=launcher.name, error=str(error))


def tick(kit: Kit) -> None:
    """Remind every repository of what sends no events, once in each period: the delivery is named for it."""
    if not any(Ticked.kind in detector.reacts_to for detector in kit.detectors.values()):
        return
    period = int(kit.clock.now().timestamp() // kit.tick_every_s)
    if kit.store.take_turn("tick", kit.tick_every_s):
        repositories = kit.store.repositories()
        for start in range(0, len(repositories), _TICKS_AT_ONCE):
            kit.store.keep([_tick(repository, period) for repository in repositories[start : start + _TICKS_AT_ONCE]])


def _tick(repository: Repository, period: int) -> Delivery:
    return Delivery(
        guid=f"tick-{repository.id}-{period}",
        source="schedule",
        event="tick",
        action="",
        body=b"{}",
        installation_id=repository.installation_id,
        repository_id=repository.id,
        repository=repository.full_name,
    )


def catch_up(kit: Kit) -> int:
    """Ask GitHub what it sent; have what is missing here sent again. How many were asked for.

    A delivery that GitHub counts as received and that is not kept would break our first promise: it is logged as an
    error, besides being asked for again.
    """
    now = kit.clock.now()
    since = max((kit.store.marked(_MARK) or now - _WINDOW) - _MARGIN, now - _WINDOW)
    sent = [s for s in kit.app.sent_deliveries(since=since) if s.delivered_at <= now - _FRESH]
    missing = _missing(sent, kit.store.known([s.guid for s in sent]))
    asked = missing[:_MOST_REDELIVERIES]
    for delivery in asked:
        if delivery.ok:
            log.error("acknowledged_but_not_kept", guid=delivery.guid, name=delivery.event)
        log.info("redelivery_asked", guid=delivery.guid, name=delivery.event)
        try:
            kit.app.redeliver(delivery.id)
        except Permanent as error:
            log.warning("redelivery_refused", guid=delivery.guid, error=str(error))
    if len(asked) == len(missing):
        kit.store.mark(_MARK, now)
    return len(asked)


def _missing(sent: Iterable[SentDelivery], kept: set[str]) -> list[SentDelivery]:
    """Oldest first, each GUID once (its latest attempt)."""
    latest: dict[str, SentDelivery] = {}
    for delivery in sent:
        known = latest.get(delivery.guid)
        if delivery.guid not in kept and (known is None or delivery.delivered_at > known.delivered_at):
            latest[delivery.guid] = delivery
    return sorted(latest.values(), key=lambda delivery: delivery.delivered_at)
