"""Ask a person to look: the last rung, which never touches code."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

from pydantic import BaseModel, ConfigDict

from app.domain.incident import Incident
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools

LABEL = "heal"


class IssueParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OpenIssue:
    kind = "open_issue"
    Params: type[BaseModel] = IssueParams
    proves = Proof.NOTHING

    def plan(self, incident: Incident, params: IssueParams, tools: Tools) -> Plan:
        return Plan(
            "Open an issue",
            why="no repair is known to be safe; a person must look",
            calls=(f"open an issue labelled {LABEL}",),
            risk="none; nothing in the repository changes",
        )

    def apply(self, repair: Repair, params: IssueParams, plan: Plan, tools: Tools) -> Outcome:
        title, body = tools.issue_text(repair)
        tools.guard()
        number = tools.forge.ensure_issue(tools.marker, title, body, (LABEL,))
        return Outcome(Conclusion.SUCCESS, f"asked for help in issue #{number}", data={"issue": number})

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        number = repair.outcome.data.get("issue") if repair.outcome else None
        if number is None:
            return Outcome(Conclusion.NEUTRAL, "no issue was opened")
        tools.guard()
        tools.forge.close_issue(number, "Taken back.")
        return Outcome(Conclusion.SUCCESS, f"closed issue #{number}", data={"issue": number})
