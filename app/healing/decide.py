"""Choose the next rung, or say why none is climbed."""

import hashlib
from dataclasses import asdict, replace

from app.domain.effect import Effect, EffectKind
from app.domain.finding import Remedy
from app.domain.incident import Incident, Signal, State, allows, step
from app.domain.policy import Decision, Policy, Verdict, decide
from app.domain.repair import Intent, Proof, Repair, Verb
from app.healing.kit import Kit
from app.ports.store import Ledger


def next_rung(
    ledger: Ledger, incident: Incident, policy: Policy, *, stale: str = "", from_fork: bool = False, asked_by: str = ""
) -> Incident:
    """Decide on an open incident, plan the repair if there is to be one, and leave the trace.

    `asked_by` is the person who asked for another try: their word stands in for the approval, not for the guards.
    """
    ladder = incident.finding.ladder
    remedy = ladder[incident.rung] if incident.rung < len(ladder) else None
    history = ledger.history(incident.repository_id, incident.id, incident.run_id)
    decision = decide(
        incident.finding,
        remedy,
        policy,
        history,
        ledger.now(),
        branch=incident.branch,
        stale=stale,
        from_fork=from_fork,
    )
    trace(ledger, incident, decision)
    if decision.exhausted and ladder:
        return escalate(ledger, incident, decision.reason)
    if remedy is None or decision.verdict is Verdict.LEAVE:
        return move(ledger, incident, Signal.LEFT)
    plan_repair(ledger, incident, remedy, policy, approved_by=asked_by)
    return move(ledger, replace(incident, rung=incident.rung + 1), Signal.ACTED)


def plan_repair(
    ledger: Ledger,
    incident: Incident,
    remedy: Remedy,
    policy: Policy,
    *,
    approved_by: str = "",
    undoes: int | None = None,
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
            verb=Verb.UNDO if undoes else Verb.APPLY,
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


def standing(ledger: Ledger, incident: Incident) -> Repair | None:
    """The newest repair that opened a pull request and was not taken back."""
    repairs = ledger.repairs_of(incident.id)
    undone = {repair.undoes for repair in repairs if repair.verb is Verb.UNDO}
    return next(
        (
            repair
            for repair in reversed(repairs)
            if repair.verb is Verb.APPLY
            and repair.id not in undone
            and repair.outcome is not None
            and repair.outcome.data.get("pull")
        ),
        None,
    )


def take_back(ledger: Ledger, incident: Incident, policy: Policy) -> Repair | None:
    """Plan to undo the repair that stands; None if there is none."""
    target = standing(ledger, incident)
    return plan_repair(ledger, incident, target.remedy, policy, undoes=target.id) if target else None


def escalate(ledger: Ledger, incident: Incident, reason: str) -> Incident:
    ledger.note(incident.id, "escalated", {"reason": reason})
    return move(ledger, incident, Signal.EXHAUSTED)


def move(ledger: Ledger, incident: Incident, signal: Signal) -> Incident:
    """Take the incident one step further, and have the reports show it."""
    incident = replace(incident, state=step(incident.state, signal), updated_at=ledger.now())
    ledger.save_incident(incident)
    tell(ledger, incident)
    return incident


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
