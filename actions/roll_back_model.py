"""Bring the version back that served before: always possible, without a gate."""

from pydantic import BaseModel, ConfigDict, Field

from actions import champions
from actions.champions import PREVIOUS, Move
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import Look, Plan, Proof, Repair
from app.ports.plugins import Tools

TITLE = "Roll a model back"


class RollBackParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(default="", max_length=100)
    """Its name in heal.yml; where it is left out, the one that the finding is about."""


class RollBackModel:
    kind = "roll_back_model"
    Params: type[BaseModel] = RollBackParams
    proves = Proof.OWN

    def plan(self, incident: Incident, params: RollBackParams, tools: Tools) -> Plan:
        model = champions.model_of(incident, params.model)
        rules = champions.rules_of(model, tools)
        if isinstance(rules, str):
            return Plan(TITLE, refusal=rules)
        name, registry = rules.registry, tools.registry
        now_at = champions.number_at(registry, name, rules.champion)
        back = champions.number_at(registry, name, PREVIOUS)
        if now_at is None:
            return Plan(TITLE, refusal=f"{name} has no version with the alias {rules.champion}")
        if back is None:
            return Plan(
                TITLE,
                refusal=f"{name} has no version with the alias {PREVIOUS}: none is known to have served before; "
                f"a person must choose one and set {rules.champion} to it",
            )
        if back == now_at:
            return Plan(TITLE, refusal=f"version {now_at} serves already, and it is what {PREVIOUS} points at")
        move = Move(name, rules.champion, now_at, back, back)
        return Plan(
            f"Roll {model} back to version {back}",
            why=f"version {back} served before version {now_at}, and this was found since",
            calls=champions.calls(move, previous=False),
            risk=f"what version {now_at} does better is lost; {PREVIOUS} stays as it is",
            proof=f"the cause is not found again for {rules.canary_s} s, and nobody moves the alias",
            patience_s=champions.patience_s(rules),
            report={"kind": "roll_back", "model": model, "move": move.to_json()},
        )

    def apply(self, repair: Repair, params: RollBackParams, plan: Plan, tools: Tools) -> Outcome:
        rules = champions.rules_now(params.model, tools)
        return champions.carry_out(Move.of(plan.report["move"]), repair, rules, tools, promotion=False)

    def look(self, repair: Repair, params: RollBackParams, tools: Tools) -> Look:
        return champions.watch(repair, champions.rules_now(params.model, tools), tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return champions.take_back(repair, tools, promotion=False)
