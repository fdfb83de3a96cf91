"""Carry out one planned repair: dry run, then ask or apply; or take one back."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial

from app.domain.errors import Permanent
from app.domain.incident import Incident, Signal, State, allows
from app.domain.outcome import Conclusion, Outcome
from app.domain.policy import Policy
from app.domain.repair import FINAL, Plan, Repair, RepairState, Verb
from app.healing import texts
from app.healing.decide import climb, escalate, move, take_back, tell
from app.healing.gather import configuration
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.healing.verify import look
from app.ports.forge import Forge
from app.ports.plugins import Tools
from app.ports.queue import Work
from app.ports.store import Ledger
from app.security.marker import marker

_HELD = frozenset({Conclusion.SUCCESS})
_LEFT_ALONE = frozenset({Conclusion.NEUTRAL, Conclusion.SKIPPED})


def repair(kit: Kit, hold: Hold) -> None:
    """What is due on this repair: to be carried out, or (once applied) to be looked at for proof."""
    with kit.store.begin(hold.lease) as ledger:
        current = ledger.repair(hold.lease.row_id)
        incident = ledger.incident(current.incident_id)
        repository = ledger.repository(incident.repository_id)
        earlier = [r.outcome.data.get("head_sha", "") for r in ledger.repairs_of(incident.id) if r.outcome]
    if repository is None:
        return _stop(kit, hold, "the App is not installed on this repository any more")
    forge = kit.app.forge(repository)
    if current.state is RepairState.PLANNED:
        carry_out(kit, hold, forge, incident, current, frozenset(earlier) - {""})
    elif current.state is RepairState.APPLIED:
        look(kit, hold, forge, incident, current)
    else:
        _stop(kit, hold, "")


def carry_out(kit: Kit, hold: Hold, forge: Forge, incident: Incident, current: Repair, ours: frozenset[str]) -> None:
    policy = configuration(kit, forge).policy
    action = kit.actions[current.remedy.action]
    tools = Tools(
        forge=forge,
        incident=incident,
        policy=policy,
        resolver=kit.resolver,
        clock=kit.clock,
        pull_text=partial(_pull_text, kit, incident),
        issue_text=partial(_issue_text, kit, incident),
        marker=marker(kit.secret, current.effect_key),
        guard=hold.guard,
        ours=ours,
    )
    if current.verb is Verb.UNDO:
        with kit.store.begin() as ledger:
            target = ledger.repair(current.undoes or 0)
        kit.passing("before undo")
        outcome = action.undo(target, tools)
        kit.passing("after undo")
        return settle_undo(kit, hold, current, target, outcome)
    if stopped := _switched_off(kit, incident, policy) or stale(forge, incident):
        return settle(kit, hold, policy, current, None, Outcome(Conclusion.STALE, stopped))
    params = kit.params(current.remedy.action, current.remedy.params)
    plan = action.plan(incident, params, tools)
    kit.passing("after plan")
    if plan.refusal:
        return settle(kit, hold, policy, current, plan, Outcome(Conclusion.SKIPPED, plan.refusal))
    if current.needs_approval and not current.approved_by:
        return ask(kit, hold, current, plan)
    kit.passing("before apply")
    try:
        outcome = action.apply(current, params, plan, tools)
    except Permanent as error:
        outcome = Outcome(Conclusion.FAILURE, str(error))
    kit.passing("after apply")
    settle(kit, hold, policy, current, plan, outcome)


def ask(kit: Kit, hold: Hold, current: Repair, plan: Plan) -> None:
    """Show the dry run and wait for a person."""
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident(current.incident_id)
        ledger.save_repair(replace(current, state=RepairState.ASKED, plan=plan), due_at=None)
        _note_plan(ledger, incident, current, plan)
        ledger.note(incident.id, "asked", {"action": current.remedy.action})
        move(ledger, incident, Signal.ASKED)


def settle(kit: Kit, hold: Hold, policy: Policy, current: Repair, plan: Plan | None, outcome: Outcome) -> None:
    """Write down how the attempt ended, and what follows: proof is awaited, the next rung is due, or it ends here."""
    action = kit.actions[current.remedy.action]
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident(current.incident_id)
        now = ledger.now()
        if plan is not None:
            _note_plan(ledger, incident, current, plan)
        told = {
            "action": current.remedy.action,
            "title": outcome.title,
            "summary": outcome.summary,
            "data": dict(outcome.data),
        }
        done = replace(current, plan=plan or current.plan, outcome=outcome)
        if incident.state is not State.REPAIRING:
            return overtaken(ledger, incident, policy, done, told)
        if outcome.conclusion in _HELD:
            ledger.note(incident.id, "applied", told)
            incident = replace(
                incident,
                pull_number=outcome.data.get("pull", incident.pull_number),
                issue_number=outcome.data.get("issue", incident.issue_number),
            )
            if action.proves == "nothing":
                ledger.save_repair(replace(done, state=RepairState.PROVEN, applied_at=now), due_at=None)
                if incident.state is State.REPAIRING:
                    escalate(ledger, incident, outcome.title)
                return
            deadline = now + timedelta(seconds=current.proof_s)
            applied = replace(done, state=RepairState.APPLIED, applied_at=now, proof_deadline=deadline)
            ledger.save_repair(applied, due_at=min(deadline, now + timedelta(seconds=kit.look_every_s)))
            move(ledger, incident, Signal.APPLIED)
            return
        if outcome.conclusion is Conclusion.STALE:
            ledger.note(incident.id, "skipped", told)
            ledger.save_repair(replace(done, state=RepairState.SKIPPED), due_at=None)
            incident = move(ledger, incident, Signal.FAILED)
            move(ledger, replace(incident, rung=max(0, incident.rung - 1)), Signal.LEFT)
            return
        left_alone = outcome.conclusion in _LEFT_ALONE
        ledger.note(incident.id, "skipped" if left_alone else "failed", told)
        state = RepairState.SKIPPED if left_alone else RepairState.FAILED
        ledger.save_repair(replace(done, state=state), due_at=None)
        climb(kit, ledger, incident, policy)


def overtaken(ledger: Ledger, incident: Incident, policy: Policy, done: Repair, told: Mapping[str, object]) -> None:
    """A person decided otherwise while we worked: what was done is written down, and taken back."""
    held = done.outcome is not None and done.outcome.conclusion in _HELD
    ledger.note(incident.id, "applied" if held else "skipped", told)
    ledger.save_repair(replace(done, state=RepairState.REJECTED), due_at=None)
    if held and done.outcome is not None:
        ledger.save_incident(replace(incident, pull_number=done.outcome.data.get("pull", incident.pull_number)))
        take_back(ledger, incident, policy)


def settle_undo(kit: Kit, hold: Hold, current: Repair, target: Repair, outcome: Outcome) -> None:
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident(current.incident_id)
        held = outcome.conclusion in _HELD
        told = {"title": outcome.title, "summary": outcome.summary, "data": dict(outcome.data)}
        ledger.note(incident.id, "undone" if held else "skipped", told)
        state = RepairState.PROVEN if held else RepairState.SKIPPED
        ledger.save_repair(replace(current, outcome=outcome, state=state), due_at=None)
        if held:
            ledger.save_repair(replace(target, state=RepairState.UNDONE), due_at=None)
            incident = replace(incident, pull_number=outcome.data.get("pull"))
        if incident.state is State.REPAIRING and incident.merged_at:
            escalate(ledger, incident, "the cause returned after the repair was merged")
        else:
            ledger.save_incident(incident)
            tell(ledger, incident)


def mourn(kit: Kit) -> None:
    """Repairs whose rows were put aside: a person must know, and no incident may wait for them for ever."""
    for repair_id, error in kit.store.put_aside(Work.REPAIR):
        with kit.store.begin() as ledger:
            give_up(ledger, ledger.repair(repair_id), error)


def give_up(ledger: Ledger, current: Repair, error: str) -> None:
    if current.state in FINAL:
        return
    incident = ledger.incident(current.incident_id)
    outcome = Outcome(Conclusion.FAILURE, "could not be carried out")
    ledger.save_repair(replace(current, state=RepairState.FAILED, outcome=current.outcome or outcome), due_at=None)
    ledger.note(incident.id, "failed", {"title": outcome.title, "summary": error})
    if incident.state is State.VERIFYING:
        incident = move(ledger, incident, Signal.FAILED)
    if allows(incident.state, Signal.EXHAUSTED):
        escalate(ledger, incident, "the repair could not be carried out")


def stale(forge: Forge, incident: Incident) -> str:
    """Why the incident no longer speaks of the present; empty if it does."""
    head = forge.branch_head(incident.branch)
    if head is None:
        return f"the branch {incident.branch} is gone"
    if head != incident.head_sha:
        return f"{incident.branch} has moved on to {head[:7]}"
    return ""


def _switched_off(kit: Kit, incident: Incident, policy: Policy) -> str:
    """A kill switch thrown between the decision and now still counts."""
    with kit.store.begin() as ledger:
        switches = ledger.history(incident.repository_id, incident.id, incident.run_id).switches
    if policy.paused:
        return "paused by heal.yml"
    return f"paused by {switches[0].by}" if switches else ""


def _stop(kit: Kit, hold: Hold, reason: str) -> None:
    with kit.store.begin(hold.lease) as ledger:
        current = ledger.repair(hold.lease.row_id)
        if reason:
            current = replace(
                current, state=RepairState.SKIPPED, outcome=Outcome(Conclusion.CANCELLED, "cancelled", reason)
            )
        ledger.save_repair(current, due_at=None)


def _note_plan(ledger: Ledger, incident: Incident, current: Repair, plan: Plan) -> None:
    ledger.note(
        incident.id,
        "planned",
        {
            "action": current.remedy.action,
            "title": plan.title,
            "why": plan.why,
            "diff": plan.diff(),
            "calls": list(plan.calls),
            "risk": plan.risk,
            "refusal": plan.refusal,
        },
    )


def _pull_text(kit: Kit, incident: Incident, current: Repair, plan: Plan) -> tuple[str, str]:
    with kit.store.begin() as ledger:
        record = ledger.record(incident.id)
    return texts.pull_text(record, current, plan, kit.dashboard_url)


def _issue_text(kit: Kit, incident: Incident, current: Repair) -> tuple[str, str]:
    with kit.store.begin() as ledger:
        record = ledger.record(incident.id)
    return texts.issue_text(record, marker(kit.secret, current.effect_key), kit.dashboard_url)
