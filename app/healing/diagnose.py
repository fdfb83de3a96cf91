"""Let the detectors look, and find or open the incident each finding belongs to."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from app.domain.event import RunFinished
from app.domain.evidence import EvidenceBag
from app.domain.finding import Finding
from app.domain.incident import Incident, Signal, State, allows, step
from app.healing.decide import tell_former
from app.ports.plugins import Detector
from app.ports.store import Ledger
from app.security.masking import mask

log = structlog.get_logger()


def findings(detectors: Iterable[Detector], event: RunFinished, evidence: EvidenceBag) -> list[Finding]:
    """Each cause once. A detector that crashes is logged as its own; the others go on."""
    found: dict[str, Finding] = {}
    for detector in detectors:
        try:
            claims = list(detector.detect(event, evidence))
        except Exception:
            log.exception("detector_crashed", detector=detector.kind, run_id=event.run_id)
            continue
        for claim in claims:
            found.setdefault(claim.fingerprint, masked(claim))
    return list(found.values())


def masked(finding: Finding) -> Finding:
    """Secrets that a log gave away are kept nowhere."""
    return replace(
        finding,
        summary=mask(finding.summary),
        facts={name: mask(value) if isinstance(value, str) else value for name, value in finding.facts.items()},
        lines=tuple(replace(line, text=mask(line.text)) for line in finding.lines),
    )


def record(
    ledger: Ledger, event: RunFinished, finding: Finding, delivery_id: int, outdated: str = ""
) -> tuple[Incident, bool]:
    """The incident of this finding, opened, reopened or brought up to date; with a line in its timeline.

    The second value says that this is a relapse: the cause returned after its repair was merged. An event that is
    `outdated` (it says why) neither reopens an incident that has been closed since nor counts as a relapse.
    """
    place = fingerprint_at(event, finding)
    now = ledger.now()
    incident = ledger.find_incident(event.repository.id, place)
    if incident is None:
        incident = ledger.add_incident(_opened(event, finding, place, now))
    relapse = not outdated and relapsed(incident, event)
    newer = (event.run_id, event.attempt) >= (incident.run_id, incident.attempt)
    settled = (bool(outdated) or not newer) and incident.state in _ENDED_WELL
    state = incident.state if settled else _state_after(incident, relapse)
    reopened = state is State.OPEN and incident.state is not State.OPEN
    present = replace(
        incident,
        state=state,
        updated_at=now,
        **(_seen(event, finding) if newer and not settled else {}),
        **(_AFRESH if reopened else {}),
    )
    if present != incident:  # what has just been added is
        ledger.save_incident(present)
    if present.head_sha != incident.head_sha:
        tell_former(ledger, present, incident.head_sha)
    incident = present
    ledger.note(
        incident.id,
        "found",
        {
            "kind": finding.kind,
            "summary": finding.summary,
            "confidence": finding.confidence,
            "run_id": event.run_id,
            "attempt": event.attempt,
            "head_sha": event.head_sha,
            "url": event.url,
        },
        delivery_id,
    )
    return incident, relapse


def fingerprint_at(event: RunFinished, finding: Finding) -> str:
    """The finding's cause, on this branch of this repository. Branches of forks are another place."""
    place = f"{finding.fingerprint}\x1f{event.repository.id}\x1f{event.head_branch}\x1f{'fork' * event.from_fork}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


_ENDED_WELL = frozenset({State.HEALED, State.RECOVERED})
_AFRESH: dict[str, Any] = {
    "rung": 0,
    "pull_number": None,
    "issue_number": None,
    "healed_at": None,
    "merged_at": None,
    "watch_until": None,
}


def _state_after(incident: Incident, relapse: bool) -> State:
    if relapse:
        return step(incident.state, Signal.RELAPSED)
    if incident.state is State.HEALED and incident.pull_number and not incident.merged_at:
        return incident.state  # the proven fix waits to be merged; until then the branch goes on failing
    return step(incident.state, Signal.FOUND)


def relapsed(incident: Incident, event: RunFinished) -> bool:
    """The same cause again, on a newer commit, while the merged repair is being watched."""
    if not (incident.merged_at and incident.watch_until and event.started_at):
        return False
    watched = incident.merged_at < event.started_at <= incident.watch_until
    return watched and event.head_sha != incident.head_sha and allows(incident.state, Signal.RELAPSED)


def _seen(event: RunFinished, finding: Finding) -> dict[str, Any]:
    return {
        "finding": finding,
        "head_sha": event.head_sha,
        "run_id": event.run_id,
        "attempt": event.attempt,
        "run_url": event.url,
    }


def _opened(event: RunFinished, finding: Finding, place: str, now: datetime) -> Incident:
    return Incident(
        repository_id=event.repository.id,
        installation_id=event.repository.installation_id,
        repository=event.repository.full_name,
        branch=event.head_branch,
        fingerprint=place,
        finding=finding,
        head_sha=event.head_sha,
        run_id=event.run_id,
        attempt=event.attempt,
        workflow_path=event.workflow_path,
        run_url=event.url,
        opened_at=now,
        updated_at=now,
    )
