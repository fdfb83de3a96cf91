"""The sandbox is held to GitHub's published description: every route, every answer, every event."""

from __future__ import annotations

import base64
import json

import pytest
from starlette.routing import compile_path

from sandbox.web import API
from tests.sandbox.conftest import FAILING, TWO_JOBS, Github, Listener
from tests.sandbox.contract import ContractViolation, check_event, check_request, check_response
from tests.sandbox.test_manifest import register

CI = ".github/workflows/ci.yml"

UPLOADS = """\
      - run: echo steady > report.txt
      - uses: actions/upload-artifact@v4
        with: {name: report, path: report.txt}
"""

ENDLESS = """\
on: workflow_dispatch
jobs:
  wait:
    runs-on: ubuntu-latest
    steps:
      - run: sleep 600
"""


def test_every_route_answers_as_github_describes_and_every_event_is_githubs(github: Github, listener: Listener) -> None:
    github.admin("POST", "/hook", {"url": listener.url})
    two = TWO_JOBS.replace("      - run: echo steady\n", UPLOADS)
    files = {CI: FAILING, ".github/workflows/two.yml": two, ".github/workflows/endless.yml": ENDLESS}
    repo = github.create("model", {**files, "README.md": "# Model\n"})
    github.admin("POST", "/users", {"login": "mona", "permission": "write"})
    _the_app(github, repo)
    _runs(github, repo)
    _contents(github, repo)
    head = _git_data(github, repo)
    _checks(github, repo, head)
    _issues(github, repo)
    _pulls(github, repo, head)
    github.create("second", {"README.md": "# Second"})
    github.settle()
    _a_person(github)
    github.call("POST", f"/app-manifests/{register(github)}/conversions", token="")

    called = {_route(request["method"], request["path"]) for request in github.admin("GET", "/requests")}
    assert called == {(route.method, route.path) for route in API}

    bodies = [(headers["x-github-event"], json.loads(raw)) for headers, raw in listener.received]
    described = {event for event, body in bodies if check_event(event, body)}
    assert described == {event for event, _ in bodies}
    assert described == {
        *("ping", "installation", "installation_repositories", "push", "workflow_run", "workflow_job", "check_run"),
        *("pull_request", "issues", "issue_comment"),
    }  # fmt: skip


def _route(method: str, path: str) -> tuple[str, str]:
    return next((r.method, r.path) for r in API if r.method == method and compile_path(r.path)[0].match(path))


def _the_app(github: Github, repo: str) -> None:
    app = github.app_jwt()
    github.call("GET", "/app", token=app)
    number = github.call("GET", f"{repo}/installation", token=app)["id"]
    github.call("GET", f"/app/installations/{number}", token=app)
    github.call("GET", "/installation/repositories")
    github.call("GET", "/rate_limit")
    github.call("GET", repo)
    github.call("GET", f"{repo}/collaborators/mona/permission")
    newest = github.call("GET", "/app/hook/deliveries", token=app, per_page="5")[0]["id"]
    github.call("GET", f"/app/hook/deliveries/{newest}", token=app)
    github.call("POST", f"/app/hook/deliveries/{newest}/attempts", token=app)


def _a_person(github: Github) -> None:
    mona = github.admin("POST", "/users", {"login": "mona", "permission": "write"})["token"]
    github.call("GET", "/user", token=mona)
    number = github.call("GET", "/user/installations", token=mona)["installations"][0]["id"]
    github.call("GET", f"/user/installations/{number}/repositories", token=mona)


def _runs(github: Github, repo: str) -> None:
    found = github.call("GET", f"{repo}/actions/runs", status="failure", branch="main", event="push")["workflow_runs"]
    run = f"{repo}/actions/runs/{found[0]['id']}"
    github.call("GET", run)
    job = github.call("GET", f"{run}/jobs", filter="latest")["jobs"][0]
    github.call("GET", f"{run}/attempts/1/jobs")
    github.call("GET", f"{run}/attempts/1")
    github.call("GET", f"{repo}/actions/jobs/{job['id']}")
    github.call("GET", f"{repo}/actions/jobs/{job['id']}/logs")
    github.call("GET", f"{run}/logs")
    uploaded = next(r for r in found if github.call("GET", f"{repo}/actions/runs/{r['id']}/artifacts")["total_count"])
    (artifact,) = github.call("GET", f"{repo}/actions/runs/{uploaded['id']}/artifacts", name="report")["artifacts"]
    github.call("GET", f"{repo}/actions/artifacts/{artifact['id']}/zip")
    for again in (f"{run}/rerun", f"{run}/rerun-failed-jobs"):
        github.call("POST", again)
        github.settle()
        if github.call("GET", run)["conclusion"] == "success":
            break
    other = f"{repo}/actions/runs/{found[1]['id']}"
    github.call("POST", f"{other}/rerun-failed-jobs")
    github.settle()
    flaky = github.call("GET", f"{other}/jobs")["jobs"][0]
    github.call("POST", f"{repo}/actions/jobs/{flaky['id']}/rerun")
    github.settle()
    github.call("GET", f"{repo}/actions/runners")
    github.call("GET", f"{repo}/actions/workflows")
    github.call("GET", f"{repo}/actions/workflows/two.yml")
    details = {"ref": "main", "return_run_details": True}
    started = github.call("POST", f"{repo}/actions/workflows/endless.yml/dispatches", details)["workflow_run_id"]
    github.call("POST", f"{repo}/actions/runs/{started}/cancel")
    github.settle()
    github.call("POST", f"{repo}/actions/workflows/two.yml/dispatches", {"ref": "main", "inputs": {"reason": "a test"}})
    github.settle()


def _contents(github: Github, repo: str) -> None:
    readme = github.call("GET", f"{repo}/contents/README.md")
    github.call("GET", f"{repo}/contents/.github", ref="main")
    text = base64.b64encode(b"# A model\n").decode()
    change = {"message": "Say more", "content": text, "sha": readme["sha"], "branch": "main"}
    github.call("PUT", f"{repo}/contents/README.md", change)
    github.call("PUT", f"{repo}/contents/notes.txt", {"message": "Add notes", "content": text})
    github.call("GET", f"{repo}/branches")
    head = github.call("GET", f"{repo}/branches/main")["commit"]["sha"]
    github.call("GET", f"{repo}/commits", sha="main", per_page="2")
    github.call("GET", f"{repo}/commits/{head}")
    github.call("GET", f"{repo}/commits/main")
    github.call("GET", f"{repo}/tarball/main")


def _git_data(github: Github, repo: str) -> str:
    """A branch `heal/one` with one commit; its SHA."""
    main = github.call("GET", f"{repo}/git/ref/heads/main")["object"]["sha"]
    parent = github.call("GET", f"{repo}/git/commits/{main}")
    github.call("GET", f"{repo}/git/trees/{parent['tree']['sha']}", recursive="1")
    blob = github.call("POST", f"{repo}/git/blobs", {"content": "fixed\n", "encoding": "utf-8"})["sha"]
    github.call("GET", f"{repo}/git/blobs/{blob}")
    lines = [{"path": "fixed.txt", "mode": "100644", "type": "blob", "sha": blob}]
    tree = github.call("POST", f"{repo}/git/trees", {"base_tree": parent["tree"]["sha"], "tree": lines})["sha"]
    commit = {"message": "Fix it", "tree": tree, "parents": [main]}
    head = str(github.call("POST", f"{repo}/git/commits", commit)["sha"])
    github.call("POST", f"{repo}/git/refs", {"ref": "refs/heads/heal/one", "sha": main})
    github.call("PATCH", f"{repo}/git/refs/heads/heal/one", {"sha": head})
    github.call("GET", f"{repo}/git/matching-refs/heads/heal")
    github.call("POST", f"{repo}/git/refs", {"ref": "refs/heads/gone", "sha": main})
    github.call("DELETE", f"{repo}/git/refs/heads/gone")
    github.call("GET", f"{repo}/compare/main...heal/one")
    return head


def _checks(github: Github, repo: str, sha: str) -> None:
    note = {"path": "train.py", "start_line": 1, "end_line": 1, "annotation_level": "warning", "message": "here"}
    output = {"title": "Diagnosis", "summary": "It broke.", "annotations": [note]}
    button = {"label": "Approve", "description": "Apply the repair", "identifier": "approve"}
    created = {"name": "heal", "head_sha": sha, "status": "in_progress", "external_id": "incident-1"}
    number = github.call("POST", f"{repo}/check-runs", created | {"output": output, "actions": [button]})["id"]
    check = f"{repo}/check-runs/{number}"
    github.call("GET", check)
    github.call("GET", f"{check}/annotations")
    github.call("PATCH", check, {"status": "completed", "conclusion": "action_required"})
    github.admin("POST", f"/check-runs/{number}/click", {"identifier": "approve", "login": "mona"})
    github.call("POST", f"{check}/rerequest")
    github.call("GET", f"{repo}/commits/{sha}/check-runs", filter="latest")
    github.call("POST", f"{repo}/statuses/{sha}", {"state": "success", "context": "heal"})


def _issues(github: Github, repo: str) -> None:
    issue = github.call("POST", f"{repo}/issues", {"title": "It broke", "body": "Look.", "labels": ["heal"]})
    path = f"{repo}/issues/{issue['number']}"
    github.call("GET", path)
    github.call("GET", f"{repo}/issues", state="all", labels="heal")
    comment = github.call("POST", f"{path}/comments", {"body": "One"})["id"]
    github.call("GET", f"{path}/comments")
    said = f"{repo}/issues/comments/{comment}"
    github.call("GET", said)
    github.call("PATCH", said, {"body": "Two"})
    github.call("POST", f"{said}/reactions", {"content": "eyes"})
    github.call("POST", f"{said}/reactions", {"content": "eyes"})
    github.call("DELETE", said)
    github.call("POST", f"{path}/labels", {"labels": ["seen"]})
    github.call("DELETE", f"{path}/labels/seen")
    github.call("PATCH", path, {"state": "closed", "state_reason": "completed"})
    github.call("PATCH", path, {"state": "open"})


def _pulls(github: Github, repo: str, head: str) -> None:
    opened = {"title": "Fix it", "head": "heal/one", "base": "main", "body": "Because."}
    pull = f"{repo}/pulls/{github.call('POST', f'{repo}/pulls', opened)['number']}"
    github.call("GET", pull)
    github.call("GET", f"{repo}/pulls", head="acme:heal/one", state="all")
    github.call("GET", f"{repo}/commits/{head}/pulls")
    github.call("GET", f"{pull}/files")
    github.call("GET", f"{pull}/commits")
    github.call("PATCH", pull, {"state": "closed"})
    github.call("PATCH", pull, {"state": "open", "title": "Fix it now"})
    github.settle()
    github.call("PUT", f"{pull}/merge", {"merge_method": "merge"})
    github.call("GET", pull)


def test_the_contract_refuses_a_misspelt_property_and_a_missing_one() -> None:
    with pytest.raises(ContractViolation, match="unknown property 'boddy'"):
        check_request("POST", "/repos/a/b/issues", {}, {"title": "t", "boddy": "x"})
    with pytest.raises(ContractViolation, match="'title' is a required property"):
        check_request("POST", "/repos/a/b/issues", {}, {})
    with pytest.raises(ContractViolation, match="unknown query parameter"):
        check_request("GET", "/repos/a/b/pulls", {"sate": "open"})
    with pytest.raises(ContractViolation, match="no operation"):
        check_request("GET", "/repos/a/b/nothing")


def test_the_contract_refuses_an_answer_with_a_missing_field_or_an_undescribed_status() -> None:
    with pytest.raises(ContractViolation, match="'sha' is a required property"):
        check_response("PUT", "/repos/a/b/pulls/1/merge", 200, {"merged": True, "message": "done"})
    with pytest.raises(ContractViolation, match="describes only"):
        check_response("PUT", "/repos/a/b/pulls/1/merge", 201, {})
    with pytest.raises(ContractViolation, match="event push"):
        check_event("push", {"ref": "refs/heads/main"})
