"""Do what a person asked for with a button or a `/heal` comment, if they may."""

from dataclasses import replace

from app.domain.delivery import DeliveryState
from app.domain.effect import Effect, EffectKind
from app.domain.event import ButtonPressed, CommandGiven
from app.domain.incident import Incident, Signal, State, allows
from app.domain.policy import Policy, Switch
from app.domain.repair import RepairState
from app.healing import texts
from app.healing.decide import move, next_rung, take_back, tell
from app.healing.gather import configuration
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.ports.store import Ledger

VERBS = ("approve", "reject", "retry", "undo", "pause", "resume", "why")
_MAY = frozenset({"admin", "write"})
_UNDOABLE = frozenset({RepairState.APPLIED, RepairState.PROVEN, RepairState.DISPROVEN})


def obey(kit: Kit, hold: Hold, event: ButtonPressed | CommandGiven) -> None:
    """Check the sender's permission by API, act in one transaction, answer once."""
    forge = kit.app.forge(event.repository)
    words = tuple(event.button.split(":")) if isinstance(event, ButtonPressed) else event.words
    verb, argument = (words[0] if words else ""), (words[1] if len(words) > 1 else "")
    may = forge.permission(event.sender.login) in _MAY
    policy = configuration(kit, forge).policy if may else Policy()
    with kit.store.begin(hold.lease) as ledger:
        ledger.remember_repository(event.repository)
        if not may:
            answer = f"`/heal {verb}` needs write access to this repository."
        elif verb not in VERBS:
            answer = f"I know `/heal` {', '.join(VERBS)}."
        elif verb in ("pause", "resume"):
            answer = _switch(ledger, event, verb)
        else:
            incident = _meant(ledger, event, argument)
            answer = (
                _carry(ledger, policy, incident, verb, event.sender.login)
                if incident
                else f"There is no incident here. Name one: `/heal {verb} NUMBER`."
            )
        if isinstance(event, CommandGiven):
            key = f"{EffectKind.REPLY}:{event.repository.id}:{event.comment_id}"
            request = {"number": event.issue_number, "comment_id": event.comment_id, "body": answer, "seen": may}
            ledger.want_effect(Effect(key, EffectKind.REPLY, event.repository.id, request))
        ledger.finish_delivery(hold.lease.row_id, DeliveryState.DONE)


def _meant(ledger: Ledger, event: ButtonPressed | CommandGiven, argument: str) -> Incident | None:
    """The incident of that number, or the one that this pull request, issue or check run is about."""
    here = event.repository.id
    if argument.isdecimal() and len(argument) < 19:
        found = ledger.incident_numbered(int(argument))
        return found if found is not None and found.repository_id == here else None
    if isinstance(event, ButtonPressed):
        seen = ledger.incidents_at(here, head_sha=event.head_sha)
    else:
        told = ledger.incident_of_pull(here, event.issue_number) or ledger.incident_of_issue(here, event.issue_number)
        seen = [told] if told else []
    return seen[0] if len(seen) == 1 else None


def _carry(ledger: Ledger, policy: Policy, incident: Incident, verb: str, who: str) -> str:
    if verb == "why":
        return texts.why_text(ledger.record(incident.id))
    paused = ledger.history(incident.repository_id, incident.id, incident.run_id).switches
    if verb in ("approve", "retry") and (paused or policy.paused):
        return "Repairs are paused here. `/heal resume` first."
    waiting = [repair for repair in ledger.repairs_of(incident.id) if repair.state is RepairState.ASKED]
    if verb == "approve":
        if not waiting:
            return f"Nothing waits for approval: incident {incident.id} is {incident.state}."
        ledger.save_repair(replace(waiting[-1], state=RepairState.PLANNED, approved_by=who), due_at=ledger.now())
        ledger.wake_repair(waiting[-1].id)
        ledger.note(incident.id, "approved", {"by": who})
        move(ledger, incident, Signal.ACTED)
        return f"Approved by {who}: {waiting[-1].remedy.action} starts now."
    if verb == "reject":
        if not allows(incident.state, Signal.REJECTED):
            return f"Nothing to reject: incident {incident.id} is {incident.state}."
        for repair in waiting:
            ledger.save_repair(replace(repair, state=RepairState.REJECTED), due_at=None)
        ledger.note(incident.id, "rejected", {"by": who})
        move(ledger, incident, Signal.REJECTED)
        return f"Rejected by {who}; incident {incident.id} will be left alone."
    if verb == "retry":
        if not allows(incident.state, Signal.ACTED) or incident.state is State.OPEN:
            return f"Incident {incident.id} is {incident.state}; there is nothing to try again."
        for repair in waiting:
            ledger.save_repair(replace(repair, state=RepairState.REJECTED), due_at=None)
        ledger.note(incident.id, "retried", {"by": who})
        incident = next_rung(ledger, replace(incident, state=State.OPEN, rung=0), policy, asked_by=who)
        return f"Trying again: incident {incident.id} is {incident.state}."
    return _undo(ledger, incident, policy, who)


def _undo(ledger: Ledger, incident: Incident, policy: Policy, who: str) -> str:
    if not any(repair.state in _UNDOABLE for repair in ledger.repairs_of(incident.id)):
        return "There is nothing to undo."
    if take_back(ledger, incident, policy) is None:
        return "A re-run cannot be taken back; nothing else was changed."
    ledger.note(incident.id, "rejected", {"by": who, "note": "undo"})
    if allows(incident.state, Signal.REJECTED):
        move(ledger, incident, Signal.REJECTED)
    else:
        tell(ledger, incident)
    return f"Undoing, as {who} asked."


def _switch(ledger: Ledger, event: ButtonPressed | CommandGiven, verb: str) -> str:
    scope = f"repository:{event.repository.id}"
    if verb == "pause":
        ledger.switch_on(Switch(scope, event.sender.login, ledger.now()))
        return "Paused: I go on watching and reporting, and change nothing here until `/heal resume`."
    ledger.switch_off(scope)
    return "Resumed."
