"""The plan on workflows as they are written, what is refused, and the way it is offered."""

import re
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from actions.update_workflow import UpdateWorkflow
from actions.workflow_syntax import mended
from actions.workflow_versions import entry_of, rewritten, table
from app.domain.errors import Malformed
from app.domain.outcome import Conclusion
from app.domain.policy import Policy
from app.ports.workflows import Fault
from app.security.markdown import inline
from tests.actions.stage import WORKFLOW, Stage, crash_everywhere
from tests.actions.workflows import Judge, failed

action = UpdateWorkflow()
GONE = "action_version_deprecated"
REFUSED = "##[error]This request has been automatically failed because it uses a deprecated version of"

ARTIFACTS = """\
name: CI  # every push
on:
  push:
    branches: [main]

jobs:
  train:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: python train.py
      # what came out
      - uses: actions/upload-artifact@v3
        with: {name: model, path: model.bin}
  judge:
    needs: train
    runs-on: ubuntu-latest
    steps:
      - uses: "actions/download-artifact@v3"
        with:
          name: model
"""


def job(*steps: str, head: str = "") -> str:
    return (
        "on: push\njobs:\n  train:\n    runs-on: ubuntu-latest\n"
        + head
        + "    steps:\n"
        + "".join(f"      {line}\n" for step in steps for line in step.split("\n"))
    )


def gone(text: str, name: str = "actions/upload-artifact", version: str = "v3", **more: Any) -> Stage:
    line = f"{REFUSED} `{name}: {version}`."
    return failed(text, GONE, lines=(line,), facts={"action": name, "version": version}, **more)


# --- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_an_action_moves_with_its_partner_and_nothing_else_changes(eol: str) -> None:
    text = ARTIFACTS.replace("\n", eol)
    plan = gone(text).plan(action)
    assert not plan.refusal
    assert plan.edits[0].after == text.replace("-artifact@v3", "-artifact@v4")
    assert plan.title == "Update actions/upload-artifact from v3 to v4 and 1 more"
    assert "MIGRATION.md" in plan.why
    assert "unique" in plan.risk


def test_versions_that_nobody_spoke_of_stay() -> None:
    text = job("- uses: actions/checkout@v2", "- uses: actions/upload-artifact@v2\n  with: {path: a}")
    after = gone(text, version="v2").plan(action).edits[0].after
    assert after == text.replace("upload-artifact@v2", "upload-artifact@v4")


def test_where_no_action_is_named_the_dead_ones_of_the_failed_job_move() -> None:
    text = job("- uses: actions/checkout@v2", '- uses: actions/setup-python@v4\n  with: {python-version: "3.11"}')
    at = failed(text, GONE, lines=("Error: Node.js 12 actions are no longer supported",))
    after = at.plan(action).edits[0].after
    assert after == text.replace("checkout@v2", "checkout@v4").replace("setup-python@v4", "setup-python@v5")


@pytest.mark.parametrize("entry", table("action"), ids=lambda entry: entry["name"])
def test_each_example_of_an_action_is_carried_out(entry: Any) -> None:
    inputs = f"\n  with: {{{entry['needs'][0]}: x}}" if "needs" in entry else ""
    text = job(f"- {entry['before']}{inputs}")
    name = re.sub(r"^uses: |@.*", "", entry["before"])
    assert entry_of(name) is entry
    after = gone(text, name, entry["before"].partition("@")[2]).plan(action).edits[0].after
    assert after == text.replace(entry["before"], entry["after"])


@pytest.mark.parametrize("entry", [*table("action"), *table("command"), *table("image"), *table("permission")])
def test_each_datum_names_its_source(entry: Any) -> None:
    assert entry["source"].startswith("https://")


SHA = "a8a3f3ad30e3422c9c7b888a15615d19a852ae32"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (job(f"- uses: actions/upload-artifact@{SHA} # v3"), "commit SHA"),
        (ARTIFACTS.replace("download-artifact@v3", f"download-artifact@{SHA}"), "commit SHA"),
        (
            job("- uses: actions/upload-artifact@v3\n  with: {name: m}", head="    strategy: {matrix: {n: [1, 2]}}\n"),
            "runs as a matrix",
        ),
        (
            job(*["- uses: actions/upload-artifact@v3\n  with: {name: m, path: a}"] * 2),
            "2 steps upload 'm'",
        ),
        (job("- uses: actions/upload-artifact@v3\n  with: {path: .coverage}"), "hidden files"),
        (job("- uses: actions/upload-artifact@main"), "nothing that is known to be gone"),
        (job("- uses: ./upload"), "nothing that is known to be gone"),
        ("on: push\njobs: &j\n  train: {runs-on: x, steps: [{run: a}]}\n", "anchors"),
        ("on: [\n", "not YAML"),
        ("# nothing\n", "not one YAML document"),
    ],
)
def test_what_is_not_only_a_number_is_refused(text: str, word: str) -> None:
    assert word in gone(text).plan(action).refusal


def test_a_matrix_that_names_each_artifact_moves() -> None:
    text = job(
        "- uses: actions/upload-artifact@v3\n  with: {name: 'm-${{ matrix.n }}', path: a}",
        head="    strategy: {matrix: {n: [1, 2]}}\n",
    )
    assert gone(text, job="train (1)").plan(action).edits[0].after == text.replace("@v3", "@v4")


@pytest.mark.parametrize(
    ("use", "word"),
    [
        ("actions/checkout@v1", "whole history"),
        ("actions/setup-python@v4", "python-version"),
        ("actions/setup-node@v1\n  with: {version: 12}", "version"),
        ("actions/setup-java@v1\n  with: {java-version: 11}", "distribution"),
        ("actions/github-script@v3\n  with: {script: a}", "github.rest"),
    ],
)
def test_majors_that_do_something_else_are_refused(use: str, word: str) -> None:
    name, _, version = use.partition("\n")[0].partition("@")
    assert word in gone(job(f"- uses: {use}"), name, version).plan(action).refusal


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", table("command"), ids=lambda entry: entry["name"])
def test_each_example_of_a_command_is_carried_out(entry: Any) -> None:
    text = job(f"- id: it\n  run: |\n    make\n    {entry['before']}\n    echo done")
    at = failed(
        text, GONE, lines=(f"Error: The `{entry['name']}` command is disabled.",), facts={"action": entry["name"]}
    )
    assert at.plan(action).edits[0].after == text.replace(entry["before"], entry["after"])


def test_a_command_on_one_line_keeps_the_expression() -> None:
    text = job('- run: echo "::set-output name=dir::$(pip cache dir)/${{ runner.os }}"')
    at = failed(text, GONE, lines=("The `set-output` command is disabled",), facts={"action": "set-output"})
    assert at.plan(action).title == "Update set-output in step 1 of train"
    want = '- run: echo "dir=$(pip cache dir)/${{ runner.os }}" >> "$GITHUB_OUTPUT"'
    assert want in (at.plan(action).edits[0].after or "")


@pytest.mark.parametrize(
    "line",
    [
        'echo "::set-output name=a::$(echo "x")"',
        'echo "::set-output name=a::one%0Atwo"',
        "echo ::set-output name=a::$(cat x)",
        "echo ::set-output name=a::x && make",
        'if true; then echo "::set-output name=a::1"; fi',
        'printf "::set-output name=a::1"',
        'echo "::set-output name=a::1" | tee log',
        'echo "::set-output name=a b::1"',
        'echo "' + "x" * 3_000 + '::set-output name=a::1"',
    ],
)
def test_commands_that_are_not_plain_are_refused(line: str) -> None:
    assert rewritten(line, frozenset({"set-output"})) is None
    at = failed(job(f"- run: |\n    {line}"), GONE, lines=("The `set-output` command is disabled",))
    assert "not rewritten" in at.plan(action).refusal


def test_another_shell_is_refused() -> None:
    for text in (
        job('- shell: pwsh\n  run: echo "::set-output name=a::1"'),
        job('- run: echo "::set-output name=a::1"').replace("ubuntu-latest", "windows-latest"),
        job('- run: echo "::set-output name=a::1"', head="    defaults: {run: {shell: python}}\n"),
    ):
        at = failed(text, GONE, lines=("The `set-output` command is disabled",))
        assert "prints a disabled command in" in at.plan(action).refusal


# --- images ----------------------------------------------------------------------------------------------------------

BROWNOUT = "This is a scheduled Ubuntu 20.04 brownout. Ubuntu 20.04 LTS runner will be removed on 2025-04-15."


@pytest.mark.parametrize("runner", ["ubuntu-20.04", "'ubuntu-20.04'", "[ubuntu-20.04]"])
def test_an_image_that_is_gone_is_replaced(runner: str) -> None:
    text = job("- run: make").replace("ubuntu-latest", f"{runner} # old")
    at = failed(text, GONE, lines=(BROWNOUT,), facts={"action": "Ubuntu 20.04"})
    assert at.plan(action).edits[0].after == text.replace("ubuntu-20.04", "ubuntu-22.04")


def test_an_image_without_a_successor_of_its_kind_is_refused() -> None:
    text = job("- run: make").replace("ubuntu-latest", "macos-12")
    at = failed(text, GONE, lines=("The macos-12 runner image has been removed",))
    assert "a person must choose" in at.plan(action).refusal


def test_an_image_that_would_stand_twice_in_a_matrix_is_refused() -> None:
    head = "    strategy: {matrix: {os: [ubuntu-20.04, ubuntu-22.04]}}\n"
    text = job("- run: make", head=head).replace("ubuntu-latest", "${{ matrix.os }}")
    at = failed(text, GONE, lines=(BROWNOUT,), job="train (ubuntu-20.04)")
    assert "already" in at.plan(action).refusal


# --- permissions -----------------------------------------------------------------------------------------------------

INTEGRATION = {"lines": ("##[error]Resource not accessible by integration",), "facts": {"github_integration": True}}
COMMENT = "- name: Tell\n  run: gh pr comment $PR --body done"


def lacking(text: str, **more: Any) -> Stage:
    return failed(text, "permissions", step="Tell", **INTEGRATION, **more)


def test_a_job_without_permissions_gets_the_least() -> None:
    text = job("- uses: actions/checkout@v4", COMMENT)
    block = "    permissions:\n      contents: read\n      pull-requests: write\n"
    plan = lacking(text).plan(action)
    assert plan.edits[0].after == text.replace("    steps:\n", f"{block}    steps:\n")
    assert plan.title == "Grant train pull-requests: write"


def test_what_the_workflow_grants_is_written_out_in_the_job() -> None:
    text = job(COMMENT).replace("jobs:", "permissions:\n  contents: read\n  id-token: write\njobs:")
    block = "    permissions:\n      contents: read\n      id-token: write\n      pull-requests: write\n"
    assert lacking(text).plan(action).edits[0].after == text.replace("    steps:\n", f"{block}    steps:\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("permissions: {}", "permissions: {pull-requests: write}"),
        ("permissions: {contents: write}", "permissions: {contents: write, pull-requests: write}"),
        ("permissions: {pull-requests: read}", "permissions: {pull-requests: write}"),
        ("permissions:\n      contents: read", "permissions:\n      contents: read\n      pull-requests: write"),
        ("permissions:\n      pull-requests: none # no", "permissions:\n      pull-requests: write # no"),
    ],
)
def test_what_the_job_grants_is_kept(before: str, after: str) -> None:
    text = job(COMMENT, head=f"    {before}\n")
    assert lacking(text).plan(action).edits[0].after == text.replace(before, after)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (job(COMMENT, head="    permissions: read-all\n"), "write the permissions out first"),
        (job(COMMENT).replace("jobs:", "permissions: read-all\njobs:"), "write the permissions out first"),
        (job(COMMENT, head="    permissions: {pull-requests: write}\n"), "for another reason"),
        (job("- name: Tell\n  run: make tell"), "is not known"),
    ],
)
def test_permissions_that_cannot_be_added_are_refused(text: str, word: str) -> None:
    assert word in lacking(text).plan(action).refusal


def test_another_token_than_the_workflows_own_is_left_alone() -> None:
    at = failed(job(COMMENT), "permissions", lines=("remote: Permission to a/b.git denied to c.",), step="Tell")
    assert "own token" in at.plan(action).refusal


def test_the_only_step_that_needs_anything_is_meant_where_none_is_named() -> None:
    at = failed(job("- run: make", COMMENT), "permissions", **INTEGRATION)
    assert "pull-requests: write" in (at.plan(action).edits[0].after or "")
    two = job(COMMENT, "- name: Push\n  run: git push")
    assert "cannot tell which step" in failed(two, "permissions", **INTEGRATION).plan(action).refusal


# --- mistakes --------------------------------------------------------------------------------------------------------

GOOD = job("- uses: actions/checkout@v4", "- name: Train\n  run: python train.py", head="    timeout-minutes: 5\n")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("runs-on:", "run-on:"),
        ("runs-on:", "runs_on:"),
        ("    steps:", "    step:"),
        ("timeout-minutes", "timout-minutes"),
        ("- uses:", "- use:"),
        ("jobs:", "job:"),
        ("runs-on: ", "runs-on:"),
        ("  run: python", "  run:python"),
        ("    runs-on", "\truns-on"),
        ("        run: python", "         run: python"),
    ],
)
def test_a_plain_mistake_is_mended(right: str, wrong: str) -> None:
    text = GOOD.replace(right, wrong)
    assert text != GOOD
    new, _ = mended(text, lambda candidate: not Judge().faults(WORKFLOW, candidate))
    assert new.split() == GOOD.split()


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("runs-on", "run-on", "run-on for runs-on"),
        ("timeout-minutes", "timeout-minute", "timeout-minute for timeout-minutes"),
        ("    runs-on", "\truns-on", "tabs where spaces must stand"),
        ("runs-on: ", "runs-on:", "no space after a colon"),
        ("        run: python", "         run: python", "the indentation of line 9"),
    ],
)
def test_the_mended_workflow_is_offered(right: str, wrong: str, told: str) -> None:
    plan = failed(GOOD.replace(right, wrong), "workflow_yaml_invalid", job="CI").plan(action)
    assert not plan.refusal
    assert (plan.edits[0].after or "").split() == GOOD.split()
    assert plan.title == f"Mend {told} in ci.yml"


def test_a_line_with_a_condition_is_never_moved() -> None:
    text = GOOD.replace("      - name: Train\n", "      - name: Train\n         if: always()\n")
    with pytest.raises(Malformed):
        mended(text, lambda candidate: not Judge().faults(WORKFLOW, candidate))


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("runs-on: ubuntu-latest\n", ""),
        GOOD.replace("steps:", "stages:"),
        GOOD.replace("    steps:", "    need: [x]\n    steps:"),  # a condition
        GOOD.replace("on: push", "no: push"),  # a trigger
        GOOD.replace("    steps:", "    iff: always()\n    steps:"),
        GOOD.replace("runs-on: ubuntu-latest", "runs-on: [ubuntu"),
        "on: push\n",
        "on: push\njobs: {}\n",
        "\t" * 50,
        GOOD + "x: " + "[" * 500,
        GOOD + "a" * (256 * 1024),
    ],
)
def test_what_is_not_plain_is_left_to_a_person(text: str) -> None:
    assert failed(text, "workflow_yaml_invalid", job="CI").plan(action).refusal


def test_a_valid_workflow_is_not_mended() -> None:
    assert "valid" in failed(GOOD, "workflow_yaml_invalid").plan(action).refusal


def test_the_file_that_the_linter_names_is_meant() -> None:
    other = ".github/workflows/release.yml"
    wrong = GOOD.replace("runs-on", "run-on")
    at = failed(GOOD, "workflow_yaml_invalid", facts={"path": other}, files={other: wrong})
    assert at.plan(action).edits[0].path == other
    outside = failed(wrong, "workflow_yaml_invalid", facts={"path": "k8s/deploy.yaml"}, files={"k8s/deploy.yaml": "a"})
    assert outside.plan(action).edits[0].path == WORKFLOW


# --- timeouts, and all of them ---------------------------------------------------------------------------------------


def test_jobs_without_a_timeout_get_one_when_asked() -> None:
    at = failed(ARTIFACTS, "unknown")
    after = at.plan(action, {"means": "timeouts", "minutes": 30}).edits[0].after
    assert after == ARTIFACTS.replace("    steps:", "    timeout-minutes: 30\n    steps:")
    assert "every job" in failed(after or "", "unknown").plan(action, {"means": "timeouts"}).refusal


def test_a_cause_that_no_workflow_is_to_blame_for_is_refused() -> None:
    assert "nothing is known" in failed(ARTIFACTS, "host_oom").plan(action).refusal


def test_a_new_fault_is_refused_and_an_old_one_is_not() -> None:
    new = Judge({"artifact@v4": Fault("scanner/x", "strangers get in")})
    assert "strangers get in" in gone(ARTIFACTS, judge=new).plan(action).refusal
    old = Judge({"artifact@v": Fault("scanner/x", "strangers get in")})
    assert not gone(ARTIFACTS, judge=old).plan(action).refusal


def test_without_a_judge_nothing_is_changed() -> None:
    at = gone(ARTIFACTS)
    at.tools = replace(at.tools, workflow_check=None)
    assert "nothing is set up" in at.plan(action).refusal


def test_protected_paths_of_the_team_count() -> None:
    policy = Policy(protected_paths=(".github/**", ".github/workflows/ci.yml"))
    assert "protected" in gone(ARTIFACTS, policy=policy).plan(action).refusal


def test_a_workflow_of_another_repository_is_refused() -> None:
    at = gone(ARTIFACTS)
    at.incident = replace(at.incident, workflow_path="dynamic/pages/pages-build-deployment")
    at.tools = replace(at.tools, incident=at.incident)
    assert "no file of this repository" in at.plan(action).refusal


# --- offered, proven, undone -----------------------------------------------------------------------------------------


def test_the_pull_request_changes_the_workflow_alone_and_survives_a_crash() -> None:
    assert crash_everywhere(lambda: gone(ARTIFACTS), lambda at, tools: at.apply(action, at.repair(action), tools=tools))
    at = gone(ARTIFACTS)
    outcome = at.apply(action, at.repair(action))
    assert outcome.conclusion is Conclusion.SUCCESS
    files = at.forge.commits[outcome.data["head_sha"]].files
    assert files[WORKFLOW] == ARTIFACTS.replace("-artifact@v3", "-artifact@v4")


def test_undo_takes_the_pull_request_back() -> None:
    at = gone(ARTIFACTS)
    before = at.forge.commits[at.forge.branches["main"]].files
    done = at.done(action)
    for _ in range(2):
        assert action.undo(done, at.tools).conclusion is Conclusion.SUCCESS
    assert list(at.forge.branches) == ["main"]
    assert at.forge.commits[at.forge.branches["main"]].files == before
    assert {pull.state for pull in at.forge.pulls.values()} == {"closed"}


def test_without_the_permission_the_patch_is_posted_and_survives_a_crash() -> None:
    def make() -> Stage:
        return gone(ARTIFACTS, granted=False)

    assert crash_everywhere(make, lambda at, tools: at.apply(action, at.repair(action), tools=tools)) == 1
    at = make()
    plan = at.plan(action)
    assert "no permission" in plan.calls[0]
    outcome = at.apply(action, at.repair(action))
    assert outcome.conclusion is Conclusion.NEUTRAL
    issue = at.forge.issues[outcome.data["issue"]]
    assert outcome.title.startswith(f"the patch is in issue #{issue.number}")
    assert "git apply heal.patch" in issue.body
    assert plan.diff().strip() in issue.body
    assert inline(f"{plan.title}: {plan.why}", 1_000) in issue.body  # why, for whom only the issue tells of it
    assert not at.forge.pulls


def test_the_posted_patch_applies(tmp_path: Any) -> None:
    for eol in ("\n", "\r\n"):
        text = ARTIFACTS.replace("\n", eol)
        at = gone(text, granted=False)
        outcome = at.apply(action, at.repair(action))
        body = at.forge.issues[outcome.data["issue"]].body
        found = re.search(r"```diff\n(.*?)\n```", body, re.DOTALL)
        command = re.search(r"`(git apply[^`]*)`", body)
        assert found
        assert command
        home = tmp_path / str(len(eol))
        file = home / WORKFLOW
        file.parent.mkdir(parents=True)
        file.write_text(text, newline="")
        (home / "heal.patch").write_text(found[1] + "\n")
        subprocess.run(["git", "init", "-q"], cwd=home, check=True)
        subprocess.run(command[1].split(), cwd=home, check=True)
        assert data(file.read_text()) == data(ARTIFACTS.replace("-artifact@v3", "-artifact@v4"))


def data(text: str) -> list[str]:
    return text.splitlines()


def test_a_patch_that_could_close_its_fence_or_holds_a_secret_is_not_a_way_out() -> None:
    fenced = ARTIFACTS.replace("# what came out", "# ```` @everyone")
    at = gone(fenced, granted=False)
    body = at.forge.issues[at.apply(action, at.repair(action)).data["issue"]].body
    assert "\n`````diff\n" in body
    secret = ARTIFACTS.replace("# what came out", f"# ghp_{'a1' * 18}")
    at = gone(secret, granted=False)
    body = at.forge.issues[at.apply(action, at.repair(action)).data["issue"]].body
    assert "a1a1" not in body
    assert "not given here" in body


def test_undo_closes_the_issue_with_the_patch() -> None:
    at = gone(ARTIFACTS, granted=False)
    done = at.done(action)
    for _ in range(2):
        assert action.undo(done, at.tools).conclusion is Conclusion.SUCCESS
    assert {issue.state for issue in at.forge.issues.values()} == {"closed"}
    assert action.undo(replace(done, outcome=None), at.tools).conclusion is Conclusion.NEUTRAL


@pytest.mark.parametrize("params", [{"means": "all"}, {"minutes": 0}, {"minutes": 361}, {"path": "x"}])
def test_unknown_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        action.Params.model_validate(params)
