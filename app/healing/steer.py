"""What people decide on incidents and repositories, wherever they say it: a page, the API, a button, a comment.

An answer is a value; whoever asked tells it in their own way. What was done stands in the timeline and in the audit
log.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from app.domain.access import Role, role_for
from app.domain.audit import Act
from app.domain.errors import HealError
from app.domain.incident import Incident, Signal, State, allows
from app.domain.policy import Policy, Switch, approvals_for, mute_scope, repository_scope
from app.domain.repair import Repair, RepairState
from app.domain.tenant import Repository
from app.healing.decide import move, next_rung, take_back, tell
from app.healing.gather import configuration
from app.healing.kit import Kit
from app.ports.forge import Forge
from app.ports.store import Ledger, TimelineEntry
from app.security.masking import mask

DECISIONS = ("approve", "reject", "retry", "undo", "mute", "unmute")
SWITCHES = ("pause", "resume", "mute", "unmute")
MOST_REASON = 500
DECIDED_KINDS = {"approved": "approve", "rejected": "reject", "retried": "retry", "muted": "mute", "unmuted": "unmute"}
PLANNED_KINDS = ("planned", "asked")
"""Entries of the timeline that a decision depends on: what people have decided, and for an approval what is planned."""


class Answer(StrEnum):
    DONE = "done"
    SECOND = "second"  # their yes is kept; that of another person is needed, too
    TOO_LATE = "too_late"  # somebody else decided since they looked, or the plan is another one
    IMPOSSIBLE = "impossible"
    PAUSED = "paused"
    FORBIDDEN = "forbidden"
    NOT_NOW = "not_now"  # GitHub does not say whether they may
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who decides, and by which way: dashboard, api or github. `id` is that of their account. GitHub is not asked what
    the `trusted` may do: they run the bot. `person` is False for a token that belongs to nobody."""

    name: str
    via: str
    id: int | None = None
    trusted: bool = False
    person: bool = True


@dataclass(frozen=True, slots=True)
class Steered:
    """`message` is one English sentence, in which backticks enclose commands. Where somebody else was first, or threw a
    switch: `by` whom it was, `at` when, `verb` what."""

    answer: Answer
    message: str
    by: str = ""
    at: datetime | None = None
    verb: str = ""

    @property
    def done(self) -> bool:
        return self.answer in (Answer.DONE, Answer.SECOND)


NOT_NOW = Steered(
    Answer.NOT_NOW, "GitHub does not say now whether you may do this, so nothing was done. Try again in a minute."
)
FORBIDDEN = Steered(Answer.FORBIDDEN, "This needs write access to the repository.")
UNKNOWN = Steered(Answer.UNKNOWN, "There is no such incident, or the App is not installed there any more.")


def steer(
    kit: Kit,
    incident_id: int,
    verb: str,
    who: Actor,
    *,
    reason: str = "",
    expected: int | None = None,
    needs: Role = Role.OPERATOR,
) -> Steered:
    """One of DECISIONS, in one transaction. `expected` is the newest entry of the timeline that they have seen."""
    with kit.store.begin() as ledger:
        known = ledger.incident_numbered(incident_id)
        repository = ledger.repository(known.repository_id) if known else None
    if repository is None or verb not in DECISIONS:
        return UNKNOWN
    try:
        forge = kit.app.forge(repository)
        if not may(forge, who, needs):
            return FORBIDDEN
        policy = configuration(kit, forge).policy
    except HealError:
        return NOT_NOW
    with kit.store.begin() as ledger:
        incident = ledger.incident(incident_id)
        late = _overtaken(ledger, incident, verb, expected)
        steered = late or decide_on(ledger, policy, incident, verb, who, reason)
        if steered.done:
            ledger.audit(act_on_incident(incident, verb, who, reason))
    return steered


def switch(
    kit: Kit,
    repository_id: int,
    verb: str,
    who: Actor,
    *,
    kind: str = "",
    reason: str = "",
    needs: Role = Role.OPERATOR,
) -> Steered:
    """One of SWITCHES for a whole repository; mute and unmute are about the cause `kind`."""
    with kit.store.begin() as ledger:
        repository = ledger.repository(repository_id)
    if repository is None or verb not in SWITCHES or (verb in ("mute", "unmute") and not kind):
        return UNKNOWN
    try:
        if not may(kit.app.forge(repository), who, needs):
            return FORBIDDEN
    except HealError:
        return NOT_NOW
    with kit.store.begin() as ledger:
        steered = turn(ledger, repository.id, verb, who, kind=kind, reason=reason)
        if steered.done:
            ledger.audit(act_on_repository(repository, verb, who, reason, kind=kind))
    return steered


def may(forge: Forge, who: Actor, needs: Role) -> bool:
    """What GitHub says of them at this moment. Raises what the forge raises."""
    if who.trusted:
        return True
    role = role_for(forge.permission(who.name))
    return role is not None and role.covers(needs)


def said_why(reason: str) -> str:
    """A reason as it is kept: one line, without secrets, not too long."""
    return mask(" ".join(reason.split()))[:MOST_REASON]


def act_on_incident(incident: Incident, verb: str, who: Actor, reason: str = "") -> Act:
    data = {"repository": incident.repository} | ({"reason": said_why(reason)} if reason else {})
    where = (who.id, incident.installation_id, incident.repository_id)
    return Act(who.name, who.via, verb, "incident", str(incident.id), *where, data)


def act_on_repository(repository: Repository, verb: str, who: Actor, reason: str = "", *, kind: str = "") -> Act:
    told = {"reason": said_why(reason), "kind": kind}
    data = {"repository": repository.full_name} | {name: value for name, value in told.items() if value}
    where = (who.id, repository.installation_id, repository.id)
    return Act(who.name, who.via, verb, "repository", str(repository.id), *where, data)


def decide_on(ledger: Ledger, policy: Policy, incident: Incident, verb: str, who: Actor, reason: str = "") -> Steered:
    """In a transaction that holds the incident, by somebody who may. The caller writes it to the audit log, last."""
    reason = said_why(reason)
    if verb in ("approve", "retry") and (stopped := _stopped(ledger, policy, incident)) is not None:
        return stopped
    waiting = [repair for repair in ledger.repairs_of(incident.id) if repair.state is RepairState.ASKED]
    return _DO[verb](ledger, policy, incident, waiting, who, reason)


def turn(ledger: Ledger, repository_id: int, verb: str, who: Actor, *, kind: str = "", reason: str = "") -> Steered:
    """Throw a switch of a repository, or take it back."""
    reason = said_why(reason)
    scope = mute_scope(repository_id, kind) if kind else repository_scope(repository_id)
    if verb in ("resume", "unmute"):
        ledger.switch_off(scope)
        done = f"{kind} is repaired here again, as the rules have it." if kind else "Resumed."
        return Steered(Answer.DONE, done)
    ledger.switch_on(Switch(scope, who.name, ledger.now(), reason))
    if not kind:
        done = "Paused: I go on watching and reporting, and change nothing here until `/heal resume`."
        return Steered(Answer.DONE, done)
    for incident in ledger.incidents_asking(repository_id, kind):
        _drop(ledger, [repair for repair in ledger.repairs_of(incident.id) if repair.state is RepairState.ASKED])
        ledger.note(incident.id, "muted", _said(who, reason))
        _leave(ledger, incident)
    return Steered(Answer.DONE, f"{kind} is never repaired here again, until somebody takes that back.")


def overtaking(entries: Sequence[TimelineEntry], verb: str) -> TimelineEntry | None:
    """Of what happened since somebody looked, what they must know before this."""
    matters = {*DECIDED_KINDS, *(PLANNED_KINDS if verb == "approve" else ())}
    return next((entry for entry in reversed(entries) if entry.kind in matters), None)


def _overtaken(ledger: Ledger, incident: Incident, verb: str, expected: int | None) -> Steered | None:
    newer = ledger.entries_after(incident.id, expected) if expected is not None else []
    entry = overtaking(newer, verb)
    if entry is None:
        return None
    decided = DECIDED_KINDS.get(entry.kind, "")
    if not decided:
        message = "The plan has changed since you looked. Look at the new one first."
        return Steered(Answer.TOO_LATE, message, at=entry.at, verb="plan")
    by = str(entry.data.get("by", ""))
    decided = "undo" if entry.data.get("note") == "undo" else decided
    return Steered(Answer.TOO_LATE, _TOO_LATE[decided].format(by), by, entry.at, decided)


_TOO_LATE = {
    "approve": "{} has approved this meanwhile.",
    "reject": "{} has rejected this meanwhile.",
    "retry": "{} has asked for another try meanwhile.",
    "undo": "{} has taken this back meanwhile.",
    "mute": "{} has said meanwhile never to repair this here again.",
    "unmute": "{} has allowed meanwhile to repair this here again.",
}


def _stopped(ledger: Ledger, policy: Policy, incident: Incident) -> Steered | None:
    """A switch that lets nothing be done, whoever asks."""
    history = ledger.history(incident.repository_id, incident.id, incident.run_id)
    if policy.paused or history.switches:
        thrown = history.switches[0] if history.switches else None
        by, at = (thrown.by, thrown.at) if thrown else ("", None)
        return Steered(Answer.PAUSED, "Repairs are paused here. Say `/heal resume` first.", by, at, "pause")
    if history.muted is not None:
        by, at, kind = history.muted.by, history.muted.at, incident.finding.kind
        message = f"{kind} is never repaired here, as {by} has said. Say `/heal unmute` first."
        return Steered(Answer.PAUSED, message, by, at, "mute")
    return None


def _approve(
    ledger: Ledger, policy: Policy, incident: Incident, waiting: list[Repair], who: Actor, reason: str
) -> Steered:
    if not waiting or not allows(incident.state, Signal.ACTED):
        message = f"Nothing waits for approval: incident {incident.id} is {incident.state}."
        return Steered(Answer.IMPOSSIBLE, message)
    asked, action = waiting[-1], waiting[-1].remedy.action
    several, approved_by = approvals_for(policy, action), who.name
    if several > 1:
        if not who.person:
            message = f"{action} needs the yes of {several} people, and this token belongs to nobody."
            return Steered(Answer.IMPOSSIBLE, message)
        said = ledger.approve(asked.id, _known_as(ledger, incident, who))
        if len(said) < several:
            account = {} if who.id is None else {"account": who.id}
            told = {**_said(who, reason), **account, "action": action, "needs": several}
            ledger.note(incident.id, "seconded", told)
            tell(ledger, incident)
            return Steered(Answer.SECOND, f"{who.name} has said yes to {action}. Another person must, too.", who.name)
        approved_by = ", ".join(said)
    ledger.save_repair(replace(asked, state=RepairState.PLANNED, approved_by=approved_by), due_at=ledger.now())
    ledger.wake_repair(asked.id)
    ledger.note(incident.id, "approved", _said(who, reason))
    move(ledger, incident, Signal.ACTED)
    return Steered(Answer.DONE, f"Approved: `{action}` starts now.")


def _known_as(ledger: Ledger, incident: Incident, who: Actor) -> str:
    """The name under which their yes counts: people who change theirs stay one person."""
    if who.id is not None:
        for entry in ledger.entries_after(incident.id, 0):
            if entry.kind == "seconded" and entry.data.get("account") == who.id:
                return str(entry.data["by"]).lower()
    return who.name.lower()


def _reject(
    ledger: Ledger, policy: Policy, incident: Incident, waiting: list[Repair], who: Actor, reason: str
) -> Steered:
    if not allows(incident.state, Signal.REJECTED):
        return Steered(Answer.IMPOSSIBLE, f"Nothing to reject: incident {incident.id} is {incident.state}.")
    _drop(ledger, waiting)
    ledger.note(incident.id, "rejected", _said(who, reason))
    if incident.merged_at is None:
        take_back(ledger, incident, policy)
    move(ledger, incident, Signal.REJECTED)
    return Steered(Answer.DONE, f"Rejected. Incident {incident.id} will be left alone.")


def _retry(
    ledger: Ledger, policy: Policy, incident: Incident, waiting: list[Repair], who: Actor, reason: str
) -> Steered:
    if not allows(incident.state, Signal.RETRIED):
        message = f"Incident {incident.id} is {incident.state}; there is nothing to try again."
        return Steered(Answer.IMPOSSIBLE, message)
    _drop(ledger, waiting)
    ledger.note(incident.id, "retried", _said(who, reason))
    incident = move(ledger, replace(incident, rung=0), Signal.RETRIED)
    incident = next_rung(ledger, incident, policy, asked_by=who.name)
    return Steered(Answer.DONE, f"Trying again: incident {incident.id} is now {incident.state}.")


def _undo(
    ledger: Ledger, policy: Policy, incident: Incident, waiting: list[Repair], who: Actor, reason: str
) -> Steered:
    if take_back(ledger, incident, policy) is None:
        message = "There is nothing to undo: no change of mine stands here, and a re-run cannot be undone."
        return Steered(Answer.IMPOSSIBLE, message)
    _drop(ledger, waiting)
    ledger.note(incident.id, "rejected", {**_said(who, reason), "note": "undo"})
    if allows(incident.state, Signal.REJECTED):
        move(ledger, incident, Signal.REJECTED)
    else:
        tell(ledger, incident)
    return Steered(Answer.DONE, "Undoing.")


def _mute(
    ledger: Ledger, policy: Policy, incident: Incident, waiting: list[Repair], who: Actor, reason: str
) -> Steered:
    """Never here again. What is under way for this cause is left, and what stands and is not merged is taken back."""
    _drop(ledger, waiting)
    ledger.note(incident.id, "muted", _said(who, reason))
    if incident.state in _UNDER_WAY:
        if incident.merged_at is None:
            take_back(ledger, incident, policy)
        _leave(ledger, incident)
    return turn(ledger, incident.repository_id, "mute", who, kind=incident.finding.kind, reason=reason)


def _unmute(
    ledger: Ledger, policy: Policy, incident: Incident, waiting: list[Repair], who: Actor, reason: str
) -> Steered:
    del policy, waiting
    ledger.note(incident.id, "unmuted", _said(who, reason))
    return turn(ledger, incident.repository_id, "unmute", who, kind=incident.finding.kind)


_Do = Callable[[Ledger, Policy, Incident, list[Repair], Actor, str], Steered]
_DO: dict[str, _Do] = {
    "approve": _approve,
    "reject": _reject,
    "retry": _retry,
    "undo": _undo,
    "mute": _mute,
    "unmute": _unmute,
}
_UNDER_WAY = frozenset({State.OPEN, State.AWAITING_APPROVAL, State.REPAIRING, State.VERIFYING})


def _leave(ledger: Ledger, incident: Incident) -> None:
    """It is only watched from now on."""
    if allows(incident.state, Signal.FAILED):
        incident = move(ledger, incident, Signal.FAILED)
    move(ledger, incident, Signal.LEFT)


def _drop(ledger: Ledger, waiting: list[Repair]) -> None:
    for repair in waiting:
        ledger.save_repair(replace(repair, state=RepairState.REJECTED), due_at=None)


def _said(who: Actor, reason: str) -> dict[str, str]:
    return {"by": who.name} | ({"reason": reason} if reason else {})
