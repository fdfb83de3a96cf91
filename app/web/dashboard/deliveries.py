"""Every delivery, its verdict, and sending it through again."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson
import zstandard
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.db.aside import again
from app.db.reads import Reads
from app.db.reads.deliveries import DeliveryLine
from app.domain.access import Role, Sight
from app.domain.delivery import DeliveryState
from app.domain.number import row_number
from app.ports.queue import Work
from app.security.markdown import clean
from app.security.masking import MASK, mask
from app.web.acts import act_of
from app.web.dashboard.export import Columns, export, wanted
from app.web.dashboard.frame import Desk
from app.web.guard import LISTS, Guarded, Of, Rule, Visit, page

SEEN, REPLAYS = Rule(Of.DELIVERY), Rule(Of.DELIVERY, Role.OPERATOR)
MOST_BODY, MOST_LINES = 2 * 1024 * 1024, 2_000
LENGTH = 200
EXPORTED = 500  # rows of one query
_SECRET_HEADERS = ("authorization", "cookie", "signature", "token", "secret")

COLUMNS: Columns = {
    "id": lambda line: line.id,
    "guid": lambda line: line.guid,
    "source": lambda line: line.source,
    "event": lambda line: line.event,
    "action": lambda line: line.action,
    "repository": lambda line: line.repository,
    "state": lambda line: line.state.value,
    "reason": lambda line: line.reason,
    "error": lambda line: line.last_error,
    "attempts": lambda line: line.attempts,
    "received_at": lambda line: line.received_at,
    "finished_at": lambda line: line.finished_at,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What the address asks for. `state` is None for all."""

    state: DeliveryState | None
    repository: str
    event: str
    source: str

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Filter":
        state = query.get("state", "")
        known = DeliveryState(state) if state in set(DeliveryState) else None
        return cls(known, *(query.get(name, "").strip()[:LENGTH] for name in ("repository", "event", "source")))

    def query(self) -> dict[str, str]:
        told = {"repository": self.repository, "event": self.event, "source": self.source}
        return {"state": self.state.value if self.state else "", **told}


@dataclass(frozen=True, slots=True)
class Body:
    """Lines of a body as it may be shown. `cut`: there are more; `too_large`: none are shown."""

    lines: tuple[str, ...]
    cut: bool = False
    too_large: bool = False


def routes(desk: Desk) -> list[Guarded]:
    reads = Reads(desk.engine)

    def deliveries(visit: Visit) -> Response:
        asked = Filter.of(visit.query)
        if form := wanted(visit.query):
            return export(form, "deliveries", COLUMNS, every(reads, visit.sight, asked))
        before = row_number(visit.query.get("before", ""))
        shown = reads.deliveries(
            visit.sight, asked.state, asked.repository, before, event=asked.event, source=asked.source
        )
        states, paged = list(DeliveryState), before is not None
        return desk.frame.render(visit, "deliveries.html", page=shown, asked=asked, states=states, paged=paged)

    def delivery(visit: Visit) -> Response:
        number = visit.number("delivery")
        found = reads.delivery_numbered(number)
        if found is None or (found.repository_id is None and not visit.sight.everything):
            raise HTTPException(404)
        operates = visit.may(Role.OPERATOR)
        body = body_of(reads, number) if operates and found.kept else None
        return desk.frame.render(
            visit,
            "delivery.html",
            detail=found,
            line=found.line,
            followed=reads.followed(visit.sight, found),
            sent=headers_of(found.headers) if operates else {},
            body=body,
            operates=operates,
            replayable=operates and found.kept and found.line.state is not DeliveryState.READY,
        )

    def replay(visit: Visit) -> Response:
        number = visit.number("delivery")
        found = reads.delivery_numbered(number)
        if found is None or (found.repository_id is None and not visit.sight.everything):
            raise HTTPException(404)
        act = act_of(visit, "replay", "delivery", number, guid=found.line.guid, event=found.line.event)
        if not again(desk.kit.store, desk.engine, Work.DELIVERY, number, act):
            raise HTTPException(409, visit.t("It is under way already, or its body is not kept any more."))
        return desk.frame.back(visit, f"/deliveries/{number}", told=visit.t("The delivery is worked off again."))

    return [
        page("/deliveries", deliveries, LISTS),
        page("/deliveries/{delivery}", delivery, SEEN),
        page("/deliveries/{delivery}/replay", replay, REPLAYS, methods=("POST",), name="replay"),
    ]


def every(reads: Reads, sight: Sight, asked: Filter) -> Iterator[DeliveryLine]:
    """All that match, page after page."""
    before: int | None = None
    while True:
        part = reads.deliveries(
            sight, asked.state, asked.repository, before, EXPORTED, event=asked.event, source=asked.source
        )
        yield from part.lines
        if part.older is None:
            return
        before = part.older


def headers_of(headers: Mapping[str, object]) -> dict[str, str]:
    """What was sent beside the body, without what only the two ends need to know."""
    return {
        name: MASK if any(word in name.lower() for word in _SECRET_HEADERS) else mask(clean(str(value)))
        for name, value in headers.items()
    }


def body_of(reads: Reads, number: int) -> Body:
    try:
        return shown(reads.delivery_body(number))
    except zstandard.ZstdError:
        return Body(())


def shown(body: bytes) -> Body:
    """A body for people: JSON laid out, everything else as text, and no secret that can be told."""
    if len(body) > MOST_BODY:
        return Body((), too_large=True)
    try:
        text = json.dumps(orjson.loads(body), indent=2, ensure_ascii=False)
    except orjson.JSONDecodeError:
        text = body.decode(errors="replace")
    lines = mask(clean(text)).split("\n")
    return Body(tuple(lines[:MOST_LINES]), cut=len(lines) > MOST_LINES)
