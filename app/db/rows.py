"""Rows to domain values and back."""

from dataclasses import asdict
from typing import Any

import zstandard
from sqlalchemy import Row

from app.db.codec import (
    finding_from_json,
    finding_to_json,
    outcome_from_json,
    outcome_to_json,
    plan_from_json,
    plan_to_json,
    remedy_from_json,
    remedy_to_json,
)
from app.domain.delivery import GITHUB, OBSERVATIONS, Delivery
from app.domain.effect import Effect, EffectKind
from app.domain.incident import Incident, State
from app.domain.repair import Intent, Repair, RepairState, Verb
from app.domain.tenant import Repository

Values = dict[str, Any]

ZSTD_LEVEL = -1  # a third less time than level 1 for a fifth more bytes; PostgreSQL does not compress the column again


def packed(body: bytes, compressor: zstandard.ZstdCompressor | None = None) -> bytes:
    return (compressor or zstandard.ZstdCompressor(level=ZSTD_LEVEL)).compress(body)


def unpacked(body: bytes) -> bytes:
    """The raw body; empty after it was pruned."""
    return zstandard.ZstdDecompressor().decompress(body) if body else b""


def mailbox_of(installation_id: int | None, repository_id: int | None, source: str = GITHUB) -> str:
    """Observations and other signals stay in order among themselves; GitHub's deliveries do not wait for them."""
    lane = {GITHUB: "", OBSERVATIONS: ":observations"}.get(source, ":signals")
    return f"{installation_id or 0}:{repository_id or 0}{lane}"


def delivery_of(row: Row[Any]) -> Delivery:
    return Delivery(
        guid=row.guid,
        source=row.source,
        event=row.event,
        action=row.action,
        body=unpacked(row.body),
        installation_id=row.installation_id,
        repository_id=row.repository_id,
        repository=row.repository,
        headers=row.headers,
        received_at=row.received_at,
        id=row.id,
        attempts=row.attempts,
    )


def repository_of(row: Row[Any]) -> Repository:
    return Repository(row.id, row.full_name, row.installation_id, row.default_branch)


def incident_values(incident: Incident) -> Values:
    finding = incident.finding
    return {
        "repository_id": incident.repository_id,
        "installation_id": incident.installation_id,
        "repository": incident.repository,
        "branch": incident.branch,
        "fingerprint": incident.fingerprint,
        "kind": finding.kind,
        "severity": finding.severity.value,
        "detector": finding.detector,
        "summary": finding.summary,
        "finding": finding_to_json(finding),
        "head_sha": incident.head_sha,
        "run_id": incident.run_id,
        "attempt": incident.attempt,
        "workflow_path": incident.workflow_path,
        "run_url": incident.run_url,
        "state": incident.state.value,
        "rung": incident.rung,
        "pull_number": incident.pull_number,
        "issue_number": incident.issue_number,
        "opened_at": incident.opened_at,
        "updated_at": incident.updated_at,
        "healed_at": incident.healed_at,
        "merged_at": incident.merged_at,
        "watch_until": incident.watch_until,
    }


def incident_of(row: Row[Any]) -> Incident:
    return Incident(
        id=row.id,
        repository_id=row.repository_id,
        installation_id=row.installation_id,
        repository=row.repository,
        branch=row.branch,
        fingerprint=row.fingerprint,
        finding=finding_from_json(row.finding),
        head_sha=row.head_sha,
        run_id=row.run_id,
        attempt=row.attempt,
        workflow_path=row.workflow_path,
        run_url=row.run_url,
        state=State(row.state),
        rung=row.rung,
        pull_number=row.pull_number,
        issue_number=row.issue_number,
        opened_at=row.opened_at,
        updated_at=row.updated_at,
        healed_at=row.healed_at,
        merged_at=row.merged_at,
        watch_until=row.watch_until,
    )


def repair_values(repair: Repair) -> Values:
    data = repair.outcome.data if repair.outcome else {}
    return {
        "incident_id": repair.incident_id,
        "effect_key": repair.effect_key,
        "action": repair.remedy.action,
        "remedy": remedy_to_json(repair.remedy),
        "rung": repair.rung,
        "verb": repair.verb.value,
        "undoes": repair.undoes,
        "state": repair.state.value,
        "approved_by": repair.approved_by,
        "intent": asdict(repair.intent),
        "plan": plan_to_json(repair.plan),
        "outcome": outcome_to_json(repair.outcome),
        "proof": dict(repair.proof),
        "pull_number": data.get("pull"),
        "run_id": data.get("run_id"),
        "intended_at": repair.intended_at,
        "begun_at": repair.begun_at,
        "applied_at": repair.applied_at,
        "proof_deadline": repair.proof_deadline,
        "proof_s": repair.proof_s,
        "watch_s": repair.watch_s,
    }


def repair_of(row: Row[Any]) -> Repair:
    return Repair(
        id=row.id,
        incident_id=row.incident_id,
        remedy=remedy_from_json(row.remedy),
        rung=row.rung,
        effect_key=row.effect_key,
        intended_at=row.intended_at,
        verb=Verb(row.verb),
        undoes=row.undoes,
        state=RepairState(row.state),
        approved_by=row.approved_by,
        intent=Intent(**{**row.intent, "jobs": tuple(row.intent.get("jobs", ()))}),
        plan=plan_from_json(row.plan),
        outcome=outcome_from_json(row.outcome),
        proof=row.proof,
        begun_at=row.begun_at,
        applied_at=row.applied_at,
        proof_deadline=row.proof_deadline,
        proof_s=row.proof_s,
        watch_s=row.watch_s,
    )


def effect_of(row: Row[Any]) -> Effect:
    return Effect(
        key=row.key,
        kind=EffectKind(row.kind),
        repository_id=row.repository_id,
        request=row.request,
        incident_id=row.incident_id,
        id=row.id,
        revision=row.revision,
        remote_id=row.remote_id,
        attempts=row.attempts,
    )
