"""One incident, from the delivery to the proof."""

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from app.db.reads import Reads
from app.domain.interval import DRAWN as REPORTS
from app.web.dashboard.drift import DRAWN, drift_of
from app.web.dashboard.frame import Desk
from app.web.dashboard.gate import drawing_of
from app.web.dashboard.security import SECURITY_HEADERS
from app.web.guard import Guarded, Of, Rule, Visit, page

SEEN = Rule(Of.INCIDENT)


def routes(desk: Desk) -> list[Guarded]:
    reads = Reads(desk.engine)

    def incident(visit: Visit) -> Response:
        number = visit.number("incident")
        detail = reads.incident(number)
        if detail is None:
            raise HTTPException(404)
        gated = reads.report(number, REPORTS) is not None
        line, finding = detail.line, detail.finding
        return desk.frame.render(visit, "incident.html", detail=detail, line=line, finding=finding, gated=gated)

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
        return desk.frame.render(visit, "gate.html", report=report, number=number, drawing=drawing_of(report))

    return [
        page("/incidents/{incident}", incident, SEEN),
        page("/incidents/{incident}/data", data, SEEN),
        page("/incidents/{incident}/gate", gate, SEEN),
    ]
