"""The contract of `app.ports.workflows.WorkflowCheck`, with the real judges."""

import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from app.adapters.workflow_check import MOST_BYTES, WorkflowJudges
from app.domain.errors import Refused, Unreachable

PATH = ".github/workflows/ci.yml"
GOOD = """\
on: push
permissions: {}
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - run: make
"""


def rules(text: str) -> list[str]:
    return [fault.rule for fault in WorkflowJudges().faults(PATH, text)]


def test_a_good_workflow_has_no_fault() -> None:
    assert rules(GOOD) == []


def test_what_github_would_refuse_is_told() -> None:
    assert rules(GOOD.replace("runs-on", "run-on"))[:1] == ["schema"]
    assert rules(GOOD.replace("  a:", "\ta:"))[:1] == ["yaml"]
    assert rules("")[:1] == ["schema"]


def test_what_attackers_use_is_told_with_its_line() -> None:
    text = GOOD.replace("make", "echo ${{ github.event.issue.title }}")
    (fault,) = WorkflowJudges().faults(PATH, text)
    assert (fault.rule, fault.line) == ("scanner/template-injection", 7)


def test_an_exception_of_the_team_counts() -> None:
    text = GOOD.replace("make", "echo ${{ github.event.issue.title }} # zizmor: ignore[template-injection]")
    assert rules(text) == []


@pytest.mark.parametrize("text", ["\x00", "on: &a [*a]\n", "{" * 200, "on: " + "x" * 10_000, "﻿on: push\n", "é: \udcff"])
def test_hostile_files_are_judged_and_nothing_breaks(text: str) -> None:
    assert rules(text)


def test_too_large_files_and_other_files_are_refused() -> None:
    with pytest.raises(Refused):
        WorkflowJudges().faults(PATH, "#" * (MOST_BYTES + 1))
    with pytest.raises(Refused):
        WorkflowJudges().faults("train.py", GOOD)


def test_a_judge_that_does_not_answer_in_time_is_ended() -> None:
    with pytest.raises(Unreachable):
        WorkflowJudges(timeout_s=0.001).faults(PATH, GOOD)


def test_the_judges_see_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GH_TOKEN", "ours")
    seen: list[dict[str, str]] = []
    real = subprocess.Popen

    def watched(command: Sequence[str], **more: Any) -> Any:
        seen.append(dict(more["env"]))
        return real(command, **more)

    monkeypatch.setattr(subprocess, "Popen", watched)
    WorkflowJudges().faults(PATH, GOOD)
    assert len(seen) == 2
    assert all(set(env) == {"PATH", "HOME", "TMPDIR", "LANG"} for env in seen)


def test_one_text_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judges = WorkflowJudges()
    first = judges.faults(PATH, GOOD)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert judges.faults(PATH, GOOD) == first


def test_a_few_aliases_that_mean_billions_of_values_take_little_memory_and_no_space() -> None:
    bomb = "x0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
    for number in range(1, 6):
        bomb += f"x{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n"
    found = WorkflowJudges().faults(PATH, f"on: push\n{bomb}jobs: {{a: *a5}}\n")
    assert "yaml" in {fault.rule for fault in found}
    assert sum(len(fault.message) for fault in found) < 10_000
