"""Tell people what happened to an incident, where heal.yml says, when it is not the middle of their night."""

from datetime import datetime, timedelta

from app.domain.effect import Effect
from app.domain.errors import RateLimited, Refused, Transient
from app.domain.finding import Severity
from app.domain.incident import Incident, State
from app.domain.policy import Policy, Route
from app.healing import texts
from app.healing.gather import configuration
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.ports.forge import Forge
from app.ports.notifier import Notice
from app.ports.store import Record

_RANK = {severity: rank for rank, severity in enumerate(Severity)}


def news(kit: Kit, hold: Hold, forge: Forge, effect: Effect) -> str:
    """Send it to each channel once. Raises RateLimited until the hours are no longer quiet, or the digest is due.

    What was sent is kept, so that a second try sends to the other channels alone.
    """
    if not kit.notifier.channels():
        return ""
    policy = configuration(kit, forge).policy
    state, at = str(effect.request["state"]), datetime.fromisoformat(str(effect.request["at"]))
    with kit.store.begin() as ledger:
        record = ledger.record(effect.incident_id or 0)
        now = ledger.now()
        told = dict(ledger.shelved(effect.repository_id, _TOLD) or {})
    severity = record.incident.finding.severity
    waits: list[datetime] = []
    away: Transient | None = None
    for route in routes_for(policy, state, severity):
        due = due_at(route, severity, at, now)
        what = due.isoformat() if route.digest_s else f"{effect.key} {at.isoformat()}"
        key = f"{route.channel} {what}"
        if key in told:
            continue
        if due > now:
            waits.append(due)
            continue
        records = gathered(kit, effect.repository_id, route, due) if route.digest_s else [record]
        hold.guard()
        try:
            if records:
                notice = texts.notice(records, State(state), kit.dashboard_url, key, policy.language)
                tell_channel(kit, route, notice, record.incident)
        except Transient as error:  # the others are told all the same
            away = away or error
            continue
        told = {**dict(list(told.items())[-_KEPT:]), key: True}
        with kit.store.begin() as ledger:
            ledger.shelve(effect.repository_id, _TOLD, told)
    if away is not None:
        raise away
    if waits:
        raise RateLimited("some are told later", retry_at=min(waits))
    return ""


_TOLD, _KEPT = "told", 500


def gathered(kit: Kit, repository_id: int, route: Route, due: datetime) -> list[Record]:
    """What stands in a state of the route and came into it within the digest's period."""
    since = due - timedelta(seconds=route.digest_s)
    with kit.store.begin() as ledger:
        recent = [each for each in ledger.incidents_at(repository_id) if since < each.updated_at <= due]
        known = [each for each in recent if routes_fit(route, str(each.state), each.finding.severity)]
        return [ledger.record(each.id) for each in known]


def tell_channel(kit: Kit, route: Route, notice: Notice, incident: Incident) -> None:
    """A channel that will not take it is told of in the incident; one that is away is tried again."""
    try:
        kit.notifier.send(route.channel, notice)
    except Refused as error:
        with kit.store.begin() as ledger:
            ledger.note(incident.id, "not_told", {"channel": route.channel, "reason": str(error)})


def routes_for(policy: Policy, state: str, severity: Severity) -> list[Route]:
    return [route for route in policy.notify if routes_fit(route, state, severity)]


def routes_fit(route: Route, state: str, severity: Severity) -> bool:
    return state in route.on and _RANK[severity] >= _RANK[Severity(route.least)]


def due_at(route: Route, severity: Severity, at: datetime, now: datetime) -> datetime:
    """When this route is told: at once, at the end of its digest's period, or when its quiet hours are over (UTC)."""
    due = at
    if route.digest_s:
        period = timedelta(seconds=route.digest_s)
        start = at.replace(hour=0, minute=0, second=0, microsecond=0)
        due = start + period * (-(-(at - start) // period))
    if route.quiet and _RANK[severity] < _RANK[Severity(route.urgent)]:
        due = _after(route.quiet, max(due, now))
    return due


def _after(quiet: tuple[int, int], moment: datetime) -> datetime:
    first, last = quiet
    length = (last - first) % 24
    begun = moment.replace(hour=first, minute=0, second=0, microsecond=0)
    begun -= timedelta(days=1) if begun > moment else timedelta()
    over = begun + timedelta(hours=length)
    return over if begun <= moment < over else moment
