"""Whether it works: time to heal, proven heals, pull requests that were closed unmerged, time saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from starlette.responses import Response

from app.db.reads.insights import BOUNDS_S, InsightReads, Insights
from app.domain.insight import LEAST_RECOVERED, Measure, Spread, saved_minutes
from app.web.dashboard.export import Columns, export, wanted
from app.web.dashboard.frame import Desk
from app.web.dashboard.plots import Curve, Plot, bars, lines
from app.web.guard import LISTS, Guarded, Visit, page

DAYS = (7, 30, 90)
SHOWN = 20  # of each table; the export has all
GROUPS = ("repository", "cause", "action", "step")


@dataclass(frozen=True, slots=True)
class Group:
    """A line of a table. `saved` are minutes, None where they are not known."""

    name: str
    measure: Measure
    saved: float | None


@dataclass(frozen=True, slots=True)
class Plots:
    durations: Plot | None
    opened: Plot | None
    heal: Plot | None
    proofs: Plot | None


COLUMNS: Columns = {
    "group": lambda group: group.name,
    "opened": lambda group: group.measure.opened,
    "healed": lambda group: group.measure.healed.count,
    "heal_median_s": lambda group: group.measure.healed.median_s,
    "heal_p90_s": lambda group: group.measure.healed.p90_s,
    "proven": lambda group: group.measure.proven,
    "tried": lambda group: group.measure.tried,
    "proven_rate": lambda group: group.measure.proofs.rate,
    "proven_rate_low": lambda group: (group.measure.proofs.interval or (None,))[0],
    "proven_rate_high": lambda group: (group.measure.proofs.interval or (None,))[-1],
    "merged": lambda group: group.measure.merged,
    "closed_unmerged": lambda group: group.measure.closed,
    "minutes_saved_estimate": lambda group: group.saved,
    "gpu_minutes_used": lambda group: group.measure.gpu_minutes,
}


def routes(desk: Desk) -> list[Guarded]:
    reads = InsightReads(desk.engine)

    def insights(visit: Visit) -> Response:
        days = next((each for each in DAYS if str(each) == visit.query.get("days", "")), 30)
        found = reads.insights(visit.sight, days)
        groups = {
            "repository": grouped(found.repositories, found.recovered),
            "cause": grouped(found.causes, found.recovered),
            "action": grouped(found.actions, found.recovered),
        }
        if form := wanted(visit.query):
            by = visit.query.get("by", "")
            rows = {**groups, "step": stepped(found)}[by if by in GROUPS else "repository"]
            return export(form, f"insights-{by if by in GROUPS else 'repository'}", COLUMNS, rows)
        return desk.frame.render(
            visit,
            "insights.html",
            found=found,
            total=found.total,
            saved=saved_minutes(found.total.healed, found.recovered),
            groups={by: rows[:SHOWN] for by, rows in groups.items()},
            left_out={by: max(0, len(rows) - SHOWN) for by, rows in groups.items()},
            plots=plots_of(visit, found),
            days=days,
            ranges=DAYS,
            least=LEAST_RECOVERED,
        )

    return [page("/insights", insights, LISTS)]


def grouped(groups: Sequence[tuple[str, Measure]], recovered: Spread) -> list[Group]:
    return [Group(name, measure, saved_minutes(measure.healed, recovered)) for name, measure in groups]


def stepped(found: Insights) -> list[Group]:
    told = found.steps
    return [Group(at.isoformat(), measure, saved_minutes(measure.healed, found.recovered)) for at, measure in told]


def plots_of(visit: Visit, found: Insights) -> Plots:
    words = visit.words
    steps, counted = found.steps, any(measure.opened for _, measure in found.steps)
    names = [words.date(at) for at, _ in steps]
    opened: dict[str, Sequence[float]] = {
        visit.t("Found"): [float(measure.opened) for _, measure in steps],
        visit.t("Healed of those"): [float(measure.healed.count) for _, measure in steps],
    }
    return Plots(
        durations=bars(buckets(visit), {visit.t("Incidents"): [float(n) for n in found.durations]}, words)
        if any(found.durations)
        else None,
        opened=bars(names, opened, words) if counted else None,
        heal=lines([_heal(visit, steps)], words, names=names),
        proofs=lines([_proofs(visit, steps)], words, names=names),
    )


def buckets(visit: Visit) -> list[str]:
    """The names of the bars of the picture of durations."""
    told = [visit.words.duration(bound) for bound in BOUNDS_S]
    between = [f"{low} – {high}" for low, high in pairwise(told)]
    return [f"< {told[0]}", *between, f"≥ {told[-1]}"]


def _heal(visit: Visit, steps: Sequence[tuple[datetime, Measure]]) -> Curve:
    found = [measure.healed.median_s for _, measure in steps]
    points = [(float(at), None if each is None else each / 60.0) for at, each in enumerate(found)]
    return Curve(visit.t("Median time to heal"), points)


def _proofs(visit: Visit, steps: Sequence[tuple[datetime, Measure]]) -> Curve:
    shares = [measure.proofs for _, measure in steps]
    points = [(float(at), None if each.rate is None else 100.0 * each.rate) for at, each in enumerate(shares)]
    spans = {
        float(at): (100.0 * each.interval[0], 100.0 * each.interval[1])
        for at, each in enumerate(shares)
        if each.interval is not None
    }
    return Curve(visit.t("Proven repairs"), points, spans)
