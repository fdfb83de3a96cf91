"""One decision on many incidents: on those that were chosen, or on everything that a filter finds."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from app.db.owners import Owner
from app.db.reads import IncidentLine, Reads
from app.domain.access import Role
from app.domain.incident import State
from app.domain.number import row_number
from app.domain.search import Search
from app.healing.steer import FORBIDDEN, Actor, Steered, steer
from app.web.acts import actor_of
from app.web.dashboard.frame import Desk
from app.web.guard import LISTS, Guard, Guarded, Of, Rule, Visit, page

VERBS = ("approve", "reject", "retry")
MOST = 500
LONGEST_S = 20.0  # then the rest is offered again: no page is waited for longer
DECIDES = Rule(Of.LISTS, Role.OPERATOR)


class Asked(Protocol):
    """What a filter asks for."""

    @property
    def states(self) -> frozenset[State]: ...
    @property
    def search(self) -> Search: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """An incident that was chosen, and the newest entry of its timeline when it was shown."""

    line: IncidentLine
    newest: int
    allowed: bool


@dataclass(frozen=True, slots=True)
class Ended:
    line: IncidentLine
    steered: Steered


def bulk_routes(desk: Desk, reads: Reads, filter_of: Callable[[Visit], Asked]) -> list[Guarded]:
    def confirm(visit: Visit) -> Response:
        verb = visit.query.get("verb", "")
        verb = verb if verb in VERBS else ""
        everything = visit.query.get("all") == "1"
        asked = filter_of(visit)
        numbers = dict.fromkeys(_numbers(visit.request.query_params.getlist("id")), 0)
        if everything:
            found = islice(reads.every_incident(visit.sight, asked.states, asked.search), MOST + 1)
            numbers = {line.id: 0 for line in found}
        more = len(numbers) > MOST
        choices = chosen(visit, reads, list(numbers)[:MOST])
        return desk.frame.render(
            visit,
            "incidents_bulk.html",
            verb=verb,
            more=more,
            most=MOST,
            allowed=[choice for choice in choices if choice.allowed],
            refused=[choice for choice in choices if not choice.allowed],
        )

    def decide(visit: Visit) -> Response:
        verb = visit.field("verb")
        reason = visit.field("reason", 500)
        told = _numbers(value for value in visit.form.getlist("id") if isinstance(value, str))
        choices = chosen(visit, reads, list(told)[:MOST]) if verb in VERBS else []
        ended: list[Ended] = []
        ends_at = time.monotonic() + LONGEST_S
        who = actor_of(visit)
        while choices and time.monotonic() < ends_at:
            choice = choices.pop(0)
            ended.append(Ended(choice.line, _one(desk, choice, verb, who, reason, told[choice.line.id])))
        return desk.frame.render(
            visit, "incidents_done.html", verb=verb, reason=reason, ended=ended, left=choices, told_of=told
        )

    return [
        page("/incidents/bulk", confirm, LISTS, name="confirm_bulk"),
        page("/incidents/bulk", decide, DECIDES, methods=("POST",), name="bulk"),
    ]


def _one(desk: Desk, choice: Choice, verb: str, who: Actor, reason: str, seen: int) -> Steered:
    if not choice.allowed:
        return FORBIDDEN
    return steer(desk.kit, choice.line.id, verb, who, reason=reason, expected=seen or None)


def chosen(visit: Visit, reads: Reads, numbers: Iterable[int]) -> list[Choice]:
    """Of these incidents those that may be seen, each with whether they may decide on it."""
    may = roles(visit.request)
    return [
        Choice(line, newest, allowed=may(visit, line))
        for line, newest in (reads.numbered(visit.sight, set(numbers)) if numbers else [])
    ]


def roles(request: Request) -> Callable[[Visit, IncidentLine], bool]:
    """Whether they are an operator where an incident is; each repository is asked for once."""
    guard: Guard = request.app.state.guard
    known: dict[int, bool] = {}

    def may(visit: Visit, line: IncidentLine) -> bool:
        if line.repository_id not in known:
            owner = Owner(line.installation_id, line.repository_id)
            role = guard.role(visit.identity, owner) if visit.identity else None
            known[line.repository_id] = role is not None and role.covers(Role.OPERATOR)
        return known[line.repository_id]

    return may


def _numbers(texts: Iterable[str]) -> dict[int, int]:
    """`12` or `12@345`: the incident, and the newest entry of its timeline that they have seen (0: none)."""
    found = {}
    for text in texts:
        incident, _, newest = text.partition("@")
        number, seen = row_number(incident), row_number(newest or "0")
        if number is not None and seen is not None:
            found[number] = seen
    return found
