"""The whole log of the job behind an incident, with the lines that show the cause."""

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from app.db.reads import IncidentDetail, Reads
from app.db.reads.decisions import DecisionReads
from app.domain.evidence import Job
from app.domain.number import row_number
from app.domain.tenant import Repository
from app.web.dashboard.frame import Desk
from app.web.dashboard.security import SECURITY_HEADERS
from app.web.guard import Guarded, Of, Rule, Visit, page
from app.web.joblog import LONGEST_QUERY, PAGE, JobLogs, Log, Matches, Missing, NoLog, job_of

SEEN = Rule(Of.INCIDENT)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for: a job by its number, a search and which of its matches, or from which line on, or
    around which line."""

    job: int | None
    query: str
    hit: int | None
    first: int | None
    line: int | None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Asked":
        job, *rest = (row_number(query.get(name, "")) or None for name in ("job", "hit", "from", "line"))
        return cls(job, query.get("q", "").strip()[:LONGEST_QUERY], *rest)


@dataclass(frozen=True, slots=True)
class View:
    """Which lines are shown, and where one can go from here. `hit` counts from 1; `at` is the line to look at."""

    first: int
    last: int
    total: int
    previous: int | None
    following: int | None
    at: int | None
    matches: Matches
    hit: int | None

    @property
    def number_of_matches(self) -> int:
        return len(self.matches.numbers)

    def match(self, hit: int) -> int:
        return self.matches.numbers[hit - 1]


def routes(desk: Desk) -> list[Guarded]:
    reads, decisions, logs = Reads(desk.engine), DecisionReads(desk.engine), JobLogs(desk.kit)

    def place(visit: Visit) -> tuple[IncidentDetail, Repository]:
        detail = reads.incident(visit.number("incident"))
        if detail is None or not (detail.line.run_id and detail.finding.job):
            raise HTTPException(404)
        repository = decisions.repository(detail.line.repository_id)
        if repository is None:
            raise NoLog(Missing.NOT_INSTALLED)
        return detail, repository

    def fetched(visit: Visit, chosen: int | None) -> tuple[IncidentDetail, tuple[Job, ...], Log]:
        detail, repository = place(visit)
        jobs = logs.jobs(repository, detail.line.run_id, detail.line.attempt)
        return detail, jobs, logs.log(repository, job_of(jobs, detail.finding, chosen))

    def log(visit: Visit) -> Response:
        asked = Asked.of(visit.query)
        try:
            detail, jobs, found = fetched(visit, asked.job)
        except NoLog as none:
            return gone(visit, none)
        own = found.job.name == detail.finding.job
        roots = [line.number for line in detail.finding.lines if line.root] if own else []
        view = view_of(found, asked, roots)
        failed = set(detail.finding.failed_jobs)
        return desk.frame.render(
            visit,
            "incident_log.html",
            line=detail.line,
            finding=detail.finding,
            log=found,
            asked=asked,
            view=view,
            folds=found.folds(view.first, asked.query),
            evidence={each.number: each.root for each in detail.finding.lines} if own else {},
            root=roots[0] if roots else None,
            jobs=[job for job in jobs if job.name in failed or job.id == found.job.id],
            own=own,
            link=lambda **to: link(found.job, own, **to),
            per_page=PAGE,
        )

    def gone(visit: Visit, none: NoLog) -> Response:
        detail = reads.incident(visit.number("incident"))
        if detail is None:
            raise HTTPException(404)
        kept = detail.finding
        return desk.frame.render(visit, "incident_log_gone.html", line=detail.line, finding=kept, why=none.why)

    def download(visit: Visit) -> Response:
        try:
            _, _, found = fetched(visit, Asked.of(visit.query).job)
        except NoLog as none:
            away = none.why in (Missing.AWAY, Missing.BUSY)
            headers = {"Retry-After": "60"} if away else None
            raise HTTPException(503 if away else 404, visit.t("There is no log to download."), headers) from None
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", found.job.name).strip("-.")[:80] or "job"
        told = {"Content-Disposition": f'attachment; filename="incident-{visit.number("incident")}-{name}.txt"'}
        headers = {**SECURITY_HEADERS, **told, "Cache-Control": "no-store"}
        return StreamingResponse(found.text(), media_type="text/plain; charset=utf-8", headers=headers)

    return [
        page("/incidents/{incident}/log", log, SEEN),
        page("/incidents/{incident}/log.txt", download, SEEN, name="download_log"),
    ]


def view_of(log: Log, asked: Asked, roots: list[int]) -> View:
    """The page that shows what was asked for; without a wish, the first error stands in its middle."""
    matches = log.search(asked.query) if asked.query else Matches(())
    hit = None
    at = asked.line
    if matches.numbers:
        hit = min(max(1, asked.hit or 1), len(matches.numbers))
        if asked.hit is None and (asked.first or asked.line):
            after = bisect_left(matches.numbers, asked.first or asked.line or 1) + 1
            hit = min(after, len(matches.numbers))
        elif asked.first is None:
            at = matches.numbers[hit - 1]
    if at is None:
        at = next(iter(roots), None) or log.first_error
    if at is not None:
        at = min(at, max(1, log.total))
    first = asked.first if asked.first is not None else max(1, (at or 1) - PAGE // 2)
    first = min(max(1, first), max(1, log.total))
    last = min(log.total, first + PAGE - 1)
    return View(
        first=first,
        last=last,
        total=log.total,
        previous=max(1, first - PAGE) if first > 1 else None,
        following=last + 1 if last < log.total else None,
        at=at,
        matches=matches,
        hit=hit,
    )


def link(job: Job, own: bool, **to: object) -> str:
    """The query of another place in the same log, with the line to go to as `line` or `at`."""
    at = to.pop("at", None) or to.get("line")
    words = {name: value for name, value in to.items() if value}
    if not own:
        words["job"] = job.id
    query = f"?{urlencode(words)}" if words else ""
    return f"{query}#L{at}" if at else query
