"""A question that nobody answers does not stay asked for ever."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from app.domain.incident import Signal, State
from app.domain.outcome import Conclusion, Outcome
from app.domain.policy import Limits, Policy
from app.domain.repair import RepairState, Verb
from app.healing.decide import escalate, move
from app.healing.kit import Kit
from app.ports.store import Ledger, TimelineEntry

EXPIRES_AT = "expires_at"
_USUAL = timedelta(days=Limits().approval_expires_days)


def question(action: str, policy: Policy, now: datetime) -> dict[str, str]:
    """What the timeline says of a question: by when it wants an answer."""
    until = now + timedelta(days=policy.limits.approval_expires_days)
    return {"action": action, EXPIRES_AT: until.isoformat()}


def expires_at(at: datetime, data: Mapping[str, Any]) -> datetime:
    """Of a question that was asked then."""
    said = data.get(EXPIRES_AT)
    return datetime.fromisoformat(said) if isinstance(said, str) else at + _USUAL


def expire(kit: Kit, repository_id: int) -> None:
    """Withdraw what was asked too long ago. What is found again is asked again."""
    with kit.store.begin() as ledger:
        waiting = [each.id for each in ledger.incidents_at(repository_id) if each.state is State.AWAITING_APPROVAL]
        over = [each for each in waiting if _over(ledger.record(each).timeline, ledger.now())]
    for number in over:
        with kit.store.begin() as ledger:
            withdraw(ledger, number)


def withdraw(ledger: Ledger, incident_id: int) -> None:
    """In a transaction of its own: what was answered meanwhile stays answered."""
    incident = ledger.incident(incident_id)
    if incident.state is not State.AWAITING_APPROVAL or not _over(ledger.record(incident_id).timeline, ledger.now()):
        return
    repairs = [each for each in ledger.repairs_of(incident_id) if each.state is RepairState.ASKED]
    for each in repairs:
        outcome = Outcome(Conclusion.CANCELLED, "nobody decided in time")
        ledger.save_repair(replace(each, state=RepairState.SKIPPED, outcome=outcome), due_at=None)
    ledger.note(incident_id, "expired", {"action": repairs[-1].remedy.action if repairs else ""})
    incident = move(ledger, incident, Signal.FAILED)
    if any(each.verb is Verb.UNDO for each in repairs):
        escalate(ledger, incident, "nobody decided in time whether to take the merged repair back")
        return
    rung = repairs[-1].rung if repairs else incident.rung
    move(ledger, replace(incident, rung=rung), Signal.LEFT)


def _over(timeline: Sequence[TimelineEntry], now: datetime) -> bool:
    questions = [entry for entry in timeline if entry.kind == "asked"]
    return bool(questions) and expires_at(questions[-1].at, questions[-1].data) <= now
