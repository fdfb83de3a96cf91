"""Tricks and honest edits are data, in tricks/: whoever finds a new trick adds it there."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.honest import shell
from actions.honesty import Allowed, dishonest
from app.domain.repair import FileEdit

FOLDER = Path(__file__).parent / "tricks"
WORKFLOW = (FOLDER / "before.yml").read_text()
MAY_EDIT_WORKFLOWS = frozenset({Allowed.WORKFLOWS})


def _rows(kind: str) -> list[Any]:
    found = []
    for file in sorted(FOLDER.glob("*.toml")):
        for row in tomllib.loads(file.read_text()).get(kind, []):
            if "old" in row:
                assert WORKFLOW.count(row["old"]) >= 1, row["name"]
                after = WORKFLOW.replace(row["old"], row["new"], 1)
                row = {
                    "path": ".github/workflows/ci.yml",
                    "before": WORKFLOW,
                    "after": after,
                    "allow": ["workflows"],
                } | row
            found.append(pytest.param(row, id=f"{file.stem}: {row['name']}"))
    return found


TRICKS, HONEST = _rows("trick"), _rows("honest")


def _edit(row: dict[str, Any]) -> FileEdit:
    before, after = (
        text.removeprefix("\n") if text is not None else None for text in (row.get("before"), row.get("after"))
    )
    return FileEdit(row["path"], before, after)


def _allowed(row: dict[str, Any]) -> frozenset[Allowed]:
    return frozenset(Allowed(word) for word in row.get("allow", []))


@pytest.mark.parametrize("row", TRICKS)
def test_a_trick_is_refused_with_its_file_and_line(row: dict[str, Any]) -> None:
    reason = dishonest([_edit(row)], _allowed(row))
    assert reason is not None
    where = f"{row['path']}:{row['line']} " if row["line"] else f"{row['path']} "
    assert reason.startswith(where), reason


@pytest.mark.parametrize("row", HONEST)
def test_an_honest_edit_passes(row: dict[str, Any]) -> None:
    assert dishonest([_edit(row)], _allowed(row)) is None


@pytest.mark.parametrize("row", TRICKS)
def test_a_trick_is_refused_whatever_else_is_allowed(row: dict[str, Any]) -> None:
    assert dishonest([_edit(row)], frozenset(Allowed)) is not None


@pytest.mark.parametrize("row", TRICKS)
def test_nothing_that_is_left_as_it_is_is_a_trick(row: dict[str, Any]) -> None:
    edit = _edit(row)
    if row["line"]:
        assert dishonest([FileEdit(edit.path, edit.before, edit.before)], _allowed(row)) is None


def test_there_are_many_tricks_and_no_two_are_the_same() -> None:
    edits = [_edit(row.values[0]) for row in TRICKS]  # type: ignore[arg-type]
    assert len(set(edits)) == len(edits) >= 150
    assert len(HONEST) >= 45


def test_workflows_and_tests_are_not_touched_by_what_is_not_there_for_it() -> None:
    for row in HONEST:
        values: Any = row.values[0]
        if values.get("allow"):
            assert dishonest([_edit(values)]) is not None


@pytest.mark.parametrize(
    ("path", "before", "after", "where"),
    [
        ("train.py", None, "assert True\n", "train.py:1"),
        ("train.py", "a\nassert x\n", None, "train.py:2"),
        ("/etc/outside.yaml", "a\n", "b\n", "/etc/outside.yaml"),
        (".github/workflows/new.yml", None, "on: push\n", ".github/workflows/new.yml:1"),
        (".github/workflows/ci.yml", WORKFLOW, None, ".github/workflows/ci.yml:1"),
        (".github/actions/setup/action.yml", "a\n", "b\n", ".github/actions/setup/action.yml:1"),
        ("run.sh", None, "set -e\npytest || true\n", "run.sh:2"),
        ("train.py", "def check(): ...\n", "@unittest.skipIf(True, '')\ndef check(): ...\n", "train.py:1"),
        ("a.js", "x()\n", "// eslint-disable-next-line\nx()\n", "a.js:1"),
    ],
)
def test_files_that_come_or_go_are_looked_at(path: str, before: str | None, after: str | None, where: str) -> None:
    reason = dishonest([FileEdit(path, before, after)], MAY_EDIT_WORKFLOWS)
    assert reason is not None
    assert reason.startswith(where)


def test_the_first_dishonest_edit_of_several_is_named() -> None:
    honest = FileEdit("config.yaml", "lr: 1\n", "lr: 2\n")
    assert dishonest([honest, FileEdit("run.sh", "a\n", "a || true\n")]) == "run.sh:1 suppresses a failure"
    assert dishonest([]) is None


def test_a_workflow_full_of_anchors_is_refused_before_it_grows() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for now, then in zip("bcdefgh", "abcdefg", strict=True):
        bomb += f"{now}: &{now} [{', '.join([f'*{then}'] * 9)}]\n"
    reason = dishonest([FileEdit(".github/workflows/ci.yml", WORKFLOW, WORKFLOW + bomb)], MAY_EDIT_WORKFLOWS)
    assert reason is not None
    assert "too large" in reason


@pytest.mark.parametrize("deep", ["(" * 3000 + ")" * 3000, "[" * 3000 + "]" * 3000, "-" * 100_000 + "1"])
def test_code_that_is_too_deep_to_be_read_is_refused(deep: str) -> None:
    assert dishonest([FileEdit("train.py", "x = 1\n", f"x = {deep}\n")]) is not None


@given(st.text(alphabet="a '\"`$(){}|&;<>#\\\n=!-", max_size=60))
def test_any_script_is_read_or_refused(script: str) -> None:
    try:
        commands = shell.commands(script)
    except shell.Unreadable:
        return
    assert all(1 <= command.line <= script.count("\n") + 1 for command in commands)


def test_a_script_is_taken_apart_as_a_shell_does() -> None:
    script = """set -e
A=1 python -m pytest -q | tee log  # it's fine
if ! mypy src; then
  echo "a || b $(date "+%s")"
fi
cat << 'EOF' > x.py
don't (
EOF
make test &>/dev/null 2>&1 \\
  && echo done
"""
    told = [(c.line, c.program, c.keywords, c.depth) for c in shell.commands(script) if c.words]
    assert told == [
        (1, ("set",), (), 0),
        (2, ("python", "-m", "pytest"), (), 0),
        (2, ("tee",), (), 0),
        (3, ("mypy",), ("if", "!"), 0),
        (4, ("echo",), (), 1),
        (6, ("cat",), (), 0),
        (7, ("<<don't (\n",), (), 0),
        (9, ("make", "test"), (), 0),
        (10, ("echo",), (), 0),
    ]


LONG = 20_000


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(f'"batch_size": @, "x": "{"trap " * LONG}"', id="traps"),
        pytest.param(f'"batch_size": @, "x": "{"except " * LONG}"', id="handlers"),
        pytest.param(f'"batch_size": @,{" " * LONG}"x": 1', id="blanks"),
    ],
)
def test_no_line_of_a_stranger_takes_longer_than_its_length(hostile: str) -> None:
    before, after = (f"{{\n{hostile.replace('@', size)}\n}}\n" for size in "84")
    assert dishonest([FileEdit("config.json", before, after)]) is None


@pytest.mark.parametrize("script", [f"echo {'${{' * LONG}", "#\n" * LONG, 'echo "$(' * 2_000])
def test_no_script_of_a_stranger_takes_longer_than_its_length(script: str) -> None:
    steps = "".join(f"          {line}\n" for line in script.split("\n"))
    before = f"on: push\njobs:\n  a:\n    timeout-minutes: 5\n    steps:\n      - run: |\n{steps}"
    after = before.replace("timeout-minutes: 5", "timeout-minutes: 6")
    assert dishonest([FileEdit(".github/workflows/ci.yml", before, after)], MAY_EDIT_WORKFLOWS) in (
        None,
        ".github/workflows/ci.yml:7 has a parenthesis that is never closed",
        ".github/workflows/ci.yml:7 has a quote that is never closed",
    )


@pytest.mark.parametrize("deep", ["+".join(["f()"] * 2_900), "a" + ".b()" * 900])
def test_code_that_is_too_deep_to_be_looked_at_is_refused(deep: str) -> None:
    reason = dishonest([FileEdit("train.py", f"lr = 1\nx = {deep}\n", f"lr = 2\nx = {deep}\n")])
    assert reason in ("train.py is nested too deep to be looked at", "train.py:1 cannot be read as Python")


def test_a_long_chain_of_calls_is_looked_at_in_time() -> None:
    chains = f"x = f{'(a)' * 300}\n" * 20
    assert dishonest([FileEdit("train.py", f"lr = 1\n{chains}", f"lr = 2\n{chains}")]) is None


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("train.py", "train()\n", "import atexit, os\natexit.register(os._exit, 0)\ntrain()\n"),
        ("train.py", "train()\n", "from os import _exit as done\nimport atexit\natexit.register(done, 0)\ntrain()\n"),
        ("src/start.pth", None, "import os; os._exit(0)\n"),
        ("src/_pytest/__init__.py", None, "main = print\n"),
    ],
)
def test_what_ends_every_program_as_if_all_were_well_is_refused(path: str, before: str | None, after: str) -> None:
    assert dishonest([FileEdit(path, before, after)]) is not None
