import pytest

from actions.workflow_edits import Workflow, data_of, kept, load
from app.domain.errors import Malformed

PATH = ".github/workflows/ci.yml"
TEXT = """\
# Ask before changing.
name: CI  # the one
on:
  push: {branches: [main]}
jobs:
  train:
    runs-on: "ubuntu-latest"
    permissions: {contents: read}
    # what it does
    steps:
      - uses: actions/checkout@v4

      # the second
      - name: Übung
        run: |
          echo one
          echo two
  other:
    runs-on: ubuntu-latest
    permissions:
      contents: read   # only
    steps:
      - run: 'echo "x"'
"""


def opened(text: str = TEXT) -> Workflow:
    return load(PATH, text)


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_only_the_characters_of_the_value_change(eol: str, bom: str) -> None:
    text = bom + TEXT.replace("\n", eol)
    workflow = opened(text)
    workflow.put(("jobs", "train", "runs-on"), "large")
    assert workflow.finish().after == text.replace('"ubuntu-latest"', '"large"')


def test_a_line_of_a_script_changes_where_it_stands() -> None:
    workflow = opened()
    workflow.swap(("jobs", "train", "steps", 1, "run"), "echo two", "echo 2")
    assert workflow.finish().after == TEXT.replace("echo two", "echo 2")


def test_a_text_that_is_written_otherwise_than_it_reads_is_not_edited() -> None:
    workflow = opened('on: push\njobs: {a: {runs-on: x, steps: [{run: "echo \\"a\\" # b"}]}}\n')
    with pytest.raises(Malformed, match="not edited"):
        workflow.swap(("jobs", "a", "steps", 0, "run"), 'echo "a"', "echo b")


def test_a_key_goes_above_the_steps_and_their_comment() -> None:
    workflow = opened()
    workflow.add_key(("jobs", "train"), "timeout-minutes: 60", before="steps")
    assert workflow.finish().after == TEXT.replace("    # what it", "    timeout-minutes: 60\n    # what it")


def test_entries_follow_the_style_of_the_mapping() -> None:
    workflow = opened()
    workflow.add_entries(("jobs", "train", "permissions"), {"issues": "write", "pages": "write"})
    workflow.add_entries(("jobs", "other", "permissions"), {"issues": "write"})
    after = workflow.finish().after
    assert after is not None
    assert "{contents: read, issues: write, pages: write}" in after
    assert "      contents: read   # only\n      issues: write\n" in after


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_a_step_goes_in_front_of_another(eol: str) -> None:
    text = TEXT.replace("\n", eol)
    workflow = opened(text)
    workflow.add_step(workflow.jobs[0], 1, "- name: New\n  run: |\n    true\n    df -h")
    after = workflow.finish().after
    new = f"      - name: New{eol}        run: |{eol}          true{eol}          df -h{eol}"
    assert after == text.replace("      - name: Übung", f"{new}      - name: Übung")


def test_a_mapping_at_the_end_of_a_file_without_a_line_end_grows() -> None:
    text = "on: push\njobs:\n  a:\n    steps: []\n    permissions:\n      contents: read"
    workflow = opened(text)
    workflow.add_entries(("jobs", "a", "permissions"), {"issues": "write"})
    assert workflow.finish().after == f"{text}\n      issues: write"


@pytest.mark.parametrize(
    "text",
    [
        "on: push\njobs: &j {a: {runs-on: x}}\n",
        "on: push\non: pull_request\njobs: {}\n",
        "a: 1\n---\nb: 2\n",
        "- a\n",
        "on: [\n",
        "[" * 100 + "]" * 100,
        "- " * 500 + "x",
        "x: " + "y" * (256 * 1024),
        "jobs:\n  a:\n    steps:\n      - just words\n",
        "",
    ],
)
def test_what_is_no_plain_workflow_is_not_edited(text: str) -> None:
    with pytest.raises(Malformed):
        opened(text)


def test_triggers_conditions_and_secrets_are_never_changed() -> None:
    text = (
        "on: push\njobs:\n  a:\n    if: true\n    runs-on: x\n    steps:\n"
        "      - run: go\n        env:\n          T: ${{ secrets.T }}\n"
    )
    for path, value in [(("on",), "pull_request"), (("jobs", "a", "if"), "false")]:
        workflow = opened(text)
        workflow.put(path, value)
        with pytest.raises(Malformed, match="not changed"):
            workflow.finish()
    workflow = opened(text)
    workflow.swap(("jobs", "a", "steps", 0, "env", "T"), "secrets.T", "secrets.U")
    with pytest.raises(Malformed, match="not changed"):
        workflow.finish()
    assert kept(data_of(text)) != kept(data_of(text.replace("push", "issues")))


def test_a_change_that_means_more_than_it_says_is_refused() -> None:
    workflow = opened()
    workflow.swap(("jobs", "train", "steps", 1, "run"), "echo two", "echo two\n  evil: 1")
    with pytest.raises(Malformed):
        workflow.finish()


@pytest.mark.parametrize("value", ["a # b", "a: b", "[a", "a\nb"])
def test_a_value_that_needs_quotes_is_not_written_without_them(value: str) -> None:
    with pytest.raises(Malformed):
        opened(TEXT.replace('"ubuntu-latest"', "plain")).put(("jobs", "train", "runs-on"), value)
