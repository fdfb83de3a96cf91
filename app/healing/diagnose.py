"""Let the detectors look, and find or open the incident each finding belongs to."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from app.domain.event import Observable, Place
from app.domain.evidence import EvidenceBag
from app.domain.finding import Clear, Finding
from app.domain.incident import Incident, Signal, State, allows, step
from app.domain.knowledge import rung_of
from app.healing.decide import tell_former
from app.ports.plugins import Detector
from app.ports.store import Ledger
from app.security.masking import mask

log = structlog.get_logger()


def findings(
    detectors: Iterable[Detector], event: Observable, evidence: EvidenceBag
) -> tuple[list[Finding], list[Clear]]:
    """Each cause once, and what is well. A detector that crashes is logged as its own; the others go on."""
    found: dict[str, Finding] = {}
    clear: list[Clear] = []
    for detector in detectors:
        try:
            claims = list(detector.detect(event, evidence))
        except Exception:
            log.exception("detector_crashed", detector=detector.kind, event_kind=event.kind, run_id=event.place.run_id)
            continue
        for claim in claims:
            if isinstance(claim, Clear):
                clear.append(claim)
            else:
                found.setdefault(claim.fingerprint, masked(claim))
    return list(found.values()), clear


def masked(finding: Finding) -> Finding:
    """Secrets that a log gave away are kept nowhere."""
    return replace(
        finding,
        summary=mask(finding.summary),
        facts=_masked(finding.facts),
        lines=tuple(replace(line, text=mask(line.text)) for line in finding.lines),
    )


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {name: _masked(item) for name, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list | tuple) else value


def record(
    ledger: Ledger, event: Observable, finding: Finding, delivery_id: int, outdated: str = ""
) -> tuple[Incident, bool]:
    """The incident of this finding, opened, reopened or brought up to date; with a line in its timeline.

    The second value says that this is a relapse: the cause returned after its repair was merged. An event that is
    `outdated` (it says why) neither reopens an incident that has been closed since nor counts as a relapse.
    """
    place = event.place
    fingerprint = fingerprint_at(event, finding)
    now = ledger.now()
    incident = ledger.find_incident(event.repository.id, fingerprint)
    if incident is None:
        incident = ledger.add_incident(_opened(event, finding, fingerprint, now))
    relapse = not outdated and relapsed(incident, place)
    newer = (place.run_id, place.attempt) >= (incident.run_id, incident.attempt)
    newer = newer or (not place.run_id and incident.state in _ENDED_WELL)  # a run is no later word than a push after it
    settled = (bool(outdated) or not newer) and incident.state in _ENDED_WELL
    state = incident.state if settled else _state_after(incident, relapse)
    reopened = state is State.OPEN and incident.state is not State.OPEN
    if not reopened and set(map(rung_of, finding.ladder)) == set(map(rung_of, incident.finding.ladder)):
        finding = replace(finding, ladder=incident.finding.ladder)  # in the order in which it is being climbed
    present = replace(
        incident,
        state=state,
        updated_at=now,
        **(_seen(place, finding) if newer and not settled else {}),
        **(_AFRESH if reopened else {}),
    )
    if present != incident:  # what has just been added is
        ledger.save_incident(present)
    if present.head_sha != incident.head_sha:
        tell_former(ledger, present, incident.head_sha)
    incident = present
    past = ledger.past(incident.repository_id, finding.kind, finding.fingerprint, place.run_id)
    ledger.note(
        incident.id,
        "found",
        {
            "kind": finding.kind,
            "summary": finding.summary,
            "confidence": finding.confidence,
            "run_id": place.run_id,
            "attempt": place.attempt,
            "head_sha": place.head_sha,
            "url": place.url,
            "before": {"runs": past.runs, "healed_by": past.healed_by, "pull": past.pull} if past.runs else {},
        },
        delivery_id,
    )
    return incident, relapse


def fingerprint_at(event: Observable, finding: Finding) -> str:
    """The finding's cause, on this branch of this repository. Branches of forks are another place."""
    branch = f"{event.place.branch}\x1f{'fork' * event.place.from_fork}"
    return hashlib.sha256(f"{finding.fingerprint}\x1f{event.repository.id}\x1f{branch}".encode()).hexdigest()[:16]


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


def relapsed(incident: Incident, place: Place) -> bool:
    """The same cause again, on a newer commit, while the merged repair is being watched."""
    if not (incident.merged_at and incident.watch_until and place.started_at):
        return False
    watched = incident.merged_at < place.started_at <= incident.watch_until
    return watched and place.head_sha != incident.head_sha and allows(incident.state, Signal.RELAPSED)


def _seen(place: Place, finding: Finding) -> dict[str, Any]:
    return {
        "finding": finding,
        "head_sha": place.head_sha,
        "run_id": place.run_id,
        "attempt": place.attempt,
        "run_url": place.url,
        "workflow_path": place.workflow_path,
    }


def _opened(event: Observable, finding: Finding, fingerprint: str, now: datetime) -> Incident:
    place = event.place
    return Incident(
        repository_id=event.repository.id,
        installation_id=event.repository.installation_id,
        repository=event.repository.full_name,
        branch=place.branch,
        fingerprint=fingerprint,
        finding=finding,
        head_sha=place.head_sha,
        run_id=place.run_id,
        attempt=place.attempt,
        workflow_path=place.workflow_path,
        run_url=place.url,
        opened_at=now,
        updated_at=now,
    )
