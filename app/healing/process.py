"""One delivery, from what happened to what is decided."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from app.domain.delivery import Delivery, DeliveryState
from app.domain.errors import Malformed, NotInstalled
from app.domain.event import (
    AnyEvent,
    ButtonPressed,
    CommandGiven,
    Ignored,
    InstallationChanged,
    ModelObserved,
    Observable,
    Place,
    PullClosed,
    Pushed,
    RunFinished,
    SamplesReported,
    Ticked,
    WorkloadFailed,
)
from app.domain.finding import Clear, Finding, Remedy
from app.domain.incident import FIX_BRANCHES, Incident, Signal, State, allows
from app.domain.policy import CONFIG_PATH, REVERT, Policy, Verdict, decide
from app.domain.repair import FileEdit, Repair, RepairState, Verb
from app.domain.tenant import ALL, SELECTED
from app.healing.collect import collect
from app.healing.command import obey
from app.healing.configuration import Configured
from app.healing.decide import escalate, move, next_rung, standing, take_back, tell, trace
from app.healing.diagnose import findings, record
from app.healing.expire import expire, question
from app.healing.gather import configuration, detectors_for, gather, out_of_time, stale
from app.healing.hold import Hold
from app.healing.interpret import interpret
from app.healing.kit import Kit
from app.healing.lift import lift
from app.healing.mending import gone_on, note_of
from app.healing.observe import take_in
from app.healing.onboarding import config_check, onboarding
from app.healing.reconsider import reconsider
from app.healing.verify import suggest
from app.ports.forge import Forge
from app.ports.store import Ledger

log = structlog.get_logger()


def process(kit: Kit, hold: Hold) -> None:
    """Every path ends in one fenced transaction that finishes the delivery with all that follows from it."""
    delivery = hold.lease.delivery
    if delivery is None:
        with kit.store.begin(hold.lease) as ledger:
            delivery = ledger.delivery(hold.lease.row_id)
    event = interpret(kit, delivery)
    kit.passing("after interpret")
    try:
        follow(kit, hold, event, delivery)
    except NotInstalled as error:
        kit.app.installations()  # if it is the App's own key that GitHub refuses, this says so and nothing is dropped
        with kit.store.begin(hold.lease) as ledger:
            if delivery.repository_id is not None:
                ledger.forget_repositories((delivery.repository_id,))
            ledger.drop_body(hold.lease.row_id, {})  # of a repository that we have no access to nothing is kept
            ledger.finish_delivery(hold.lease.row_id, DeliveryState.IGNORED, str(error))


def follow(kit: Kit, hold: Hold, event: AnyEvent | Ignored, delivery: Delivery) -> None:
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
        case ButtonPressed() | CommandGiven():
            obey(kit, hold, event)
        case ModelObserved():
            model_observed(kit, hold, event, delivery)
        case SamplesReported():
            with kit.store.begin(hold.lease) as ledger:
                ledger.models.add_samples(event.repository.id, event.series)
            observed(kit, hold, event)
        case _:
            observed(kit, hold, event)


def installation_changed(kit: Kit, hold: Hold, event: InstallationChanged) -> None:
    """Who leaves has what is kept of them erased, but not who is only suspended; who comes back starts clean."""
    gone = event.change in ("deleted", "suspend")
    # asked of GitHub: the event's own list lacks the default branch, from which the policy is read
    repositories = [] if gone else kit.app.repositories(event.installation_id)
    still = {repository.id for repository in repositories}
    if still and (erased := kit.store.erase(still)):
        log.info("erased", **erased)
    before = kit.store.selection(event.installation_id)
    with kit.store.begin(hold.lease) as ledger:
        if gone:
            ledger.forget_installation(event.installation_id, erase=event.change == "deleted")
        else:
            ledger.remember_installation(event.installation_id, event.account, event.selection)
        for repository in repositories:
            ledger.remember_repository(repository)
        ledger.forget_repositories([removed for removed in event.removed if removed not in still], erase=True)
        chosen = event.change == "created" or before == ALL  # what is left of all repositories was chosen, too
        new = still if chosen else still.intersection(event.added)
        if event.selection == SELECTED:
            for repository_id in sorted(new):
                ledger.want_effect(onboarding(repository_id))
        _finish(ledger, hold)


def run_finished(kit: Kit, hold: Hold, event: RunFinished) -> None:
    """Wake the repairs that wait for this run; and if it failed, find out why and decide."""
    ours = event.head_branch.startswith(FIX_BRANCHES)
    if not ours:
        event = out_of_time(kit.app.forge(event.repository), event)
    if ours or event.kind not in ("workflow_run.failed", "workflow_run.succeeded"):
        with kit.store.begin(hold.lease) as ledger:
            spread(ledger, event)
            return _finish(ledger, hold)
    forge = kit.app.forge(event.repository)
    collect(kit, forge, event)
    if event.kind == "workflow_run.succeeded":
        return run_succeeded(kit, hold, forge, event)
    observed(kit, hold, event)


def model_observed(kit: Kit, hold: Hold, event: ModelObserved, delivery: Delivery) -> None:
    """Take the observations in, and look at the windows that have changed."""
    configured = configuration(kit, kit.app.forge(event.repository))
    try:
        taken = take_in(kit, hold, event, delivery, configured.policy)
    except Malformed as error:
        with kit.store.begin(hold.lease) as ledger:
            ledger.drop_body(hold.lease.row_id, {})
            ledger.finish_delivery(hold.lease.row_id, DeliveryState.IGNORED, f"cannot be taken in: {error}")
        return
    if taken.windows:
        looks = [replace(event, window=window) for window in taken.windows]
        return observed(kit, hold, *looks, configured=configured, note=taken.note)
    with kit.store.begin(hold.lease) as ledger:
        _finish(ledger, hold, taken.note)


def observed(kit: Kit, hold: Hold, *events: Observable, configured: Configured | None = None, note: str = "") -> None:
    """Have the detectors look, and decide on what they find; what they find well again has recovered.

    Of several events, oldest first, the last one is what was reported.
    """
    event = events[-1]
    if not any(event.kind in detector.reacts_to for detector in kit.detectors.values()):
        with kit.store.begin(hold.lease) as ledger:
            spread(ledger, event)
            looked_at(ledger, event, ())
            return _finish(ledger, hold, note)
    forge = kit.app.forge(event.repository)
    configured = configured or configuration(kit, forge)
    if isinstance(event, Ticked):
        lift(kit, forge, event, configured.policy)
        reconsider(kit, forge, event.repository.id, configured.policy)
        expire(kit, event.repository.id)
    detectors = detectors_for(kit.detectors.values(), event, configured.policy)
    looks = []
    for each in events:
        evidence = gather(kit, forge, each, detectors, configured.policy)
        kit.passing("after gather")
        looks.append((each, *findings(detectors, each, evidence)))
    outdated = (gone_on(kit, event) or stale(forge, event)) if any(found for _, found, _ in looks) else ""
    kit.passing("after diagnose")
    with kit.store.begin(hold.lease) as ledger:
        spread(ledger, event)
        for each, found, clear in looks:
            taken = [take_up(ledger, hold, each, finding, configured, outdated) for finding in found]
            looked_at(ledger, each, taken)
            for well in clear:
                recover(ledger, each, well)
        _finish(ledger, hold, note)
    kit.passing("after decide")


def spread(ledger: Ledger, event: Observable) -> None:
    """Remember where it happened, wake the repairs that wait for this run, and have a pushed heal.yml checked."""
    ledger.remember_repository(event.repository)
    if isinstance(event, RunFinished):
        for waiting in ledger.repairs_awaiting_proof(event.repository.id):
            if _concerns(waiting, event):
                ledger.wake_repair(waiting.id)
    if isinstance(event, Pushed) and event.may_touch(CONFIG_PATH):
        ledger.want_effect(config_check(event.repository.id, event.head_sha))


def looked_at(ledger: Ledger, event: Observable, incidents: Sequence[int]) -> None:
    """Who has started a run that failed may know whether it is being repaired (healing.mending)."""
    if isinstance(event, WorkloadFailed):
        name = note_of(event.run.launcher, event.run.handle)
        ledger.shelve(event.repository.id, name, {"incidents": list(incidents)})


def recover(ledger: Ledger, event: Observable, clear: Clear) -> None:
    """What this detector had found there is over, by its own look. A run's failures recover by a green run instead."""
    for incident in ledger.incidents_at(event.repository.id, branch=event.place.branch):
        finding = incident.finding
        same = (finding.detector, finding.subject) == (clear.detector, clear.subject)
        meant = clear.only in ("", finding.fingerprint) and finding.fingerprint not in clear.but
        meant = meant and not (clear.unless and clear.unless in finding.facts)
        if same and meant and not incident.run_id and (not clear.kinds or finding.kind in clear.kinds):
            mended(ledger, incident, event.place, clear.why)


def take_up(
    ledger: Ledger, hold: Hold, event: Observable, finding: Finding, configured: Configured, outdated: str
) -> int:
    """One finding: into its incident, whose number is returned, and on to a decision if one is due. The team's playbook
    goes before the usual."""
    playbook = finding.playbook or finding.kind
    finding = replace(finding, ladder=configured.policy.playbooks.get(playbook, finding.ladder))
    incident, relapse = record(ledger, event, finding, hold.lease.row_id, outdated)
    if relapse:
        revert(ledger, incident, event.place, configured.policy)
    elif incident.state is State.AWAITING_APPROVAL and not outdated:
        ask_anew(ledger, incident, configured.policy)
    elif incident.state is State.OPEN:
        next_rung(ledger, incident, configured.policy, stale=outdated, from_fork=event.place.from_fork)
    else:
        tell(ledger, incident)
    return incident.id


def revert(ledger: Ledger, incident: Incident, place: Place, policy: Policy) -> None:
    """The merged repair did not last: offer its reverse, by the rules of `revert_repair`; ask, where they say so."""
    ledger.note(incident.id, "relapsed", {"run_id": place.run_id, "url": place.url})
    target = standing(ledger.repairs_of(incident.id))
    reason = "the cause returned after the repair was merged"
    if target is None:
        escalate(ledger, incident, reason)
        return
    back = Remedy(REVERT)
    history = ledger.history(incident.repository_id, incident.id, incident.run_id, back)
    decision = decide(incident.finding, back, policy, history, ledger.now(), branch=incident.branch)
    trace(ledger, incident, decision)
    if decision.verdict is Verdict.LEAVE:
        escalate(ledger, incident, f"{reason}; a revert was not offered: {decision.reason}")
        return
    planned = take_back(ledger, incident, policy)
    if planned is not None and decision.verdict is Verdict.ASK:
        ledger.save_repair(replace(planned, state=RepairState.ASKED), due_at=None)
        ledger.note(incident.id, "asked", question(REVERT, policy, ledger.now()))
        move(ledger, incident, Signal.ASKED)
    else:
        tell(ledger, incident)


def ask_anew(ledger: Ledger, incident: Incident, policy: Policy) -> None:
    """The failure was seen on a newer commit: what was asked was about the former one."""
    asked = [repair for repair in ledger.repairs_of(incident.id) if repair.state is RepairState.ASKED]
    if not asked or asked[-1].intent.head_sha == incident.head_sha:
        tell(ledger, incident)
        return
    if asked[-1].verb is Verb.UNDO or asked[-1].remedy not in incident.finding.ladder:
        tell(ledger, incident)  # a revert, or what follows a proven rung: asked for whatever fails next
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
    theirs = what_people_did(kit, forge, concerned, event)
    policy = configuration(kit, forge).policy if theirs else Policy()
    with kit.store.begin(hold.lease) as ledger:
        for seen in concerned:
            incident = ledger.incident(seen.id)
            newer = (event.run_id, event.attempt) > (incident.run_id, incident.attempt)
            if newer and passed.issuperset(incident.finding.failed_jobs):
                judge_shadows(ledger, incident, event, theirs, policy)
                mended(ledger, incident, event.place)
        _finish(ledger, hold)


def what_people_did(kit: Kit, forge: Forge, concerned: list[Incident], event: RunFinished) -> dict[str, str | None]:
    """The files, as they are now, that we would have changed ourselves."""
    watched = [incident.id for incident in concerned if incident.state is State.OBSERVED]
    with kit.store.begin() as ledger:
        repairs = [each for number in watched for each in ledger.repairs_of(number)]
    shadows = [each.plan for each in repairs if each.plan and each.state is RepairState.SHADOWED]
    paths = {edit.path for plan in shadows for edit in plan.edits}
    found = {path: forge.file(path, event.head_sha) for path in sorted(paths)}
    return {path: file.text if file else None for path, file in found.items()}


def judge_shadows(
    ledger: Ledger, incident: Incident, event: RunFinished, theirs: Mapping[str, str | None], policy: Policy
) -> None:
    """It passes again: was it by what we would have done?"""
    for each in ledger.repairs_of(incident.id):
        if each.state is not RepairState.SHADOWED or each.plan is None:
            continue
        again = event.run_id == each.intent.run_id
        agreed = same_change(each.plan.edits, theirs) if each.plan.edits else again
        state = RepairState.AGREED if agreed else RepairState.DIFFERED
        ledger.save_repair(replace(each, state=state, proof={"url": event.url}), due_at=None)
        ledger.note(incident.id, "compared", {"action": each.remedy.action, "agreed": agreed, "url": event.url})
        if agreed:
            suggest(ledger, incident, each, policy)


def same_change(edits: Sequence[FileEdit], theirs: Mapping[str, str | None]) -> bool:
    """Every line that we would have added stands there now, and none that we would have removed."""
    for edit in edits:
        text = theirs.get(edit.path)
        if text is None or edit.before is None or edit.after is None:
            return text == edit.after
        before, after, now = (Counter(part.splitlines()) for part in (edit.before, edit.after, text))
        added, removed = after - before, before - after
        if added - now or any(now[line] > before[line] - count for line, count in removed.items()):
            return False
    return True


def mended(ledger: Ledger, incident: Incident, place: Place, why: str = "") -> None:
    told = {"run_id": place.run_id, "url": place.url, "why": why}
    undone = incident.state is State.DISMISSED and incident.merged_at  # what passes is the repair that a person refused
    repairs = ledger.repairs_of(incident.id)
    begun = any(repair.state is RepairState.PLANNED and repair.begun_at for repair in repairs)
    busy = incident.state is State.REPAIRING and (incident.run_id or begun)
    if allows(incident.state, Signal.RECOVERED) and not undone and not busy:
        ledger.note(incident.id, "recovered", told)
        for waiting in repairs:
            if waiting.state in (RepairState.ASKED, RepairState.PLANNED):
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


def _concerns(waiting: Repair, event: RunFinished) -> bool:
    data = waiting.outcome.data if waiting.outcome else {}
    return data.get("run_id") == event.run_id or data.get("head_sha") == event.head_sha


def _finish(ledger: Ledger, hold: Hold, note: str = "") -> None:
    ledger.finish_delivery(hold.lease.row_id, DeliveryState.DONE, note)
