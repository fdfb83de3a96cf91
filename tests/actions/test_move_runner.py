from typing import Any

import pytest
from pydantic import ValidationError

from actions.move_runner import MoveRunner
from app.domain.outcome import Conclusion
from tests.actions.stage import Stage, crash_everywhere
from tests.actions.workflows import failed

action = MoveRunner()
TEXT = """\
on: push
jobs:
  train:
    runs-on: ubuntu-latest  # small
    steps:
      - run: python train.py
"""
LABELS = {"labels": ["gpu-small", "gpu-large"]}


def without_gpu(runner: str = "ubuntu-latest", **more: Any) -> Stage:
    return failed(TEXT.replace("ubuntu-latest", runner), "gpu_not_found", **more)


@pytest.mark.parametrize(
    ("runner", "then"),
    [
        ("ubuntu-latest", "gpu-small"),
        ("gpu-small", "gpu-large"),
        ('"ubuntu-latest"', '"gpu-small"'),
        ("[self-hosted, gpu-small]", "[self-hosted, gpu-large]"),
    ],
)
def test_the_job_moves_to_the_next_runner_that_is_named(runner: str, then: str) -> None:
    plan = without_gpu(runner).plan(action, LABELS)
    assert not plan.refusal
    assert plan.edits[0].after == TEXT.replace("ubuntu-latest", then)


@pytest.mark.parametrize(
    ("runner", "params", "word"),
    [
        ("ubuntu-latest", {}, "give `move_runner` its `labels`"),
        ("gpu-large", LABELS, "largest runner that is named"),
        ("${{ matrix.os }}", LABELS, "not written as a label"),
        ("{group: big}", LABELS, "not written as a label"),
        ("[self-hosted, linux]", LABELS, "several labels"),
        ("[gpu-small, gpu-large]", LABELS, "several labels"),
    ],
)
def test_other_runners_are_never_guessed(runner: str, params: dict[str, Any], word: str) -> None:
    assert word in without_gpu(runner).plan(action, params).refusal


def test_only_the_job_that_failed_moves() -> None:
    text = TEXT + TEXT.partition("jobs:\n")[2].replace("train:", "other:")
    after = failed(text, "host_oom").plan(action, LABELS).edits[0].after
    assert after == text.replace("ubuntu-latest", "gpu-small", 1)
    assert "cannot tell which job" in failed(text, "host_oom", job="unknown").plan(action, LABELS).refusal


def test_a_job_is_found_by_the_name_that_github_shows() -> None:
    text = TEXT + TEXT.partition("jobs:\n")[2].replace("train:", "other:\n    name: Train on ${{ matrix.gpu }}")
    after = failed(text, "host_oom", job="Train on h200").plan(action, LABELS).edits[0].after or ""
    assert after.count("gpu-small") == 1
    assert after.index("gpu-small") > after.index("other:")


def test_it_is_offered_once_and_taken_back() -> None:
    assert crash_everywhere(without_gpu, lambda at, tools: at.apply(action, at.repair(action, LABELS), tools=tools))
    at = without_gpu()
    done = at.done(action, LABELS)
    for _ in range(2):
        assert action.undo(done, at.tools).conclusion is Conclusion.SUCCESS
    assert list(at.forge.branches) == ["main"]


@pytest.mark.parametrize("label", ["", "two words", "a\nb", "${{ x }}", "-x", "x: y", "a" * 101])
def test_a_label_is_one_word(label: str) -> None:
    with pytest.raises(ValidationError):
        action.Params.model_validate({"labels": [label]})
