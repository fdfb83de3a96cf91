"""Fetch each thing that a detector needs, once."""

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.domain.errors import Refused
from app.domain.event import RunFinished
from app.domain.evidence import Evidence, EvidenceBag, JobLog, JobLogs, Manifests
from app.healing.configuration import Configured, resolve
from app.healing.kit import Kit
from app.ports.forge import Forge
from app.ports.plugins import Detector

CONFIG_PATH = ".github/heal.yml"
_MANIFESTS = ("requirements*.txt", "requirements/*.txt", "requirements*.in", "pyproject.toml")
_FAILED = frozenset({"failure", "timed_out", "startup_failure"})
_MOST_LOGS = 20
_MOST_MANIFESTS = 20


@dataclass(frozen=True, slots=True)
class Situation:
    """What the world looks like besides the evidence."""

    configured: Configured
    stale: str


def detectors_for(kit: Kit, event: RunFinished, configured: Configured) -> list[Detector]:
    """Those that react to this event and are not switched off."""
    return [
        detector
        for detector in kit.detectors.values()
        if event.kind in detector.reacts_to and configured.policy.detectors.get(detector.kind, "") != "off"
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
    failed = [job for job in forge.jobs(event.run_id, event.attempt) if job.conclusion in _FAILED]
    logs = []
    for job in failed[:_MOST_LOGS]:
        notes = forge.annotations(job)
        try:
            with forge.job_log(job) as stream:
                logs.append(kit.read_log(stream, job, notes))
        except Refused:
            logs.append(JobLog(job, (), 0, tuple(notes)))
    return JobLogs(tuple(logs))


def manifests(forge: Forge, sha: str) -> Manifests:
    paths = [path for path in forge.paths(sha) if any(fnmatch.fnmatch(path, glob) for glob in _MANIFESTS)]
    texts = ((path, forge.file(path, sha)) for path in paths[:_MOST_MANIFESTS])
    return Manifests({path: found.text for path, found in texts if found is not None})


def configuration(kit: Kit, forge: Forge) -> Configured:
    """The policy in force: the default branch's `heal.yml` over the one in the owner's `.github` repository."""
    own = forge.file(CONFIG_PATH, forge.repository.default_branch)
    shared = forge.owner_file(CONFIG_PATH)
    return resolve(
        own.text if own else None,
        shared.text if shared else None,
        known_detectors=tuple(kit.detectors),
        known_actions=tuple(kit.actions),
    )


def stale(forge: Forge, event: RunFinished) -> str:
    """Why this event no longer speaks of the present; empty if it does."""
    run = forge.run(event.run_id)
    if run.attempt > event.attempt:
        return f"attempt {run.attempt} of this run has already been started"
    head = forge.branch_head(event.head_branch)
    if head is None:
        return f"the branch {event.head_branch} is gone"
    if head != event.head_sha:
        return f"{event.head_branch} has moved on to {head[:7]}"
    return ""
