"""Run the failed jobs of a run again: the gentlest repair, for causes that pass by themselves."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from app.domain.incident import Incident
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools

MAX_ATTEMPTS = 50  # GitHub's own limit
MAX_AGE = timedelta(days=30)  # GitHub's own limit


class RerunParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RerunFailedJobs:
    """A newer attempt of the run is adopted, whoever started it: the question is whether the job passes again."""

    kind = "rerun_failed_jobs"
    Params: type[BaseModel] = RerunParams
    proves = Proof.SAME_RUN

    def plan(self, incident: Incident, params: RerunParams, tools: Tools) -> Plan:
        title = "Run the failed jobs again"
        run = tools.forge.run(incident.run_id)
        newer = run.attempt > incident.attempt
        if tools.clock.now() - run.created_at > MAX_AGE:
            return Plan(title, refusal="the run is older than 30 days; GitHub does not run it again")
        if not newer and run.attempt >= MAX_ATTEMPTS:
            return Plan(title, refusal=f"the run has had {run.attempt} attempts; GitHub allows no more")
        if not newer and run.status != "completed":
            return Plan(title, refusal=f"the run is still {run.status.replace('_', ' ')}")
        call = f"adopt attempt {run.attempt} of run {run.id}" if newer else f"re-run the failed jobs of run {run.id}"
        return Plan(
            title,
            why="the cause is outside the repository and may be gone",
            calls=(call,),
            risk="costs the runner's minutes; nothing in the repository changes",
            proof="the same job passes in a later attempt of the same run",
        )

    def apply(self, repair: Repair, params: RerunParams, plan: Plan, tools: Tools) -> Outcome:
        incident = tools.incident
        run = tools.forge.run(incident.run_id)
        attempt = run.attempt
        if attempt <= incident.attempt:
            tools.guard()
            tools.forge.rerun_failed_jobs(incident.run_id)
            attempt = incident.attempt + 1
        data = {"run_id": incident.run_id, "attempt": attempt}
        return Outcome(Conclusion.SUCCESS, f"attempt {attempt} is under way", data=data)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return Outcome(Conclusion.NEUTRAL, "a re-run cannot be taken back")
