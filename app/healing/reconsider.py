"""Decide again on what only a limit has stopped, when the limit has let go."""

from datetime import datetime

from app.domain.incident import Signal, State
from app.domain.policy import Policy
from app.healing.decide import move, next_rung
from app.healing.gather import moved_on
from app.healing.kit import Kit
from app.ports.forge import Forge
from app.ports.store import Record

MOST = 20


def reconsider(kit: Kit, forge: Forge, repository_id: int, policy: Policy) -> None:
    """The newest incidents of the repository that a budget, a breaker or a limit in time has stopped."""
    with kit.store.begin() as ledger:
        left = [each for each in ledger.incidents_at(repository_id) if each.state is State.OBSERVED]
        now = ledger.now()
        due = [each for each in left[-MOST:] if lets_go(ledger.record(each.id), now)]
    for incident in due:
        stale = moved_on(forge, incident.branch, incident.head_sha)
        if stale:
            continue
        with kit.store.begin() as ledger:
            fresh = ledger.incident(incident.id)
            if fresh.state is State.OBSERVED:
                ledger.note(fresh.id, "reconsidered", {})
                next_rung(ledger, move(ledger, fresh, Signal.RETRIED), policy)


def lets_go(record: Record, now: datetime) -> bool:
    """Every rule that stopped the last decision has said until when, and that has passed."""
    until = held_until(record)
    return until is not None and until <= now


def held_until(record: Record) -> datetime | None:
    """When the last of the rules lets go that stopped the last decision. None: one of them does not, or none did."""
    decided = [entry for entry in record.timeline if entry.kind == "decided"]
    stopped = [check for check in decided[-1].data.get("trace", ()) if not check["passed"]] if decided else []
    times = [datetime.fromisoformat(until) for check in stopped if isinstance(until := check.get("resets_at"), str)]
    return max(times) if times and len(times) == len(stopped) else None
