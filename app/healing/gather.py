"""Fetch each thing that a detector needs, once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from app.domain.advisory import AddedLines, Dependencies, ModelFiles, WorkflowFiles
from app.domain.errors import Malformed, Refused, Unreachable
from app.domain.event import (
    AlertsReported,
    ModelObserved,
    Observable,
    Pushed,
    RunFinished,
    SamplesReported,
    Ticked,
)
from app.domain.evidence import (
    Alerts,
    Annotation,
    Evidence,
    EvidenceBag,
    Job,
    JobLog,
    JobLogs,
    Manifests,
    ModelWindow,
    Samples,
)
from app.domain.model import ModelRules
from app.domain.outcome import FAILED
from app.domain.policy import CONFIG_PATH, Mode, Policy, mode_of, named
from app.domain.requirement import Resolutions
from app.domain.tenant import ALL
from app.healing import gather_fleet
from app.healing.configuration import UNREADABLE, Configured, resolve
from app.healing.gather_security import added_lines, dependencies, model_files, workflow_files
from app.healing.kit import Kit
from app.healing.observe import window_of
from app.healing.requirements import is_manifest, resolutions
from app.ports.forge import FileText, Forge
from app.ports.plugins import Detector

log = structlog.get_logger()

_MOST_LOGS = 20
_MOST_GREEN = 3
_MOST_MANIFESTS = 20


def detectors_for(detectors: Iterable[Detector], event: Observable, policy: Policy) -> list[Detector]:
    """Those that react to this event and are not switched off."""

    def is_off(detector: Detector) -> bool:
        return not policy.actions and mode_of(policy, detector.kind, "")[1] is Mode.OFF

    return [
        detector
        for detector in detectors
        if event.kind in detector.reacts_to
        and not is_off(detector)
        and policy.detectors.get(detector.kind) is not Mode.OFF
    ]


def gather(kit: Kit, forge: Forge, event: Observable, detectors: Iterable[Detector], policy: Policy) -> EvidenceBag:
    """The union of what these detectors need, as far as this event has it."""
    wanted = {need for detector in detectors for need in detector.needs}
    fetched = []
    for need in sorted(wanted, key=lambda need: need.__name__):
        if need in _FETCH_BY_POLICY:
            fetched.append(_FETCH_BY_POLICY[need](kit, event, policy))
        else:
            fetched.append(_FETCH[need](kit, forge, event))
    found = (item for item in fetched if item is not None)
    return EvidenceBag(*found, settings=policy.settings, signatures=policy.signatures)


def job_logs(kit: Kit, forge: Forge, event: Observable) -> JobLogs | None:
    """Logs of the jobs that failed themselves. A job whose log has expired still speaks through its annotations."""
    if not isinstance(event, RunFinished):
        return None
    jobs = forge.jobs(event.run_id, event.attempt)
    failed = [job for job in jobs if job.conclusion in FAILED]
    if not failed and event.conclusion == OUT_OF_TIME:
        failed = [job for job in jobs if job.conclusion == "cancelled"]
    if not failed:
        return JobLogs((_without_jobs(event, "" if jobs else _misread(kit, forge, event)),))
    passed = _passed(forge, event)
    logs = []
    for count, job in enumerate(failed[:_MOST_LOGS]):
        notes = forge.annotations(job)
        try:
            with forge.job_log(job) as stream:
                log = kit.read_log(stream, job, notes)
        except Refused:
            log = JobLog(job, (), 0, tuple(notes))
        if log.parts and job.name in passed and count < _MOST_GREEN:
            log = replace(log, green=_green(kit, forge, passed[job.name]))
        logs.append(log)
    return JobLogs(tuple(logs))


def _passed(forge: Forge, event: RunFinished) -> dict[str, Job]:
    """The jobs of the workflow's last successful run on the default branch, by name."""
    try:
        runs = forge.runs(branch=event.repository.default_branch, conclusion="success")
        last = next((run for run in runs if run.workflow_path == event.workflow_path and run.id != event.run_id), None)
        return {job.name: job for job in forge.jobs(last.id, last.attempt)} if last else {}
    except Refused:
        return {}


def _green(kit: Kit, forge: Forge, job: Job) -> frozenset[int] | None:
    try:
        with forge.job_log(job) as stream:
            return kit.read_green(stream)
    except (Refused, Unreachable):  # it has expired, or cannot be had now: it only helps
        return None


OUT_OF_TIME = "timed_out"
_EXCEEDED = "exceeded the maximum execution time"
_ASKED = 5


def out_of_time(forge: Forge, event: RunFinished) -> RunFinished:
    """GitHub calls a job that ran past its time limit cancelled, as if a person had done it; its annotation tells."""
    if event.conclusion != "cancelled":
        return event
    cancelled = [job for job in forge.jobs(event.run_id, event.attempt) if job.conclusion == "cancelled"]
    notes = (note for job in cancelled[:_ASKED] for note in forge.annotations(job))
    return replace(event, conclusion=OUT_OF_TIME) if any(_EXCEEDED in note.message for note in notes) else event


def _misread(kit: Kit, forge: Forge, event: RunFinished) -> str:
    """What is wrong with the file of a workflow that has started no job; "" where the judge finds nothing."""
    file = forge.file(event.workflow_path, event.head_sha) if kit.workflow_check else None
    if kit.workflow_check is None or file is None:
        return ""
    try:
        faults = kit.workflow_check.faults(file.path, file.text)
    except (Refused, Unreachable):  # it only helps
        return ""
    told = next((fault for fault in faults if fault.rule in ("yaml", "schema")), None)
    return f"Invalid workflow file: {file.path}: {told.message}" if told else ""


def _without_jobs(event: RunFinished, misread: str) -> JobLog:
    """A run that failed before any job did has no log: only what its file tells, or GitHub's own word for it."""
    words = {"startup_failure": "This run likely failed because of a workflow file issue."}
    job = Job(0, event.workflow, event.run_id, event.attempt, event.head_sha, event.conclusion, url=event.url)
    message = misread or words.get(
        event.conclusion, f"The run ended as {event.conclusion}, and none of its jobs failed."
    )
    return JobLog(job, (), 0, (Annotation("failure", message),))


def manifests(_: Kit, forge: Forge, event: Observable) -> Manifests | None:
    if not isinstance(event, RunFinished | Pushed):
        return None
    sha = event.head_sha
    paths = [path for path in forge.paths(sha) if is_manifest(path)]
    texts = ((path, forge.file(path, sha)) for path in paths[:_MOST_MANIFESTS])
    return Manifests({path: found.text for path, found in texts if found is not None})


def alerts(_: Kit, __: Forge, event: Observable) -> Alerts | None:
    return Alerts(event.alerts) if isinstance(event, AlertsReported) else None


def samples(kit: Kit, event: Observable, policy: Policy) -> Samples | None:
    """What was reported, with what was kept before; at a look by schedule what Prometheus is asked."""
    if isinstance(event, SamplesReported):
        with kit.store.begin() as ledger:
            kept = ledger.models.series(event.repository.id, event.series)
        return Samples(tuple(kept) or event.series)
    if not isinstance(event, Ticked) or not policy.queries:
        return None
    if kit.signals is None or not kit.signals.lets(event.repository):
        return None
    try:
        return Samples(tuple(kit.signals.ask(policy.queries, until=event.at)))
    except Unreachable as error:  # the other detectors look all the same, and the schedule comes again
        log.warning("monitoring_away", error=str(error))
        return None


def model_window(kit: Kit, event: Observable, policy: Policy) -> ModelWindow | None:
    """The window beside its reference and those before it, with what heal.yml says of the model."""
    found = window_of(kit, event) if isinstance(event, ModelObserved) else None
    if found is None:
        return None
    model, window, reference, earlier = found
    rules = policy.models.get(model.name, ModelRules())
    return ModelWindow(
        model=model.name,
        current=window.observed,
        reference=reference.observed if reference else None,
        earlier=tuple(each.observed for each in earlier),
        closed=window.closed,
        importance=rules.importance,
        curves=model.curves,
        objectives=rules.objectives,
    )


_FETCH: Mapping[type[Evidence], Callable[[Kit, Forge, Observable], Evidence | None]] = {
    AddedLines: added_lines,
    Alerts: alerts,
    Dependencies: dependencies,
    JobLogs: job_logs,
    Manifests: manifests,
    ModelFiles: model_files,
    Resolutions: resolutions,
    WorkflowFiles: workflow_files,
    **gather_fleet.FETCH,
}
_FETCH_BY_POLICY: Mapping[type[Evidence], Callable[[Kit, Observable, Policy], Evidence | None]] = {
    ModelWindow: model_window,
    Samples: samples,
}


@dataclass(frozen=True, slots=True)
class HealFiles:
    """The texts of the `heal.yml` on the default branch and of the owner's, None where there is none."""

    own: str | None
    owners: str | None


def heal_files(forge: Forge) -> HealFiles:
    own = _text(lambda: forge.file(CONFIG_PATH, forge.repository.default_branch, strict=True))
    return HealFiles(own, _text(lambda: forge.owner_file(CONFIG_PATH)))


def configured(kit: Kit, forge: Forge, files: HealFiles) -> Configured:
    """The policy that these files put in force."""
    return resolve(
        files.own,
        files.owners,
        known_detectors=kit.settings,
        known_actions=named(kit.params_of),
        on_all=files.own is None
        and files.owners is None
        and kit.store.selection(forge.repository.installation_id) == ALL,
    )


def configuration(kit: Kit, forge: Forge) -> Configured:
    """The policy in force: the default branch's `heal.yml` over the one in the owner's `.github` repository."""
    return configured(kit, forge, heal_files(forge))


def configured_at(kit: Kit, forge: Forge, sha: str) -> Configured | None:
    """What the `heal.yml` of that commit would mean; None if it has none."""
    text = _text(lambda: forge.file(CONFIG_PATH, sha, strict=True))
    if text is None:
        return None
    return resolve(text, None, known_detectors=kit.settings, known_actions=named(kit.params_of))


def _text(read: Callable[[], FileText | None]) -> str | None:
    """A file that is there and cannot be read must not pass for one that is not there."""
    try:
        found = read()
    except Malformed:
        return UNREADABLE
    return found.text if found else None


def stale(forge: Forge, event: Observable) -> str:
    """Why this event no longer speaks of the present; empty if it does."""
    if isinstance(event, RunFinished):
        run = forge.run(event.run_id)
        if run.attempt > event.attempt:
            return f"attempt {run.attempt} of this run has already been started"
    return moved_on(forge, event.place.branch, event.place.head_sha)


def moved_on(forge: Forge, branch: str, sha: str) -> str:
    """Where the branch is now, if it is not at this commit any more. What was seen at no commit does not age."""
    if not sha:
        return ""
    head = forge.branch_head(branch)
    if head is None:
        return f"the branch {branch} is gone"
    return "" if head == sha else f"{branch} has moved on to {head[:7]}"
