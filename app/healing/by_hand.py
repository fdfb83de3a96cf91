"""What a person asks for where nothing was found: an incident of its own, so that the same rules, the same rehearsal
and the same proof hold for it."""

import hashlib
from dataclasses import dataclass, replace

from app.domain.access import Role
from app.domain.errors import HealError
from app.domain.finding import Finding, Remedy, Severity, fingerprint
from app.domain.incident import ACTIVE, Incident, Signal, State, allows, step
from app.domain.policy import Policy, approvals_for
from app.domain.tenant import Repository
from app.healing.decide import next_rung
from app.healing.gather import configuration
from app.healing.kit import Kit
from app.healing.steer import FORBIDDEN, NOT_NOW, UNKNOWN, Actor, Answer, Steered, act_on_incident, may, said_why
from app.ports.store import Ledger

DETECTOR, ROLL_BACK = "by_hand", "roll_back_requested"
ACTION = "roll_back_model"


@dataclass(frozen=True, slots=True)
class Asked:
    """`incident_id` is where it can be followed; None where nothing was opened."""

    steered: Steered
    incident_id: int | None = None


class _Left(HealError):
    """The rules let nothing be done: nothing of it is kept."""


def roll_back(kit: Kit, repository_id: int, model: str, who: Actor, reason: str, needs: Role = Role.OPERATOR) -> Asked:
    """Bring the version of a model back that served before. What the mode, a pause or a limit forbids is refused, and
    where several people must say yes, it waits for them."""
    with kit.store.begin() as ledger:
        repository = ledger.repository(repository_id)
    if repository is None:
        return Asked(UNKNOWN)
    try:
        forge = kit.app.forge(repository)
        if not may(forge, who, needs):
            return Asked(FORBIDDEN)
        policy = configuration(kit, forge).policy
    except HealError:
        return Asked(NOT_NOW)
    try:
        with kit.store.begin() as ledger:
            return _opened(ledger, policy, repository, _finding(model, who, said_why(reason)), who, reason)
    except _Left as error:
        return Asked(Steered(Answer.IMPOSSIBLE, str(error)))


def _finding(model: str, who: Actor, reason: str) -> Finding:
    return Finding(
        detector=DETECTOR,
        kind=ROLL_BACK,
        subject=model,
        severity=Severity.HIGH,
        confidence=1.0,
        summary=f"{who.name} asked to bring the former version of {model} back" + (f": {reason}" if reason else ""),
        fingerprint=fingerprint(ROLL_BACK, model),
        facts={"model": model, "by": who.name, **({"reason": reason} if reason else {})},
        ladder=(Remedy(ACTION, {"model": model}),),
    )


def _opened(ledger: Ledger, policy: Policy, repository: Repository, finding: Finding, who: Actor, reason: str) -> Asked:
    """Raises _Left."""
    known = ledger.find_incident(repository.id, _fingerprint(repository, finding))
    if known is not None and known.state in ACTIVE:
        told = f"Incident {known.id} is about this already, and is {known.state}."
        return Asked(Steered(Answer.IMPOSSIBLE, told), known.id)
    incident = _incident(ledger, repository, finding, known)
    if incident.state is not State.OPEN:
        raise _Left("Somebody else asks for this at the same time.")
    ledger.note(incident.id, "found", {"kind": finding.kind, "summary": finding.summary, "confidence": 1.0})
    several = approvals_for(policy, ACTION) > 1
    incident = next_rung(ledger, incident, policy, asked_by="" if several else who.name)
    if incident.state is not State.REPAIRING:
        decided = [entry for entry in ledger.record(incident.id).timeline if entry.kind == "decided"]
        raise _Left(str(decided[-1].data.get("reason", "")) if decided else "the rules do not allow it")
    ledger.audit(act_on_incident(incident, "roll_back", who, reason))
    message = "It waits for the yes of several people." if several else "Rolling back."
    return Asked(Steered(Answer.DONE, message), incident.id)


def _fingerprint(repository: Repository, finding: Finding) -> str:
    key = f"{finding.fingerprint}\x1f{repository.id}\x1f{DETECTOR}"
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _incident(ledger: Ledger, repository: Repository, finding: Finding, known: Incident | None) -> Incident:
    """A new one, or the one that there was, opened anew."""
    now = ledger.now()
    fresh = Incident(
        repository_id=repository.id,
        installation_id=repository.installation_id,
        repository=repository.full_name,
        branch=repository.default_branch,
        fingerprint=_fingerprint(repository, finding),
        finding=finding,
        head_sha="",
        run_id=0,
        attempt=0,
        workflow_path="",
        opened_at=now,
        updated_at=now,
    )
    if known is None:
        return ledger.add_incident(fresh)
    opens = allows(known.state, Signal.FOUND) and step(known.state, Signal.FOUND) is State.OPEN
    state = step(known.state, Signal.FOUND if opens else Signal.RETRIED)  # a person's word opens what people closed
    again = replace(fresh, id=known.id, state=state, opened_at=known.opened_at)
    ledger.save_incident(again)
    return again
