import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from sandbox import joblog
from sandbox.runner import JobResult, StepResult, parse_workflow, run_job, should_run, skipped_job

ENTRY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z ")


@pytest.fixture
def run(tmp_path: Path):
    """Run the job whose YAML `steps` (and other keys) are given; the checkout holds one file, data.txt."""

    def run_steps(steps: str, job: str = "", **options) -> JobResult:
        lines = [
            "on: push",
            "jobs:",
            "  build:",
            "    runs-on: ubuntu-latest",
            *(f"    {line}" for line in job.splitlines()),
        ]
        text = "\n".join([*lines, "    steps:", *(f"      {line}" for line in steps.strip("\n").splitlines())])
        options = {"checkout": lambda folder: (folder / "data.txt").write_text("42\n"), "env": {}} | options
        scratch = tmp_path / f"job-{len(list(tmp_path.iterdir()))}"
        scratch.mkdir()
        return run_job(parse_workflow(text).jobs[0], scratch=scratch, **options)

    return run_steps


def output(result: JobResult) -> list[str]:
    """The log without its byte order mark and timestamps."""
    return [ENTRY.sub("", line) for line in result.log.removeprefix("\ufeff").splitlines()]


def conclusions(result: JobResult) -> dict[str, str | None]:
    return {step.name: step.conclusion for step in result.steps}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_job_whose_steps_exit_with_zero_succeeds(run):
    result = run("- uses: actions/checkout@v4\n- run: cat data.txt")
    assert result.conclusion == "success"
    assert "42" in output(result)
    assert result.labels == ("ubuntu-latest",)
    assert [step.number for step in result.steps] == list(range(1, len(result.steps) + 1))
    assert [step.name for step in result.steps] == [
        "Set up job", "Run actions/checkout@v4", "Run cat data.txt", "Post Run actions/checkout@v4", "Complete job",
    ]  # fmt: skip


def test_the_log_is_in_the_format_of_github(run):
    result = run("- name: Train\n  run: |\n    echo one\n    echo two >&2\n  env: {SEED: 7}")
    lines = output(result)
    assert result.log.startswith("\ufeff20")
    assert all(ENTRY.match(line) for line in result.log.removeprefix("\ufeff").splitlines())
    start = lines.index("##[group]Run echo one")
    assert lines[start : start + 9] == [
        "##[group]Run echo one",
        "\x1b[36;1mecho one\x1b[0m",
        "\x1b[36;1mecho two >&2\x1b[0m",
        "shell: /usr/bin/bash -e {0}",
        "env:",
        "  SEED: 7",
        "##[endgroup]",
        "one",
        "two",
    ]
    assert lines[-1] == "Cleaning up orphan processes"


def test_a_failing_step_fails_the_job_and_skips_the_rest_except_what_always_runs(run):
    result = run(
        """
- run: exit 3
- run: echo skipped
- {name: Upload, if: always(), run: echo kept}
- {name: Tell, if: "${{ failure() }}", run: echo told}
"""
    )
    assert result.conclusion == "failure"
    assert "##[error]Process completed with exit code 3." in output(result)
    assert conclusions(result) | {"Run exit 3": "failure"} == conclusions(result)
    assert conclusions(result)["Run echo skipped"] == "skipped"
    assert conclusions(result)["Upload"] == conclusions(result)["Tell"] == "success"
    assert result.annotations[0].message == "Process completed with exit code 3."


def test_bash_stops_at_the_first_failing_command(run):
    result = run("- run: |\n    false\n    echo reached")
    assert result.conclusion == "failure"
    assert "reached" not in output(result)


def test_only_an_explicit_bash_shell_fails_on_a_broken_pipeline(run):
    assert run("- run: false | true").conclusion == "success"
    assert run("- run: false | true\n  shell: bash").conclusion == "failure"
    assert run("- run: false | true", job="defaults: {run: {shell: bash}}").conclusion == "failure"


def test_a_step_that_may_fail_does_not_fail_the_job(run):
    result = run("- run: exit 1\n  continue-on-error: true\n- run: echo after")
    assert result.conclusion == "success"
    assert "after" in output(result)


def test_a_command_killed_by_a_signal_exits_with_128_and_its_number(run):
    assert "##[error]Process completed with exit code 137." in output(run("- run: kill -9 $$"))


def test_a_step_sees_nothing_of_the_callers_environment(run, monkeypatch):
    monkeypatch.setenv("CALLERS_SECRET", "hunter2")
    result = run("- run: env", env={"GITHUB_RUN_ATTEMPT": "2"})
    seen = dict(line.split("=", 1) for line in output(result) if re.match(r"\w+=", line))
    assert "hunter2" not in result.log
    assert seen["GITHUB_RUN_ATTEMPT"] == "2"
    assert seen["CI"] == seen["GITHUB_ACTIONS"] == "true"
    assert seen["HOME"] != os.environ.get("HOME")


def test_env_of_the_step_wins_over_that_of_the_job(run):
    result = run('- run: echo "$A $B"\n  env: {B: step}', job="env: {A: job, B: job}")
    assert "job step" in output(result)


def test_variables_outputs_and_paths_written_to_files_reach_later_steps(run):
    result = run(
        r"""
- id: first
  run: |
    echo "ONE=1" >> "$GITHUB_ENV"
    printf 'TEXT<<END\na\nb\nEND\n' >> "$GITHUB_ENV"
    echo "best=0.9" >> "$GITHUB_OUTPUT"
    mkdir tools; printf '#!/bin/sh\necho mine\n' > tools/mine; chmod +x tools/mine
    echo "$PWD/tools" >> "$GITHUB_PATH"
- run: |
    echo "$ONE ${TEXT//$'\n'/,} ${{ steps.first.outputs.best }}"
    mine
"""
    )
    assert "1 a,b 0.9" in output(result)
    assert "mine" in output(result)


@pytest.mark.parametrize("entry", ["no separator", "NAME<<END\\nnever ended"])
def test_a_malformed_environment_file_fails_the_step(run, entry):
    assert run(f"""- run: printf '{entry}\\n' >> "$GITHUB_ENV" """).conclusion == "failure"


def test_expressions_are_filled_in_and_unknown_ones_are_empty(run):
    result = run(
        '- run: echo "${{ github.ref_name }} ${{ runner.os }} ${{ env.A }} ${{ inputs.lr }} [${{ secrets.TOKEN }}]"',
        job="env: {A: a}",
        env={"GITHUB_REF_NAME": "main"},
        inputs={"lr": "0.1"},
    )
    assert "main Linux a 0.1 []" in output(result)


def test_workflow_commands_become_marks_and_annotations(run):
    result = run(
        """
- run: |
    echo "::group::Load"
    echo "::endgroup::"
    echo "::error file=train.py,line=12,title=Bad%2C bad::100%25 wrong"
    echo "::warning::slow"
    echo "::debug::unseen"
"""
    )
    lines = output(result)
    assert {"##[group]Load", "##[error]100% wrong", "##[warning]slow"} <= set(lines)
    assert not any(line.endswith("unseen") for line in lines)
    error, warning = result.annotations
    assert (error.level, error.path, error.line, error.title, error.message) == (
        "failure", "train.py", 12, "Bad, bad", "100% wrong",
    )  # fmt: skip
    assert warning.level == "warning"


def test_a_masked_value_is_not_in_the_log_afterwards(run):
    result = run('- run: |\n    s=$(printf "swor%s" dfish); echo "::add-mask::$s"; echo "key=$s"')
    assert "key=***" in output(result)
    assert "swordfish" not in result.log


def test_commands_are_not_obeyed_while_they_are_stopped(run):
    result = run(
        """
- run: |
    echo "::stop-commands::t0k"
    echo "::error::printed"
    echo "::t0k::"
    echo "::error::obeyed"
"""
    )
    assert "::error::printed" in output(result)
    assert [annotation.message for annotation in result.annotations] == ["obeyed"]


def test_each_redraw_of_a_progress_bar_is_a_line(run):
    lines = output(run(r"- run: printf '10%%\r50%%\r100%%\r\ndone'"))
    assert lines[lines.index("10%") :][:4] == ["10%", "50%", "100%", "done"]


def test_output_beyond_the_limit_is_dropped_and_the_log_says_so(run, monkeypatch):
    monkeypatch.setattr(joblog, "STEP_LIMIT_BYTES", 2**20)
    result = run("- run: yes | head -c 3000000\n- run: echo next")
    assert result.conclusion == "success"
    assert len(result.log) < 2**20 + 100_000
    assert "##[warning]The output after 1 MB of this step is not kept." in output(result)
    assert "next" in output(result)


def test_a_line_without_end_is_split_instead_of_filling_the_memory():
    log = joblog.JobLog()
    for _ in range(5):
        log.feed(b"x" * 500_000)
    log.flush()
    assert max(len(line) for line in log.text().splitlines()) <= joblog.LINE_LIMIT_BYTES + 500_100


def test_a_job_past_its_timeout_is_cancelled_with_everything_it_started(run, tmp_path):
    result = run(f"- run: sleep 300 & echo $! > {tmp_path}/../pid-{tmp_path.name}; wait", job="timeout-minutes: 0.01")
    pid_file = tmp_path.parent / f"pid-{tmp_path.name}"
    assert result.conclusion == "cancelled"
    assert "##[error]The operation was canceled." in output(result)
    assert "exceeded the maximum execution time" in result.annotations[0].message
    started = int(pid_file.read_text())
    deadline = time.monotonic() + 10  # it was sent a signal, and has yet to be scheduled to die of it
    while alive(started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(started)


def test_a_step_past_its_own_timeout_fails_and_the_cleanup_still_runs(run):
    result = run("- {name: Slow, run: sleep 300, timeout-minutes: 0.005}\n- {if: always(), run: echo cleanup}")
    assert result.conclusion == "failure"
    assert "##[error]The action 'Slow' has timed out after 0.005 minutes." in output(result)
    assert "cleanup" in output(result)


def test_a_cancelled_job_stops_where_it_is(run):
    cancelled = threading.Event()

    def cancel_when_it_sleeps(step: StepResult) -> None:
        if step.name == "Run sleep 300" and step.status == "in_progress":
            cancelled.set()

    result = run("- run: sleep 300\n- run: echo after", cancelled=cancelled, progress=cancel_when_it_sleeps)
    assert result.conclusion == "cancelled"
    assert conclusions(result)["Run sleep 300"] == "cancelled"
    assert conclusions(result)["Run echo after"] == "skipped"


def test_a_command_that_ignores_the_request_to_stop_is_killed(run, monkeypatch):
    monkeypatch.setattr("sandbox.runner.GRACE_S", 0.1)
    result = run("- run: trap '' TERM; while true; do sleep 1; done", job="timeout-minutes: 0.005")
    assert result.conclusion == "cancelled"


def test_what_a_step_leaves_running_serves_later_steps_and_ends_with_the_job(run, tmp_path):
    pid_file = tmp_path / "pid"
    result = run(
        f"""
- run: sleep 300 > /dev/null & echo $! > {pid_file}
- run: kill -0 $(cat {pid_file}) && echo still there
"""
    )
    assert result.conclusion == "success"
    assert "still there" in output(result)
    deadline = time.monotonic() + 10
    while alive(int(pid_file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(int(pid_file.read_text()))


def test_a_step_does_not_wait_for_children_that_hold_its_output(run):
    assert run("- run: sleep 300 &\n- run: echo next").conclusion == "success"


def test_progress_is_told_at_the_start_and_the_end_of_every_step(run):
    told: list[StepResult] = []
    run("- run: echo a", progress=told.append)
    assert [(step.name, step.status) for step in told] == [
        ("Set up job", "in_progress"), ("Set up job", "completed"),
        ("Run echo a", "in_progress"), ("Run echo a", "completed"),
        ("Complete job", "in_progress"), ("Complete job", "completed"),
    ]  # fmt: skip


def test_setup_python_gives_jobs_an_environment_of_their_own(run):
    result = run(
        """
- uses: actions/setup-python@v5
- run: python -c 'import sys, ruamel.yaml; print(sys.prefix)'
- run: uv --version
"""
    )
    assert result.conclusion == "success"
    assert any(line.endswith("_tool/Python/x64") for line in output(result))
    assert any(line.startswith("uv ") for line in output(result))


def test_an_action_that_the_sandbox_does_not_have_fails_the_set_up(run):
    result = run("- uses: someone/deploy@v1\n- run: echo never")
    assert result.conclusion == "failure"
    assert conclusions(result)["Set up job"] == "failure"
    assert conclusions(result)["Run echo never"] == "skipped"
    assert any(line.startswith("##[error]Unable to resolve action someone/deploy@v1") for line in output(result))


def test_a_checkout_that_fails_is_a_failure_of_the_job(run):
    def refuse(folder: Path) -> None:
        raise subprocess.CalledProcessError(128, ["git", "fetch"])

    result = run("- uses: actions/checkout@v4", checkout=refuse)
    assert result.conclusion == "failure"
    assert "could not be checked out" in result.log


def test_a_missing_working_directory_and_an_unknown_shell_fail_the_step(run):
    assert "No such file or directory" in run("- {run: ls, working-directory: nowhere}").log
    assert "has no shell 'pwsh'" in run("- {run: ls, shell: pwsh}").log


def test_a_job_runs_only_if_the_jobs_it_needs_ended_as_it_asks():
    text = """
on: push
jobs:
  report: {needs: [train], if: always(), runs-on: x, steps: [{run: ls}]}
  deploy: {needs: train, runs-on: x, steps: [{run: ls}]}
  alarm: {needs: train, if: failure(), runs-on: x, steps: [{run: ls}]}
  train: {runs-on: [self-hosted, gpu], steps: [{run: ls}]}
"""
    jobs = {job.id: job for job in parse_workflow(text).jobs}
    assert next(iter(jobs)) == "train"
    assert jobs["train"].labels == ("self-hosted", "gpu")
    after_success = {name for name, job in jobs.items() if should_run(job, {"train": "success"})}
    after_failure = {name for name, job in jobs.items() if should_run(job, {"train": "failure"})}
    assert after_success == {"train", "report", "deploy"}
    assert after_failure == {"train", "report", "alarm"}
    assert skipped_job(jobs["deploy"]).conclusion == "skipped"
