"""Choose the next rung, or say why none is climbed."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace

from app.domain.budget import Unit, amounts
from app.domain.effect import Effect, EffectKind
from app.domain.finding import Remedy
from app.domain.incident import Incident, Signal, State, allows, step
from app.domain.knowledge import LAST_RESORTS, ordered
from app.domain.policy import Decision, History, Mode, Policy, Verdict, approvals_for, decide, opens_pull
from app.domain.repair import Intent, Plan, Proof, Repair, Verb
from app.healing.kit import Kit
from app.ports.store import Ledger


def next_rung(
    ledger: Ledger, incident: Incident, policy: Policy, *, stale: str = "", from_fork: bool = False, asked_by: str = ""
) -> Incident:
    """Decide on an open incident, plan the repair if there is to be one, and leave the trace.

    `asked_by` is the person who asked for another try: their word stands in for the approval (where that of one is
    enough), not for the guards.
    """
    remedy = rung(incident)
    history = ledger.history(incident.repository_id, incident.id, incident.run_id, remedy)
    if incident.rung == 0 and policy.autonomy.learn_order:
        incident = by_experience(ledger, incident, history)
        remedy = rung(incident)
    decision = decide(
        incident.finding,
        remedy,
        policy,
        history,
        ledger.now(),
        branch=incident.branch,
        stale=stale,
        from_fork=from_fork,
        costs=expected(remedy) if remedy else {},
        asked=bool(asked_by),
    )
    trace(ledger, incident, decision)
    if decision.exhausted and incident.finding.ladder:
        return escalate(ledger, incident, decision.reason)
    if remedy is None or decision.verdict is Verdict.LEAVE:
        if remedy is not None and policy.autonomy.shadow and only_watched(decision):
            shadow(ledger, incident, remedy, policy)
        return move(ledger, incident, Signal.LEFT)
    approved_by = asked_by if approvals_for(policy, remedy.action) == 1 else ""
    plan_repair(ledger, incident, remedy, policy, approved_by=approved_by)
    return move(ledger, replace(incident, rung=incident.rung + 1), Signal.ACTED)


def rung(incident: Incident) -> Remedy | None:
    """The next remedy, None when every one was tried."""
    ladder = incident.finding.ladder
    return ladder[incident.rung] if incident.rung < len(ladder) else None


def by_experience(ledger: Ledger, incident: Incident, history: History) -> Incident:
    """Climb first what has worked here, and say so."""
    ladder = ordered(incident.finding.ladder, history.tracks)
    if ladder == incident.finding.ladder:
        return incident
    told = [{"action": remedy.action, "params": dict(remedy.params)} for remedy in ladder]
    ledger.note(incident.id, "reordered", {"ladder": told})
    incident = replace(incident, finding=replace(incident.finding, ladder=ladder))
    ledger.save_incident(incident)
    return incident


def expected(remedy: Remedy, plan: Plan | None = None) -> dict[Unit, float]:
    """What a repair is likely to use: calls to GitHub by what it does, and what its plan tells."""
    content = 2 + (len(plan.edits) if plan else 1) if opens_pull(remedy.action) else 1
    costs = {Unit.API_POINTS: 20.0 + 5 * content, Unit.CONTENT_CALLS: float(content)}
    return costs | amounts(plan.costs) if plan else costs


_WATCHED = frozenset({"mode", "detector"})


def only_watched(decision: Decision) -> bool:
    """Nothing but the mode was in the way."""
    return {check.rule for check in decision.trace if not check.passed} <= _WATCHED and decision.mode is Mode.OBSERVE


def shadow(ledger: Ledger, incident: Incident, remedy: Remedy, policy: Policy) -> None:
    """Plan what would be done, once for each commit, to compare it with what people do."""
    seen = (r.intent.head_sha for r in ledger.repairs_of(incident.id) if r.verb is Verb.SHADOW)
    if remedy.action not in LAST_RESORTS and incident.run_id and incident.head_sha not in seen:
        plan_repair(ledger, incident, remedy, policy, verb=Verb.SHADOW)


def plan_repair(
    ledger: Ledger,
    incident: Incident,
    remedy: Remedy,
    policy: Policy,
    *,
    approved_by: str = "",
    undoes: int | None = None,
    verb: Verb = Verb.APPLY,
) -> Repair:
    """A repair that is due now. Its effect key names this incident and how many repairs it has had."""
    number = len(ledger.repairs_of(incident.id)) + 1
    key = hashlib.sha256(f"{incident.repository_id}:{incident.fingerprint}:{incident.id}:{number}".encode())
    return ledger.add_repair(
        Repair(
            incident_id=incident.id,
            remedy=remedy,
            rung=incident.rung,
            effect_key=key.hexdigest()[:16],
            intended_at=ledger.now().replace(microsecond=0),
            intent=Intent(
                incident.run_id,
                incident.attempt,
                incident.head_sha,
                incident.workflow_path,
                incident.finding.failed_jobs,
            ),
            approved_by=approved_by,
            verb=Verb.UNDO if undoes else verb,
            undoes=undoes,
            proof_s=policy.proof_deadline_s,
            watch_s=policy.watch_s,
        )
    )


def climb(kit: Kit, ledger: Ledger, incident: Incident, policy: Policy) -> Incident:
    """The last rung did not hold: decide on the next one, and take a fix back that nobody should merge."""
    incident = move(ledger, incident, Signal.FAILED) if allows(incident.state, Signal.FAILED) else incident
    if incident.state is not State.OPEN:
        return incident
    after = next_rung(ledger, incident, policy)
    ladder = incident.finding.ladder
    stays = after.state is State.REPAIRING and kit.actions[ladder[incident.rung].action].proves is Proof.FIX_BRANCH
    if incident.pull_number and not incident.merged_at and not stays:
        take_back(ledger, after, policy)
    return after


def go_on(ledger: Ledger, incident: Incident, remedy: Remedy, policy: Policy) -> Incident:
    """What follows a proven rung: a model was trained anew, and is to be promoted."""
    history = ledger.history(incident.repository_id, incident.id, incident.run_id, remedy)
    decision = decide(
        incident.finding,
        remedy,
        policy,
        history,
        ledger.now(),
        branch=incident.branch,
        costs=expected(remedy),
    )
    trace(ledger, incident, decision)
    if decision.verdict is Verdict.LEAVE:
        return escalate(ledger, incident, f"{remedy.action} is due, and was left: {decision.reason}")
    plan_repair(ledger, incident, remedy, policy)
    return move(ledger, incident, Signal.CONTINUED)


_CHANGES = frozenset({"pull", "stands", "alias"})  # what an outcome names when something stands that can be taken back


def standing(repairs: Sequence[Repair]) -> Repair | None:
    """The newest repair that left a change standing (a pull request, an alias, a run) and was not taken back."""
    undone = {repair.undoes for repair in repairs if repair.verb is Verb.UNDO}
    return next(
        (
            repair
            for repair in reversed(repairs)
            if repair.verb is Verb.APPLY
            and repair.id not in undone
            and repair.outcome is not None
            and not _CHANGES.isdisjoint(name for name, value in repair.outcome.data.items() if value)
        ),
        None,
    )


def take_back(ledger: Ledger, incident: Incident, policy: Policy) -> Repair | None:
    """Plan to undo the repair that stands; None if there is none."""
    target = standing(ledger.repairs_of(incident.id))
    return plan_repair(ledger, incident, target.remedy, policy, undoes=target.id) if target else None


def escalate(ledger: Ledger, incident: Incident, reason: str) -> Incident:
    ledger.note(incident.id, "escalated", {"reason": reason})
    return move(ledger, incident, Signal.EXHAUSTED)


def move(ledger: Ledger, incident: Incident, signal: Signal) -> Incident:
    """Take the incident one step further, and have the reports show it."""
    incident = replace(incident, state=step(incident.state, signal), updated_at=ledger.now())
    ledger.save_incident(incident)
    tell(ledger, incident)
    want_news(ledger, incident)
    return incident


def want_news(ledger: Ledger, incident: Incident) -> None:
    """Once for each state that the incident comes into; where nobody is to be told, nothing comes of it."""
    if incident.state not in TOLD:
        return
    key = f"{EffectKind.NEWS}:{incident.repository_id}:{incident.id}:{incident.state}"
    request = {"state": str(incident.state), "at": ledger.now().isoformat()}
    ledger.want_effect(Effect(key, EffectKind.NEWS, incident.repository_id, request, incident.id))


TOLD = frozenset({State.AWAITING_APPROVAL, State.HEALED, State.RECOVERED, State.ESCALATED, State.OBSERVED})


def tell_former(ledger: Ledger, incident: Incident, sha: str) -> None:
    """Have the check run of a commit that an incident has left say so."""
    if not sha:
        return
    key = f"{EffectKind.CHECK}:{incident.repository_id}:{sha}"
    ledger.want_effect(Effect(key, EffectKind.CHECK, incident.repository_id, {"sha": sha}))


def tell(ledger: Ledger, incident: Incident) -> None:
    """Ask for the reports that show this incident: the check run, the sticky comment, the fix pull request's text."""
    where = f"{incident.repository_id}:{incident.fingerprint}"

    def want(kind: EffectKind, key: str, **request: object) -> None:
        ledger.want_effect(Effect(f"{kind}:{key}", kind, incident.repository_id, request, incident.id))

    if incident.head_sha:
        want(EffectKind.CHECK, f"{incident.repository_id}:{incident.head_sha}", sha=incident.head_sha)
    want(EffectKind.PULL_COMMENT, where)
    if incident.pull_number:
        want(EffectKind.PULL_BODY, where)


def trace(ledger: Ledger, incident: Incident, decision: Decision) -> None:
    checks = [asdict(check) for check in decision.trace]
    for check in checks:
        check["resets_at"] = check["resets_at"].isoformat() if check["resets_at"] else None
    ledger.note(
        incident.id,
        "decided",
        {
            "verdict": str(decision.verdict),
            "reason": decision.reason,
            "mode": str(decision.mode),
            "action": decision.remedy.action if decision.remedy else "",
            "rung": incident.rung,
            "trace": checks,
        },
    )
