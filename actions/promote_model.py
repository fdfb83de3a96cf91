"""Make a trained version the champion: after the gate's statistics, after a rehearsal of the way back, then watched."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from actions import champions
from actions.champions import Move
from actions.retrain_model import ID_TAG, SLACK
from app.domain.errors import Malformed, Refused
from app.domain.incident import Incident
from app.domain.model import Columns, ModelRules
from app.domain.outcome import Outcome
from app.domain.repair import Look, Plan, Proof, Repair, RepairState
from app.ports.plugins import Tools
from app.ports.registry import Version

if TYPE_CHECKING:
    from actions.gate.rows import Evaluation

TITLE = "Promote a model"
_MOVES = frozenset({"promote_model", "roll_back_model"})
_STANDS = frozenset({RepairState.APPLIED, RepairState.DONE, RepairState.PROVEN})


class PromoteParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(default="", max_length=100)
    """Its name in heal.yml; where it is left out, the one that the finding is about."""
    version: int | None = Field(default=None, ge=1)
    """Left out: the one that was trained for this incident."""


class PromoteModel:
    kind = "promote_model"
    Params: type[BaseModel] = PromoteParams
    proves = Proof.OWN

    def plan(self, incident: Incident, params: PromoteParams, tools: Tools) -> Plan:
        model = champions.model_of(incident, params.model)
        rules = champions.rules_of(model, tools)
        if isinstance(rules, str):
            return Plan(TITLE, refusal=rules)
        try:
            return _plan(model, params.version, rules, tools)
        except Refused as error:
            return Plan(TITLE, refusal=str(error))

    def apply(self, repair: Repair, params: PromoteParams, plan: Plan, tools: Tools) -> Outcome:
        rules = champions.rules_now(params.model, tools)
        return champions.carry_out(Move.of(plan.report["move"]), repair, rules, tools, promotion=True)

    def look(self, repair: Repair, params: PromoteParams, tools: Tools) -> Look:
        return champions.watch(repair, champions.rules_now(params.model, tools), tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return champions.take_back(repair, tools, promotion=True)


def _plan(model: str, wanted: int | None, rules: ModelRules, tools: Tools) -> Plan:
    from actions.gate.judge import Case, judge  # NumPy and SciPy: only where a gate is judged

    registry, name = tools.registry, rules.registry
    champion = registry.aliased(name, rules.champion)
    if champion is None:
        return Plan(
            TITLE,
            refusal=f"{name} has no version with the alias {rules.champion}: there is nothing to compare with; a person"
            f" makes the first promotion, by setting that alias in the registry",
        )
    challenger = _challenger(model, wanted, name, champion, tools)
    if isinstance(challenger, str):
        return Plan(TITLE, refusal=challenger)
    title = f"Promote version {challenger.number} of {model}"
    if challenger.number == champion.number:
        return Plan(title, refusal=f"version {champion.number} is the champion already")
    if not challenger.ready:
        return Plan(title, refusal=f"version {challenger.number} is not ready in the registry")
    columns = Columns(**rules.columns)
    before, after = (_evaluation(version, rules, columns, tools) for version in (champion, challenger))
    report = judge(
        Case(
            model=model,
            rules=rules.gate,
            champion=champion,
            challenger=challenger,
            before=before,
            after=after,
            now=tools.clock.now(),
            promoted_at=champions.last_promotion(name, champion, tools),
            positive=columns.positive,
            task=columns.task,
            segments=columns.segments,
            grouped=bool(columns.session),
        )
    )
    previous = champions.number_at(registry, name, champions.PREVIOUS)
    move = Move(name, rules.champion, champion.number, challenger.number, previous)
    told = {**report.to_json(), "move": move.to_json()}
    if not report.open:
        why = "; ".join(f"{gate.name}: {gate.says} {gate.missing}".strip() for gate in report.closed)
        return Plan(title, refusal=f"the gate is closed. {why}", report=told)
    return Plan(
        title,
        why=next(gate.says for gate in report.gates if gate.name == "metric"),
        calls=champions.calls(move, previous=True),
        risk="the new version serves all that asks for the champion; one call brings the old one back, "
        "and that is rehearsed first",
        proof=f"the cause is not found again for {rules.canary_s} s, and nobody moves the alias",
        patience_s=champions.patience_s(rules),
        report=told,
    )


def _challenger(model: str, wanted: int | None, name: str, champion: Version, tools: Tools) -> Version | str:
    """The version that was asked for, or that the newest training for this incident made; a text: why there is none."""
    number = wanted or _trained(model, tools)
    if number is not None:
        return tools.registry.version(name, number) or f"{name} has no version {number} in the registry"
    since = tools.incident.opened_at - SLACK
    for repair in reversed(tools.repairs):
        tagged = tools.registry.versions(name, tags={ID_TAG: repair.effect_key}, since=since)
        if newer := [version for version in tagged if version.number > champion.number]:
            return newer[0]
    return f"no version of {name} was trained for this incident; retrain it first, or name a version"


def _trained(model: str, tools: Tools) -> int | None:
    """The version that the newest standing repair of this incident says that it made."""
    for repair in reversed(tools.repairs):
        if repair.state not in _STANDS or repair.remedy.action in _MOVES:
            continue
        if repair.remedy.params.get("model", model) != model:
            continue
        for data in (repair.proof, repair.outcome.data if repair.outcome else {}):
            version = data.get("version")
            if isinstance(version, int | str) and str(version).isdecimal() and int(version) > 0:
                return int(version)
    return None


def _evaluation(version: Version, rules: ModelRules, columns: Columns, tools: Tools) -> "Evaluation | str":
    """What its training kept of the held-out rows; a text: why that cannot be read."""
    from actions.gate.rows import MOST_FILE_BYTES, read

    body = tools.registry.file(version, rules.evaluation, most_bytes=MOST_FILE_BYTES)
    if body is None:
        return f"({rules.evaluation}) is not there, or is larger than {MOST_FILE_BYTES // 2**20} MiB"
    try:
        return read(rules.evaluation, body, columns.segments)
    except Malformed as error:
        return f"({rules.evaluation}) cannot be read: {error}"
