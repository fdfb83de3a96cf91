"""One incident, from the delivery to the proof, and what people decide about it."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from app.db.reads import IncidentDetail, Reads
from app.db.reads.decisions import DecisionReads, Standing
from app.domain.access import Role
from app.domain.finding import Finding
from app.domain.interval import DRAWN as REPORTS
from app.domain.number import row_number
from app.domain.repair import Repair
from app.healing.steer import DECISIONS, Answer, Steered, steer
from app.security.masking import mask
from app.web.acts import actor_of
from app.web.choices import choices, version_of
from app.web.dashboard import log
from app.web.dashboard.drift import DRAWN, drift_of
from app.web.dashboard.frame import Desk
from app.web.dashboard.gate import drawing_of
from app.web.dashboard.security import SECURITY_HEADERS
from app.web.guard import Guarded, Of, Rule, Visit, local_path, page
from app.web.ladder import rungs

SEEN, DECIDES = Rule(Of.INCIDENT), Rule(Of.INCIDENT, Role.OPERATOR)
STATUS: Mapping[Answer, int] = {
    Answer.TOO_LATE: 409,
    Answer.IMPOSSIBLE: 409,
    Answer.PAUSED: 409,
    Answer.FORBIDDEN: 403,
    Answer.NOT_NOW: 503,
    Answer.UNKNOWN: 404,
}


def routes(desk: Desk) -> list[Guarded]:
    reads, decisions = Reads(desk.engine), DecisionReads(desk.engine)

    def found(number: int) -> tuple[IncidentDetail, Standing]:
        detail, standing = reads.incident(number), decisions.standing(number)
        if detail is None or standing is None:
            raise HTTPException(404)
        return detail, standing

    def incident(visit: Visit) -> Response:
        number = visit.number("incident")
        detail, standing = found(number)
        if visit.query.get("format") == "json":
            name = f'attachment; filename="incident-{number}.json"'
            headers = {"Content-Disposition": name, "Cache-Control": "no-store"}
            body = orjson.dumps(exported(detail, standing), option=orjson.OPT_INDENT_2)
            return Response(body, media_type="application/json", headers=headers)
        chosen = choices(standing, operates=visit.may(Role.OPERATOR), name=visit.who)
        plan = chosen.asked.plan if chosen.asked else None
        return desk.frame.render(
            visit,
            "incident.html",
            detail=detail,
            line=detail.line,
            finding=detail.finding,
            gated=reads.report(number, REPORTS) is not None,
            standing=standing,
            chosen=chosen,
            plan_diff=mask(plan.diff()) if plan else "",
            version=version_of(detail.timeline),
            rungs=rungs(standing.incident, standing.repairs, detail.timeline),
            similar=decisions.similar(visit.sight, standing.incident),
            has_log=bool(detail.line.run_id and detail.finding.job),
            first_line=root_of(detail.finding),
        )

    def decide(visit: Visit) -> Response:
        number, verb = visit.number("incident"), visit.field("verb")
        if verb not in DECISIONS:
            raise HTTPException(400, visit.t("There is no such decision."))
        expected = row_number(visit.field("expected"))
        steered = steer(desk.kit, number, verb, actor_of(visit), reason=visit.field("reason"), expected=expected)
        onwards = local_path(visit.field("onwards") or f"/incidents/{number}")
        if steered.done:
            return desk.frame.back(visit, onwards, told=told(visit, steered))
        if steered.answer is Answer.UNKNOWN:
            raise HTTPException(404)
        detail, _ = found(number)
        words = {"line": detail.line, "steered": steered, "onwards": onwards, "said": told(visit, steered)}
        headers = {"Retry-After": "60"} if steered.answer is Answer.NOT_NOW else None
        return desk.frame.render(visit, "incident_answer.html", STATUS[steered.answer], headers, **words)

    def data(visit: Visit) -> Response:
        compared = reads.compared(visit.number("incident"))
        drawn = drift_of(*compared) if compared is not None else None
        if drawn is None:
            raise HTTPException(404)
        return HTMLResponse(drawn, headers={**SECURITY_HEADERS, **DRAWN, "Cache-Control": "no-store"})

    def gate(visit: Visit) -> Response:
        number = visit.number("incident")
        report = reads.report(number, REPORTS)
        if report is None:
            raise HTTPException(404)
        return desk.frame.render(visit, "gate.html", report=report, number_of=number, drawing=drawing_of(report))

    return [
        page("/incidents/{incident}", incident, SEEN),
        page("/incidents/{incident}/decisions", decide, DECIDES, methods=("POST",), name="decide"),
        page("/incidents/{incident}/data", data, SEEN),
        page("/incidents/{incident}/gate", gate, SEEN),
        *log.routes(desk),
    ]


def root_of(finding: Finding) -> int | None:
    """The number of the line that names the cause, else of the first that was kept."""
    lines = finding.lines
    return next((line.number for line in lines if line.root), lines[0].number if lines else None)


def told(visit: Visit, steered: Steered) -> str:
    """In the visitor's language, for a place that shows no code."""
    return visit.words.catalog.retell(steered.message).replace("`", "")


def exported(detail: IncidentDetail, standing: Standing) -> dict[str, Any]:
    """All that the page knows, for programs. Times are ISO 8601."""
    line, finding = detail.line, detail.finding
    facts = {name: getattr(line, name) for name in type(line).__dataclass_fields__}
    moments = {"merged_at": detail.merged_at, "watch_until": detail.watch_until}
    return {
        **facts,
        **moments,
        "heal_s": line.heal_s,
        "fingerprint": detail.fingerprint,
        "confidence": finding.confidence,
        "subject": finding.subject,
        "job": finding.job,
        "facts": dict(finding.facts),
        "evidence": [
            {"number": each.number, "text": each.text, "step": each.step, "root": each.root} for each in finding.lines
        ],
        "ladder": [
            {
                "number": each.number,
                "action": each.action,
                "params": dict(each.params),
                "came": each.came,
                "why": each.why,
            }
            for each in rungs(standing.incident, standing.repairs, detail.timeline)
        ],
        "repairs": [_repair(each) for each in standing.repairs],
        "approvals": [{"repair": yes.repair_id, "by": yes.by, "at": yes.at} for yes in standing.said_yes],
        "timeline": [
            {
                "id": each.id,
                "at": each.at,
                "kind": each.kind,
                "data": dict(each.data),
                "delivery": each.guid,
            }
            for each in detail.timeline
        ],
        "earlier": detail.earlier,
        "version": version_of(detail.timeline),
    }


def _repair(repair: Repair) -> dict[str, Any]:
    plan, outcome = repair.plan, repair.outcome
    told = {"title": plan.title, "why": plan.why, "risk": plan.risk, "refusal": plan.refusal} if plan else {}
    return {
        "id": repair.id,
        "action": repair.remedy.action,
        "params": dict(repair.remedy.params),
        "verb": repair.verb,
        "state": repair.state,
        "approved_by": repair.approved_by,
        "plan": {**told, "calls": list(plan.calls), "diff": mask(plan.diff())} if plan else None,
        "outcome": {"conclusion": outcome.conclusion, "title": outcome.title, "summary": outcome.summary}
        if outcome
        else None,
    }
