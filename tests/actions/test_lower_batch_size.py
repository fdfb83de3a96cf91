import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from actions.lower_batch_size import LowerBatchSize
from app.domain.outcome import Conclusion
from app.domain.policy import Policy
from tests.actions.stage import WORKFLOW, Stage, crash_everywhere, stage

action = LowerBatchSize()
FOUR = {"factor": 4}
RUNS = "jobs:\n  train:\n    steps:\n      - run: python train.py\n"

STROKES = """\
# Settings. Ask before changing.

batch_size:   4096           # raised from 1024
gradient_accumulation_steps: 1   # batches per update
learning_rate: 0.5
data: {samples: 8192}
"""


def refusal(files: dict[str, str], params: dict[str, Any] | None = None, **more: Any) -> str:
    plan = stage(files, **more).plan(action, params)
    assert not plan.edits
    return plan.refusal


def after(files: dict[str, str], params: dict[str, Any] | None = None, **more: Any) -> dict[str, str]:
    """The new text of the files that would change."""
    plan = stage(files, **more).plan(action, params)
    assert not plan.refusal, plan.refusal
    return {edit.path: edit.after or "" for edit in plan.edits}


def changed(path: str, text: str, *pairs: tuple[str, str], **more: Any) -> None:
    """Exactly these words of the one file are replaced."""
    expected = text
    for old, new in pairs:
        assert expected.count(old) == 1, old
        expected = expected.replace(old, new)
    files = {path: text, **more.pop("files", {})}
    assert after(files, **more) == {path: expected}


def code(text: str, *pairs: tuple[str, str], **more: Any) -> None:
    changed("train.py", text, *pairs, files={WORKFLOW: RUNS, **more.pop("files", {})}, **more)


# --- numbers in configuration files


def test_the_batch_shrinks_and_the_effective_batch_stays() -> None:
    plan = stage({"configs/train.yaml": STROKES}).plan(action)
    (edit,) = plan.edits
    assert edit.path == "configs/train.yaml"
    assert edit.after == STROKES.replace("4096", "2048").replace("steps: 1 ", "steps: 2 ")
    assert plan.title == "Lower batch_size from 4096 to 2048"
    assert "4096" in plan.why
    assert "the effective batch stays 4096" in plan.why


def test_the_factor_says_how_much() -> None:
    changed("config.toml", "batch_size = 64\ngrad_accum = 3\n", ("64", "16"), ("3", "12"), params=FOUR)


def test_several_kinds_of_batch_size_mean_the_one_that_fills_the_memory() -> None:
    text = '{"train_batch_size": 256, "train_micro_batch_size_per_gpu": 64, "gradient_accumulation_steps": 4}'
    changed("config.json", text, ("64", "32"), ('steps": 4', 'steps": 8'))


def test_the_evaluation_batch_is_not_meant() -> None:
    for section in ("eval", "validation", "val_loader", "test", "inference"):
        text = f"{section}:\n  batch_size: 8\ntrain:\n  batch_size: 64\n  grad_accum: 1\n"
        changed("config.yaml", text, ("64", "32"), ("grad_accum: 1", "grad_accum: 2"))


def test_without_accumulation_the_training_would_change() -> None:
    assert "no gradient accumulation" in refusal({"config.yaml": "batch_size: 64\n"})


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("batch_size: 1\ngrad_accum: 4\n", "already 1"),
        ("batch_size: 127\ngrad_accum: 4\n", "does not divide"),
        ("batch_size: 6.5\ngrad_accum: 4\n", "no count"),
        ("batch_size: 0\ngrad_accum: 4\n", "no count"),
        ("batch_size: 64\ngrad_accum: 0\n", "no count"),
        ("batch_size: auto\ngrad_accum: 1\n", "batch_size in config.yaml is auto, which is no plain number"),
        ("batch_size: 64\ngrad_accum: auto\n", "grad_accum in config.yaml is auto, which is no plain number"),
        ("batch_size: ${oc.env:BATCH,64}\ngrad_accum: 1\n", "${oc.env:BATCH,64}"),
        ("batch_size: &b 64\nprefetch: *b\ngrad_accum: 1\n", "no plain number"),
        ("name: x\n", "no configuration file has a batch size"),
    ],
)
def test_a_batch_that_cannot_shrink_is_refused(text: str, word: str) -> None:
    assert word in refusal({"config.yaml": text})


@pytest.mark.parametrize(
    ("size", "steps", "factor", "smaller", "more"),
    [(6, 1, 2, 3, 2), (7, 1, 2, 1, 7), (5, 4, 2, 2, 10), (9, 2, 2, 3, 6), (100, 3, 8, 12, 25), (48, 1, 32, 1, 48)],
)
def test_a_batch_that_does_not_divide_takes_the_next_smaller_one_that_does(
    size: int, steps: int, factor: int, smaller: int, more: int
) -> None:
    assert size * steps == smaller * more
    text = f"batch_size: {size}\ngrad_accum: {steps}\n"
    assert after({"config.yaml": text}, {"factor": factor}) == {
        "config.yaml": f"batch_size: {smaller}\ngrad_accum: {more}\n"
    }


def test_candidates_of_equal_rank_are_named_and_none_is_changed() -> None:
    text = "batch_size: 8\ngrad_accum: 1\n"
    files = {"configs/a.yaml": text, "configs/b.yaml": text}
    assert refusal(files) == (
        "cannot tell which one is meant: batch_size in configs/a.yaml, batch_size in configs/b.yaml"
    )
    assert "cannot tell" in refusal({"config.yaml": "a: {batch_size: 1}\nb: {batch_size: 1}\n"})


def test_the_file_that_the_evidence_names_is_meant() -> None:
    text = "batch_size: 8\ngrad_accum: 1\n"
    files = {"configs/a.yaml": text, "configs/b.yaml": text}
    assert [*after(files, lines=("loading ./configs/b.yaml",))] == ["configs/b.yaml"]
    assert [*after(files, facts={"config": "configs/a.yaml"})] == ["configs/a.yaml"]


def test_the_file_that_the_workflow_names_is_meant_but_not_in_its_comments() -> None:
    text = "batch_size: 8\ngrad_accum: 1\n"
    workflow = "jobs:\n  train: # not configs/a.yaml\n    run: python train.py configs/b.yaml\n"
    assert [*after({"configs/a.yaml": text, "configs/b.yaml": text, WORKFLOW: workflow})] == ["configs/b.yaml"]


def test_files_that_are_no_configuration_are_left_alone() -> None:
    text = '{"batch_size": 8, "grad_accum": 1}'
    files = {
        "package.json": text,
        "pyproject.toml": "[tool.x]\nbatch_size = 1\n",
        ".github/settings.yml": text,
        "node_modules/x/config.yaml": text,
        "library/loader.py": "BATCH_SIZE = 8\nGRAD_ACCUM = 1\n",
        "tests/train.py": "BATCH_SIZE = 8\nGRAD_ACCUM = 1\n",
    }
    assert refusal(files) == "no configuration file has a batch size"


def test_a_file_too_large_to_be_settings_is_not_read() -> None:
    assert "no configuration file" in refusal({"config.yaml": "batch_size: 8\n" + "#" * (256 * 1024)})


def test_a_broken_file_does_not_hide_the_next() -> None:
    files = {"config.yaml": "batch_size: [\n", "conf/train.toml": "batch_size = 8\ngrad_accum = 1\n"}
    assert [*after(files)] == ["conf/train.toml"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_comments_order_quotes_and_line_ends_stay(end: str) -> None:
    text = end.join(["# π: ask 🧪", "train:", "    x: 1", "    batch_size:   4_096 # rows", "    grad_accum: 1", ""])
    changed("config.yaml", text, ("4_096", "2_048"), ("grad_accum: 1", "grad_accum: 2"))


# --- frameworks with a default of their own


def test_deepspeed_counts_one_step_where_none_is_told() -> None:
    text = '{\n  "train_micro_batch_size_per_gpu": 8,\n  "zero_optimization": {"stage": 2}\n}\n'
    assert after({"ds_config.json": text}) == {
        "ds_config.json": text.replace(
            '"train_micro_batch_size_per_gpu": 8',
            '"gradient_accumulation_steps": 2,\n  "train_micro_batch_size_per_gpu": 4',
        )
    }


def test_deepspeed_on_one_line_with_its_key_last() -> None:
    text = '{"zero_optimization":{"stage":2},"train_micro_batch_size_per_gpu":8}'
    new = after({"ds_config.json": text})["ds_config.json"]
    assert json.loads(new) == {
        "zero_optimization": {"stage": 2},
        "gradient_accumulation_steps": 2,
        "train_micro_batch_size_per_gpu": 4,
    }


def test_deepspeed_keeps_the_whole_batch() -> None:
    text = '{"train_batch_size": 128, "train_micro_batch_size_per_gpu": 8, "gradient_accumulation_steps": 4}'
    new = json.loads(after({"ds.json": text})["ds.json"])
    assert new == {"train_batch_size": 128, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 8}


def test_deepspeed_told_the_whole_batch_and_the_part_derives_the_steps() -> None:
    changed("ds.json", '{"train_batch_size": 128, "train_micro_batch_size_per_gpu": 8}', ('u": 8', 'u": 4'))


def test_deepspeed_told_only_the_whole_batch_takes_more_steps() -> None:
    text = '{"train_batch_size": 128, "gradient_accumulation_steps": 2, "zero_optimization": {"stage": 3}}'
    changed("ds.json", text, ('steps": 2', 'steps": 4'))


def test_megatron_derives_the_steps_from_the_global_batch() -> None:
    changed("conf/gpt.yaml", "micro_batch_size: 4\nglobal_batch_size: 256\n", ("size: 4", "size: 2"))


def test_training_arguments_in_python() -> None:
    text = """\
from transformers import TrainingArguments

args = TrainingArguments(
    output_dir="out",
    per_device_train_batch_size=32,  # fits an A100
    per_device_eval_batch_size=64,
    gradient_accumulation_steps=2,
)
"""
    code(text, ("size=32", "size=16"), ("steps=2", "steps=4"))


def test_training_arguments_without_accumulation_get_it_on_a_line_of_its_own() -> None:
    text = 'a = 1\nargs = TrainingArguments(\n    "out",\n    per_device_train_batch_size=32,  # fits\n)\n'
    code(
        text,
        (
            "    per_device_train_batch_size=32",
            "    gradient_accumulation_steps=2,\n    per_device_train_batch_size=16",
        ),
    )


def test_the_call_is_added_to_rather_than_the_default_of_its_class_changed() -> None:
    text = "from trainer import TrainingArguments\nTrainingArguments(per_device_train_batch_size=32)\n"
    files = {"trainer.py": "class TrainingArguments:\n    gradient_accumulation_steps: int = 1\n"}
    code(
        text,
        ("(per_device_train_batch_size=32", "(gradient_accumulation_steps=2, per_device_train_batch_size=16"),
        files=files,
    )


def test_training_arguments_on_one_line() -> None:
    code(
        'args = TrainingArguments("out", per_device_train_batch_size=32)\n',
        ("per_device_train_batch_size=32", "gradient_accumulation_steps=2, per_device_train_batch_size=16"),
    )


def test_an_option_that_training_arguments_are_given() -> None:
    text = """\
parser.add_argument("-b", "--batch-size", type=int, default=64, help="rows")
args = parser.parse_args()
t = TrainingArguments(per_device_train_batch_size=args.batch_size)
"""
    code(
        text,
        ("default=64", "default=32"),
        ("(per_device_train", "(gradient_accumulation_steps=2, per_device_train"),
    )


def test_training_arguments_from_a_dictionary_are_not_added_to() -> None:
    text = "t = TrainingArguments(per_device_train_batch_size=64, **more)\n"
    assert "no gradient accumulation" in refusal({"train.py": text, WORKFLOW: RUNS})


def test_the_lightning_trainer_gets_its_accumulation() -> None:
    text = "import lightning as L\n\nBATCH_SIZE = 64\ntrainer = L.Trainer(max_epochs=3)\n"
    code(text, ("= 64", "= 32"), ("max_epochs=3", "accumulate_grad_batches=2, max_epochs=3"))


def test_the_lightning_command_line_reads_it_from_its_configuration() -> None:
    text = "trainer:\n  max_epochs: 3 # long\n  devices: 1\ndata:\n  batch_size: 64\n"
    changed("config.yaml", text, ("64", "32"), ("  devices", "  accumulate_grad_batches: 2\n  devices"))


def test_a_trainer_of_nobody_knows_whom_is_not_added_to() -> None:
    text = "from mine import Trainer\nBATCH_SIZE = 64\nTrainer(max_epochs=3)\n"
    assert "no gradient accumulation" in refusal({"train.py": text, WORKFLOW: RUNS})


def test_a_configuration_that_training_arguments_read_gets_its_accumulation() -> None:
    files = {WORKFLOW: RUNS, "train.py": "TrainingArguments(**load('args.yaml'))\n"}
    text = "lr: 1\nper_device_train_batch_size: 8 # fits\n"
    changed(
        "args.yaml",
        text,
        ("8 # fits\n", "4 # fits\ngradient_accumulation_steps: 2\n"),
        files=files,
    )
    assert "no gradient accumulation" in refusal({"args.yaml": text})


# --- Python


@pytest.mark.parametrize(
    "text",
    [
        'p.add_argument("--batch-size", default=64, type=int)\np.add_argument("--grad-accum", default=1, type=int)\n',
        'p.add_argument("-b", dest="batch_size", default=64)\np.add_argument("--grad_accum", default=1)\n',
        '@click.option("--batch-size", default=64)\n@click.option("--grad-accum", default=1)\ndef main(): ...\n',
        "@app.command()\ndef main(batch_size: int = 64, grad_accum: int = 1): ...\n",
        "@app.command()\ndef main(*, batch_size=typer.Option(64, min=2), grad_accum=typer.Option(default=1)): ...\n",
        "def main(batch_size=64, grad_accum=1): ...\nfire.Fire(main)\n",
        'flags.DEFINE_integer("batch_size", 64, "rows")\nflags.DEFINE_integer("grad_accum", 1, "steps")\n',
        "@dataclass\nclass Config:\n    batch_size: int = 64\n    grad_accum: int = 1\n",
        "class Config(BaseModel):\n    batch_size: int = Field(64, gt=0)\n    grad_accum: int = field(default=1)\n",
        "BATCH_SIZE = 64\nGRAD_ACCUM = 1\n",
        'config = {"batch_size": 64, "grad_accum": 1}\n',
        "def main():\n    batch_size = 64\n    grad_accum = 1\n",
        "loader = DataLoader(d, batch_size=64)\nfit(loader, grad_accum=1)\n",
        "train_loader = DataLoader(d, batch_size=64)\nval_loader = DataLoader(v, batch_size=128)\nGRAD_ACCUM = 1\n",
        "BATCH_SIZE = 64\nGRAD_ACCUM = 1\nval = DataLoader(v, batch_size=128)\n",
        "# π 🧪\r\nNAME = 'ü'; BATCH_SIZE = 64 # rows\r\nGRAD_ACCUM = 1\r\n",
        "BATCH_SIZE = 64\n\x0cGRAD_ACCUM = 1\n",
    ],
)
def test_settings_in_python_are_found_and_only_their_numbers_change(text: str) -> None:
    plan = stage({"train.py": text, WORKFLOW: RUNS}).plan(action)
    assert not plan.refusal, plan.refusal
    at = text.lower().index("accum")
    one = re.compile(r"\b1\b").search(text, at)
    assert one is not None
    expected = text[: one.start()] + "2" + text[one.end() :]
    assert plan.edits[0].after == expected.replace("64", "32", 1)


def test_a_product_counts() -> None:
    text = "batch_size = 12\ngradient_accumulation_steps = 5 * 8 # used to simulate larger batches\n"
    code(text, ("12", "6"), ("5 * 8", "80"))


@pytest.mark.parametrize(
    "text",
    [
        "def loader(batch_size=64, grad_accum=1): ...\n",
        "BATCH_SIZE = int(os.environ['BATCH_SIZE'])\nGRAD_ACCUM = 1\n",
        "BATCH_SIZE = 0x40\nGRAD_ACCUM = 1\n",
        "BATCH_SIZE = 64 if big else 32\nGRAD_ACCUM = 1\n",
        "x = '''\nBATCH_SIZE = 64\n'''\n",
        "BATCH_SIZE = 64\nGRAD_ACCUM = 1\n" + "x = " + "(" * 5000 + ")" * 5000,
        "BATCH_SIZE = 64\nGRAD_ACCUM = 1\n" + "x = " + "-" * 90_000 + "1",
        "BATCH_SIZE = 64\nGRAD_ACCUM = 1\n" + "x = a" + ".b" * 90_000,
        "BATCH_SIZE = 64\nGRAD_ACCUM = 1\n\0",
        "BATCH_SIZE = 64\nGRAD_ACCUM = 1\nx = " + "9" * 9000,
        "batch_size: 64\n",
    ],
)
def test_what_cannot_be_read_for_sure_in_python_is_left_alone(text: str) -> None:
    assert refusal({"train.py": text, WORKFLOW: RUNS})


def test_two_settings_of_one_file_are_named() -> None:
    text = "class A:\n    batch_size = 64\n\nclass B:\n    batch_size = 32\n\nGRAD_ACCUM = 1\n"
    assert refusal({"train.py": text, WORKFLOW: RUNS}) == (
        "cannot tell which one is meant: A.batch_size in train.py, B.batch_size in train.py"
    )


def test_the_configuration_that_the_code_names_goes_before_its_defaults() -> None:
    script = "BATCH_SIZE = 8\nGRAD_ACCUM = 1\nload('settings/big.toml')\n"
    files = {WORKFLOW: RUNS, "train.py": script, "settings/other.toml": "batch_size = 2\ngrad_accum = 1\n"}
    changed("settings/big.toml", "batch_size = 64\ngrad_accum = 1\n", ("64", "32"), ("m = 1", "m = 2"), files=files)


def test_the_program_that_the_workflow_starts_goes_before_configuration_that_nobody_names() -> None:
    files = {"configs/serve.yaml": "batch_size: 2\ngrad_accum: 1\n"}
    code("BATCH_SIZE = 64\nGRAD_ACCUM = 1\n", ("64", "32"), ("M = 1", "M = 2"), files=files)


def test_a_program_that_is_given_to_another_one_goes_before_it() -> None:
    files = {
        WORKFLOW: RUNS.replace("train.py", "train.py --x config/small.py"),
        "train.py": "batch_size = 8\ngrad_accum = 1\n",
    }
    changed("config/small.py", "batch_size = 64\ngrad_accum = 1\n", ("64", "32"), ("m = 1", "m = 2"), files=files)


def test_the_parameters_of_a_class_are_defaults_that_calls_may_contradict() -> None:
    text = "class Data:\n    def __init__(self, batch_size: int = 64): ...\n\nGRAD_ACCUM = 1\n"
    code(text, ("64", "32"), ("= 1\n", "= 2\n"))
    called = f"{text}Data(batch_size=16)\n"
    assert "cannot tell which one is meant: Data.__init__().batch_size" in refusal({"train.py": called, WORKFLOW: RUNS})


def test_the_example_of_the_page_is_what_is_planned() -> None:
    text = """\
import argparse
from transformers import Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=64)  # rows
args = parser.parse_args()
training = TrainingArguments("out", per_device_train_batch_size=args.batch_size)
"""
    diff = stage({"train.py": text, WORKFLOW: RUNS}).plan(action).diff()
    assert diff in (Path(__file__).parents[2] / "docs/plugins/lower_batch_size.md").read_text()


def test_a_module_that_the_program_imports_is_read() -> None:
    files = {
        WORKFLOW: "jobs: {train: {steps: [{run: python -m project.train}]}}\n",
        "src/project/train.py": "from project.settings import Settings\nfrom . import nothing\n",
        "src/project/nothing.py": "",
    }
    text = "class Settings:\n    batch_size: int = 64\n    grad_accum: int = 1\n"
    changed("src/project/settings.py", text, ("64", "32"), ("= 1\n", "= 2\n"), files=files)


# --- Hydra


HYDRA = {
    WORKFLOW: RUNS,
    "train.py": '@hydra.main(config_path="conf", config_name="config")\ndef main(cfg): ...\n',
    "conf/config.yaml": "defaults:\n  - data: cifar\n  - override trainer: long\n  - _self_\nseed: 1\n",
    "conf/data/cifar.yaml": "batch_size: 64\n",
    "conf/data/imagenet.yaml": "batch_size: 256\n",
    "conf/trainer/long.yaml": "accumulate_grad_batches: 1\n",
    "conf/trainer/short.yaml": "accumulate_grad_batches: 1\n",
}


def test_only_the_options_that_the_defaults_list_chooses_are_meant() -> None:
    assert after(HYDRA) == {
        "conf/data/cifar.yaml": "batch_size: 32\n",
        "conf/trainer/long.yaml": "accumulate_grad_batches: 2\n",
    }


def test_an_option_on_the_command_line_chooses_another() -> None:
    files = {**HYDRA, WORKFLOW: RUNS.replace("train.py", "train.py data=imagenet")}
    assert after(files)["conf/data/imagenet.yaml"] == "batch_size: 128\n"


def test_an_interpolated_value_is_changed_at_its_source() -> None:
    text = "data:\n  rows: 64 # at once\ntrain:\n  batch_size: ${data.rows}\n  grad_accum: 1\n"
    changed("config.yaml", text, ("64", "32"), ("grad_accum: 1", "grad_accum: 2"))
    relative = text.replace("${data.rows}", "${..data.rows}")
    changed("config.yaml", relative, ("64", "32"), ("grad_accum: 1", "grad_accum: 2"))


def test_an_interpolated_value_is_changed_in_the_group_that_it_comes_from() -> None:
    files = {**HYDRA, "conf/config.yaml": HYDRA["conf/config.yaml"] + "loader:\n  batch_size: ${data.rows}\n"}
    files["conf/data/cifar.yaml"] = "rows: 64\n"
    assert after(files)["conf/data/cifar.yaml"] == "rows: 32\n"


def test_an_interpolation_that_leads_nowhere_is_named() -> None:
    text = "train:\n  batch_size: ${data.rows}\n  grad_accum: 1\n"
    assert refusal({"config.yaml": text}) == (
        "train.batch_size in config.yaml is ${data.rows}, which is no plain number"
    )


# --- command lines


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("python train.py --batch-size 64", "`--batch-size 64`"),
        ("python train.py --batch_size=64", "`--batch_size=64`"),
        ("python train.py train.batch_size=64", "`train.batch_size=64`"),
        ("python train.py ++train.batch_size='64'", "`++train.batch_size='64'`"),
        ("python train.py --grad-accum ${{ inputs.steps }}", "`--grad-accum ${{`"),
        ("python train.py\n        env:\n          BATCH_SIZE: 64", "`BATCH_SIZE: 64`"),
    ],
)
def test_what_the_workflow_sets_itself_is_named_and_left_to_a_person(command: str, named: str) -> None:
    files = {"configs/train.yaml": STROKES, WORKFLOW: RUNS.replace("python train.py", command)}
    assert refusal(files) == f"{named} stands on a command line in {WORKFLOW}, which is a person's to change"


def test_the_batch_of_an_evaluation_on_the_command_line_is_no_matter() -> None:
    files = {WORKFLOW: RUNS.replace("train.py", "train.py --eval-batch-size 64 # --batch-size 3")}
    changed("configs/train.yaml", STROKES, ("4096", "2048"), ("steps: 1 ", "steps: 2 "), files=files)


SCRIPT = """\
#!/bin/sh
# python train.py --batch-size 1
echo "python train.py --batch-size 8"
exec python train.py \\
    --batch-size 64 \\
    --grad-accum "1" 2>&1
"""
BY_SCRIPT = {WORKFLOW: RUNS.replace("python train.py", "sh scripts/train.sh")}


def test_a_script_that_the_workflow_runs_goes_before_every_file() -> None:
    files = {**BY_SCRIPT, "configs/train.yaml": STROKES}
    changed("scripts/train.sh", SCRIPT, ("64", "32"), ('"1"', '"2"'), files=files)


def test_a_makefile_that_the_workflow_runs_is_read() -> None:
    files = {WORKFLOW: RUNS.replace("python train.py", "make train")}
    text = "train:\n\tpython train.py batch_size=64 grad_accum=1\n"
    changed("Makefile", text, ("64", "32"), ("accum=1", "accum=2"), files=files)


def test_a_script_gets_the_option_that_training_arguments_know() -> None:
    text = "torchrun run_clm.py --per_device_train_batch_size 8 --bf16\n"
    changed("scripts/train.sh", text, ("size 8", "size 4 --gradient_accumulation_steps 2"), files=BY_SCRIPT)


def test_a_variable_that_the_script_sets_is_changed_where_it_is_set() -> None:
    text = 'BATCH_SIZE=64\nGRAD_ACCUM=1\npython train.py --batch-size "$BATCH_SIZE" --grad-accum ${GRAD_ACCUM}\n'
    changed("scripts/train.sh", text, ("=64", "=32"), ("=1", "=2"), files=BY_SCRIPT)


def test_a_variable_in_a_script_is_named() -> None:
    files = {**BY_SCRIPT, "scripts/train.sh": "python train.py --batch-size $SIZE --grad-accum 1\n"}
    assert refusal(files) == "--batch-size is $SIZE in scripts/train.sh, which is no plain number"


def test_a_script_that_nobody_runs_is_no_matter() -> None:
    files = {"scripts/other.sh": SCRIPT}
    changed("configs/train.yaml", STROKES, ("4096", "2048"), ("steps: 1 ", "steps: 2 "), files=files)


# --- other means


def test_gradient_checkpointing_is_turned_on_where_its_key_is() -> None:
    means = {"means": "gradient_checkpointing"}
    changed("config.yaml", "gradient_checkpointing: False # slow\n", ("False", "True"), params=means)
    changed("config.toml", "[model]\ngradient_checkpointing = false\n", ("false", "true"), params=means)
    code("TrainingArguments(gradient_checkpointing=False)\n", ("=False", "=True"), params=means)
    code("TrainingArguments('x', bf16=True)\n", ("bf16", "gradient_checkpointing=True, bf16"), params=means)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x = 1\n", "no TrainingArguments were found"),
        ("TrainingArguments(gradient_checkpointing=True)\n", "is on already"),
        ("TrainingArguments(gradient_checkpointing=args.gc)\n", "cannot be changed here"),
        ("TrainingArguments(bf16=True, **more)\n", "cannot be changed here"),
        ("TrainingArguments(x=1)\nTrainingArguments(x=2)\n", "cannot tell which one is meant"),
    ],
)
def test_gradient_checkpointing_that_cannot_be_turned_on_is_refused(text: str, word: str) -> None:
    assert word in refusal({"train.py": text, WORKFLOW: RUNS}, {"means": "gradient_checkpointing"})


def test_bfloat16_takes_the_place_of_float16() -> None:
    means = {"means": "bf16"}
    changed(
        "config.yaml", "bf16: false\nfp16: true\n", ("false", "TRUE"), ("true", "false"), ("TRUE", "true"), params=means
    )
    text = '{"bf16": {"enabled": false}, "fp16": {"enabled" : true}, "wandb": {"enabled": true}}'
    expected = '{"bf16": {"enabled": true}, "fp16": {"enabled" : false}, "wandb": {"enabled": true}}'
    assert after({"ds.json": text}, means) == {"ds.json": expected}
    code("TrainingArguments('x', fp16=True)\n", ("fp16=True", "bf16=True, fp16=False"), params=means)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("bf16: true\n", "is on already"),
        ("bf16: false\nprecision: 64\n", "precision in config.yaml is 64: a person chose the precision"),
        ("bf16: false\nmixed_precision: fp16\n", "a person chose the precision"),
        ("a: {bf16: false}\nb: {bf16: false}\n", "cannot tell which one is meant"),
        ("x: 1\n", "no TrainingArguments were found"),
    ],
)
def test_bfloat16_is_refused_where_it_is_not_for_us_to_choose(text: str, word: str) -> None:
    assert word in refusal({"config.yaml": text}, {"means": "bf16"})


def test_fewer_workers_load_the_data() -> None:
    means = {"means": "fewer_workers"}
    changed("config.yaml", "loader: {num_workers: 8}\n", ("8", "4"), params=means)
    changed("config.yaml", "loader: {num_workers: 1}\n", ("1", "0"), params=means)
    code("loader = DataLoader(data, batch_size=4, num_workers=8)\n", ("=8", "=4"), params=means)
    code("TrainingArguments(dataloader_num_workers=8)\n", ("=8", "=2"), params={**means, "factor": 4})


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("num_workers: 0\n", "already 0"),
        ("num_workers: 1\npersistent_workers: true\n", "persistent_workers needs at least one"),
        ("a: {num_workers: 2}\nb: {num_workers: 2}\n", "cannot tell which one is meant"),
        ("num_workers: auto\n", "no plain number"),
    ],
)
def test_workers_that_cannot_be_fewer_are_refused(text: str, word: str) -> None:
    assert word in refusal({"config.yaml": text}, {"means": "fewer_workers"})


# --- what every edit is held to


def test_protected_paths_and_branches_are_refused() -> None:
    files = {"configs/train.yaml": STROKES}
    assert "protected" in refusal(files, policy=Policy(protected_paths=("configs/**",)))
    assert "protected" in refusal(files, policy=Policy(protected_branches=("main",)))


def test_an_edit_of_a_tests_configuration_is_refused() -> None:
    assert "belongs to the tests" in refusal({"tests/config.yaml": "batch_size: 8\ngrad_accum: 1\n"})


def test_a_plan_becomes_a_pull_request_with_that_change_alone() -> None:
    at = stage({"configs/train.yaml": STROKES, "train.py": "pass\n"})
    outcome = at.apply(action, at.repair(action))
    assert outcome.conclusion is Conclusion.SUCCESS
    files = dict(at.forge.commits[outcome.data["head_sha"]].files)
    main = dict(at.forge.commits[at.forge.branches["main"]].files)
    assert {path for path in files if files[path] != main[path]} == {"configs/train.yaml"}
    assert main["configs/train.yaml"] == STROKES


def test_stopped_anywhere_it_happens_once() -> None:
    def act(at: Stage, tools: Any) -> Any:
        return at.apply(action, at.repair(action), tools=tools)

    assert crash_everywhere(lambda: stage(HYDRA), act) > 0


def test_undone_it_leaves_no_trace() -> None:
    at = stage(HYDRA)
    before = dict(at.forge.commits[at.forge.branches["main"]].files)
    repair = at.done(action)
    assert [action.undo(repair, at.tools).conclusion for _ in range(2)] == [Conclusion.SUCCESS] * 2
    assert set(at.forge.branches) == {"main"}
    assert dict(at.forge.commits[at.forge.branches["main"]].files) == before


@pytest.mark.parametrize("params", [{"means": "delete"}, {"factor": 1}, {"factor": 65}, {"path": "x"}])
def test_unknown_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        action.Params.model_validate(params)


def test_what_is_written_still_parses() -> None:
    new = after({"a.toml": "[train]\nbatch_size = 64\ngrad_accum = 1\n"})["a.toml"]
    assert tomllib.loads(new) == {"train": {"batch_size": 32, "grad_accum": 2}}
    assert YAML(typ="safe").load(after({"a.yaml": STROKES})["a.yaml"])["batch_size"] == 2048


def test_a_number_that_is_longer_than_any_batch_is_refused() -> None:
    said = refusal({"configs/train.yaml": f"batch_size: {'8' * 5_000}\ngradient_accumulation_steps: 1\n"})
    assert "which is no count" in said
