"""Ask the world whether the repair worked. Events only say when to look; GitHub's state is the answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from app.domain.budget import amounts
from app.domain.delivery import RUNS, Delivery
from app.domain.evidence import Job
from app.domain.incident import Incident, Signal, State, allows, step
from app.domain.knowledge import rung_of
from app.domain.outcome import FAILED
from app.domain.policy import Policy, may_be_bolder, mode_of
from app.domain.repair import Look, Proof, Repair, RepairState
from app.domain.run import EndedRun, run_to_json
from app.healing.decide import climb, go_on, plan_repair, tell, want_news
from app.healing.gather import configuration
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.healing.tools import tools_for
from app.ports.forge import Forge, RunInfo
from app.ports.plugins import Looks
from app.ports.store import Ledger
from app.security.masking import mask


@dataclass(frozen=True, slots=True)
class Observation:
    """`proven` None: no answer yet. `run` and `job` are what was looked at, `own` what the action itself saw."""

    proven: bool | None
    reason: str
    run: RunInfo | None = None
    job: Job | None = None
    own: Look | None = None


def look(kit: Kit, hold: Hold, forge: Forge, incident: Incident, current: Repair) -> None:
    """Heal, climb, or look again later."""
    action = kit.actions[current.remedy.action]
    proves = action.proves
    if proves is Proof.OWN:
        answer = by_itself(kit, hold, forge, incident, current)
    else:
        answer = {Proof.SAME_RUN: same_run, Proof.FIX_BRANCH: fix_branch}[proves](forge, incident, current)
    kit.passing("after look")
    policy = configuration(kit, forge).policy
    with kit.store.begin(hold.lease) as ledger:
        incident = ledger.incident(current.incident_id)
        now = ledger.now()
        if answer.own and answer.own.run:
            ledger.keep(delivery_of(answer.own.run, incident))
            if answer.own.run.failure:
                settle_costs(ledger, current, answer.own.data)
        if answer.proven:
            return proven(ledger, incident, current, answer, policy)
        overdue = current.proof_deadline is not None and now >= current.proof_deadline
        if answer.proven is None and not overdue:
            if answer.own and answer.own.progress and answer.own.progress != current.proof.get("progress"):
                ledger.note(incident.id, "progress", {"text": mask(answer.own.progress), "url": answer.own.url})
                current = replace(current, proof={**current.proof, "progress": answer.own.progress})
            later = now + timedelta(seconds=kit.look_every_s)
            ledger.save_repair(current, due_at=min(later, current.proof_deadline or later))
            return
        reason = answer.reason if answer.proven is False else f"no proof before the deadline: {answer.reason}"
        seen = dict(answer.own.data) if answer.own else {}
        told = {"reason": reason, "url": url_of(answer), **seen}
        ledger.save_repair(replace(current, state=RepairState.DISPROVEN, proof=told), due_at=None)
        ledger.note(incident.id, "disproven", told)
        settle_costs(ledger, current, seen)
        if proves is Proof.OWN and current.outcome and current.outcome.data.get("stands"):
            plan_repair(ledger, incident, current.remedy, policy, undoes=current.id)
        if proves is Proof.SAME_RUN and answer.run:
            incident = replace(incident, attempt=max(incident.attempt, answer.run.attempt))
        if allows(incident.state, Signal.FAILED):
            climb(kit, ledger, incident, policy)


def proven(ledger: Ledger, incident: Incident, current: Repair, answer: Observation, policy: Policy) -> None:
    run, job = answer.run, answer.job
    proof: dict[str, Any] = {
        "proven": True,
        "reason": answer.reason,
        "job": ", ".join(incident.finding.failed_jobs) if job else "",
        "run_id": run.id if run else 0,
        "attempt": run.attempt if run else 0,
        "url": url_of(answer),
        "head_sha": run.head_sha if run else "",
        **(answer.own.data if answer.own else {}),
    }
    now = ledger.now()
    ledger.save_repair(replace(current, state=RepairState.PROVEN, proof=proof), due_at=None)
    ledger.note(incident.id, "proven", proof)
    settle_costs(ledger, current, answer.own.data if answer.own else {})
    suggest(ledger, incident, current, policy)
    if current.remedy.then is not None and incident.state is State.VERIFYING:
        go_on(ledger, incident, current.remedy.then, policy)
    elif allows(incident.state, Signal.PROVEN):
        incident = replace(incident, state=step(incident.state, Signal.PROVEN), healed_at=now, updated_at=now)
        ledger.save_incident(incident)
        ledger.note(incident.id, "healed", {})
        tell(ledger, incident)
        want_news(ledger, incident)


def settle_costs(ledger: Ledger, current: Repair, seen: Mapping[str, Any]) -> None:
    """What lasted is known when it is over: `spent` in what the action saw, by unit."""
    spent = seen.get("spent")
    if isinstance(spent, Mapping):
        ledger.settle(current, amounts(spent))


def suggest(ledger: Ledger, incident: Incident, current: Repair, policy: Policy) -> None:
    """Say that a bolder mode may be due, by proofs or by what people did alike: the bot never takes it by itself."""
    _, mode = mode_of(policy, incident.finding.detector, current.remedy.action)
    track = ledger.history(incident.repository_id, incident.id, incident.run_id).tracks.get(rung_of(current.remedy))
    if track and may_be_bolder(policy, mode, track):
        told = {"action": current.remedy.action, "at_least": round(track.at_least(), 2), "proven": track.successes}
        ledger.note(incident.id, "suggested", told)


def delivery_of(run: EndedRun, incident: Incident) -> Delivery:
    """What a run said at its end, named for the run: of all who see it the first one keeps it."""
    return Delivery(
        guid=f"run-{run.launcher}-{run.handle}",
        source=RUNS,
        event="run",
        action="failed" if run.failure else "succeeded",
        body=json.dumps(run_to_json(run)).encode(),
        installation_id=incident.installation_id,
        repository_id=incident.repository_id,
        repository=incident.repository,
    )


def url_of(answer: Observation) -> str:
    own, job, run = answer.own, answer.job, answer.run
    return (own.url if own else "") or (job.url if job else "") or (run.url if run else "")


def by_itself(kit: Kit, hold: Hold, forge: Forge, incident: Incident, current: Repair) -> Observation:
    """The action looks for itself, at whatever it started."""
    action = kit.actions[current.remedy.action]
    if not isinstance(action, Looks):
        raise TypeError(f"{action.kind} proves itself and cannot look")
    policy = configuration(kit, forge).policy
    tools = tools_for(kit, hold, forge, incident, policy, current)
    seen = action.look(current, kit.params(current.remedy.action, current.remedy.params), tools)
    return Observation(seen.proven, seen.reason, own=seen)


def same_run(forge: Forge, incident: Incident, current: Repair) -> Observation:
    """The same jobs passed in a later attempt of the same run.

    GitHub shows the old conclusion for a while after a re-run, so only the attempt we started (or a later one) counts.
    """
    data = current.outcome.data if current.outcome else {}
    run = forge.run(int(data["run_id"]))
    if run.attempt < int(data["attempt"]):
        return Observation(None, f"attempt {data['attempt']} has not started", run)
    if run.status != "completed":
        return Observation(None, f"attempt {run.attempt} is {run.status}", run)
    return judge([(run, forge.jobs(run.id, run.attempt))], current.intent.jobs or incident.finding.failed_jobs)


def fix_branch(forge: Forge, incident: Incident, current: Repair) -> Observation:
    """The jobs that failed passed on the fix commit, in the same workflow."""
    data = current.outcome.data if current.outcome else {}
    workflow = current.intent.workflow_path or incident.workflow_path
    every = forge.runs(head_sha=str(data["head_sha"]))
    runs = [run for run in every if workflow in ("", run.workflow_path)]
    waiting = [run for run in every if run.status != "completed"]
    unread = bool(workflow and current.intent.run_id) and not forge.jobs(current.intent.run_id, current.intent.attempt)
    if unread and not runs and every and not waiting:
        # a push makes a failed run of each workflow file that cannot be read, whatever starts it otherwise
        return Observation(True, f"GitHub reads {workflow} again: no run of it failed on the fix branch", every[0])
    waiting = [run for run in waiting if run in runs]
    if waiting or not runs:
        return Observation(None, "the workflow has not finished on the fix branch", waiting[0] if waiting else None)
    if not workflow:  # found without a run, in a file that was pushed: everything that runs there must pass
        red = next((run for run in runs if run.conclusion in FAILED), None)
        told = f"{red.name} failed on the fix branch" if red else "every workflow passed on the fix branch"
        return Observation(red is None, told, red or runs[0])
    names = current.intent.jobs or incident.finding.failed_jobs
    looked_at = [(run, forge.jobs(run.id, run.attempt)) for run in runs]
    if unread:
        # what could not be read had no jobs by whose names it could be proven: all that run now must pass
        names = tuple(sorted({job.name for _, jobs in looked_at for job in jobs if job.conclusion != "skipped"}))
        if not names:
            return Observation(False, "the workflow still has no jobs that can run", runs[0])
    return judge(looked_at, names)


def judge(looked_at: Sequence[tuple[RunInfo, list[Job]]], names: Sequence[str]) -> Observation:
    """Proven when each of the jobs is; one that failed again disproves."""
    answers = [_judge_one(looked_at, name) for name in names]
    for verdict in (False, None):
        for answer in answers:
            if answer.proven is verdict:
                return answer
    return answers[0]


def _judge_one(looked_at: Sequence[tuple[RunInfo, list[Job]]], name: str) -> Observation:
    """Every run in which the job ran must have passed it, and there must be one. A skipped job proves nothing."""
    passed: Observation | None = None
    nothing = Observation(None, f"the job {name!r} did not run")
    for run, jobs in looked_at:
        for job in jobs:
            if job.name != name:
                continue
            if job.conclusion in FAILED:
                return Observation(False, f"the job {name!r} failed again", run, job)
            if job.conclusion == "success":
                passed = passed or Observation(True, f"the job {name!r} passed", run, job)
            else:
                nothing = Observation(None, f"the job {name!r} was {job.conclusion}", run, job)
    return passed or nothing
