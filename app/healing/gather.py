"""Fetch each thing that a detector needs, once."""

import fnmatch
from collections.abc import Callable, Iterable

from app.domain.errors import Malformed, Refused
from app.domain.event import RunFinished
from app.domain.evidence import Annotation, Evidence, EvidenceBag, Job, JobLog, JobLogs, Manifests
from app.domain.outcome import FAILED
from app.domain.policy import CONFIG_PATH, Mode, Policy, mode_of
from app.healing.configuration import UNREADABLE, Configured, resolve
from app.healing.kit import Kit
from app.ports.forge import FileText, Forge
from app.ports.plugins import Detector

_MANIFESTS = ("requirements*.txt", "requirements/*.txt", "requirements*.in", "pyproject.toml")
_MOST_LOGS = 20
_MOST_MANIFESTS = 20


def detectors_for(detectors: Iterable[Detector], event: RunFinished, policy: Policy) -> list[Detector]:
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


def gather(kit: Kit, forge: Forge, event: RunFinished, detectors: Iterable[Detector]) -> EvidenceBag:
    """The union of what these detectors need."""
    fetch: dict[type[Evidence], Callable[[], Evidence]] = {
        JobLogs: lambda: job_logs(kit, forge, event),
        Manifests: lambda: manifests(forge, event.head_sha),
    }
    wanted = {need for detector in detectors for need in detector.needs}
    return EvidenceBag(*(fetch[need]() for need in sorted(wanted, key=lambda need: need.__name__)))


def job_logs(kit: Kit, forge: Forge, event: RunFinished) -> JobLogs:
    """Logs of the jobs that failed themselves. A job whose log has expired still speaks through its annotations."""
    failed = [job for job in forge.jobs(event.run_id, event.attempt) if job.conclusion in FAILED]
    if not failed:
        return JobLogs((_without_jobs(event),))
    logs = []
    for job in failed[:_MOST_LOGS]:
        notes = forge.annotations(job)
        try:
            with forge.job_log(job) as stream:
                logs.append(kit.read_log(stream, job, notes))
        except Refused:
            logs.append(JobLog(job, (), 0, tuple(notes)))
    return JobLogs(tuple(logs))


def _without_jobs(event: RunFinished) -> JobLog:
    """A run that failed before any job did has no log: only GitHub's own word for it, on the run's page."""
    words = {"startup_failure": "This run likely failed because of a workflow file issue."}
    job = Job(0, event.workflow, event.run_id, event.attempt, event.head_sha, event.conclusion, url=event.url)
    message = words.get(event.conclusion, f"The run ended as {event.conclusion}, and none of its jobs failed.")
    return JobLog(job, (), 0, (Annotation("failure", message),))


def manifests(forge: Forge, sha: str) -> Manifests:
    paths = [path for path in forge.paths(sha) if any(fnmatch.fnmatch(path, glob) for glob in _MANIFESTS)]
    texts = ((path, forge.file(path, sha)) for path in paths[:_MOST_MANIFESTS])
    return Manifests({path: found.text for path, found in texts if found is not None})


def configuration(kit: Kit, forge: Forge) -> Configured:
    """The policy in force: the default branch's `heal.yml` over the one in the owner's `.github` repository."""
    return resolve(
        _text(lambda: forge.file(CONFIG_PATH, forge.repository.default_branch, strict=True)),
        _text(lambda: forge.owner_file(CONFIG_PATH)),
        known_detectors=tuple(kit.detectors),
        known_actions=tuple(kit.actions),
    )


def configured_at(kit: Kit, forge: Forge, sha: str) -> Configured | None:
    """What the `heal.yml` of that commit would mean; None if it has none."""
    text = _text(lambda: forge.file(CONFIG_PATH, sha, strict=True))
    if text is None:
        return None
    return resolve(text, None, known_detectors=tuple(kit.detectors), known_actions=tuple(kit.actions))


def _text(read: Callable[[], FileText | None]) -> str | None:
    """A file that is there and cannot be read must not pass for one that is not there."""
    try:
        found = read()
    except Malformed:
        return UNREADABLE
    return found.text if found else None


def stale(forge: Forge, event: RunFinished) -> str:
    """Why this event no longer speaks of the present; empty if it does."""
    run = forge.run(event.run_id)
    if run.attempt > event.attempt:
        return f"attempt {run.attempt} of this run has already been started"
    return moved_on(forge, event.head_branch, event.head_sha)


def moved_on(forge: Forge, branch: str, sha: str) -> str:
    """Where the branch is now, if it is not at this commit any more."""
    head = forge.branch_head(branch)
    if head is None:
        return f"the branch {branch} is gone"
    return "" if head == sha else f"{branch} has moved on to {head[:7]}"
