"""What waits for a person, worked by keyboard."""

from dataclasses import dataclass
from datetime import datetime

from starlette.responses import Response

from app.db.reads import Question, Reads
from app.domain.finding import EvidenceLine
from app.domain.number import row_number
from app.healing.expire import expires_at
from app.security.masking import mask
from app.web.dashboard.bulk import roles
from app.web.dashboard.frame import Desk
from app.web.guard import LISTS, Guarded, Visit, page


@dataclass(frozen=True, slots=True)
class Shown:
    """A question as one reader sees it. `allowed`: they may decide; `said`: they have said yes already."""

    question: Question
    expires_at: datetime
    diff: str
    root: EvidenceLine | None
    allowed: bool
    said: bool


def routes(desk: Desk) -> list[Guarded]:
    reads = Reads(desk.engine)

    def approvals(visit: Visit) -> Response:
        after = row_number(visit.query.get("after", ""))
        found = reads.questions(visit.sight, after)
        may = roles(visit.request)
        shown = [_shown(visit, question, may(visit, question.line)) for question in found.questions]
        return desk.frame.render(visit, "approvals.html", page=found, shown=shown, paged=after is not None)

    return [page("/approvals", approvals, LISTS)]


def _shown(visit: Visit, question: Question, allowed: bool) -> Shown:
    plan = question.repair.plan if question.repair else None
    lines = question.finding.lines
    return Shown(
        question=question,
        expires_at=expires_at(question.asked_at, question.data),
        diff=mask(plan.diff()) if plan else "",
        root=next((line for line in lines if line.root), None),
        allowed=allowed,
        said=visit.account is not None and visit.account.login.lower() in question.said_yes,
    )
