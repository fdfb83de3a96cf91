"""Carry out one planned repair: dry run, then ask or apply; or take one back."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import cast

from app.domain.budget import Amounts, Unit, amounts
from app.domain.errors import Permanent, RateLimited
from app.domain.incident import Incident, Signal, State, allows
from app.domain.outcome import Conclusion, Outcome
from app.domain.policy import PAUSES, Decision, Policy, Verdict, decide, opens_pull
from app.domain.repair import FINAL, Plan, Proof, Repair, RepairState, Verb
from app.healing.decide import climb, escalate, expected, move, take_back, tell, trace
from app.healing.expire import question
from app.healing.gather import configuration, moved_on
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.healing.lift import SCHEDULE
from app.healing.metered import Meter
from app.healing.tools import tools_for
from app.healing.verify import look
from app.ports.forge import Forge
from app.ports.queue import Work
from app.ports.store import Ledger
from app.security.masking import mask

_PAUSED = timedelta(minutes=5)
_ITS_TURN = timedelta(seconds=20)
_LOOKS = 5  # what waits for another repair's proof is planned anew this much more seldom than that proof is looked for
_NOTHING: Amounts = {}
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
    elif current.verb is Verb.SHADOW:
        would_do(kit, hold, forge, incident, current)
    elif current.verb is Verb.APPLY and not current.begun_at and _decided_otherwise(incident, current, siblings):
        close(kit, hold, "somebody decided otherwise meanwhile")
    else:
        carry_out(kit, hold, forge, incident, current)


def _decided_otherwise(incident: Incident, current: Repair, siblings: Sequence[Repair]) -> bool:
    """Nobody wants it any more; or a newer repair was planned since: somebody rejected this one, and asked for another
    try. What has been begun is finished all the same, and then taken back: a part of it may stand on GitHub."""
    return incident.state is not State.REPAIRING or any(
        r.id > current.id and r.verb is Verb.APPLY and r.state is RepairState.PLANNED for r in siblings
    )


def carry_out(kit: Kit, hold: Hold, forge: Forge, incident: Incident, current: Repair) -> None:
    """Decide once more, on what is true now: rules, limits and switches may have changed since it was planned."""
    policy = configuration(kit, forge).policy
    meter = Meter(forge)
    forge = cast(Forge, meter)
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
            return ask(kit, hold, policy, current, plan)
        begun = begin(kit, hold, policy, current, plan)
        if begun is None:
            return None
        current = begun
    kit.passing("before apply")
    try:
        outcome = action.apply(current, params, plan, tools)
    except Permanent as error:
        outcome = Outcome(Conclusion.FAILURE, str(error))
    kit.passing("after apply")
    return settle(kit, hold, policy, current, plan, outcome, meter.used)


def begin(kit: Kit, hold: Hold, policy: Policy, current: Repair, plan: Plan) -> Repair | None:
    """Write down what is about to be done and what it is likely to use, before anything of it is done.

    None: a budget does not allow it, or another repair has changed the same files and waits to be merged. Raises
    RateLimited while another one is being carried out there.
    """
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident(current.incident_id)
        others = [each for each in ledger.in_hand(incident.repository_id) if each.incident_id != incident.id]
        in_the_way = next((each for each in others if _same_files(each, plan)), None)
        if in_the_way is not None and in_the_way.state is not RepairState.PROVEN:
            proving = in_the_way.state is RepairState.APPLIED
            turn = max(_ITS_TURN, timedelta(seconds=_LOOKS * kit.look_every_s)) if proving else _ITS_TURN
            raise RateLimited("another repair is changing the same files", retry_at=ledger.now() + turn)
        history = ledger.history(incident.repository_id, incident.id, current.intent.run_id, current.remedy)
        costs = expected(current.remedy, plan)
        decision = decide(
            *(incident.finding, current.remedy, policy, history, ledger.now()),
            branch=incident.branch,
            costs=costs,
            asked=bool(current.approved_by),
        )
        if in_the_way is not None:
            pull = in_the_way.outcome.data.get("pull") if in_the_way.outcome else None
            reason = f"#{pull} changes the same files and waits to be merged."
            decision = replace(decision, reason=reason, verdict=Verdict.LEAVE)
        if decision.verdict is Verdict.LEAVE:
            trace(ledger, incident, decision)
            cancelled = Outcome(Conclusion.CANCELLED, decision.reason)
            leave_due(ledger, incident, replace(current, plan=plan, outcome=cancelled))
            return None
        current = replace(current, plan=plan, begun_at=ledger.now())
        if opens_pull(current.remedy.action) and incident.pull_number is None:
            costs = {**costs, Unit.PULLS: 1.0}
        ledger.reserve(current, costs)
        ledger.save_repair(current, due_at=ledger.now())
    return current


def _same_files(other: Repair, plan: Plan) -> bool:
    theirs = {edit.path for edit in other.plan.edits} if other.plan else set()
    return not theirs.isdisjoint(edit.path for edit in plan.edits)


def would_do(kit: Kit, hold: Hold, forge: Forge, incident: Incident, current: Repair) -> None:
    """Plan what is only observed, and keep it until people have answered."""
    policy = configuration(kit, forge).policy
    tools = tools_for(kit, hold, forge, incident, policy, current)
    params = kit.params(current.remedy.action, current.remedy.params)
    plan = kit.actions[current.remedy.action].plan(tools.incident, params, tools)
    with kit.store.begin(hold.lease) as ledger:
        state = RepairState.SKIPPED if plan.refusal else RepairState.SHADOWED
        ledger.save_repair(replace(current, plan=plan, state=state), due_at=None)
        told = {"action": current.remedy.action, "title": plan.title, "refusal": plan.refusal}
        ledger.note(current.incident_id, "shadowed", {**told, "diff": mask(plan.diff()), "calls": list(plan.calls)})


def wait_while_paused(kit: Kit, decision: Decision) -> None:
    """What was half done when a kill switch was thrown is finished after it was taken back, not before."""
    for check in decision.trace:
        if not check.passed and check.rule in PAUSES:
            raise RateLimited(f"{check.detail} A repair is half done.", retry_at=kit.clock.now() + _PAUSED)


def decide_again(kit: Kit, forge: Forge, pinned: Incident, current: Repair, policy: Policy) -> Decision:
    stale = moved_on(forge, pinned.branch, pinned.head_sha)
    with kit.store.begin() as ledger:
        history = ledger.history(pinned.repository_id, pinned.id, pinned.run_id, current.remedy)
        now = ledger.now()
    return decide(
        *(pinned.finding, current.remedy, policy, history, now),
        branch=pinned.branch,
        stale=stale,
        costs=expected(current.remedy),
        asked=bool(current.approved_by),
    )


def approved(current: Repair, plan: Plan) -> bool:
    """Somebody said yes to just this plan (or asked for the repair without having seen one)."""
    shown = current.plan
    return bool(current.approved_by) and (shown is None or (shown.diff(), shown.calls) == (plan.diff(), plan.calls))


def ask(kit: Kit, hold: Hold, policy: Policy, current: Repair, plan: Plan) -> None:
    """Show the dry run and wait for a person."""
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident(current.incident_id)
        ledger.save_repair(replace(current, state=RepairState.ASKED, plan=plan, approved_by=""), due_at=None)
        ledger.withdraw_approvals(current.id)
        _note_plan(ledger, incident, current, plan)
        ledger.note(incident.id, "asked", question(current.remedy.action, policy, ledger.now()))
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


def settle(
    kit: Kit,
    hold: Hold,
    policy: Policy,
    current: Repair,
    plan: Plan | None,
    outcome: Outcome,
    used: Amounts = _NOTHING,
) -> None:
    """Write down how the attempt ended, and what follows: proof is awaited, the next rung is due, or it ends here."""
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident(current.incident_id)
        if plan is not None:
            _note_plan(ledger, incident, current, plan)
        done = replace(current, plan=plan or current.plan, outcome=outcome)
        kind = _NOTED.get(outcome.conclusion, "skipped")
        data = {"title": outcome.title, "summary": outcome.summary, "data": dict(outcome.data)}
        ledger.note(incident.id, kind, {"action": current.remedy.action, **data})
        if done.begun_at is not None:
            ledger.settle(done, _spent(done, incident, used))
        if incident.state is not State.REPAIRING:
            overtaken(ledger, incident, policy, done)
        elif outcome.conclusion is Conclusion.SUCCESS:
            applied(kit, ledger, incident, done)
        elif outcome.conclusion is Conclusion.STALE:
            leave_due(ledger, incident, done)
        elif outcome.conclusion is Conclusion.NEUTRAL and outcome.data.get("issue"):
            ledger.save_repair(replace(done, state=RepairState.DONE, applied_at=ledger.now()), due_at=None)
            incident = replace(incident, issue_number=int(outcome.data["issue"]))
            escalate(ledger, incident, outcome.title)  # a person has the patch
        else:
            state = RepairState.FAILED if kind == "failed" else RepairState.SKIPPED
            ledger.save_repair(replace(done, state=state), due_at=None)
            climb(kit, ledger, incident, policy)


def _spent(done: Repair, incident: Incident, used: Amounts) -> Amounts:
    """What it has used of GitHub; what lasts stays reserved until it is over."""
    data = done.outcome.data if done.outcome else {}
    lasting = amounts(done.plan.costs) if done.plan and data.get("stands") else {}
    pulls = {Unit.PULLS: 1.0} if data.get("pull") and incident.pull_number is None else {}
    return {**lasting, **used, **pulls}


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
    deadline = now + timedelta(seconds=max(done.proof_s, done.plan.patience_s if done.plan else 0))
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
            lifted = {"lifted": True} if current.approved_by == SCHEDULE else {}
            undone = replace(target, state=RepairState.UNDONE, proof={**target.proof, **lifted})
            ledger.save_repair(undone, due_at=None)
            if target.outcome and target.outcome.data.get("pull"):
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
    if current.verb is Verb.SHADOW:  # nobody waits for it, and it says nothing of the rung
        ledger.save_repair(replace(current, state=RepairState.SKIPPED), due_at=None)
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
