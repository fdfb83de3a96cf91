"""Do what a person asked for with a button or a `/heal` comment, if they may."""

from dataclasses import dataclass

from app.domain.access import Role
from app.domain.audit import Act
from app.domain.delivery import DeliveryState
from app.domain.effect import Effect, EffectKind
from app.domain.event import ButtonPressed, CommandGiven
from app.domain.incident import Incident
from app.domain.number import row_number
from app.domain.policy import Policy
from app.healing.gather import configuration
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.healing.steer import FORBIDDEN, Actor, act_on_incident, act_on_repository, decide_on, may, turn
from app.ports.store import Ledger

VERBS = ("approve", "reject", "retry", "undo", "mute", "unmute", "pause", "resume", "why")


@dataclass(frozen=True, slots=True)
class Reply:
    """One line in which backticks enclose commands. `show` is the incident whose decision trace is the reply, `act`
    what was done."""

    message: str
    show: int | None = None
    act: Act | None = None


def obey(kit: Kit, hold: Hold, event: ButtonPressed | CommandGiven) -> None:
    """Check the sender's permission by API, and what the installation's admins let them do; act in one transaction,
    answer once."""
    forge = kit.app.forge(event.repository)
    words = tuple(event.button.split(":")) if isinstance(event, ButtonPressed) else event.words
    who = Actor(event.sender.login, "github", event.sender.id or None)
    allowed = may(forge, who, Role.OPERATOR)
    policy = configuration(kit, forge).policy if allowed else Policy()
    with kit.store.begin(hold.lease) as ledger:
        ledger.remember_repository(event.repository)
        most = ledger.most_of(event.repository.installation_id, event.sender.id)
        allowed = allowed and (most is None or most.covers(Role.OPERATOR))
        answer = _answer(ledger, policy, event, who, words) if allowed else Reply(FORBIDDEN.message)
        if isinstance(event, CommandGiven):
            _reply(ledger, event, answer, allowed)
        ledger.finish_delivery(hold.lease.row_id, DeliveryState.DONE)
        if answer.act is not None:
            ledger.audit(answer.act)


def _answer(
    ledger: Ledger, policy: Policy, event: ButtonPressed | CommandGiven, who: Actor, words: tuple[str, ...]
) -> Reply:
    """`verb`, then perhaps the incident's number, then perhaps the reason."""
    verb, rest = (words[0] if words else ""), words[1:]
    number = row_number(rest[0]) if rest else None
    reason = " ".join(rest if number is None else rest[1:])
    if verb not in VERBS:
        return Reply(f"I know `/heal {'`, `/heal '.join(VERBS)}`.")
    if verb in ("pause", "resume"):
        turned = turn(ledger, event.repository.id, verb, who, reason=reason)
        return Reply(turned.message, act=act_on_repository(event.repository, verb, who, reason))
    incident = _meant(ledger, event, number)
    if incident is None:
        return Reply(f"There is no incident here. Name one: `/heal {verb} NUMBER`.")
    if verb == "why":
        return Reply(f"How incident {incident.id} was decided:", show=incident.id)
    steered = decide_on(ledger, policy, incident, verb, who, reason)
    return Reply(steered.message, act=act_on_incident(incident, verb, who, reason) if steered.done else None)


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


def _meant(ledger: Ledger, event: ButtonPressed | CommandGiven, number: int | None) -> Incident | None:
    """The incident of that number, or the one that this pull request, issue or check run is about."""
    here = event.repository.id
    if number is not None:
        found = ledger.incident_numbered(number)
        return found if found is not None and found.repository_id == here else None
    if isinstance(event, ButtonPressed):
        seen = ledger.incidents_at(here, head_sha=event.head_sha)
    else:
        told = ledger.incident_of_pull(here, event.issue_number) or ledger.incident_of_issue(here, event.issue_number)
        seen = [told] if told else []
    return seen[0] if len(seen) == 1 else None
