"""Fetch the App's deliveries from GitHub's own record of them, where no public address can be reached."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app.adapters.github.webhook import peek
from app.db import migrate
from app.db.engine import make_engine
from app.domain.errors import HealError, Malformed, RateLimited, Refused
from app.ports.clock import Clock
from app.ports.forge import App, SentDelivery
from app.ports.store import Store
from app.settings import Settings
from app.wiring import Unregistered, Wired, wire

log = structlog.get_logger()

EVERY_S = 5.0
LONGEST_WAIT_S = 300.0
WINDOW = timedelta(days=3)  # GitHub keeps its record no longer
MARGIN = timedelta(minutes=10)  # the record may be late
MARK = "deliveries relayed until"
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Relayed:
    """A delivery that was taken over. Not `fresh`: it was known, and GitHub has sent it again."""

    at: datetime
    guid: str
    event: str
    action: str
    repository: str
    fresh: bool


class Relay:
    """`look` may be repeated for ever, and by several processes at once: the GUID says what is known."""

    def __init__(self, app: App, store: Store, clock: Clock) -> None:
        self._app = app
        self._store = store
        self._clock = clock
        self._seen: set[int] = set()

    def look(self) -> Iterator[Relayed]:
        """Take over what GitHub has sent since the last look and is not known here, oldest first."""
        now = self._clock.now()
        since = max((self._store.marked(MARK) or now - WINDOW) - MARGIN, now - WINDOW)
        sent = self._app.sent_deliveries(since=since)
        self._seen &= {one.id for one in sent}
        for one in self._wanted(sent):
            relayed = self._take(one)
            self._seen.add(one.id)
            self._store.mark(MARK, one.delivered_at)
            if relayed is not None:
                yield relayed
        newest = max((one.delivered_at for one in sent), default=None)
        if newest is not None and newest > since + MARGIN:
            self._store.mark(MARK, newest)  # what was known is not looked through again either

    def _wanted(self, sent: Sequence[SentDelivery]) -> list[SentDelivery]:
        """One attempt of each delivery that is not known; of what is known, each time that it was sent again."""
        guids = list({one.guid for one in sent})
        known: set[str] = set()
        for start in range(0, len(guids), _AT_ONCE):
            known |= self._store.known(guids[start : start + _AT_ONCE])
        wanted = []
        for one in sorted(sent, key=lambda one: (one.delivered_at, one.id)):
            if one.id not in self._seen and (one.redelivery or one.guid not in known):
                wanted.append(one)
                known.add(one.guid)
        return wanted

    def _take(self, sent: SentDelivery) -> Relayed | None:
        """As the webhook keeps it, but for the signature: what the API tells is JSON written anew, over which none can
        be checked. It is trusted because GitHub's API gave it to the App's own key, over TLS."""
        try:
            found = self._app.sent_body(sent.id)
            delivery = peek({"x-github-event": found.event, "x-github-delivery": found.guid}, found.payload)
        except (Refused, Malformed) as error:
            log.warning("not_relayed", guid=sent.guid, name=sent.event, error=str(error))
            return None
        (kept,) = self._store.keep([delivery])
        return Relayed(
            sent.delivered_at, delivery.guid, delivery.event, delivery.action, delivery.repository, kept.fresh
        )


def follow(
    relay: Relay,
    clock: Clock,
    stop: threading.Event,
    *,
    every_s: float,
    tell: Callable[[Relayed], None],
    trouble: Callable[[HealError, float], None],
) -> None:
    """Look again and again until told to stop. `trouble` hears what went wrong, and in how many seconds it is tried
    again."""
    failed = 0
    while not stop.is_set():
        try:
            for relayed in relay.look():
                tell(relayed)
                if stop.is_set():
                    return
            failed, wait_s = 0, every_s
        except HealError as error:
            failed += 1
            wait_s = _wait_s(error, failed, every_s, clock.now())
            trouble(error, wait_s)
        stop.wait(wait_s)


def _wait_s(error: HealError, failed: int, every_s: float, now: datetime) -> float:
    if isinstance(error, RateLimited) and error.retry_at is not None:
        return max((error.retry_at - now).total_seconds(), every_s)
    return min(every_s * 2.0 ** min(failed, 10), LONGEST_WAIT_S)


def ready(settings: Settings) -> Wired:
    """The bot, on a database that is up to date where it is the embedded one. Raises as `wire` does."""
    if settings.embedded:
        engine = make_engine(settings.database_url())
        migrate.upgrade(engine)
        engine.dispose()
    return wire(settings)


def beside(settings: Settings) -> threading.Thread:
    """Relay in a thread of this process, from when the App is set up on. It ends with the process: what is being taken
    over then is taken over by the next."""
    thread = threading.Thread(target=_beside, args=(settings,), name="heal-relay", daemon=True)
    thread.start()
    return thread


def _beside(settings: Settings) -> None:
    never = threading.Event()
    while True:
        try:
            wired = ready(settings)
            break
        except Unregistered:
            never.wait(EVERY_S)
        except HealError as error:
            log.warning("relay_waits", error=str(error))
            never.wait(LONGEST_WAIT_S)
    clock = wired.kit.clock
    log.info("relaying", every_s=EVERY_S)
    follow(
        Relay(wired.app, wired.store, clock),
        clock,
        never,
        every_s=EVERY_S,
        tell=lambda one: log.info("relayed", guid=one.guid, name=one.event, action=one.action, fresh=one.fresh),
        trouble=lambda error, wait_s: log.warning("relay_postponed", error=str(error), wait_s=round(wait_s)),
    )
