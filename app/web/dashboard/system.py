"""The bot's own health: queues, workers, database, broker, rate limits, versions, breakers."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.db.aside import again, discard, put_aside
from app.db.processes import Processes
from app.db.reads.system import SystemReads
from app.db.vitals import LATE_S
from app.domain.number import row_number
from app.healing.brake import EVERYWHERE, let_go, pause
from app.ports.queue import Work
from app.web.acts import act_of, actor_of
from app.web.dashboard.frame import Desk
from app.web.guard import BOT, Guarded, Visit, page

DISCARDED = (Work.DELIVERY, Work.EFFECT)
MOST_REASON = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """The file that keeps advisories; `at` is None where there is none yet."""

    at: datetime | None
    bytes: int


def routes(desk: Desk) -> list[Guarded]:
    reads, processes = SystemReads(desk.engine), Processes(desk.engine)

    def system(visit: Visit) -> Response:
        switches = reads.switches()
        told: dict[str, Any] = {
            "queues": reads.queues(),
            "late_s": LATE_S,
            "switches": switches,
            "paused": next((each for each in switches if each.scope == EVERYWHERE), None),
            "breakers": reads.breakers(),
            "aside": put_aside(desk.engine),
            "discarded": DISCARDED,
            "processes": processes.all(),
            "base": reads.base(),
            "broker": bool(desk.settings.queue.broker_url),
            "reachable": desk.wired.bell.reachable(),
            "rates": desk.wired.app.rates(),
            "schedules": reads.schedules(),
            "advisories": kept(desk.settings.advisories.cache),
            "python": platform.python_version(),
            "embedded": desk.settings.embedded,
        }
        return desk.frame.render(visit, "system.html", **told)

    def stop(visit: Visit) -> Response:
        pause(desk.kit, actor_of(visit), visit.field("reason", MOST_REASON))
        return desk.frame.back(
            visit, "/system", told=visit.t("Paused everywhere: nothing is changed until you resume.")
        )

    def go(visit: Visit) -> Response:
        scope = visit.field("scope")
        if scope not in {each.scope for each in reads.switches()}:
            raise HTTPException(409, visit.t("This switch is off already."))
        let_go(desk.kit, actor_of(visit), scope)
        return desk.frame.back(visit, "/system", told=visit.t("Resumed."))

    def replay(visit: Visit) -> Response:
        work, row_id = row_in(visit)
        if not again(desk.kit.store, desk.engine, work, row_id, act_of(visit, "replay", work.value, row_id)):
            raise HTTPException(409, visit.t("It is under way already, or its body is not kept any more."))
        return desk.frame.back(visit, "/system#aside", told=visit.t("It is worked off again."))

    def give_up(visit: Visit) -> Response:
        work, row_id = row_in(visit)
        if work not in DISCARDED:
            raise HTTPException(400, visit.t("Repairs are given up by the bot itself, which tells a person."))
        if not discard(desk.engine, work, row_id, act_of(visit, "discard", work.value, row_id)):
            raise HTTPException(409, visit.t("It is not put aside any more."))
        return desk.frame.back(visit, "/system#aside", told=visit.t("It is discarded."))

    def write(path: str, handler: Callable[[Visit], Response], name: str) -> Guarded:
        return page(path, handler, BOT, methods=("POST",), name=name)

    return [
        page("/system", system, BOT),
        write("/system/pause", stop, "pause_everywhere"),
        write("/system/resume", go, "resume_switch"),
        write("/system/replay", replay, "replay_aside"),
        write("/system/discard", give_up, "discard_aside"),
    ]


def row_in(visit: Visit) -> tuple[Work, int]:
    """Which row the form names. Raises HTTPException."""
    work, number = visit.field("work"), row_number(visit.field("row"))
    if work not in set(Work) or number is None:
        raise HTTPException(400, visit.t("The form does not say which one is meant."))
    return Work(work), number


def kept(cache: Path) -> Kept:
    try:
        found = cache.stat()
    except OSError:
        return Kept(None, 0)
    return Kept(datetime.fromtimestamp(found.st_mtime, UTC), found.st_size)
