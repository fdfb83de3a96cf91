"""The list of incidents: what broke, what was done, what waits, and whether it worked."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from starlette.responses import RedirectResponse, Response

from app.db.reads import IncidentPage, Reads, Tally
from app.db.reads.sought import LOOKED_AT
from app.db.views import NAME_LENGTH, Views
from app.domain.incident import State
from app.domain.number import row_number
from app.domain.search import Problem, Qualifier, Search, Trouble, parse
from app.web.dashboard.bulk import bulk_routes
from app.web.dashboard.export import Columns, export, wanted
from app.web.dashboard.frame import Desk
from app.web.guard import LISTS, PERSON, Guarded, Visit, page

TABS: Mapping[str, frozenset[State]] = {
    "needs_approval": frozenset({State.AWAITING_APPROVAL}),
    "repairing": frozenset({State.OPEN, State.REPAIRING, State.VERIFYING}),
    "healed": frozenset({State.HEALED}),
    "escalated": frozenset({State.ESCALATED}),
    "observed": frozenset({State.OBSERVED}),
    "all": frozenset(),
}
QUERY_LENGTH = 300

COLUMNS: Columns = {
    "id": lambda line: line.id,
    "state": lambda line: line.state.value,
    "repository": lambda line: line.repository,
    "branch": lambda line: line.branch,
    "kind": lambda line: line.kind,
    "detector": lambda line: line.detector,
    "severity": lambda line: line.severity,
    "summary": lambda line: line.summary,
    "commit": lambda line: line.head_sha,
    "run_url": lambda line: line.run_url,
    "pull": lambda line: line.pull_number,
    "issue": lambda line: line.issue_number,
    "opened_at": lambda line: line.opened_at,
    "updated_at": lambda line: line.updated_at,
    "healed_at": lambda line: line.healed_at,
    "heal_s": lambda line: line.heal_s,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What the address asks for. `text` is the search as it was typed."""

    tab: str
    text: str
    search: Search

    @classmethod
    def of(cls, visit: Visit, query: Mapping[str, str]) -> "Filter":
        tab = query.get("state", "all")
        text = query.get("q", "")[:QUERY_LENGTH].strip()
        return cls(tab if tab in TABS else "all", text, parse(text, visit.words.zone))

    @property
    def states(self) -> frozenset[State]:
        return TABS[self.tab]

    def query(self) -> dict[str, str]:
        told = {"state": "" if self.tab == "all" else self.tab, "q": self.text}
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class Count:
    """`least`: there may be more."""

    number: int
    least: bool


@dataclass(frozen=True, slots=True)
class Span:
    """Which of all that match a page shows, from 1 on; `total` None where nobody has counted so many."""

    first: int
    last: int
    total: int | None


def routes(desk: Desk) -> list[Guarded]:
    reads, views = Reads(desk.engine), Views(desk.engine)

    def incidents(visit: Visit) -> Response:
        asked = Filter.of(visit, visit.query)
        if (form := wanted(visit.query)) and not asked.search.problems:
            rows = reads.every_incident(visit.sight, asked.states, asked.search)
            return export(form, "incidents", COLUMNS, rows)
        before, after = row_number(visit.query.get("before", "")), row_number(visit.query.get("after", ""))
        shown = reads.incidents(visit.sight, asked.states, asked.search, before, after=after)
        tabs = counts(reads.tally(visit.sight, asked.search))
        return desk.frame.render(
            visit,
            "incidents.html",
            page=shown,
            asked=asked,
            tabs=tabs,
            span=span(shown, tabs[asked.tab]),
            paged=before is not None or after is not None,
            looked_at=LOOKED_AT,
            problems=[said(visit, problem) for problem in asked.search.problems],
            views=views.of(visit.account.id) if visit.account else [],
        )

    def saved(visit: Visit) -> Response:
        return desk.frame.render(visit, "incidents_views.html", views=views.of(_person(visit)))

    def save(visit: Visit) -> Response:
        kept = Filter.of(visit, dict(parse_qsl(visit.field("query")))).query()
        name = visit.field("name", NAME_LENGTH)
        here = f"/?{urlencode(kept)}" if kept else "/"
        if not name:
            return desk.frame.back(visit, here, told=visit.t("A view needs a name. Nothing was saved."))
        if not views.keep(_person(visit), name, urlencode(kept)):
            return desk.frame.back(visit, "/views", told=visit.t("You have too many views. Delete some first."))
        return desk.frame.back(visit, here, told=visit.t("Saved as %(name)s.", name=name))

    def rename(visit: Visit) -> Response:
        number, name = row_number(str(visit.path["view"])), visit.field("name", NAME_LENGTH)
        if not name or number is None or not views.rename(_person(visit), number, name):
            told = visit.t("It was not renamed: it needs a name that no other view of yours has.")
        else:
            told = visit.t("Renamed to %(name)s.", name=name)
        return desk.frame.back(visit, "/views", told=told)

    def forget(visit: Visit) -> Response:
        number = row_number(str(visit.path["view"]))
        gone = number is not None and views.forget(_person(visit), number)
        told = visit.t("The view was deleted.") if gone else visit.t("There is no such view any more.")
        return desk.frame.back(visit, "/views", told=told)

    def list_of_incidents(_: Visit) -> Response:
        return RedirectResponse("/", 303)

    return [
        page("/", incidents, LISTS),
        page("/incidents", list_of_incidents, LISTS),
        *bulk_routes(desk, reads, lambda visit: Filter.of(visit, visit.query)),
        page("/views", saved, PERSON),
        page("/views", save, PERSON, methods=("POST",), name="save_view"),
        page("/views/{view}/rename", rename, PERSON, methods=("POST",), name="rename_view"),
        page("/views/{view}/delete", forget, PERSON, methods=("POST",), name="delete_view"),
    ]


def counts(tally: Tally) -> dict[str, Count]:
    """For each tab."""
    found = {}
    for name, states in TABS.items():
        each = states or frozenset(State)
        found[name] = Count(sum(tally.counts.get(state, 0) for state in each), not each.isdisjoint(tally.least))
    return found


def span(shown: IncidentPage, count: Count) -> Span | None:
    """None where it is not known how many are ahead."""
    if shown.ahead is None or not shown.lines or shown.further:
        return None
    last = shown.ahead + len(shown.lines)
    return Span(shown.ahead + 1, last, None if count.least or count.number < last else count.number)


def said(visit: Visit, problem: Problem) -> str:
    """What is wrong with a search, and what to do."""
    text = problem.text
    match problem.trouble:
        case Trouble.UNKNOWN:
            known = " ".join(f"{qualifier}:" for qualifier in Qualifier)
            return visit.t(
                "There is no %(text)s here. What there is: %(known)s. To look for the text itself, put it in quotes.",
                text=text,
                known=known,
            )
        case Trouble.EMPTY:
            return visit.t("%(text)s needs a value right after the colon.", text=text)
        case Trouble.STATUS:
            known = ", ".join(State)
            return visit.t("%(text)s is no state of an incident. There are: %(known)s.", text=text, known=known)
        case Trouble.SINCE:
            return visit.t(
                "%(text)s is not understood. Give one span of time such as since:12h or since:7d, or one day such as"
                " since:2026-11-01.",
                text=text,
            )
        case Trouble.QUOTE:
            return visit.t("A quotation mark is never closed: %(text)s", text=text)
        case Trouble.MANY:
            return visit.t("These are too many terms or values at once.")


def _person(visit: Visit) -> int:
    assert visit.account is not None
    return visit.account.id
