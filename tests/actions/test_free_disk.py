import subprocess
from pathlib import Path
from typing import Any

import pytest

from actions.free_disk import TOOLCHAINS, FreeDisk, script
from actions.workflow_edits import data_of
from app.domain.outcome import Conclusion
from tests.actions.stage import Stage, crash_everywhere
from tests.actions.workflows import failed

action = FreeDisk()
TEXT = """\
on: push
jobs:
  train:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4

      - name: Train
        run: python train.py
"""


def full(text: str = TEXT, step: str = "Train", **more: Any) -> Stage:
    return failed(text, "disk_full", lines=("OSError: [Errno 28] No space left on device",), step=step, **more)


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_a_step_that_frees_space_goes_in_front_of_the_one_that_failed(eol: str) -> None:
    text = TEXT.replace("\n", eol)
    plan = full(text).plan(action)
    assert not plan.refusal
    after = plan.edits[0].after or ""
    names = [step.get("name", step.get("uses"))[1] for step in data_of(after)["jobs"]["train"]["steps"]]
    assert names == ["actions/checkout@v4", "Free disk space", "Train"]
    head, _, tail = after.partition("      - name: Free")
    assert text == head + tail[tail.index("      - name: Train") :]
    assert eol == "\n" or after.count("\n") == after.count("\r\n")


def test_without_a_named_step_the_first_that_runs_anything_is_meant() -> None:
    names = [s.get("name", s.get("uses"))[1] for s in steps(full(step=""))]
    assert names == ["actions/checkout@v4", "Free disk space", "Train"]


def steps(at: Stage) -> list[Any]:
    found: list[Any] = data_of(at.plan(action).edits[0].after or "")["jobs"]["train"]["steps"]
    return found


def test_toolchains_that_the_job_uses_stay() -> None:
    text = TEXT.replace("python train.py", "dotnet build && go test ./...")
    script = next(s["run"][1] for s in steps(full(text)) if s.get("name", ("", ""))[1] == "Free disk space")
    assert "/usr/share/dotnet" not in script
    assert "/opt/hostedtoolcache/go" not in script
    assert "/usr/local/lib/android" in script
    used = "dotnet android ghc swift codeql ruby\n          go build"
    text = TEXT.replace("run: python train.py", f"run: |\n          {used}")
    assert "uses every toolchain" in full(text).plan(action).refusal


def test_the_script_removes_only_well_known_folders_and_only_on_github() -> None:
    text = script([path for path, _ in TOOLCHAINS])
    assert text.count("rm -rf") == 1
    assert '"$RUNNER_ENVIRONMENT" = "github-hosted"' in text
    assert all(path.startswith(("/usr/", "/opt/")) and path.count("/") >= 2 for path, _ in TOOLCHAINS)


@pytest.mark.parametrize(("environment", "ran"), [("github-hosted", True), ("self-hosted", False), ("", False)])
def test_on_a_machine_of_the_teams_own_nothing_is_removed(environment: str, ran: bool, tmp_path: Path) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\necho "$@" > "$HOME/asked"\n')
    sudo.chmod(0o755)
    run = data_of(script(["/usr/share/dotnet"]) + "\n")[0]["run"][1]
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "RUNNER_ENVIRONMENT": environment}
    subprocess.run(["bash", "-e", "-c", run], env=env, check=True, capture_output=True)
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else "") == ("rm -rf /usr/share/dotnet\n" if ran else "")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (TEXT.replace("ubuntu-latest", "self-hosted"), "own Ubuntu images"),
        (TEXT.replace("ubuntu-latest", "[self-hosted, ubuntu-latest]"), "own Ubuntu images"),
        (TEXT.replace("ubuntu-latest", "windows-latest"), "own Ubuntu images"),
        (TEXT.replace("ubuntu-latest", "${{ matrix.os }}"), "own Ubuntu images"),
        (TEXT.replace("    steps:", "    container: python:3.12\n    steps:"), "container"),
        (TEXT.replace("python train.py", "rm -rf /usr/share/dotnet; python train.py"), "already"),
        (TEXT.replace("actions/checkout@v4", "jlumbroso/free-disk-space@v1.3.1"), "already"),
        ("on: push\njobs:\n  train:\n    runs-on: ubuntu-latest\n    steps: [{name: Train, run: a}]\n", "not edited"),
    ],
)
def test_what_would_not_help_is_refused(text: str, word: str) -> None:
    assert word in full(text).plan(action).refusal


def test_it_is_not_done_twice() -> None:
    after = full().plan(action).edits[0].after or ""
    assert "already" in full(after).plan(action).refusal


def test_it_is_offered_once_and_taken_back() -> None:
    assert crash_everywhere(full, lambda at, tools: at.apply(action, at.repair(action), tools=tools))
    at = full()
    done = at.done(action)
    for _ in range(2):
        assert action.undo(done, at.tools).conclusion is Conclusion.SUCCESS
    assert list(at.forge.branches) == ["main"]
