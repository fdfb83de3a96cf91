from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from actions.raise_timeout import RaiseTimeout
from app.domain.outcome import Conclusion
from tests.actions.stage import NOW, WORKFLOW, Stage, crash_everywhere
from tests.actions.workflows import failed

action = RaiseTimeout()
TEXT = """\
on: push
jobs:
  train:
    runs-on: ubuntu-latest
    timeout-minutes: 30   # long enough
    steps:
      - uses: actions/checkout@v4
      - name: Train
        run: python train.py
"""
JOB = "The job running on runner GitHub Actions 2 has exceeded the maximum execution time of 30 minutes."
STEP = "##[error]The action 'Train' has timed out after 10 minutes."


def slow(text: str = TEXT, line: str = JOB, minutes: int = 30, took: float | None = None, **facts: Any) -> Stage:
    """`took`: the minutes of the job in a successful run before."""
    at = failed(text, "job_timeout_cancelled", lines=(line,), facts={"minutes": minutes, **facts})
    if took is not None:
        done = at.forge.job("train", "success")
        job = replace(done.job, started_at=NOW - timedelta(minutes=took), completed_at=NOW)
        before = at.forge.push("main", {"README.md": "x"})
        at.forge.branches["main"] = at.incident.head_sha
        at.forge.add_run(head_sha=before, head_branch="main", jobs=[replace(done, job=job)], conclusion="success")
    return at


def after(at: Stage, **params: Any) -> str:
    plan = at.plan(action, params)
    assert not plan.refusal, plan.refusal
    return plan.edits[0].after or ""


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_the_timeout_of_the_job_grows_by_half(eol: str) -> None:
    text = TEXT.replace("\n", eol)
    assert after(slow(text)) == text.replace("minutes: 30 ", "minutes: 45 ")


def test_it_is_rounded_up_and_kept_below_the_cap() -> None:
    text = TEXT.replace("30", "5")
    assert after(slow(text, JOB.replace("30", "5"), 5)) == text.replace("5 ", "8 ")
    assert after(slow(), cap_minutes=40) == TEXT.replace("30 ", "40 ")
    assert "the cap is 30" in slow().plan(action, {"cap_minutes": 30}).refusal


def test_the_timeout_of_the_step_that_ran_out_grows() -> None:
    text = TEXT.replace("        run: python", "        timeout-minutes: 10\n        run: python")
    assert after(slow(text, STEP, 10)) == text.replace("minutes: 10", "minutes: 15")


def test_a_job_without_a_timeout_gets_one_above_the_default_if_the_cap_allows() -> None:
    text = TEXT.replace("    timeout-minutes: 30   # long enough\n", "")
    line = JOB.replace("30", "360")
    assert "the cap is 360" in slow(text, line, 360).plan(action).refusal
    want = text.replace("    steps:", "    timeout-minutes: 540\n    steps:")
    assert after(slow(text, line, 360), cap_minutes=720) == want


def test_what_was_slower_than_usual_gets_more_time_and_what_hangs_does_not() -> None:
    plan = slow(took=25).plan(action)
    assert not plan.refusal
    assert "25.0 minutes" in plan.why
    assert "hangs" in slow(took=2).plan(action).refusal
    assert "hangs" in slow(slower=4.0).plan(action).refusal
    assert not slow(slower=2.0).plan(action).refusal


@pytest.mark.parametrize(
    ("text", "more", "word"),
    [
        (TEXT, {"kind": "cancelled"}, "was cancelled"),
        (TEXT, {"kind": "time_limit"}, "not set in the workflow"),
        (TEXT.replace("minutes: 30", "minutes: ${{ vars.LONG }}"), {}, "no plain number"),
        (TEXT.replace("minutes: 30", "minutes: 0.5"), {}, "no plain number"),
        (
            TEXT.replace("  train:", "  one:") + TEXT.partition("jobs:\n")[2].replace("train:", "two:"),
            {},
            "cannot tell which job",
        ),
        (TEXT, {"line": STEP}, "cannot tell which step"),
    ],
)
def test_what_cannot_be_told_is_refused(text: str, more: dict[str, Any], word: str) -> None:
    assert word in slow(text, **more).plan(action).refusal


def test_steps_with_timeouts_of_their_own_are_not_mixed_up_with_the_job() -> None:
    text = TEXT.replace("        run: python", "        timeout-minutes: 10\n        run: python")
    assert "which of them" in slow(text, "The operation has timed out", 10).plan(action).refusal


def test_it_is_offered_once_and_taken_back() -> None:
    assert crash_everywhere(slow, lambda at, tools: at.apply(action, at.repair(action), tools=tools))
    at = slow()
    done = at.done(action)
    assert done.outcome is not None
    assert at.forge.commits[done.outcome.data["head_sha"]].files[WORKFLOW] == TEXT.replace("30 ", "45 ")
    for _ in range(2):
        assert action.undo(done, at.tools).conclusion is Conclusion.SUCCESS
    assert list(at.forge.branches) == ["main"]


@pytest.mark.parametrize("params", [{"cap_minutes": 0}, {"cap_minutes": 5000}, {"factor": 2}])
def test_unknown_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        action.Params.model_validate(params)
