"""Small values for the store's tests."""

from datetime import UTC, datetime
from typing import Any

from app.domain.delivery import Delivery
from app.domain.effect import Effect, EffectKind
from app.domain.finding import EvidenceLine, Finding, Remedy, Severity
from app.domain.incident import Incident
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import FileEdit, Plan, Repair
from app.domain.tenant import Repository

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
REPOSITORY = Repository(7, "octo/train", 3, "main")
REMEDY = Remedy("rerun_failed_jobs", {"wait_s": 30})
FINDING = Finding(
    detector="pipeline_failure",
    kind="network_transient",
    subject="train / fit",
    severity=Severity.MEDIUM,
    confidence=0.9,
    summary="A download broke off",
    fingerprint="0123456789abcdef",
    facts={"host": "files.pythonhosted.org", "codes": [502, 503]},
    lines=(EvidenceLine(12, "ReadTimeoutError", "Install", root=True),),
    ladder=(REMEDY, Remedy("retry_downloads")),
    job="fit",
    jobs=("fit", "sweep"),
    actionable=False,
)
PLAN = Plan(
    "Run again", "It was the network", (FileEdit("a.txt", "one\n", None),), ("POST rerun",), "none", "green", ""
)


def delivery(guid: str = "guid-1", *, repository_id: int | None = 7, **changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "guid": guid,
        "source": "github",
        "event": "workflow_run",
        "action": "completed",
        "body": b'{"zen": "\xc3\xa9"}',
        "installation_id": 3,
        "repository_id": repository_id,
        "repository": "octo/train",
        "headers": {"x-github-event": "workflow_run"},
    }
    return Delivery(**values | changes)


def incident(fingerprint: str = "feed", **changes: Any) -> Incident:
    values: dict[str, Any] = {
        "repository_id": 7,
        "installation_id": 3,
        "repository": "octo/train",
        "branch": "main",
        "fingerprint": fingerprint,
        "finding": FINDING,
        "head_sha": "a" * 40,
        "run_id": 99,
        "attempt": 1,
        "workflow_path": ".github/workflows/train.yml",
        "opened_at": NOON,
        "updated_at": NOON,
    }
    return Incident(**values | changes)


def repair(incident_id: int, key: str = "effect-1", **changes: Any) -> Repair:
    values: dict[str, Any] = {
        "incident_id": incident_id,
        "remedy": REMEDY,
        "rung": 0,
        "effect_key": key,
        "intended_at": NOON,
    }
    return Repair(**values | changes)


def outcome(**data: Any) -> Outcome:
    return Outcome(Conclusion.SUCCESS, "Ran again", "all of it", data)


def effect(key: str = "check:7:abc", **request: Any) -> Effect:
    return Effect(key, EffectKind.CHECK, 7, request)
