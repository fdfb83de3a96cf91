from typing import Any

import pytest
from pydantic import ValidationError

from actions.edit_config import EditConfig
from app.domain.outcome import Conclusion
from app.domain.policy import Policy
from tests.actions.stage import WORKFLOW, stage

action = EditConfig()
BATCH = {"recipe": "lower_batch_size", "factor": 2}
RATE = {"recipe": "lower_learning_rate", "factor": 10}

STROKES = """\
# Settings. Ask before changing.

batch_size:   4096           # raised from 1024
gradient_accumulation_steps: 1   # batches per update
learning_rate: 0.5
data: {samples: 8192}
"""


def refusal(files: dict[str, str], params: dict[str, Any], **more: Any) -> str:
    return stage(files, **more).plan(action, params).refusal


def test_the_batch_shrinks_and_the_effective_batch_stays() -> None:
    plan = stage({"configs/train.yaml": STROKES}).plan(action, BATCH)
    (edit,) = plan.edits
    assert edit.path == "configs/train.yaml"
    assert edit.after == STROKES.replace("4096", "2048").replace("steps: 1 ", "steps: 2 ")
    assert plan.title == "Lower batch_size from 4096 to 2048"
    assert "4096" in plan.why


def test_the_learning_rate_shrinks_by_ten_unless_told_otherwise() -> None:
    text = '[optimizer]\nname = "sgd"\nlearning_rate = 2.5     # was 0.25\n'
    at = stage({"config.toml": text})
    for params in (RATE, {"recipe": "lower_learning_rate"}):
        assert at.plan(action, params).edits[0].after == text.replace("2.5", "0.25")


def test_several_kinds_of_batch_size_mean_the_one_that_fills_the_memory() -> None:
    text = '{"train_batch_size": 256, "train_micro_batch_size_per_gpu": 64, "gradient_accumulation_steps": 4}'
    plan = stage({"config.json": text}).plan(action, BATCH)
    assert plan.edits[0].after == text.replace("64", "32").replace('steps": 4', 'steps": 8')


def test_the_evaluation_batch_is_not_meant() -> None:
    text = "eval:\n  batch_size: 8\ntrain:\n  batch_size: 64\n  grad_accum: 1\n"
    after = stage({"config.yaml": text}).plan(action, BATCH).edits[0].after
    assert after == text.replace("64", "32").replace("grad_accum: 1", "grad_accum: 2")


def test_without_accumulation_the_training_would_change() -> None:
    assert "no gradient accumulation" in refusal({"config.yaml": "batch_size: 64\n"}, BATCH)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("batch_size: 1\ngrad_accum: 4\n", "already 1"),
        ("batch_size: 5\ngrad_accum: 4\n", "does not divide"),
        ("batch_size: 6.5\ngrad_accum: 4\n", "no count"),
        ("batch_size: 0\ngrad_accum: 4\n", "no count"),
        ("batch_size: 64\ngrad_accum: 0\n", "no count"),
        ("batch_size: auto\ngrad_accum: 1\n", "no configuration file has a batch size"),
    ],
)
def test_a_batch_that_cannot_shrink_is_refused(text: str, word: str) -> None:
    assert word in refusal({"config.yaml": text}, BATCH)


def test_a_learning_rate_at_the_floor_is_refused() -> None:
    assert "already 1e-8" in refusal({"config.yaml": "lr: 1e-8\n"}, RATE)
    assert "cannot be lowered" in refusal({"config.yaml": "lr: 0.0\n"}, RATE)


def test_candidates_of_equal_rank_are_named_and_none_is_changed() -> None:
    files = {"configs/a.yaml": "lr: 1\n", "configs/b.yaml": "lr: 2\n"}
    assert refusal(files, RATE) == "cannot tell which one is meant: lr in configs/a.yaml, lr in configs/b.yaml"
    assert "cannot tell" in refusal({"config.yaml": "a: {lr: 1}\nb: {lr: 1}\n"}, RATE)


def test_the_file_that_the_evidence_names_is_meant() -> None:
    files = {"configs/a.yaml": "lr: 1\n", "configs/b.yaml": "lr: 2\n"}
    assert stage(files, lines=("loading ./configs/b.yaml",)).plan(action, RATE).edits[0].path == "configs/b.yaml"
    assert stage(files, facts={"config": "configs/a.yaml"}).plan(action, RATE).edits[0].path == "configs/a.yaml"


def test_the_file_that_the_workflow_names_is_meant_but_not_in_its_comments() -> None:
    workflow = "jobs:\n  train: # not configs/a.yaml\n    run: python train.py configs/b.yaml\n"
    files = {"configs/a.yaml": "lr: 1\n", "configs/b.yaml": "lr: 2\n", WORKFLOW: workflow}
    assert stage(files).plan(action, RATE).edits[0].path == "configs/b.yaml"


def test_files_that_are_no_configuration_are_left_alone() -> None:
    files = {
        "package.json": '{"lr": 1}',
        "pyproject.toml": "[tool.x]\nlr = 1\n",
        ".github/settings.yml": "lr: 1\n",
        "node_modules/x/config.yaml": "lr: 1\n",
        "train.py": "lr = 1\n",
    }
    assert refusal(files, RATE) == "no configuration file has a learning rate"


def test_a_file_too_large_to_be_settings_is_not_read() -> None:
    assert "no configuration file" in refusal({"config.yaml": "lr: 1\n" + "#" * (256 * 1024)}, RATE)


def test_a_broken_file_does_not_hide_the_next() -> None:
    files = {"config.yaml": "lr: [\n", "conf/train.toml": "lr = 1.0\n"}
    assert stage(files).plan(action, RATE).edits[0].path == "conf/train.toml"


def test_protected_paths_and_branches_are_refused() -> None:
    files = {"configs/train.yaml": STROKES}
    assert "protected" in refusal(files, BATCH, policy=Policy(protected_paths=("configs/**",)))
    assert "protected" in refusal(files, BATCH, policy=Policy(protected_branches=("main",)))


def test_an_edit_of_a_tests_configuration_is_refused() -> None:
    assert "belongs to the tests" in refusal({"tests/config.yaml": "lr: 1\n"}, RATE)


def test_a_plan_becomes_a_pull_request_with_that_change_alone() -> None:
    at = stage({"configs/train.yaml": STROKES, "train.py": "pass\n"})
    outcome = at.apply(action, at.repair(action, BATCH))
    assert outcome.conclusion is Conclusion.SUCCESS
    files = dict(at.forge.commits[outcome.data["head_sha"]].files)
    main = dict(at.forge.commits[at.forge.branches["main"]].files)
    assert {path for path in files if files[path] != main[path]} == {"configs/train.yaml"}
    assert main["configs/train.yaml"] == STROKES


@pytest.mark.parametrize("params", [{}, {"recipe": "delete"}, {**BATCH, "factor": 1}, {**BATCH, "path": "x"}])
def test_unknown_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        action.Params.model_validate(params)
