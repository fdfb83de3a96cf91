"""One delivery, from what happened to what is decided."""

from dataclasses import replace
from datetime import timedelta

from app.domain.delivery import DeliveryState
from app.domain.effect import Effect, EffectKind
from app.domain.errors import NotInstalled
from app.domain.event import (
    AnyEvent,
    ButtonPressed,
    CommandGiven,
    ConfigPushed,
    Ignored,
    InstallationChanged,
    PullClosed,
    RunFinished,
)
from app.domain.finding import Finding
from app.domain.incident import FIX_BRANCHES, Incident, Signal, State, allows
from app.domain.policy import Policy, Verdict, decide
from app.domain.repair import Repair, RepairState
from app.healing.command import obey
from app.healing.configuration import Configured
from app.healing.decide import escalate, move, next_rung, standing, take_back, tell, trace
from app.healing.diagnose import findings, record
from app.healing.gather import configuration, detectors_for, gather, stale
from app.healing.hold import Hold
from app.healing.interpret import interpret
from app.healing.kit import Kit
from app.ports.forge import Forge
from app.ports.store import Ledger


def process(kit: Kit, hold: Hold) -> None:
    """Every path ends in one fenced transaction that finishes the delivery with all that follows from it."""
    delivery = hold.lease.delivery
    if delivery is None:
        with kit.store.begin(hold.lease) as ledger:
            delivery = ledger.delivery(hold.lease.row_id)
    event = interpret(kit, delivery)
    kit.passing("after interpret")
    try:
        follow(kit, hold, event)
    except NotInstalled as error:
        kit.app.installations()  # if it is the App's own key that GitHub refuses, this says so and nothing is dropped
        with kit.store.begin(hold.lease) as ledger:
            if delivery.repository_id is not None:
                ledger.forget_repositories((delivery.repository_id,))
            ledger.finish_delivery(hold.lease.row_id, DeliveryState.IGNORED, str(error))


def follow(kit: Kit, hold: Hold, event: AnyEvent | Ignored) -> None:
    match event:
        case Ignored(reason):
            with kit.store.begin(hold.lease) as ledger:
                ledger.finish_delivery(hold.lease.row_id, DeliveryState.IGNORED, reason)
        case InstallationChanged():
            installation_changed(kit, hold, event)
        case RunFinished():
            run_finished(kit, hold, event)
        case PullClosed():
            pull_closed(kit, hold, event)
        case ConfigPushed():
            config_pushed(kit, hold, event)
        case ButtonPressed() | CommandGiven():
            obey(kit, hold, event)


def installation_changed(kit: Kit, hold: Hold, event: InstallationChanged) -> None:
    gone = event.change in ("deleted", "suspend")
    # asked of GitHub: the event's own list lacks the default branch, from which the policy is read
    repositories = [] if gone else kit.app.repositories(event.installation_id)
    with kit.store.begin(hold.lease) as ledger:
        if gone:
            ledger.forget_installation(event.installation_id)
        for repository in repositories:
            ledger.remember_repository(repository)
        still = {repository.id for repository in repositories}
        ledger.forget_repositories([removed for removed in event.removed if removed not in still])
        _finish(ledger, hold)


def run_finished(kit: Kit, hold: Hold, event: RunFinished) -> None:
    """Wake the repairs that wait for this run; and if it failed, find out why and decide."""
    ours = event.head_branch.startswith(FIX_BRANCHES)
    if ours or event.kind not in ("workflow_run.failed", "workflow_run.succeeded"):
        with kit.store.begin(hold.lease) as ledger:
            spread(ledger, event)
            return _finish(ledger, hold)
    forge = kit.app.forge(event.repository)
    if event.kind == "workflow_run.succeeded":
        return run_succeeded(kit, hold, forge, event)
    configured = configuration(kit, forge)
    detectors = detectors_for(kit.detectors.values(), event, configured.policy)
    evidence = gather(kit, forge, event, detectors)
    kit.passing("after gather")
    found = findings(detectors, event, evidence)
    outdated = stale(forge, event)
    kit.passing("after diagnose")
    with kit.store.begin(hold.lease) as ledger:
        spread(ledger, event)
        for finding in found:
            take_up(ledger, hold, event, finding, configured, outdated)
        _finish(ledger, hold)
    kit.passing("after decide")


def spread(ledger: Ledger, event: RunFinished) -> None:
    """Remember where it happened, and wake the repairs that wait for this run."""
    ledger.remember_repository(event.repository)
    for waiting in ledger.repairs_awaiting_proof(event.repository.id):
        if _concerns(waiting, event):
            ledger.wake_repair(waiting.id)


def take_up(
    ledger: Ledger, hold: Hold, event: RunFinished, finding: Finding, configured: Configured, outdated: str
) -> None:
    """One finding: into its incident, and on to a decision if one is due."""
    incident, relapse = record(ledger, event, finding, hold.lease.row_id, outdated)
    if relapse:
        revert(ledger, incident, event, configured.policy)
    elif incident.state is State.AWAITING_APPROVAL and not outdated:
        ask_anew(ledger, incident, configured.policy)
    elif incident.state is State.OPEN:
        next_rung(ledger, incident, configured.policy, stale=outdated, from_fork=event.from_fork)
    else:
        tell(ledger, incident)


def revert(ledger: Ledger, incident: Incident, event: RunFinished, policy: Policy) -> None:
    """The merged repair did not last: offer its reverse, by the same rules as the repair itself."""
    ledger.note(incident.id, "relapsed", {"run_id": event.run_id, "url": event.url})
    target = standing(ledger, incident)
    reason = "the cause returned after the repair was merged"
    if target is None:
        escalate(ledger, incident, reason)
        return
    history = ledger.history(incident.repository_id, incident.id, incident.run_id)
    decision = decide(incident.finding, target.remedy, policy, history, ledger.now(), branch=incident.branch)
    trace(ledger, incident, decision)
    if decision.verdict is Verdict.ACT:
        take_back(ledger, incident, policy)
        tell(ledger, incident)
    else:
        escalate(ledger, incident, f"{reason}; a revert was not offered: {decision.reason}")


def ask_anew(ledger: Ledger, incident: Incident, policy: Policy) -> None:
    """The failure was seen on a newer commit: what was asked was about the former one."""
    asked = [repair for repair in ledger.repairs_of(incident.id) if repair.state is RepairState.ASKED]
    if not asked or asked[-1].intent.head_sha == incident.head_sha:
        tell(ledger, incident)
        return
    for repair in asked:
        ledger.save_repair(replace(repair, state=RepairState.SKIPPED), due_at=None)
    incident = move(ledger, replace(incident, rung=asked[-1].rung), Signal.RETRIED)
    next_rung(ledger, incident, policy)


def run_succeeded(kit: Kit, hold: Hold, forge: Forge, event: RunFinished) -> None:
    """The world may have mended itself, or a merged repair may be holding. A fork's run says nothing of our branch."""
    with kit.store.begin(hold.lease) as ledger:
        spread(ledger, event)
        concerned = [
            incident
            for incident in ledger.incidents_at(event.repository.id, branch=event.head_branch)
            if incident.workflow_path == event.workflow_path and not event.from_fork
        ]
    passed: set[str] = set()
    if concerned:
        jobs = forge.jobs(event.run_id, event.attempt)
        passed = {job.name for job in jobs if job.conclusion == "success"}
    with kit.store.begin(hold.lease) as ledger:
        for seen in concerned:
            incident = ledger.incident(seen.id)
            newer = (event.run_id, event.attempt) > (incident.run_id, incident.attempt)
            if newer and incident.finding.job in passed:
                mended(ledger, incident, event)
        _finish(ledger, hold)


def mended(ledger: Ledger, incident: Incident, event: RunFinished) -> None:
    told = {"run_id": event.run_id, "url": event.url}
    undone = incident.state is State.DISMISSED and incident.merged_at  # what passes is the repair that a person refused
    if allows(incident.state, Signal.RECOVERED) and not undone:
        ledger.note(incident.id, "recovered", told)
        for waiting in ledger.repairs_of(incident.id):
            if waiting.state is RepairState.ASKED:
                ledger.save_repair(replace(waiting, state=RepairState.SKIPPED), due_at=None)
        move(ledger, incident, Signal.RECOVERED)
    elif incident.merged_at and incident.watch_until and ledger.now() <= incident.watch_until:
        ledger.note(incident.id, "held", told)


def pull_closed(kit: Kit, hold: Hold, event: PullClosed) -> None:
    """Merged: watch what follows. Closed unmerged: a person said no, and that is respected."""
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident_of_fix_branch(event.repository.id, event.head_branch)
        if incident is not None and incident.pull_number == event.number:
            now = ledger.now()
            if event.merged:
                watch_s = max((r.watch_s for r in ledger.repairs_of(incident.id)), default=0)
                until = now + timedelta(seconds=watch_s)
                ledger.note(incident.id, "merged", {"pull": event.number})
                incident = replace(incident, merged_at=now, watch_until=until, updated_at=now)
                ledger.save_incident(incident)
                tell(ledger, incident)
            else:
                ledger.note(incident.id, "closed", {"pull": event.number, "by": event.sender.login})
                for waiting in ledger.repairs_of(incident.id):
                    if waiting.state in (RepairState.APPLIED, RepairState.ASKED, RepairState.PLANNED):
                        ledger.save_repair(replace(waiting, state=RepairState.REJECTED), due_at=None)
                incident = replace(incident, pull_number=None)
                if allows(incident.state, Signal.REJECTED):
                    move(ledger, incident, Signal.REJECTED)
                else:
                    ledger.save_incident(incident)
        _finish(ledger, hold)


def config_pushed(kit: Kit, hold: Hold, event: ConfigPushed) -> None:
    with kit.store.begin(hold.lease) as ledger:
        ledger.remember_repository(event.repository)
        key = f"{EffectKind.CONFIG_CHECK}:{event.repository.id}:{event.head_sha}"
        request = {"sha": event.head_sha}
        ledger.want_effect(Effect(key, EffectKind.CONFIG_CHECK, event.repository.id, request))
        _finish(ledger, hold)


def _concerns(waiting: Repair, event: RunFinished) -> bool:
    data = waiting.outcome.data if waiting.outcome else {}
    return data.get("run_id") == event.run_id or data.get("head_sha") == event.head_sha


def _finish(ledger: Ledger, hold: Hold) -> None:
    ledger.finish_delivery(hold.lease.row_id, DeliveryState.DONE)
