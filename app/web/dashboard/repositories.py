"""Repositories: their health, their configuration and where each value comes from, their history."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.db.reads import Reads
from app.db.reads.models import ModelReads
from app.db.reads.repositories import DAYS, Day, Learned, RepositoryLine, RepositoryReads, muted_kind
from app.domain.access import Role, Sight
from app.domain.errors import HealError
from app.domain.knowledge import rung_of
from app.domain.number import row_number
from app.domain.policy import CONFIG_PATH, PROVEN_ANEW, Policy, lowered, may_be_bolder, mode_of
from app.domain.tenant import Repository
from app.healing.configuration import ON_ALL, OWNER, REPOSITORY
from app.healing.explained import Explained, explained
from app.healing.steer import MOST_REASON, Answer, Steered, switch
from app.i18n import formats
from app.web.acts import actor_of
from app.web.dashboard.export import Columns, export, wanted
from app.web.dashboard.frame import Desk
from app.web.dashboard.plots import Plot, bars
from app.web.guard import LISTS, Guarded, Of, Rule, Visit, page

SEEN, STEERS = Rule(Of.REPOSITORY), Rule(Of.REPOSITORY, Role.OPERATOR)
LENGTH = 200
SHOWN = 20  # incidents
EXPORTED = 500  # rows of one query

COLUMNS: Columns = {
    "id": lambda line: line.id,
    "repository": lambda line: line.full_name,
    "installation": lambda line: line.installation_id,
    "account": lambda line: line.account,
    "selection": lambda line: line.selection,
    "open": lambda line: line.open,
    "needs_approval": lambda line: line.waiting,
    "escalated": lambda line: line.escalated,
    "last_failure": lambda line: line.failed.at if line.failed else None,
    "last_heal": lambda line: line.healed.at if line.healed else None,
    "mode": lambda line: line.mode,
    "paused_by": lambda line: line.paused.by if line.paused else "",
}


@dataclass(frozen=True, slots=True)
class Level:
    """How far a repair may go by itself, and what speaks for that. `key` is where the mode stands in heal.yml;
    `bolder`: what was proven speaks for a bolder mode; `missing` are the proofs until nobody is asked any more, after
    it was taken back. Without a policy `mode` is "" and nothing follows."""

    learned: Learned
    rung: str
    at_least: float
    mode: str = ""
    key: str = ""
    bolder: bool = False
    missing: int = 0


def routes(desk: Desk) -> list[Guarded]:
    reads, incidents, models = RepositoryReads(desk.engine), Reads(desk.engine), ModelReads(desk.engine)

    def repositories(visit: Visit) -> Response:
        search = visit.query.get("q", "").strip()[:LENGTH]
        if form := wanted(visit.query):
            return export(form, "repositories", COLUMNS, every(reads, visit.sight, search))
        after = row_number(visit.query.get("after", ""))
        return desk.frame.render(
            visit,
            "repositories.html",
            page=reads.repositories(visit.sight, search, after),
            search=search,
            paged=after is not None,
            all_paused=reads.everything_paused(),
        )

    def repository(visit: Visit) -> Response:
        line = found(visit)
        live = visit.request.headers.get("heal-fragment") == "live"  # what is not live is not asked for again
        in_force = None if live or line.removed_at else configured(desk, line)
        here = replace(visit.sight, everything=False, repository_id=line.id)
        return desk.frame.render(
            visit,
            "repository.html",
            line=line,
            in_force=in_force,
            away=in_force is None and not line.removed_at,
            health=health_of(reads.days(line.id), visit),
            incidents=incidents.incidents(here, limit=SHOWN),
            levels=() if live else levels_of(reads.learned(line.id), in_force.configured.policy if in_force else None),
            muted=[(muted_kind(each), each) for each in reads.muted(line.id)],
            models=() if live else models.models(visit.sight, repository_id=line.id).lines,
            all_paused=reads.everything_paused(),
            operates=visit.may(Role.OPERATOR),
            origins={"own": REPOSITORY, "owners": OWNER, "on_all": ON_ALL},
            config_path=CONFIG_PATH,
            most_reason=MOST_REASON,
        )

    def turn(visit: Visit) -> Response:
        line, verb = found(visit), visit.field("verb")
        done = {
            "pause": visit.t("Repairs are paused here. What goes wrong is still found and reported."),
            "resume": visit.t("Repairs are on again here."),
        }
        if verb not in done:
            raise HTTPException(400)
        settled(visit, switch(desk.kit, line.id, verb, actor_of(visit), reason=visit.field("reason", MOST_REASON)))
        return desk.frame.back(visit, f"/repositories/{line.id}", told=done[verb])

    def unmute(visit: Visit) -> Response:
        line, kind = found(visit), visit.field("kind")
        settled(visit, switch(desk.kit, line.id, "unmute", actor_of(visit), kind=kind))
        told = visit.t("%(kind)s is repaired here again, as the rules have it.", kind=kind)
        return desk.frame.back(visit, f"/repositories/{line.id}#muted", told=told)

    def found(visit: Visit) -> RepositoryLine:
        line = reads.repository_line(visit.number("repository"))
        if line is None:
            raise HTTPException(404)
        return line

    return [
        page("/repositories", repositories, LISTS),
        page("/repositories/{repository}", repository, SEEN),
        page("/repositories/{repository}/switch", turn, STEERS, methods=("POST",)),
        page("/repositories/{repository}/unmute", unmute, STEERS, methods=("POST",)),
    ]


def settled(visit: Visit, steered: Steered) -> None:
    """Raises HTTPException for what was not done, saying why."""
    if steered.done:
        return
    if steered.answer is Answer.FORBIDDEN:
        raise HTTPException(403, visit.t("GitHub says that you may not do this in this repository."))
    if steered.answer is Answer.UNKNOWN:
        raise HTTPException(404)
    if steered.answer is Answer.NOT_NOW:
        told = visit.t("GitHub does not say now whether you may do this, so nothing was done. Try again in a minute.")
        raise HTTPException(409, told)
    raise HTTPException(409, visit.words.catalog.retell(steered.message).replace("`", ""))


def configured(desk: Desk, line: RepositoryLine) -> Explained | None:
    """None where GitHub cannot be asked now."""
    home = Repository(line.id, line.full_name, line.installation_id, line.default_branch)
    try:
        return explained(desk.kit, desk.kit.app.forge(home))
    except HealError:
        return None


def every(reads: RepositoryReads, sight: Sight, search: str) -> Iterator[RepositoryLine]:
    after: int | None = None
    while True:
        shown = reads.repositories(sight, search, after, EXPORTED)
        yield from shown.lines
        after = shown.next
        if after is None:
            return


def levels_of(learned: Sequence[Learned], policy: Policy | None) -> tuple[Level, ...]:
    return tuple(level_of(each, policy) for each in learned)


def level_of(learned: Learned, policy: Policy | None) -> Level:
    rung, at_least = rung_of(learned.remedy), learned.track.at_least()
    if policy is None:
        return Level(learned, rung, at_least)
    key, mode = mode_of(policy, learned.detector, learned.remedy.action)
    missing = PROVEN_ANEW - learned.track.since_revert if lowered(policy, learned.track) else 0
    return Level(learned, rung, at_least, mode.value, key, may_be_bolder(policy, mode, learned.track), missing)


def health_of(days: Sequence[Day], visit: Visit) -> Plot | None:
    """What was found and healed a day; None where nothing was."""
    if not days:
        return None
    last = max(datetime.now(UTC).date(), days[-1].at)
    told = {day.at: day for day in days}
    dates = [last - timedelta(days=back) for back in reversed(range(DAYS))]
    found = [told[at].found if at in told else 0 for at in dates]
    healed = [told[at].healed if at in told else 0 for at in dates]
    groups = {visit.t("Failures found"): found, visit.t("Healed"): healed}
    return bars([formats.date(at, visit.words.language) for at in dates], groups, visit.words)
