"""Models: versions, metrics over time, drift, gates, runs; promote and roll back."""

from collections.abc import Iterator, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.db.reads.models import RUNS, ModelLine, ModelReads, ModelRepair
from app.domain.access import Role, Sight
from app.domain.errors import HealError
from app.domain.interval import BENCHMARK, GATE
from app.domain.number import row_number
from app.domain.policy import Policy
from app.domain.tenant import Repository
from app.healing.by_hand import Asked
from app.healing.gather import configuration
from app.healing.steer import MOST_REASON, Answer
from app.web.acts import actor_of
from app.web.dashboard import model_charts
from app.web.dashboard.export import Columns, export, wanted
from app.web.dashboard.frame import Desk
from app.web.dashboard.gate import drawing_of
from app.web.dashboard.model_moves import choices, promote, registered, roll_back
from app.web.dashboard.repositories import settled
from app.web.guard import LISTS, Guarded, Of, Rule, Visit, page

SEEN, DECIDES = Rule(Of.MODEL), Rule(Of.MODEL, Role.OPERATOR)
LENGTH = 200
EXPORTED = 500  # rows of one query

COLUMNS: Columns = {
    "id": lambda line: line.id,
    "model": lambda line: line.name,
    "repository": lambda line: line.repository,
    "version": lambda line: line.version,
    "moved_at": lambda line: line.moved_at,
    "drift": lambda line: line.drift,
    "window": lambda line: line.window.name if line.window else "",
    "window_rows": lambda line: line.window.rows if line.window else None,
    "window_updated_at": lambda line: line.window.updated_at if line.window else None,
    "incidents": lambda line: " ".join(str(incident.id) for incident in line.incidents),
}


def routes(desk: Desk) -> list[Guarded]:
    reads = ModelReads(desk.engine)

    def models(visit: Visit) -> Response:
        search = visit.query.get("q", "").strip()[:LENGTH]
        if form := wanted(visit.query):
            return export(form, "models", COLUMNS, every(reads, visit.sight, search))
        before = row_number(visit.query.get("before", ""))
        shown = reads.models(visit.sight, search, before)
        return desk.frame.render(visit, "models.html", page=shown, search=search, paged=before is not None)

    def model(visit: Visit) -> Response:
        line = found(visit)
        live = visit.request.headers.get("heal-fragment") == "live"  # what is not live is not asked for again
        words = {} if live else whole(desk, reads, visit, line)
        return desk.frame.render(visit, "model.html", line=line, **words)

    def promoted(visit: Visit) -> Response:
        line, who, reason = found(visit), actor_of(visit), visit.field("reason", MOST_REASON)
        return told(visit, promote(desk.kit, reads.model_repairs(line), who, visit.field("repair"), reason))

    def rolled_back(visit: Visit) -> Response:
        line, who, reason = found(visit), actor_of(visit), visit.field("reason", MOST_REASON)
        return told(visit, roll_back(desk.kit, line, reads.model_repairs(line), who, visit.field("repair"), reason))

    def told(visit: Visit, asked: Asked) -> Response:
        """On to the incident in which it can be followed."""
        settled(visit, asked.steered)
        seconded = asked.steered.answer is Answer.SECOND
        message = (
            visit.t("Your yes is kept. Another person must say yes, too.")
            if seconded
            else visit.t("Begun. What becomes of it stands in this incident.")
        )
        return desk.frame.back(visit, f"/incidents/{asked.incident_id}", told=message)

    def found(visit: Visit) -> ModelLine:
        line = reads.model_line(visit.number("model"))
        if line is None:
            raise HTTPException(404)
        return line

    return [
        page("/models", models, LISTS),
        page("/models/{model}", model, SEEN),
        page("/models/{model}/promote", promoted, DECIDES, methods=("POST",)),
        page("/models/{model}/roll-back", rolled_back, DECIDES, methods=("POST",)),
    ]


def whole(desk: Desk, reads: ModelReads, visit: Visit, line: ModelLine) -> dict[str, Any]:
    """All that the page shows besides what is live."""
    policy = policy_of(desk, line)
    rules = policy.models.get(line.name) if policy else None
    kept, repairs = reads.observations(line), reads.model_repairs(line)
    known = registered(desk.kit, line, policy)
    feature = visit.query.get("feature", "").strip()[:LENGTH]
    names = baselines(repairs)
    return {
        "known": known,
        "may": choices(repairs, known, policy),
        "described": rules is not None,
        "away": policy is None,
        "metrics": model_charts.metrics(kept, policy, visit) if kept else (),
        "service": model_charts.service(kept, rules, policy, visit) if kept else (),
        "curves": model_charts.curves(kept.model, visit.words) if kept else (),
        "series": model_charts.samples(reads.model_series(line), visit.words),
        "drift": model_charts.drift(kept, visit.query.get("window", ""), feature, rules, policy) if kept else None,
        "windows": tuple(reversed(kept.windows)) if kept else (),
        "reference": kept.reference if kept else None,
        "feature": feature,
        "gates": [repair for repair in repairs if repair.plan and repair.plan.report.get("kind") == GATE],
        "runs": [repair for repair in repairs if repair.remedy.action in RUNS],
        "drawings": {
            repair.id: drawing_of(repair.proof["report"])
            for repair in repairs
            if isinstance(repair.proof.get("report"), dict) and repair.proof["report"].get("kind") == BENCHMARK
        },
        "benchmarks": model_charts.benchmarks(
            {names[name]: told for name, told in reads.shelved(line.repository_id, names).items()}, visit.words
        ),
        "operates": visit.may(Role.OPERATOR),
        "most_reason": MOST_REASON,
    }


def baselines(repairs: Sequence[ModelRepair]) -> dict[str, str]:
    """Where the baselines of these benchmarks are kept: name on the shelf → name for people."""
    found = {}
    for repair in repairs:
        name = repair.outcome.data.get("benchmark") if repair.outcome else None
        where = repair.proof.get("machine_class")
        if name and where:
            found[f"benchmark:{name}:{where}"] = f"{name} ({where})"
    return found


def policy_of(desk: Desk, line: ModelLine) -> Policy | None:
    """None where GitHub cannot be asked now."""
    home = Repository(line.repository_id, line.repository, line.installation_id, line.default_branch)
    try:
        return configuration(desk.kit, desk.kit.app.forge(home)).policy
    except HealError:
        return None


def every(reads: ModelReads, sight: Sight, search: str) -> Iterator[ModelLine]:
    before: int | None = None
    while True:
        shown = reads.models(sight, search, before, EXPORTED)
        yield from shown.lines
        before = shown.older
        if before is None:
            return
