"""Incidents, and what people decide on them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.exceptions import HTTPException

from app.db.reads import IncidentDetail, IncidentLine, Reads
from app.domain.incident import State
from app.domain.search import Trouble, parse
from app.healing.steer import Answer, Steered, steer
from app.web.acts import actor_of
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import (
    Cursor,
    DecidesIncident,
    Limit,
    Lists,
    Number,
    Page,
    SeesIncident,
    Sent,
    Told,
    cursor_of,
    number_of,
)
from app.web.dashboard.frame import Desk

TAG = "incidents"
Decision = Literal["approve", "reject", "retry", "undo", "mute", "unmute"]


class Incident(Told):
    """`heal_s` is the time from opening to proof, null unless it is healed."""

    id: int
    state: State
    summary: str
    kind: str
    severity: str
    repository: str
    branch: str
    workflow_path: str
    head_sha: str
    run_id: int
    attempt: int
    run_url: str
    pull_number: int | None
    issue_number: int | None
    opened_at: datetime
    updated_at: datetime
    healed_at: datetime | None
    heal_s: float | None


class TimelineEntry(Told):
    """One thing that happened; what `data` holds depends on `kind`."""

    id: int
    at: datetime
    kind: str
    data: dict[str, Any]


class EvidenceLine(Told):
    """A line of the log; `root`: it names the cause."""

    number: int
    text: str
    step: str
    root: bool


class IncidentInFull(Incident):
    """`version` is the newest entry of its timeline: send it with a decision, and nobody is overruled by accident."""

    detector: str
    confidence: float
    subject: str
    fingerprint: str
    facts: dict[str, Any]
    evidence: list[EvidenceLine]
    ladder: list[str]
    timeline: list[TimelineEntry]
    version: int


class Decide(Sent):
    """`version` is that of the incident when it was looked at; null to decide whatever has happened since."""

    reason: Annotated[str, Field(max_length=500)] = ""
    version: Annotated[int, Field(ge=0, lt=10**18)] | None = None


class Decided(Told):
    """`answer` is `done`, or `second` where the yes of another person is needed, too."""

    answer: Answer
    message: str


WRONG = {
    Trouble.UNKNOWN: "there is no such qualifier",
    Trouble.EMPTY: "a value is missing",
    Trouble.STATUS: "there is no such status",
    Trouble.SINCE: "say 7d, 12h or a day such as 2026-11-01, once",
    Trouble.QUOTE: "the quotation mark is not closed",
    Trouble.MANY: "that is more than is looked for at once",
}
_STATUS = {
    Answer.TOO_LATE: 409,
    Answer.IMPOSSIBLE: 409,
    Answer.PAUSED: 409,
    Answer.FORBIDDEN: 403,
    Answer.NOT_NOW: 503,
    Answer.UNKNOWN: 404,
}


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:  # noqa: ARG001
    reads = Reads(desk.engine)

    @router.get("/incidents")
    def list_incidents(
        visit: Lists,
        q: Annotated[str, Query(max_length=500, description="as in the dashboard's search")] = "",
        cursor: Cursor = "",
        limit: Limit = 50,
    ) -> Page[Incident]:
        search = parse(q)
        if search.problems:
            raise HTTPException(422, "; ".join(f"{each.text}: {WRONG[each.trouble]}" for each in search.problems))
        found = reads.incidents(visit.sight, (), search, number_of(cursor), limit)
        return Page(items=[incident_of(line) for line in found.lines], next=cursor_of(found.older))

    @router.get("/approvals")
    def list_approvals(visit: Lists, cursor: Cursor = "", limit: Limit = 50) -> Page[Incident]:
        """What waits for somebody's decision, newest first."""
        found = reads.incidents(visit.sight, (State.AWAITING_APPROVAL,), "", number_of(cursor), limit)
        return Page(items=[incident_of(line) for line in found.lines], next=cursor_of(found.older))

    @router.get("/incidents/{incident}")
    def get_incident(visit: SeesIncident, incident: Number) -> IncidentInFull:  # noqa: ARG001
        detail = reads.incident(incident)
        if detail is None:
            raise HTTPException(404)
        return in_full(detail)

    @router.post("/incidents/{incident}/{decision}")
    def decide_on_incident(visit: DecidesIncident, incident: Number, decision: Decision, sent: Decide) -> Decided:
        """Approve, reject, try again, take back, or never repair this cause here again."""
        steered = steer(desk.kit, incident, decision, actor_of(visit), reason=sent.reason, expected=sent.version)
        return answered(steered)


def answered(steered: Steered) -> Decided:
    """Raises HTTPException for what was not done."""
    if not steered.done:
        headers = {"Retry-After": "60"} if steered.answer is Answer.NOT_NOW else None
        raise HTTPException(_STATUS[steered.answer], steered.message, headers)
    return Decided(answer=steered.answer, message=steered.message)


def incident_of(line: IncidentLine) -> Incident:
    return Incident.model_validate(line)


def in_full(detail: IncidentDetail) -> IncidentInFull:
    finding = detail.finding
    return IncidentInFull(
        **incident_of(detail.line).model_dump(),
        detector=finding.detector,
        confidence=finding.confidence,
        subject=finding.subject,
        fingerprint=detail.fingerprint,
        facts=dict(finding.facts),
        evidence=[EvidenceLine.model_validate(line) for line in finding.lines],
        ladder=[remedy.action for remedy in finding.ladder],
        timeline=[TimelineEntry.model_validate(entry) for entry in detail.timeline],
        version=detail.timeline[-1].id if detail.timeline else 0,
    )
