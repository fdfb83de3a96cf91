"""Take back, in time, what was only ever meant for a while."""

from app.domain.event import Ticked
from app.domain.policy import Policy
from app.domain.repair import RepairState, Verb
from app.healing.decide import plan_repair
from app.healing.kit import Kit
from app.ports.forge import Forge
from app.ports.plugins import Lifts

EVERY_S = 24 * 3600.0
MOST = 10
SCHEDULE = "the schedule"  # in place of the person who asked: nobody took the repair back for being wrong


def lift(kit: Kit, forge: Forge, event: Ticked, policy: Policy) -> None:
    """Once a day, plan the undo of each merged repair whose time is over. Nothing, while the repository is paused."""
    repository_id = event.repository.id
    if policy.paused or not kit.store.take_turn(f"lift:{repository_id}", EVERY_S):
        return
    with kit.store.begin() as ledger:
        standing = [each for each in ledger.merged_repairs(repository_id) if each.remedy.action in kit.actions]
        now = ledger.now()
    for each in standing[:MOST]:
        action = kit.actions[each.remedy.action]
        if not isinstance(action, Lifts) or action.lift(each, forge, now).refusal:
            continue
        with kit.store.begin() as ledger:
            incident = ledger.incident(each.incident_id)
            fresh = ledger.repair(each.id)
            undone = any(other.undoes == each.id for other in ledger.repairs_of(incident.id) if other.verb is Verb.UNDO)
            if fresh.state is RepairState.PROVEN and not undone:
                plan_repair(ledger, incident, each.remedy, policy, undoes=each.id, approved_by=SCHEDULE)
                ledger.note(incident.id, "lifted", {"action": each.remedy.action})
