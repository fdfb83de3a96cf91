from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from actions.tune_divergence import TuneDivergence
from app.domain.outcome import Conclusion
from app.domain.policy import Policy
from tests.actions.stage import WORKFLOW, Stage, crash_everywhere, stage

action = TuneDivergence()
CLIP = {"means": "clip"}
WARM = {"means": "warmup"}
RUNS = "jobs:\n  train:\n    steps:\n      - run: python train.py\n"


def refusal(files: dict[str, str], params: dict[str, Any] | None = None, **more: Any) -> str:
    plan = stage(files, **more).plan(action, params)
    assert not plan.edits
    return plan.refusal


def changed(path: str, text: str, *pairs: tuple[str, str], **more: Any) -> None:
    """Exactly these words of the one file are replaced."""
    expected = text
    for old, new in pairs:
        assert expected.count(old) == 1, old
        expected = expected.replace(old, new)
    at = stage({path: text, **more.pop("files", {})}, **{k: v for k, v in more.items() if k != "params"})
    plan = at.plan(action, more.get("params"))
    assert not plan.refusal, plan.refusal
    assert {edit.path: edit.after for edit in plan.edits} == {path: expected}


def code(text: str, *pairs: tuple[str, str], **more: Any) -> None:
    changed("train.py", text, *pairs, files={WORKFLOW: RUNS}, **more)


# --- a lower learning rate


def test_the_learning_rate_shrinks_by_ten_unless_told_otherwise() -> None:
    text = '[optimizer]\nname = "sgd"\nlearning_rate = 2.5     # was 0.25\n'
    changed("config.toml", text, ("2.5", "0.25"))
    changed("config.toml", text, ("2.5", "0.025"), params={"factor": 100})
    plan = stage({"config.toml": text}).plan(action)
    assert plan.title == "Lower learning_rate from 2.5 to 0.25"


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ('p.add_argument("--lr", type=float, default=1e-3)\n', "1e-3", "1e-4"),
        ("LEARNING_RATE = 3e-4 # Karpathy\n", "3e-4", "3e-5"),
        ("optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)\n", "0.1", "0.01"),
        ("TrainingArguments(learning_rate=.5)\n", ".5", ".05"),
        ("class Config:\n    lr: float = 1\n", "= 1", "= 0.1"),
    ],
)
def test_a_learning_rate_in_python(text: str, old: str, new: str) -> None:
    code(text, (old, new))


def test_a_learning_rate_on_the_command_line_of_a_script() -> None:
    files = {WORKFLOW: RUNS.replace("python train.py", "bash run.sh")}
    changed("run.sh", "python train.py --lr=1e-3\n", ("1e-3", "1e-4"), files=files)


def test_a_learning_rate_that_the_workflow_sets_is_named() -> None:
    files = {WORKFLOW: RUNS.replace("train.py", "train.py --lr 0.1"), "config.yaml": "lr: 0.1\n"}
    assert "`--lr 0.1` stands on a command line in .github/workflows/ci.yml" in refusal(files)


def test_a_learning_rate_at_the_floor_is_refused() -> None:
    assert "already 1e-8" in refusal({"config.yaml": "lr: 1e-8\n"})
    assert "cannot be lowered" in refusal({"config.yaml": "lr: 0.0\n"})


def test_candidates_of_equal_rank_are_named_and_none_is_changed() -> None:
    files = {"configs/a.yaml": "lr: 1\n", "configs/b.yaml": "lr: 2\n"}
    assert refusal(files) == "cannot tell which one is meant: lr in configs/a.yaml, lr in configs/b.yaml"
    assert "cannot tell" in refusal({"config.yaml": "a: {lr: 1}\nb: {lr: 1}\n"})


def test_the_optimizer_s_own_rate_is_favoured() -> None:
    changed("config.yaml", "optimizer: {lr: 1}\nscheduler: {lr: 2}\n", ("lr: 1", "lr: 0.1"))


def test_files_that_are_no_configuration_are_left_alone() -> None:
    files = {
        "package.json": '{"lr": 1}',
        "pyproject.toml": "[tool.x]\nlr = 1\n",
        "node_modules/x/config.yaml": "lr: 1\n",
        "model.py": "lr = 1\n",
    }
    assert refusal(files) == "no configuration file has a learning rate"


def test_the_example_of_the_page_is_what_is_planned_for_the_demonstration() -> None:
    root = Path(__file__).parents[2]
    text = (root / "sandbox/repositories/diverging-training/config.toml").read_text()
    diff = stage({"config.toml": text, WORKFLOW: RUNS}).plan(action).diff()
    assert diff in (root / "docs/plugins/tune_divergence.md").read_text()


# --- clipped gradients


@pytest.mark.parametrize(
    ("path", "text", "old", "new"),
    [
        ("config.yaml", "max_grad_norm: 10 # wide\n", "10", "1.0"),
        ("config.yaml", "trainer: {gradient_clip_val: null}\n", "null", "1.0"),
        ("config.yaml", "gradient_clip_val:\nlr: 1\n", "gradient_clip_val:", "gradient_clip_val: 1.0"),
        ("config.yaml", "clip_grad_norm: false\n", "false", "true"),
        ("config.toml", "grad_clip = 1.0\n", "1.0", "0.1"),
        ("ds.json", '{"gradient_clipping": 0.5}', "0.5", "0.05"),
    ],
)
def test_gradients_are_clipped_where_there_is_a_key(path: str, text: str, old: str, new: str) -> None:
    changed(path, text, (old, new), params=CLIP)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("clip_grad_norm_(model.parameters(), 5.0)\n", "5.0", "1.0"),
        ("clip_grad_norm_(model.parameters(), max_norm=5.0)\n", "5.0", "1.0"),
        ("p.add_argument('--grad-clip', default=None, type=float)\n", "None", "1.0"),
        ("TrainingArguments('x', max_grad_norm=1.0)\n", "1.0", "0.1"),
        ("TrainingArguments('x', learning_rate=1)\n", "learning", "max_grad_norm=0.1, learning"),
        ("import lightning as L\nL.Trainer(max_epochs=2)\n", "max_e", "gradient_clip_val=1.0, max_e"),
    ],
)
def test_gradients_are_clipped_in_python(text: str, old: str, new: str) -> None:
    code(text, (old, new), params=CLIP)


def test_deepspeed_gets_a_limit_for_its_gradients() -> None:
    text = '{"train_micro_batch_size_per_gpu": 4}'
    changed("ds.json", text, ('{"', '{"gradient_clipping": 1.0, "'), params=CLIP)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("max_grad_norm: 0.05\n", "already 0.05"),
        ("clip_grad_norm: true\n", "is on already"),
        ("max_grad_norm: ${x}\n", "no framework is known"),
        ("a: {grad_clip: 5}\nb: {grad_clip: 5}\n", "cannot tell which one is meant"),
        ("lr: 1\n", "no framework is known"),
    ],
)
def test_gradients_that_cannot_be_clipped_are_refused(text: str, word: str) -> None:
    assert word in refusal({"config.yaml": text}, CLIP)


# --- a longer warm-up


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("warmup_steps: 20\nmax_steps: 1000\n", "20", "200"),
        ("warmup_steps: 80\nmax_steps: 1000\n", "80", "500"),
        ("warmup_steps: 0\nmax_steps: 1000\n", ": 0\n", ": 100\n"),
        ("num_warmup_steps: 20\n", "20", "200"),
        ("warmup_ratio: 0.0\n", "0.0", "0.1"),
        ("warmup_ratio: 0.03\n", "0.03", "0.1"),
        ("warmup_ratio: 0.2\n", "0.2", "0.4"),
    ],
)
def test_the_warm_up_grows(text: str, old: str, new: str) -> None:
    changed("config.yaml", text, (old, new), params=WARM)


def test_training_arguments_get_a_warm_up() -> None:
    code("TrainingArguments(learning_rate=1)\n", ("(l", "(warmup_ratio=0.1, l"), params=WARM)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("warmup_steps: 0\n", "nothing beside it says how many steps there are"),
        ("warmup_steps: 500\nmax_steps: 1000\n", "already 500, of 1000 steps"),
        ("warmup_steps: 1.5\n", "no count"),
        ("warmup_ratio: 0.3\n", "already 0.3"),
        ("warmup_ratio: 0.1\nlr_scheduler_type: constant\n", "is constant, which takes no warm-up"),
        ("lr: 1\n", "no configuration file has a warm-up"),
    ],
)
def test_a_warm_up_that_cannot_grow_is_refused(text: str, word: str) -> None:
    assert word in refusal({"config.yaml": text}, WARM)


# --- the last finite checkpoint

LOG = """\
step 10 loss 0.41
saved checkpoint runs/step-10.ckpt
step 20 loss 0.32
saved checkpoint runs/step-20.ckpt
step 30 loss nan
saved checkpoint runs/step-30.ckpt
FloatingPointError: loss is nan at step 31
"""


def resumed(text: str, log: str = LOG, *there: str) -> str:
    """The configuration after the repair, with this log of the failed job and these files in the repository."""
    files = {"config.yaml": text, WORKFLOW: RUNS, **dict.fromkeys(there, "weights")}
    plan = stage(files, log=log.encode()).plan(action)
    expired = stage(files, log=None, lines=tuple(log.splitlines())).plan(action)
    assert plan == expired, "without a log, the lines of evidence tell it"
    assert not plan.refusal, plan.refusal
    return plan.edits[0].after or ""


def test_training_goes_on_from_the_last_checkpoint_before_the_loss_was_lost() -> None:
    text = "lr: 1\nresume_from_checkpoint: null # path\n"
    expected = "lr: 0.1\nresume_from_checkpoint: runs/step-20.ckpt # path\n"
    assert resumed(text, LOG, "runs/step-10.ckpt", "runs/step-20.ckpt", "runs/step-30.ckpt") == expected


def test_a_checkpoint_in_a_bucket_is_still_there() -> None:
    log = "saving s3://team/run/checkpoint-200\nloss is nan\n"
    assert resumed("lr: 1\nckpt_path: ''\n", log) == "lr: 0.1\nckpt_path: 's3://team/run/checkpoint-200'\n"


def test_what_the_log_calls_the_last_finite_one_is_taken() -> None:
    log = "loss is nan; last finite checkpoint: /data/run/a.pt\n"
    assert resumed("lr: 1\nresume: old/b.pt\n", log) == "lr: 0.1\nresume: /data/run/a.pt\n"


@pytest.mark.parametrize(
    ("text", "log", "there"),
    [
        ("lr: 1\nresume: null\n", LOG, ()),  # it was lost with the machine
        ("lr: 1\nresume: null\n", "loss is nan\n", ("runs/a.ckpt",)),  # nobody names one
        ("lr: 1\nresume: null\n", "loss is nan\nsaved /data/a.ckpt\n", ()),  # only after
        ("lr: 1\nresume: null\n", "loaded /data/a.ckpt\nloss is nan\n", ()),  # not saved by it
        ("lr: 1\nresume: auto\n", "saved /data/a.ckpt\nloss is nan\n", ()),
        ("lr: 1\nresume: false\n", "saved /data/a.ckpt\nloss is nan\n", ()),
        ("lr: 1\nresume: /data/a.ckpt\n", "saved /data/a.ckpt\nloss is nan\n", ()),
        ("lr: 1\n", "saved /data/a.ckpt\nloss is nan\n", ()),
    ],
)
def test_where_nobody_names_one_that_is_there_nothing_is_resumed(text: str, log: str, there: tuple[str, ...]) -> None:
    assert resumed(text, log, *there) == text.replace("lr: 1", "lr: 0.1")


# --- what every edit is held to


def test_protected_paths_and_branches_are_refused() -> None:
    files = {"config.yaml": "lr: 1\n"}
    assert "protected" in refusal(files, policy=Policy(protected_paths=("config.yaml",)))
    assert "protected" in refusal(files, policy=Policy(protected_branches=("main",)))


def test_an_edit_of_a_tests_configuration_is_refused() -> None:
    assert "belongs to the tests" in refusal({"tests/config.yaml": "lr: 1\n"})


def test_stopped_anywhere_it_happens_once() -> None:
    def act(at: Stage, tools: Any) -> Any:
        return at.apply(action, at.repair(action), tools=tools)

    assert crash_everywhere(lambda: stage({"config.yaml": "lr: 1\n"}), act) > 0


def test_undone_it_leaves_no_trace() -> None:
    at = stage({"config.yaml": "lr: 1\n"})
    repair = at.done(action)
    assert [action.undo(repair, at.tools).conclusion for _ in range(2)] == [Conclusion.SUCCESS] * 2
    assert set(at.forge.branches) == {"main"}
    assert dict(at.forge.commits[at.forge.branches["main"]].files)["config.yaml"] == "lr: 1\n"


@pytest.mark.parametrize("params", [{"means": "pray"}, {"factor": 1}, {"path": "x"}])
def test_unknown_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        action.Params.model_validate(params)
