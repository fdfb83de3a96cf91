"""Turns an alert of a monitoring system into a finding, or into the word that it is over."""

from typing import Any

from app.domain.finding import Clear, Finding, Severity, fingerprint
from app.domain.signal import Alert
from detectors.claim import KEPT_DIGITS
from detectors.playbooks import ladder_of
from detectors.resources import named, short

MOST_ALERTS = 200
LONGEST_NAME, LONGEST_SUMMARY = 120, 300

_SEVERITIES = {
    "critical": Severity.CRITICAL,
    "page": Severity.HIGH,
    "error": Severity.HIGH,
    "high": Severity.HIGH,
    "info": Severity.LOW,
    "low": Severity.LOW,
}
# The fingerprint looks through digits and folders; here they tell one disk from another.
KEPT = KEPT_DIGITS | str.maketrans("/\\", "∕∖")


def claim_alert(detector: str, kind: str, alert: Alert) -> Finding | Clear:
    name = alert.name[:LONGEST_NAME]
    shown = {label: value for label, value in alert.labels.items() if label not in ("alertname", "severity")}
    subject = named(f"alert {name}", shown)
    if not alert.firing:
        return Clear(detector, subject, why=f"the alert {name} is over")
    told = alert.annotations.get("summary") or alert.annotations.get("description") or ""
    facts: dict[str, Any] = {"alert": name, "labels": short(alert.labels)}
    if alert.started_at is not None:
        facts["since"] = alert.started_at.isoformat()
    return Finding(
        detector=detector,
        kind=kind,
        subject=subject,
        severity=_SEVERITIES.get(alert.labels.get("severity", "").lower(), Severity.MEDIUM),
        confidence=0.9,
        summary=" ".join(told.split())[:LONGEST_SUMMARY] or name,
        fingerprint=fingerprint(detector, subject.translate(KEPT)),
        facts=facts,
        ladder=ladder_of(kind),
    )
