from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import ValidationError

from actions.rerun_failed_jobs import RerunFailedJobs
from app.domain.errors import LeaseLost
from app.domain.outcome import Conclusion
from app.domain.repair import Plan
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


def test_a_run_at_githubs_limit_of_attempts_is_refused() -> None:
    at = stage(attempt=50)
    run = at.forge.run(at.incident.run_id)
    at.forge._attempts[run.id] = {50: replace(run, attempt=50)}
    assert "50 attempts" in at.plan(action).refusal


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
