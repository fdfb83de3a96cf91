"""Whether it works, and who did what."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from app.db.reads.audit import Asked, AuditReads
from app.db.reads.insights import InsightReads
from app.domain.access import Role
from app.domain.insight import Measure as Measured
from app.domain.insight import Spread, saved_minutes
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import Cursor, Limit, Lists, Page, Told, cursor_of, number_of
from app.web.dashboard.frame import Desk

TAG = "insights"
Word = Annotated[str, Query(max_length=100)]


class Measure(Told):
    """`proven_interval` is Wilson's, 95 %. `minutes_saved_estimate` is an estimate, by the formula of
    docs/explanation/insights.md; null where what it needs is not known."""

    name: str
    opened: int
    healed: int
    heal_median_s: float | None
    heal_p90_s: float | None
    tried: int
    proven: int
    proven_rate: float | None
    proven_interval: tuple[float, float] | None
    merged: int
    closed_unmerged: int
    minutes_saved_estimate: float | None
    gpu_minutes_used: float | None


class Insights(Told):
    days: int
    total: Measure
    by_repository: list[Measure]
    by_cause: list[Measure]
    by_action: list[Measure]
    by_step: list[Measure]


class Act(Told):
    """`chain` is the SHA-256 of the entry before and of this one: whoever changes one breaks all that follow."""

    id: int
    at: datetime
    actor: str
    via: str
    verb: str
    what: str
    number: str
    data: dict[str, Any]
    chain: str


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:  # noqa: ARG001
    reads, acts = InsightReads(desk.engine), AuditReads(desk.engine)

    @router.get("/insights")
    def get_insights(visit: Lists, days: Literal["7", "30", "90"] = "30") -> Insights:
        """Over the last days, in all and by repository, cause, action and step of time."""
        found = reads.insights(visit.sight, int(days))

        def grouped(groups: Sequence[tuple[str, Measured]]) -> list[Measure]:
            return [measure_of(name, measure, found.recovered) for name, measure in groups]

        return Insights(
            days=found.days,
            total=measure_of("", found.total, found.recovered),
            by_repository=grouped(found.repositories),
            by_cause=grouped(found.causes),
            by_action=grouped(found.actions),
            by_step=grouped([(at.isoformat(), measure) for at, measure in found.steps]),
        )

    @router.get("/audit")
    def list_acts(
        visit: Lists,
        who: Word = "",
        verb: Word = "",
        what: Word = "",
        since: AwareDatetime | None = None,
        cursor: Cursor = "",
        limit: Limit = 50,
    ) -> Page[Act]:
        """One's own acts, and those in what one administers; newest first."""
        admin = visit.identity is not None and visit.identity.most.covers(Role.ADMIN)
        asked = Asked(who, verb, what, since)
        found = acts.acts(visit.sight, asked, number_of(cursor), limit, admin=admin)
        return Page(items=[Act.model_validate(each) for each in found.lines], next=cursor_of(found.older))


def measure_of(name: str, measure: Measured, recovered: Spread) -> Measure:
    return Measure(
        name=name,
        opened=measure.opened,
        healed=measure.healed.count,
        heal_median_s=measure.healed.median_s,
        heal_p90_s=measure.healed.p90_s,
        tried=measure.tried,
        proven=measure.proven,
        proven_rate=measure.proofs.rate,
        proven_interval=measure.proofs.interval,
        merged=measure.merged,
        closed_unmerged=measure.closed,
        minutes_saved_estimate=saved_minutes(measure.healed, recovered),
        gpu_minutes_used=measure.gpu_minutes,
    )
