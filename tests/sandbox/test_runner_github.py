"""What the stand-in for GitHub refuses as GitHub does: dead actions, images and commands, missing permissions, time."""

import threading
from pathlib import Path

import pytest

from sandbox.runner import JobResult, WorkflowInvalid, parse_workflow, run_job


def run(tmp_path: Path, steps: str, head: str = "runs-on: ubuntu-latest") -> JobResult:
    text = f"on: push\njobs:\n  a:\n    {head}\n    steps:\n{steps}"
    (job,) = parse_workflow(text).jobs
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return run_job(job, checkout=lambda _: None, scratch=scratch, env={}, cancelled=threading.Event(), token="ghs_t0p")


@pytest.mark.parametrize("use", ["actions/upload-artifact@v3", "actions/download-artifact@v2.1.0", "actions/cache@v1"])
def test_a_dead_action_is_refused_while_the_job_is_set_up(tmp_path: Path, use: str) -> None:
    result = run(tmp_path, f"      - run: echo ran\n      - uses: {use}\n        with: {{path: a}}\n")
    name, _, version = use.partition("@")
    assert result.conclusion == "failure"
    assert "##[error]This request has been automatically failed" in result.log
    assert f"deprecated version of `{name}: {version}`" in result.log
    assert "ran\n" not in result.log


def test_an_image_that_is_gone_runs_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, "      - run: echo ran\n", "runs-on: ubuntu-20.04")
    assert (result.conclusion, "Ubuntu 20.04 brownout" in result.log) == ("failure", True)


def test_a_disabled_command_fails_the_step_that_prints_it(tmp_path: Path) -> None:
    result = run(tmp_path, '      - run: echo "::set-env name=A::1"\n      - run: echo then\n')
    assert [step.conclusion for step in result.steps[1:3]] == ["failure", "skipped"]
    assert "##[error]The `set-env` command is disabled." in result.log


def test_one_name_for_two_artifacts_is_refused(tmp_path: Path) -> None:
    step = "      - uses: actions/upload-artifact@v4\n        with: {path: a, name: m}\n"
    result = run(tmp_path, f"      - run: echo 1 > a\n{step}{step}")
    assert [each.conclusion for each in result.steps[2:4]] == ["success", "failure"]
    assert "(409) Conflict" in result.log


def test_the_minute_of_a_job_can_be_short(tmp_path: Path) -> None:
    steps = "      - name: Wait\n        timeout-minutes: 1\n        run: sleep 30\n"
    result = run(tmp_path, steps, "runs-on: x\n    env: {SANDBOX_MINUTE_S: '0.1'}")
    assert result.conclusion == "failure"
    assert "##[error]The action 'Wait' has timed out after 1 minutes." in result.log


def test_a_runner_may_have_little_memory(tmp_path: Path) -> None:
    steps = "      - uses: actions/setup-python@v5\n      - run: python -c 'bytearray(400 * 2**20)'\n"
    small = run(tmp_path, steps, "runs-on: sandbox-256mb")
    assert (small.conclusion, "MemoryError" in small.log) == ("failure", True)
    (tmp_path / "large").mkdir()
    assert run(tmp_path / "large", steps, "runs-on: sandbox-2048mb").conclusion == "success"


def test_the_token_is_given_where_it_is_asked_for_and_never_shown(tmp_path: Path) -> None:
    steps = '      - run: test "$A$B" = ghs_t0pghs_t0p && test -z "$GITHUB_TOKEN" && echo it is $A\n'
    steps += "        env: {A: '${{ github.token }}', B: '${{ secrets.GITHUB_TOKEN }}'}\n"
    result = run(tmp_path, steps)
    assert result.conclusion == "success"
    assert "it is ***" in result.log
    assert "ghs_t0p" not in result.log


@pytest.mark.parametrize(
    ("block", "granted"),
    [
        ("", {"contents": "read", "packages": "read"}),
        ("permissions: {}", {}),
        ("permissions: {issues: write}", {"issues": "write"}),
    ],
)
def test_a_job_grants_what_it_names_and_nothing_else(block: str, granted: dict[str, str]) -> None:
    text = "on: push\npermissions: {statuses: write}\njobs: {a: {runs-on: x, steps: [{run: a}]}}\n"
    assert parse_workflow(text).jobs[0].permissions == {"statuses": "write"}
    text = f"on: push\njobs:\n  a:\n    runs-on: x\n    {block}\n    steps: [{{run: a}}]\n"
    assert parse_workflow(text).jobs[0].permissions == granted


def test_a_level_that_does_not_exist_is_no_workflow() -> None:
    with pytest.raises(WorkflowInvalid, match="Unexpected value"):
        parse_workflow("on: push\npermissions: {issues: all}\njobs: {a: {runs-on: x, steps: [{run: a}]}}\n")
