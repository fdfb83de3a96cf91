"""Take back, in time, what was only ever meant for a while."""

from datetime import datetime

from app.domain.event import Ticked
from app.domain.policy import Mode, Policy, mode_of
from app.domain.repair import Repair, RepairState, Verb
from app.healing.decide import plan_repair
from app.healing.kit import Kit
from app.ports.forge import Forge
from app.ports.plugins import Lifts

EVERY_S = 24 * 3600.0
MOST = 10
SCHEDULE = "the schedule"  # in place of the person who asked: nobody took the repair back for being wrong


def lift(kit: Kit, forge: Forge, event: Ticked, policy: Policy) -> None:
    """Once a day, plan the undo of merged repairs whose time is over; nothing while the repository is paused, and none
    by an action that the team only observes or has switched off. Of many repairs each has its day.
    """
    repository_id = event.repository.id
    if policy.paused or not kit.store.take_turn(f"lift:{repository_id}", EVERY_S):
        return
    lifting = [kind for kind, action in kit.actions.items() if isinstance(action, Lifts)]
    with kit.store.begin() as ledger:
        standing = ledger.merged_repairs(repository_id, lifting)
        now = ledger.now()
        if standing and ledger.history(repository_id, standing[0].incident_id, 0).switches:
            return  # of today: what is over waits until tomorrow
    for each in turn_of(standing, now):
        action = kit.actions[each.remedy.action]
        if not isinstance(action, Lifts) or action.lift(each, forge, now).refusal:
            continue
        with kit.store.begin() as ledger:
            incident = ledger.incident(each.incident_id)
            if mode_of(policy, incident.finding.detector, each.remedy.action)[1] in (Mode.OFF, Mode.OBSERVE):
                continue
            fresh = ledger.repair(each.id)
            undone = any(other.undoes == each.id for other in ledger.repairs_of(incident.id) if other.verb is Verb.UNDO)
            if fresh.state is RepairState.PROVEN and not undone:
                plan_repair(ledger, incident, each.remedy, policy, undoes=each.id, approved_by=SCHEDULE)
                ledger.note(incident.id, "lifted", {"action": each.remedy.action})


def turn_of(standing: list[Repair], now: datetime) -> list[Repair]:
    """Those that are looked at today, at most MOST; all within some days."""
    first = now.toordinal() * MOST % len(standing) if len(standing) > MOST else 0
    return (standing[first:] + standing[:first])[:MOST]
