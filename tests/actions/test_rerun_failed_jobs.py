from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from actions.rerun_failed_jobs import RerunFailedJobs
from app.domain.errors import LeaseLost, Refused
from app.domain.finding import Finding, Remedy
from app.domain.outcome import Conclusion
from app.domain.repair import Intent, Plan, Repair, RepairState, Verb
from tests.actions.stage import NOW, Stage, crash_everywhere, stage

action = RerunFailedJobs()


def test_a_re_run_names_the_attempt_that_will_prove_it() -> None:
    at = stage()
    outcome = at.apply(action, at.repair(action))
    assert outcome.conclusion is Conclusion.SUCCESS
    assert outcome.data == {"run_id": at.incident.run_id, "attempt": 2}
    assert at.forge.run(at.incident.run_id).attempt == 2


def test_a_crash_after_the_re_run_starts_no_second_one() -> None:
    assert crash_everywhere(stage, lambda at, tools: at.apply(action, at.repair(action), tools=tools)) == 1


def test_a_re_run_by_a_person_is_adopted() -> None:
    at = stage()
    at.forge.rerun_failed_jobs(at.incident.run_id)
    outcome = at.apply(action, at.repair(action))
    assert outcome.data["attempt"] == 2
    assert len(at.forge.written("rerun_failed_jobs")) == 1


def test_a_lost_lease_stops_before_the_re_run() -> None:
    at = stage()

    def lost() -> None:
        raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        at.apply(action, at.repair(action), tools=replace(at.tools, guard=lost))
    assert at.forge.writes == []


def _older_by(age: timedelta) -> Stage:
    at = stage()
    run = at.forge.run(at.incident.run_id)
    at.forge._attempts[run.id][1] = replace(run, created_at=NOW - age)
    return at


def test_a_run_of_more_than_thirty_days_is_refused() -> None:
    assert "30 days" in _older_by(timedelta(days=30, seconds=1)).plan(action).refusal
    assert not _older_by(timedelta(days=30)).plan(action).refusal


def _at_attempt(attempt: int) -> Stage:
    at = stage(attempt=attempt)
    run = at.forge.run(at.incident.run_id)
    at.forge._attempts[run.id] = {attempt: replace(run, attempt=attempt)}
    at.forge._jobs[run.id, attempt] = at.forge._jobs[run.id, 1]
    return at


def test_a_run_at_githubs_limit_of_re_runs_is_refused() -> None:
    assert "again 50 times" in _at_attempt(51).plan(action).refusal
    assert not _at_attempt(50).plan(action).refusal


def _failed(*names: str, others: tuple[Finding, ...] = ()) -> Stage:
    """A run of which these jobs failed, beside "train"; "eval" passed."""
    at = stage()
    jobs = [at.forge.job("train"), *(at.forge.job(name) for name in names), at.forge.job("eval", "success")]
    at.forge.finish_run(at.incident.run_id, "failure", jobs)
    return replace(at, tools=replace(at.tools, others=others))


def _other(at: Stage, kind: str, first: str, *jobs: str) -> Finding:
    ladder = (Remedy(first), Remedy("open_issue"))
    return replace(at.incident.finding, kind=kind, fingerprint=kind, jobs=jobs, ladder=ladder)


def test_a_job_that_failed_for_another_reason_is_named_and_nothing_is_run_again() -> None:
    refusal = _failed("lint").plan(action).refusal
    assert "'lint'" in refusal
    assert "not known to pass" in refusal


def test_a_job_that_failed_for_a_cause_that_stays_is_named_with_its_cause() -> None:
    bug = _other(stage(), "test_assertion_failure", "open_issue", "unit")
    refusal = _failed("unit", others=(bug,)).plan(action).refusal
    assert "'unit'" in refusal
    assert "test_assertion_failure" in refusal


def test_jobs_whose_causes_all_pass_by_themselves_are_run_again_together() -> None:
    passing = _other(stage(), "rate_limited", "rerun_failed_jobs", "fetch")
    assert not _failed("fetch", others=(passing,)).plan(action).refusal
    assert "'unit'" in _failed("fetch", "unit", others=(passing,)).plan(action).refusal


def test_every_job_of_the_finding_may_be_run_again() -> None:
    at = _failed("train (2)")
    incident = replace(at.incident, finding=replace(at.incident.finding, jobs=("train", "train (2)")))
    assert not replace(at, incident=incident).plan(action).refusal


def test_siblings_that_were_cancelled_or_skipped_do_not_count_as_failed() -> None:
    at = stage()
    jobs = [at.forge.job("train"), at.forge.job("a", "cancelled"), at.forge.job("b", "skipped")]
    at.forge.finish_run(at.incident.run_id, "failure", jobs)
    assert not at.plan(action).refusal


def test_the_jobs_of_the_attempt_that_was_diagnosed_count_and_no_others() -> None:
    at = _failed("lint")
    at.forge.rerun_failed_jobs(at.incident.run_id)
    assert not at.plan(action).refusal, "what somebody started is adopted whatever else failed"


def _earlier(at: Stage, state: RepairState = RepairState.DISPROVEN, run_id: int = 0, **more: Any) -> Repair:
    known = {"applied_at": NOW, "state": state, "intent": Intent(run_id or at.incident.run_id, 1), **more}
    return replace(at.repair(action), **known)


def _after(at: Stage, *repairs: Repair) -> Stage:
    return replace(at, tools=replace(at.tools, repairs=repairs))


@pytest.mark.parametrize(
    ("more", "debug"),
    [
        ({}, True),
        ({"run_id": 7}, False),
        ({"applied_at": None, "state": RepairState.SKIPPED}, False),
        ({"verb": Verb.UNDO}, False),
        ({"remedy": Remedy("lower_batch_size")}, False),
    ],
)
def test_the_second_try_of_a_run_is_made_with_debug_logging(more: dict[str, Any], debug: bool) -> None:
    at = _after(stage(), _earlier(stage(), **more))
    assert ("debug" in at.plan(action).calls[0]) == debug
    at.apply(action, at.repair(action))
    assert at.forge.written("rerun_failed_jobs")[0].get("debug", False) == debug


def test_debug_logging_can_be_asked_for() -> None:
    at = stage()
    at.apply(action, at.repair(action, {"debug": True}))
    assert at.forge.written("rerun_failed_jobs")[0]["debug"]


def test_what_re_runs_have_healed_often_enough_is_left_to_the_next_rung() -> None:
    healed = _earlier(stage(), RepairState.PROVEN, run_id=7)
    once = _after(stage(), healed)
    assert not once.plan(action).refusal
    assert not once.plan(action, {"healed_at_most": 2}).refusal
    assert "once already" in once.plan(action, {"healed_at_most": 1}).refusal
    long_ago = _earlier(stage(), RepairState.PROVEN, run_id=7, applied_at=NOW - timedelta(days=31))
    assert not _after(stage(), long_ago).plan(action, {"healed_at_most": 1}).refusal
    failed = _after(stage(), _earlier(stage(), RepairState.DISPROVEN, run_id=7))
    assert not failed.plan(action, {"healed_at_most": 1}).refusal


class OthersAreQuicker:
    """Another worker starts the re-run between this one's look and its own call."""

    def __init__(self, at: Stage) -> None:
        self.at = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self.at.forge, name)

    def rerun_failed_jobs(self, run_id: int, *, debug: bool = False) -> None:
        self.at.forge.rerun_failed_jobs(run_id)
        self.at.forge.rerun_failed_jobs(run_id, debug=debug)


def test_of_two_workers_at_once_one_starts_the_re_run_and_both_wait_for_it() -> None:
    at = stage()
    outcome = at.apply(action, at.repair(action), tools=replace(at.tools, forge=OthersAreQuicker(at)))
    assert outcome.data == {"run_id": at.incident.run_id, "attempt": 2}
    assert len(at.forge.written("rerun_failed_jobs")) == 1


def test_a_refusal_of_github_that_is_not_about_a_newer_attempt_is_told() -> None:
    at = stage()
    at.forge.fail_next("rerun_failed_jobs", Refused("this run may not be run again"))
    with pytest.raises(Refused):
        at.apply(action, at.repair(action))


def test_a_run_that_still_runs_is_refused() -> None:
    assert "in progress" in stage(status="in_progress").plan(action).refusal


def test_a_re_run_cannot_be_taken_back() -> None:
    at = stage()
    assert action.undo(at.done(action), at.tools).conclusion is Conclusion.NEUTRAL


def test_unknown_parameters_are_refused() -> None:
    with pytest.raises(ValidationError):
        action.Params.model_validate({"job": "train"})


def test_the_plan_says_how_it_will_be_proven() -> None:
    plan = stage().plan(action)
    assert isinstance(plan, Plan)
    assert "later attempt" in plan.proof
    assert plan.edits == ()
