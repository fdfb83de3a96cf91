"""Turns the cause of a failed job into a finding."""

from collections.abc import Mapping
from typing import Any

from app.domain.event import RunFinished
from app.domain.evidence import Job
from app.domain.finding import Finding, Severity, fingerprint
from detectors.diagnosis import Cause

# Fingerprints look through digits, which differ from run to run; in names they tell things apart: `test (3.9)`.
KEPT_DIGITS = str.maketrans("0123456789", "⓪①②③④⑤⑥⑦⑧⑨")


def claim(detector: str, event: RunFinished, job: Job, cause: Cause, facts: Mapping[str, Any], key: str) -> Finding:
    """A finding of `detector`; `key` is what stays equal when the cause comes back."""
    signature = cause.signature
    return Finding(
        detector=detector,
        kind=cause.kind,
        subject=f"{event.workflow} / {job.name}",
        severity=signature.severity if signature else Severity.MEDIUM,
        confidence=cause.confidence,
        summary=cause.summary,
        fingerprint=fingerprint(
            cause.kind, event.workflow_path.translate(KEPT_DIGITS), job.name.translate(KEPT_DIGITS), key
        ),
        facts=facts,
        lines=cause.lines,
        ladder=signature.ladder if signature else (),
        job=job.name,
    )
