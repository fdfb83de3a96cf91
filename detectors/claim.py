"""Turns the causes of failed jobs into findings."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.event import RunFinished
from app.domain.evidence import Job
from app.domain.finding import Finding, Severity, fingerprint
from detectors.diagnosis import Cause

# Fingerprints look through digits, which differ from run to run; in names they tell things apart: `test (3.9)`.
KEPT_DIGITS = str.maketrans("0123456789", "⓪①②③④⑤⑥⑦⑧⑨")
SHOWN_JOBS = 5

_MATRIX = re.compile(r" \([^()]{0,200}\)$")


@dataclass(frozen=True, slots=True)
class Claim:
    """Why one job failed; `key` is what stays equal when the cause comes back."""

    job: Job
    cause: Cause
    facts: Mapping[str, Any]
    key: str


def claimed(detector: str, event: RunFinished, claims: Iterable[Claim]) -> Iterator[Finding]:
    """One finding of `detector` for each cause; the jobs of the run that share it are named together."""
    shared: dict[str, list[Claim]] = {}
    for claim in claims:
        path = event.workflow_path.translate(KEPT_DIGITS)
        shared.setdefault(fingerprint(claim.cause.kind, path, *_place(claim)), []).append(claim)
    for mark, alike in shared.items():
        surest = max(alike, key=lambda claim: claim.cause.confidence)
        names = tuple(dict.fromkeys(claim.job.name for claim in alike))
        cause, signature = surest.cause, surest.cause.signature
        yield Finding(
            detector=detector,
            kind=cause.kind,
            subject=f"{event.workflow} / {_shown(names)}",
            severity=signature.severity if signature else Severity.MEDIUM,
            confidence=cause.confidence,
            summary=cause.summary,
            fingerprint=mark,
            facts={**surest.facts, "jobs": list(names)} if len(names) > 1 else surest.facts,
            lines=cause.lines,
            ladder=signature.ladder if signature else (),
            job=surest.job.name,
            jobs=names,
            actionable=cause.actionable,
        )


def _place(claim: Claim) -> tuple[str, str]:
    """Where the cause is the same one: whichever job meets it, where it has a name of its own or comes from outside.

    Else in one job, whichever of a matrix; a job may run out of memory for another reason than its neighbour.
    """
    signature = claim.cause.signature
    if claim.key or (signature is not None and signature.transient):
        return "", claim.key
    return _MATRIX.sub("", claim.job.name).translate(KEPT_DIGITS), ""


def _shown(names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return names[0]
    more = ", …" if len(names) > SHOWN_JOBS else ""
    return f"{len(names)} jobs: {', '.join(names[:SHOWN_JOBS])}{more}"
