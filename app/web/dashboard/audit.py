"""The audit log."""

import re
from datetime import UTC, datetime, timedelta

from starlette.responses import Response

from app.db.audit import verify
from app.db.reads.audit import Asked, AuditReads
from app.domain.access import Role
from app.domain.number import row_number
from app.web.dashboard.export import Columns, export, wanted
from app.web.dashboard.frame import Desk
from app.web.guard import BOT, LISTS, Guarded, Visit, page

LENGTH = 100
_AGO = re.compile(r"([1-9][0-9]{0,3})([hd])", re.ASCII)

COLUMNS: Columns = {
    "id": lambda act: act.id,
    "at": lambda act: act.at,
    "actor": lambda act: act.actor,
    "via": lambda act: act.via,
    "verb": lambda act: act.verb,
    "what": lambda act: act.what,
    "number": lambda act: act.number,
    "data": lambda act: dict(act.data),
    "chain": lambda act: act.chain,
}


def routes(desk: Desk) -> list[Guarded]:
    reads = AuditReads(desk.engine)

    def audit(visit: Visit) -> Response:
        given = {name: visit.query.get(name, "").strip()[:LENGTH] for name in ("who", "verb", "what", "since")}
        asked = Asked(given["who"], given["verb"], given["what"], since_of(visit, given["since"]))
        admin = visit.identity is not None and visit.identity.most.covers(Role.ADMIN)
        if form := wanted(visit.query):
            return export(form, "audit", COLUMNS, reads.every_act(visit.sight, asked, admin=admin))
        before = row_number(visit.query.get("before", ""))
        return desk.frame.render(
            visit,
            "audit.html",
            page=reads.acts(visit.sight, asked, before, admin=admin),
            given=given,
            paged=before is not None,
            everything=visit.sight.everything,
        )

    def check(visit: Visit) -> Response:
        return desk.frame.render(visit, "audit_verify.html", verified=verify(desk.engine))

    return [
        page("/audit", audit, LISTS),
        page("/audit/verify", check, BOT, name="verify_audit"),
    ]


def since_of(visit: Visit, text: str) -> datetime | None:
    """`7d`, `12h`, or a day of the visitor's zone; None for anything else."""
    if ago := _AGO.fullmatch(text):
        hours = int(ago[1]) * {"h": 1, "d": 24}[ago[2]]
        return datetime.now(UTC) - timedelta(hours=hours)
    try:
        day = datetime.strptime(text, "%Y-%m-%d")  # noqa: DTZ007 - the zone is the visitor's
        return day.replace(tzinfo=visit.words.zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
