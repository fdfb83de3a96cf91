"""The list of incidents: what broke, what was done, what waits, and whether it worked."""

from collections.abc import Mapping

from starlette.responses import Response

from app.db.reads import Reads
from app.domain.incident import State
from app.web.dashboard.frame import Desk
from app.web.guard import LISTS, Guarded, Visit, page

TABS: Mapping[str, frozenset[State]] = {
    "all": frozenset(),
    "needs_approval": frozenset({State.AWAITING_APPROVAL}),
    "repairing": frozenset({State.OPEN, State.REPAIRING, State.VERIFYING}),
    "healed": frozenset({State.HEALED}),
    "escalated": frozenset({State.ESCALATED}),
    "observed": frozenset({State.OBSERVED}),
}
QUERY_LENGTH = 200


def routes(desk: Desk) -> list[Guarded]:
    reads = Reads(desk.engine)

    def incidents(visit: Visit) -> Response:
        tab = visit.query.get("state", "all")
        tab = tab if tab in TABS else "all"
        search = visit.query.get("q", "")[:QUERY_LENGTH].strip()
        shown = reads.incidents(visit.sight, TABS[tab], search, cursor(visit.query.get("before", "")))
        counts = reads.counts(visit.sight)
        tabs = {name: sum(counts.get(state, 0) for state in states or State) for name, states in TABS.items()}
        paged = "before" in visit.query
        return desk.frame.render(visit, "incidents.html", page=shown, tab=tab, tabs=tabs, search=search, paged=paged)

    return [page("/", incidents, LISTS)]


def cursor(text: str) -> int | None:
    """The `before` of an address; None for none, and for what is no number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
