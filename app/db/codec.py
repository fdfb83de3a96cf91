"""Domain values in JSON columns, and back. Members that are missing take the value's default, unknown ones are ignored,
so that an older row can be read by newer code and the other way round."""

from collections.abc import Mapping
from typing import Any

from app.domain.finding import EvidenceLine, Finding, Remedy, Severity
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import FileEdit, Plan

Json = dict[str, Any]


def remedy_to_json(remedy: Remedy) -> Json:
    then = {"then": remedy_to_json(remedy.then)} if remedy.then else {}
    return {"action": remedy.action, "params": dict(remedy.params), **then}


def remedy_from_json(data: Mapping[str, Any]) -> Remedy:
    then = remedy_from_json(data["then"]) if data.get("then") else None
    return Remedy(action=data["action"], params=data.get("params", {}), then=then)


def finding_to_json(finding: Finding) -> Json:
    return {
        "detector": finding.detector,
        "kind": finding.kind,
        "subject": finding.subject,
        "severity": finding.severity.value,
        "confidence": finding.confidence,
        "summary": finding.summary,
        "fingerprint": finding.fingerprint,
        "facts": dict(finding.facts),
        "lines": [
            {"number": line.number, "text": line.text, "step": line.step, "root": line.root} for line in finding.lines
        ],
        "ladder": [remedy_to_json(remedy) for remedy in finding.ladder],
        "job": finding.job,
        "jobs": list(finding.jobs),
        "actionable": finding.actionable,
        "playbook": finding.playbook,
    }


def finding_from_json(data: Mapping[str, Any]) -> Finding:
    return Finding(
        detector=data["detector"],
        kind=data["kind"],
        subject=data["subject"],
        severity=Severity(data["severity"]),
        confidence=data["confidence"],
        summary=data["summary"],
        fingerprint=data["fingerprint"],
        facts=data.get("facts", {}),
        lines=tuple(
            EvidenceLine(line["number"], line["text"], line.get("step", ""), line.get("root", False))
            for line in data.get("lines", ())
        ),
        ladder=tuple(remedy_from_json(remedy) for remedy in data.get("ladder", ())),
        job=data.get("job", ""),
        jobs=tuple(data.get("jobs", ())),
        actionable=data.get("actionable", True),
        playbook=data.get("playbook", ""),
    )


def plan_to_json(plan: Plan | None) -> Json | None:
    if plan is None:
        return None
    return {
        "title": plan.title,
        "why": plan.why,
        "edits": [{"path": edit.path, "before": edit.before, "after": edit.after} for edit in plan.edits],
        "calls": list(plan.calls),
        "risk": plan.risk,
        "proof": plan.proof,
        "refusal": plan.refusal,
        "costs": dict(plan.costs),
        "patience_s": plan.patience_s,
        "report": dict(plan.report),
    }


def plan_from_json(data: Mapping[str, Any] | None) -> Plan | None:
    if data is None:
        return None
    return Plan(
        title=data["title"],
        why=data.get("why", ""),
        edits=tuple(FileEdit(edit["path"], edit["before"], edit["after"]) for edit in data.get("edits", ())),
        calls=tuple(data.get("calls", ())),
        risk=data.get("risk", ""),
        proof=data.get("proof", ""),
        refusal=data.get("refusal", ""),
        costs=data.get("costs", {}),
        patience_s=data.get("patience_s", 0),
        report=data.get("report", {}),
    )


def outcome_to_json(outcome: Outcome | None) -> Json | None:
    if outcome is None:
        return None
    return {
        "conclusion": outcome.conclusion.value,
        "title": outcome.title,
        "summary": outcome.summary,
        "data": dict(outcome.data),
    }


def outcome_from_json(data: Mapping[str, Any] | None) -> Outcome | None:
    if data is None:
        return None
    return Outcome(
        conclusion=Conclusion(data["conclusion"]),
        title=data["title"],
        summary=data.get("summary", ""),
        data=data.get("data", {}),
    )
