"""Tell people in a channel: a rung for causes that only they can do something about."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from app.domain.errors import Refused
from app.domain.incident import Incident
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.notifier import Notice
from app.ports.plugins import Tools


class NotifyParams(BaseModel):
    """`channel` is the name of one that the operator has configured."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    channel: Annotated[str, StringConstraints(min_length=1, max_length=50)]


class Notify:
    kind = "notify"
    Params: type[BaseModel] = NotifyParams
    proves = Proof.NOTHING

    def plan(self, incident: Incident, params: NotifyParams, tools: Tools) -> Plan:
        title = f"Tell {params.channel}"
        if params.channel not in tools.notifier.channels():
            return Plan(title, refusal=f"the operator has configured no channel {params.channel}")
        return Plan(
            title,
            why="only people can do something about it",
            calls=(f"send a message to {params.channel}",),
            risk="none; nothing in the repository changes",
        )

    def apply(self, repair: Repair, params: NotifyParams, plan: Plan, tools: Tools) -> Outcome:
        """Its key is that of the repair: sent twice, a receiver that knows keys shows it once."""
        finding = tools.incident.finding
        where = f"{tools.incident.repository}: {finding.subject}"
        notice = Notice(repair.effect_key, where, finding.summary, finding.severity, tools.incident.run_url)
        told = f"told:{repair.effect_key}"
        if not tools.shelf.get(told):
            tools.guard()
            try:
                tools.notifier.send(params.channel, notice)
            except Refused as error:
                return Outcome(Conclusion.SKIPPED, str(error))
            tools.shelf.put(told, {"channel": params.channel})
        return Outcome(Conclusion.SUCCESS, f"told {params.channel}", data={"channel": params.channel})

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return Outcome(Conclusion.NEUTRAL, "what was said cannot be taken back")
