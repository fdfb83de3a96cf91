import pytest

from sandbox.runner import WorkflowInvalid, parse_workflow

JOBS = "jobs: {build: {runs-on: ubuntu-latest, steps: [{run: ls}]}}\n"


@pytest.mark.parametrize(
    ("on", "event", "branch", "action", "starts"),
    [
        ("push", "push", "main", "", True),
        ("[push, pull_request]", "pull_request", "main", "opened", True),
        ("push", "pull_request", "main", "opened", False),
        ("{push: {branches: [main]}}", "push", "dev", "", False),
        ("{push: {branches: ['heal/**']}}", "push", "heal/a/b", "", True),
        ("{push: {branches: ['heal/*']}}", "push", "heal/a/b", "", False),
        ("{push: {branches: ['**', '!wip/**']}}", "push", "wip/x", "", False),
        ("{push: {branches-ignore: [gh-pages]}}", "push", "gh-pages", "", False),
        ("{push: {branches-ignore: [gh-pages]}}", "push", "main", "", True),
        ("{pull_request: }", "pull_request", "main", "closed", False),
        ("{pull_request: {types: [closed]}}", "pull_request", "main", "closed", True),
        ("{workflow_dispatch: {inputs: {lr: {default: 1}}}}", "workflow_dispatch", "main", "", True),
    ],
)
def test_a_workflow_starts_on_the_events_and_branches_it_names(on, event, branch, action, starts):
    assert parse_workflow(f"on: {on}\n{JOBS}").starts_on(event, branch, action) is starts


def test_on_stays_a_word_and_the_name_may_be_missing():
    assert parse_workflow(f"on: push\n{JOBS}").name is None
    assert parse_workflow(f"name: train\non: push\n{JOBS}").name == "train"


def test_the_env_of_the_workflow_is_under_that_of_the_job():
    text = "on: push\nenv: {A: 1, B: 1}\njobs: {b: {runs-on: x, env: {B: true}, steps: [{run: ls}]}}"
    assert parse_workflow(text).jobs[0].env == {"A": "1", "B": "true"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("on: push\njobs: [", 2, "expected"),
        ("- a\n", 1, "must be a mapping"),
        ("on: push\n", 1, "Required property is missing: jobs"),
        ("on: push\njobs: {}\n", 2, "at least one job"),
        ("on: push\njobs:\n  a:\n    steps: [{run: ls}]\n", 3, "Required property is missing: runs-on"),
        ("on: push\njobs:\n  a:\n    runs-on: x\n    strategy: {matrix: {}}\n    steps: [{run: ls}]\n", 5, "matrices"),
        ("on: push\njobs:\n  a:\n    runs-on: x\n    container: c\n    steps: [{run: ls}]\n", 5, "'container'"),
        (
            "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n    - run: ls\n    - name: n\n",
            7,
            "either 'run' or 'uses'",
        ),
        (
            "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n    - run: ls\n      if: a == b\n",
            7,
            "knows only success()",
        ),
        ("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n    - run: echo ${{ hashFiles('a') }}\n", 6, "hashFiles"),
        ("on: push\njobs:\n  a:\n    runs-on: x\n    needs: b\n    steps: [{run: ls}]\n", 5, "unknown job 'b'"),
        ("on: push\njobs:\n  a:\n    runs-on: x\n    timeout-minutes: 0\n    steps: [{run: ls}]\n", 5, "above 0"),
        ("on: {push: {paths: [a]}}\n" + JOBS, 1, "'paths'"),
        ("on: push\non: push\n" + JOBS, 2, "duplicate key"),
    ],
)
def test_what_the_sandbox_cannot_run_is_refused_with_its_line(text, line, message):
    with pytest.raises(WorkflowInvalid) as refusal:
        parse_workflow(text)
    assert message in refusal.value.message
    assert refusal.value.line == line


def test_jobs_that_need_each_other_are_refused():
    jobs = "{a: {needs: b, runs-on: x, steps: [{run: ls}]}, b: {needs: a, runs-on: x, steps: [{run: ls}]}}"
    with pytest.raises(WorkflowInvalid, match="in a circle"):
        parse_workflow(f"on: push\njobs: {jobs}\n")
