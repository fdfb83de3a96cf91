"""Run the failed jobs of a run again: the gentlest repair, for causes that pass by themselves."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from app.domain.errors import Refused
from app.domain.evidence import Job
from app.domain.incident import Incident
from app.domain.outcome import FAILED, Conclusion, Outcome
from app.domain.repair import Plan, Proof, Repair, RepairState, Verb
from app.ports.plugins import Tools

MAX_RERUNS = 50  # GitHub's own limit
MAX_AGE = timedelta(days=30)  # GitHub's own limit


class RerunParams(BaseModel):
    """`debug`: with the runner's debug logging, at once and not only when a re-run of ours has failed before.
    `healed_at_most`: once so many re-runs of the last 30 days have healed the incident, the next rung is due."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    debug: bool = False
    healed_at_most: int | None = Field(None, ge=1, le=50)


class RerunFailedJobs:
    """A newer attempt of the run is adopted, whoever started it: the question is whether the job passes again."""

    kind = "rerun_failed_jobs"
    Params: type[BaseModel] = RerunParams
    proves = Proof.SAME_RUN

    def plan(self, incident: Incident, params: RerunParams, tools: Tools) -> Plan:
        title = "Run the failed jobs again"
        run = tools.forge.run(incident.run_id)
        newer = run.attempt > incident.attempt
        if reason := _spent(params, tools):
            return Plan(title, refusal=reason)
        if tools.clock.now() - run.created_at > MAX_AGE:
            return Plan(title, refusal="the run is older than 30 days; GitHub does not run it again")
        if not newer and run.attempt > MAX_RERUNS:
            return Plan(title, refusal=f"the run was run again {run.attempt - 1} times; GitHub allows no more")
        if not newer and run.status != "completed":
            return Plan(title, refusal=f"the run is still {run.status.replace('_', ' ')}")
        if not newer and (reason := _lasting(incident, tools)):
            return Plan(title, refusal=reason)
        again = f"re-run the failed jobs of run {run.id}"
        if _with_debug(incident, params, tools):
            again += ", with debug logging"
        return Plan(
            title,
            why="the cause is outside the repository and may be gone",
            calls=(f"adopt attempt {run.attempt} of run {run.id}" if newer else again,),
            risk="costs the runner's minutes; nothing in the repository changes",
            proof="the same job passes in a later attempt of the same run",
        )

    def apply(self, repair: Repair, params: RerunParams, plan: Plan, tools: Tools) -> Outcome:
        """The attempt number is the precondition: of two workers at once, GitHub refuses the second."""
        incident = tools.incident
        attempt = tools.forge.run(incident.run_id).attempt
        if attempt <= incident.attempt:
            tools.guard()
            try:
                tools.forge.rerun_failed_jobs(incident.run_id, debug=_with_debug(incident, params, tools))
            except Refused:
                attempt = tools.forge.run(incident.run_id).attempt
                if attempt <= incident.attempt:
                    raise
            else:
                attempt = incident.attempt + 1
        data = {"run_id": incident.run_id, "attempt": attempt}
        return Outcome(Conclusion.SUCCESS, f"attempt {attempt} is under way", data=data)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return Outcome(Conclusion.NEUTRAL, "a re-run cannot be taken back")


def _spent(params: RerunParams, tools: Tools) -> str:
    """Why another re-run would only hide what comes again and again."""
    reruns = [repair for repair in tools.repairs if _is_rerun(repair) and repair.state is RepairState.PROVEN]
    since = tools.clock.now() - MAX_AGE
    healed = sum(repair.applied_at is not None and repair.applied_at > since for repair in reruns)
    if params.healed_at_most is None or healed < params.healed_at_most:
        return ""
    times = "once" if healed == 1 else f"{healed} times"
    return f"re-runs have healed this {times} already, and it came back"


def _lasting(incident: Incident, tools: Tools) -> str:
    """Why a re-run would fail again: a job that failed for a reason that does not pass by itself."""
    again = set(incident.finding.failed_jobs)
    for other in tools.others:
        if other.ladder and other.ladder[0].action == RerunFailedJobs.kind:
            again.update(other.failed_jobs)
    failed = [job for job in tools.forge.jobs(incident.run_id, incident.attempt) if job.conclusion in FAILED]
    lasting = next((job for job in failed if job.name not in again), None)
    return f"the job {lasting.name!r} failed too, {_for(lasting, tools)}" if lasting else ""


def _for(job: Job, tools: Tools) -> str:
    cause = next((other.kind for other in tools.others if job.name in other.failed_jobs), "")
    return f"for {cause}, which a re-run does not mend" if cause else "for a reason that is not known to pass by itself"


def _with_debug(incident: Incident, params: RerunParams, tools: Tools) -> bool:
    """On the second try, so that the log of a cause that does not pass says more."""
    return params.debug or any(_is_rerun(r) and r.intent.run_id == incident.run_id for r in tools.repairs)


def _is_rerun(repair: Repair) -> bool:
    """That was carried out."""
    applied = repair.verb is Verb.APPLY and repair.applied_at is not None
    return applied and repair.remedy.action == RerunFailedJobs.kind
