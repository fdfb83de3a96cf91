"""Do what a person asked for with a button or a `/heal` comment, if they may."""

from dataclasses import dataclass, replace

from app.domain.delivery import DeliveryState
from app.domain.effect import Effect, EffectKind
from app.domain.event import ButtonPressed, CommandGiven
from app.domain.incident import Incident, Signal, allows
from app.domain.policy import Policy, Switch
from app.domain.repair import Repair, RepairState
from app.healing.decide import move, next_rung, take_back, tell
from app.healing.gather import configuration
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.ports.store import Ledger

VERBS = ("approve", "reject", "retry", "undo", "pause", "resume", "why")
_MAY = frozenset({"admin", "write"})


@dataclass(frozen=True, slots=True)
class Reply:
    """One line in which backticks enclose commands. `show` is the incident whose decision trace is the reply."""

    message: str
    show: int | None = None


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
            answer = Reply("This needs write access to the repository.")
        elif verb not in VERBS:
            answer = Reply(f"I know `/heal {'`, `/heal '.join(VERBS)}`.")
        elif verb in ("pause", "resume"):
            answer = _switch(ledger, event, verb)
        else:
            incident = _meant(ledger, event, argument)
            answer = (
                _carry(ledger, policy, incident, verb, event.sender.login)
                if incident
                else Reply(f"There is no incident here. Name one: `/heal {verb} NUMBER`.")
            )
        if isinstance(event, CommandGiven):
            _reply(ledger, event, answer, may)
        ledger.finish_delivery(hold.lease.row_id, DeliveryState.DONE)


def _reply(ledger: Ledger, event: CommandGiven, answer: Reply, may: bool) -> None:
    request = {
        "number": event.issue_number,
        "comment_id": event.comment_id,
        "message": answer.message,
        "show": answer.show,
        "react": may,
    }
    key = f"{EffectKind.REPLY}:{event.repository.id}:{event.comment_id}"
    ledger.want_effect(Effect(key, EffectKind.REPLY, event.repository.id, request))


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


def _carry(ledger: Ledger, policy: Policy, incident: Incident, verb: str, who: str) -> Reply:
    if verb == "why":
        return Reply(f"How incident {incident.id} was decided:", show=incident.id)
    if verb in ("approve", "retry") and (policy.paused or _switched_off(ledger, incident)):
        return Reply("Repairs are paused here. Say `/heal resume` first.")
    waiting = [repair for repair in ledger.repairs_of(incident.id) if repair.state is RepairState.ASKED]
    if verb == "approve":
        return _approve(ledger, incident, waiting, who)
    if verb == "reject":
        return _reject(ledger, policy, incident, waiting, who)
    if verb == "retry":
        return _retry(ledger, policy, incident, waiting, who)
    return _undo(ledger, policy, incident, waiting, who)


def _switched_off(ledger: Ledger, incident: Incident) -> bool:
    return bool(ledger.history(incident.repository_id, incident.id, incident.run_id).switches)


def _approve(ledger: Ledger, incident: Incident, waiting: list[Repair], who: str) -> Reply:
    if not waiting or not allows(incident.state, Signal.ACTED):
        return Reply(f"Nothing waits for approval: incident {incident.id} is {incident.state}.")
    ledger.save_repair(replace(waiting[-1], state=RepairState.PLANNED, approved_by=who), due_at=ledger.now())
    ledger.wake_repair(waiting[-1].id)
    ledger.note(incident.id, "approved", {"by": who})
    move(ledger, incident, Signal.ACTED)
    return Reply(f"Approved: `{waiting[-1].remedy.action}` starts now.")


def _reject(ledger: Ledger, policy: Policy, incident: Incident, waiting: list[Repair], who: str) -> Reply:
    if not allows(incident.state, Signal.REJECTED):
        return Reply(f"Nothing to reject: incident {incident.id} is {incident.state}.")
    _drop(ledger, waiting)
    ledger.note(incident.id, "rejected", {"by": who})
    if incident.merged_at is None:
        take_back(ledger, incident, policy)
    move(ledger, incident, Signal.REJECTED)
    return Reply(f"Rejected. Incident {incident.id} will be left alone.")


def _retry(ledger: Ledger, policy: Policy, incident: Incident, waiting: list[Repair], who: str) -> Reply:
    if not allows(incident.state, Signal.RETRIED):
        return Reply(f"Incident {incident.id} is {incident.state}; there is nothing to try again.")
    _drop(ledger, waiting)
    ledger.note(incident.id, "retried", {"by": who})
    incident = move(ledger, replace(incident, rung=0), Signal.RETRIED)
    incident = next_rung(ledger, incident, policy, asked_by=who)
    return Reply(f"Trying again: incident {incident.id} is now {incident.state}.")


def _undo(ledger: Ledger, policy: Policy, incident: Incident, waiting: list[Repair], who: str) -> Reply:
    if take_back(ledger, incident, policy) is None:
        return Reply("There is nothing to undo: no change of mine stands here, and a re-run cannot be undone.")
    _drop(ledger, waiting)
    ledger.note(incident.id, "rejected", {"by": who, "note": "undo"})
    if allows(incident.state, Signal.REJECTED):
        move(ledger, incident, Signal.REJECTED)
    else:
        tell(ledger, incident)
    return Reply("Undoing.")


def _drop(ledger: Ledger, waiting: list[Repair]) -> None:
    for repair in waiting:
        ledger.save_repair(replace(repair, state=RepairState.REJECTED), due_at=None)


def _switch(ledger: Ledger, event: ButtonPressed | CommandGiven, verb: str) -> Reply:
    scope = f"repository:{event.repository.id}"
    if verb == "pause":
        ledger.switch_on(Switch(scope, event.sender.login, ledger.now()))
        return Reply("Paused: I go on watching and reporting, and change nothing here until `/heal resume`.")
    ledger.switch_off(scope)
    return Reply("Resumed.")
