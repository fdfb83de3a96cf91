"""Carry out one planned repair: dry run, then ask or apply; or take one back."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from app.domain.errors import Permanent, RateLimited
from app.domain.incident import Incident, Signal, State, allows
from app.domain.outcome import Conclusion, Outcome
from app.domain.policy import PAUSES, Decision, Policy, Verdict, decide
from app.domain.repair import FINAL, Plan, Proof, Repair, RepairState, Verb
from app.healing.decide import climb, escalate, move, take_back, tell, trace
from app.healing.gather import configuration, moved_on
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.healing.tools import tools_for
from app.healing.verify import look
from app.ports.forge import Forge
from app.ports.queue import Work
from app.ports.store import Ledger
from app.security.masking import mask

_PAUSED = timedelta(minutes=5)
_NOTED = {Conclusion.SUCCESS: "applied", Conclusion.FAILURE: "failed"}


def repair(kit: Kit, hold: Hold) -> None:
    """What is due on this repair: to be carried out, or (once applied) to be looked at for proof."""
    with kit.store.begin(hold.lease) as ledger:
        current = ledger.repair(hold.lease.row_id)
        incident = ledger.incident(current.incident_id)
        repository = ledger.repository(incident.repository_id)
        siblings = ledger.repairs_of(incident.id)
    if repository is None:
        return close(kit, hold, "the App is not installed on this repository any more")
    forge = kit.app.forge(repository)
    if current.state is RepairState.APPLIED:
        look(kit, hold, forge, incident, current)
    elif current.state is not RepairState.PLANNED:
        close(kit, hold, "")
    elif current.verb is Verb.APPLY and (incident.state is not State.REPAIRING or _outlived(current, siblings)):
        close(kit, hold, "somebody decided otherwise meanwhile")
    else:
        carry_out(kit, hold, forge, incident, current)


def _outlived(current: Repair, siblings: Sequence[Repair]) -> bool:
    """A newer repair was planned since: somebody rejected this one and asked for another try."""
    return any(r.id > current.id and r.verb is Verb.APPLY and r.state is RepairState.PLANNED for r in siblings)


def carry_out(kit: Kit, hold: Hold, forge: Forge, incident: Incident, current: Repair) -> None:
    """Decide once more, on what is true now: rules, limits and switches may have changed since it was planned."""
    policy = configuration(kit, forge).policy
    action = kit.actions[current.remedy.action]
    tools = tools_for(kit, hold, forge, incident, policy, current)
    pinned = tools.incident
    if current.verb is Verb.UNDO:
        with kit.store.begin() as ledger:
            target = ledger.repair(current.undoes or 0)
        kit.passing("before undo")
        outcome = action.undo(target, tools)
        kit.passing("after undo")
        return settle_undo(kit, hold, current, target, outcome)
    decision = decide_again(kit, forge, pinned, current, policy)
    params = kit.params(current.remedy.action, current.remedy.params)
    if current.begun_at is not None and current.plan is not None:
        wait_while_paused(kit, decision)
        plan = current.plan
    elif decision.verdict is Verdict.LEAVE:
        return leave(kit, hold, current, decision)
    else:
        plan = action.plan(pinned, params, tools)
        kit.passing("after plan")
        if plan.refusal:
            return settle(kit, hold, policy, current, plan, Outcome(Conclusion.SKIPPED, plan.refusal))
        if decision.verdict is Verdict.ASK and not approved(current, plan):
            return ask(kit, hold, current, plan)
        current = begin(kit, hold, current, plan)
    kit.passing("before apply")
    try:
        outcome = action.apply(current, params, plan, tools)
    except Permanent as error:
        outcome = Outcome(Conclusion.FAILURE, str(error))
    kit.passing("after apply")
    settle(kit, hold, policy, current, plan, outcome)


def begin(kit: Kit, hold: Hold, current: Repair, plan: Plan) -> Repair:
    """Write down what is about to be done, before anything of it is."""
    with kit.store.begin(hold.lease) as ledger:
        current = replace(current, plan=plan, begun_at=ledger.now())
        ledger.save_repair(current, due_at=ledger.now())
    return current


def wait_while_paused(kit: Kit, decision: Decision) -> None:
    """What was half done when a kill switch was thrown is finished after it was taken back, not before."""
    for check in decision.trace:
        if not check.passed and check.rule in PAUSES:
            raise RateLimited(f"{check.detail} A repair is half done.", retry_at=kit.clock.now() + _PAUSED)


def decide_again(kit: Kit, forge: Forge, pinned: Incident, current: Repair, policy: Policy) -> Decision:
    stale = moved_on(forge, pinned.branch, pinned.head_sha)
    with kit.store.begin() as ledger:
        history = ledger.history(pinned.repository_id, pinned.id, pinned.run_id)
        now = ledger.now()
    return decide(pinned.finding, current.remedy, policy, history, now, branch=pinned.branch, stale=stale)


def approved(current: Repair, plan: Plan) -> bool:
    """Somebody said yes to just this plan (or asked for the repair without having seen one)."""
    shown = current.plan
    return bool(current.approved_by) and (shown is None or (shown.diff(), shown.calls) == (plan.diff(), plan.calls))


def ask(kit: Kit, hold: Hold, current: Repair, plan: Plan) -> None:
    """Show the dry run and wait for a person."""
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident(current.incident_id)
        ledger.save_repair(replace(current, state=RepairState.ASKED, plan=plan, approved_by=""), due_at=None)
        _note_plan(ledger, incident, current, plan)
        ledger.note(incident.id, "asked", {"action": current.remedy.action})
        move(ledger, incident, Signal.ASKED)


def leave(kit: Kit, hold: Hold, current: Repair, decision: Decision) -> None:
    """A rule that let the repair be planned does not let it be carried out any more. The rung stays due."""
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident(current.incident_id)
        trace(ledger, incident, decision)
        leave_due(ledger, incident, replace(current, outcome=Outcome(Conclusion.CANCELLED, decision.reason)))


def leave_due(ledger: Ledger, incident: Incident, done: Repair) -> None:
    ledger.save_repair(replace(done, state=RepairState.SKIPPED), due_at=None)
    if incident.state is State.REPAIRING:
        incident = move(ledger, incident, Signal.FAILED)
        move(ledger, replace(incident, rung=max(0, incident.rung - 1)), Signal.LEFT)


def settle(kit: Kit, hold: Hold, policy: Policy, current: Repair, plan: Plan | None, outcome: Outcome) -> None:
    """Write down how the attempt ended, and what follows: proof is awaited, the next rung is due, or it ends here."""
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident(current.incident_id)
        if plan is not None:
            _note_plan(ledger, incident, current, plan)
        done = replace(current, plan=plan or current.plan, outcome=outcome)
        kind = _NOTED.get(outcome.conclusion, "skipped")
        data = {"title": outcome.title, "summary": outcome.summary, "data": dict(outcome.data)}
        ledger.note(incident.id, kind, {"action": current.remedy.action, **data})
        if incident.state is not State.REPAIRING:
            overtaken(ledger, incident, policy, done)
        elif outcome.conclusion is Conclusion.SUCCESS:
            applied(kit, ledger, incident, done)
        elif outcome.conclusion is Conclusion.STALE:
            leave_due(ledger, incident, done)
        else:
            state = RepairState.FAILED if kind == "failed" else RepairState.SKIPPED
            ledger.save_repair(replace(done, state=state), due_at=None)
            climb(kit, ledger, incident, policy)


def applied(kit: Kit, ledger: Ledger, incident: Incident, done: Repair) -> None:
    """It stands: from now on the world is asked whether it helped. An escalation needs no proof."""
    now = ledger.now()
    data = done.outcome.data if done.outcome else {}
    incident = replace(
        incident,
        pull_number=data.get("pull", incident.pull_number),
        issue_number=data.get("issue", incident.issue_number),
    )
    if kit.actions[done.remedy.action].proves is Proof.NOTHING:
        ledger.save_repair(replace(done, state=RepairState.DONE, applied_at=now), due_at=None)
        escalate(ledger, incident, done.outcome.title if done.outcome else "")
        return
    deadline = now + timedelta(seconds=done.proof_s)
    waiting = replace(done, state=RepairState.APPLIED, applied_at=now, proof_deadline=deadline)
    ledger.save_repair(waiting, due_at=min(deadline, now + timedelta(seconds=kit.look_every_s)))
    move(ledger, incident, Signal.APPLIED)


def overtaken(ledger: Ledger, incident: Incident, policy: Policy, done: Repair) -> None:
    """A person decided otherwise while we worked: what was done is taken back."""
    ledger.save_repair(replace(done, state=RepairState.REJECTED), due_at=None)
    if done.outcome is not None and done.outcome.conclusion is Conclusion.SUCCESS:
        ledger.save_incident(replace(incident, pull_number=done.outcome.data.get("pull", incident.pull_number)))
        take_back(ledger, incident, policy)


def settle_undo(kit: Kit, hold: Hold, current: Repair, target: Repair, outcome: Outcome) -> None:
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident(current.incident_id)
        held = outcome.conclusion is Conclusion.SUCCESS
        told = {"title": outcome.title, "summary": outcome.summary, "data": dict(outcome.data)}
        ledger.note(incident.id, "undone" if held else "skipped", told)
        state = RepairState.DONE if held else RepairState.SKIPPED
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


def close(kit: Kit, hold: Hold, reason: str) -> None:
    """Nothing is to be done on it any more."""
    with kit.store.begin(hold.lease) as ledger:
        current = ledger.repair(hold.lease.row_id)
        if reason:
            current = replace(current, state=RepairState.SKIPPED, outcome=Outcome(Conclusion.CANCELLED, reason))
        ledger.save_repair(current, due_at=None)


def _note_plan(ledger: Ledger, incident: Incident, current: Repair, plan: Plan) -> None:
    ledger.note(
        incident.id,
        "planned",
        {
            "action": current.remedy.action,
            "title": plan.title,
            "why": plan.why,
            "diff": mask(plan.diff()),
            "calls": list(plan.calls),
            "risk": plan.risk,
            "refusal": plan.refusal,
        },
    )
