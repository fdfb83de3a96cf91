"""What the sandbox does, beyond the shape of its answers."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from github import Auth, GithubException, GithubIntegration
from github import Github as PyGithub

from tests.sandbox.conftest import APP_ID, FAILING, SECRET, TWO_JOBS, Github, Listener, private_pem

CI = ".github/workflows/ci.yml"
README = {"README.md": "# Model\n"}


def runs_of(github: Github, repo: str) -> list[dict]:
    return github.call("GET", f"{repo}/actions/runs")["workflow_runs"]


def pygithub(github: Github) -> PyGithub:
    integration = GithubIntegration(auth=Auth.AppAuth(APP_ID, private_pem(github.key)), base_url=github.api_url)
    return integration.get_github_for_installation(integration.get_installations()[0].id)


def test_a_failing_workflow_is_healed_by_a_pull_request_through_pygithub(github: Github, listener: Listener) -> None:
    github.create("model", {CI: FAILING})
    repo = pygithub(github).get_repo("acme/model")
    broken = repo.get_workflow_runs()[0]
    assert (broken.status, broken.conclusion, broken.run_attempt) == ("completed", "failure", 1)

    repo.create_git_ref("refs/heads/heal/one", broken.head_sha)
    repo.create_file("fixed.txt", "Fix it", "fixed", branch="heal/one")
    pull = repo.create_pull(base="main", head="heal/one", title="Fix it", body="It broke.")
    github.settle()
    assert {(c.name, c.conclusion) for c in repo.get_commit(pull.head.sha).get_check_runs()} == {("test", "success")}
    assert pull.mergeable
    assert pull.user.login.endswith("[bot]")
    assert pull.merge().merged
    github.settle()

    newest = repo.get_workflow_runs(branch="main", event="push")[0]
    assert newest.conclusion == "success"
    assert repo.get_contents("fixed.txt").decoded_content == b"fixed"
    assert repo.get_branch("heal/one")
    [closed] = listener.bodies("pull_request", "closed")
    assert closed["pull_request"]["merged"]


def test_a_job_log_is_fetched_from_a_link_that_refuses_the_token(github: Github) -> None:
    repo = github.create("model", {CI: FAILING})
    job = github.call("GET", f"{repo}/actions/runs/{runs_of(github, repo)[0]['id']}/jobs")["jobs"][0]
    link = github.raw("GET", f"{repo}/actions/jobs/{job['id']}/logs")
    assert link.status_code == 302
    where = link.headers["location"]
    assert requests.get(where, headers={"Authorization": f"Bearer {github.token}"}, timeout=5).status_code == 400
    log = requests.get(where, timeout=5).text
    assert "##[error]Process completed with exit code 1." in log
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z ", log.splitlines()[1])
    github.sandbox.state.log_links.clear()
    assert requests.get(where, timeout=5).status_code == 404


def test_the_logs_of_a_run_come_as_a_zip(github: Github) -> None:
    repo = github.create("model", {CI: TWO_JOBS})
    link = github.raw("GET", f"{repo}/actions/runs/{runs_of(github, repo)[0]['id']}/logs").headers["location"]
    names = zipfile.ZipFile(io.BytesIO(requests.get(link, timeout=5).content)).namelist()
    assert [name.split("_", 1)[1] for name in names] == ["steady.txt", "flaky.txt", "after.txt"]


def test_failed_jobs_run_again_with_those_that_need_them_and_the_others_keep_their_result(github: Github) -> None:
    repo = github.create("model", {CI: TWO_JOBS})
    before = runs_of(github, repo)[0]
    run = f"{repo}/actions/runs/{before['id']}"
    first = {job["name"]: job for job in github.call("GET", f"{run}/jobs")["jobs"]}
    assert {name: job["conclusion"] for name, job in first.items()} == {
        "steady": "success",
        "flaky": "failure",
        "after": "skipped",
    }
    github.call("POST", f"{run}/rerun-failed-jobs")
    github.settle()
    old = github.call("GET", f"{run}/attempts/1")
    assert (old["run_attempt"], old["conclusion"]) == (1, "failure")
    after = github.call("GET", run)
    assert (after["run_attempt"], after["conclusion"], after["head_sha"]) == (2, "success", before["head_sha"])
    second = {job["name"]: job for job in github.call("GET", f"{run}/jobs")["jobs"]}
    assert {job["conclusion"] for job in second.values()} == {"success"}
    assert second["steady"]["started_at"] == first["steady"]["started_at"]
    assert len(github.call("GET", f"{run}/jobs", filter="all")["jobs"]) == 6
    assert {j["id"] for j in github.call("GET", f"{run}/attempts/1/jobs")["jobs"]} == {j["id"] for j in first.values()}


def test_an_old_conclusion_stays_until_the_new_attempt_starts_and_a_second_rerun_is_refused(
    github: Github, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = github.create("model", {CI: TWO_JOBS})
    run = f"{repo}/actions/runs/{runs_of(github, repo)[0]['id']}"
    monkeypatch.setattr("sandbox.execution.RERUN_DELAY_S", 3600)
    github.call("POST", f"{run}/rerun-failed-jobs")
    stale = github.call("GET", run)
    assert (stale["run_attempt"], stale["status"], stale["conclusion"]) == (1, "completed", "failure")
    assert "already running" in github.refused(403, "POST", f"{run}/rerun")
    github.sandbox.state.busy_runs -= 1  # the attempt that never starts


def test_a_running_workflow_can_be_cancelled(github: Github) -> None:
    slow = FAILING.replace("test -f fixed.txt", "sleep 600")
    repo = github.create("model", {CI: slow}, settle=False)
    run = f"{repo}/actions/runs/{runs_of(github, repo)[0]['id']}"
    github.until(lambda: github.call("GET", run)["status"] == "in_progress")
    github.call("POST", f"{run}/cancel")
    github.settle()
    assert github.call("GET", run)["conclusion"] == "cancelled"


def test_every_delivery_is_signed_in_order_and_names_its_installation(github: Github, listener: Listener) -> None:
    github.create("model", {CI: FAILING})
    for headers, raw in listener.received:
        expected = hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
        assert headers["x-hub-signature-256"] == f"sha256={expected}"
        assert headers["x-github-hook-installation-target-id"] == str(APP_ID)
        assert json.loads(raw)["installation"]["id"]
    order = [(h["x-github-event"], json.loads(raw).get("action")) for h, raw in listener.received]
    assert order == [
        ("installation", "created"),
        ("push", None),
        ("workflow_run", "requested"),
        ("check_run", "created"),
        ("workflow_run", "in_progress"),
        ("workflow_job", "completed"),
        ("check_run", "completed"),
        ("workflow_run", "completed"),
    ]


def test_a_failed_delivery_is_not_retried_and_a_redelivery_keeps_its_guid(github: Github, listener: Listener) -> None:
    listener.status = 503
    github.create("model", README)
    app = github.app_jwt()
    failed = github.call("GET", "/app/hook/deliveries", token=app, status="failure")
    assert [d["status_code"] for d in failed] == [503, 503]
    assert len(listener.received) == 2
    listener.status = 202
    github.call("POST", f"/app/hook/deliveries/{failed[0]['id']}/attempts", token=app)
    github.settle()
    newest = github.call("GET", "/app/hook/deliveries", token=app)[0]
    assert (newest["guid"], newest["redelivery"], newest["status_code"]) == (failed[0]["guid"], True, 202)
    assert listener.received[-1] == listener.received[-2]


def test_the_delivery_list_is_walked_by_cursor(github: Github) -> None:
    github.create("model", README)
    github.create("other", README)
    app = github.app_jwt()
    every = [d["id"] for d in github.call("GET", "/app/hook/deliveries", token=app)]
    walked: list[int] = []
    url: str | None = f"{github.api_url}/app/hook/deliveries?per_page=3"
    while url:
        page = requests.get(url, headers={"Authorization": f"Bearer {app}"}, timeout=5)
        walked += [d["id"] for d in page.json()]
        url = page.links.get("next", {}).get("url")
    assert walked == every == sorted(every, reverse=True)
    assert len(every) == 4


def test_lists_come_in_pages(github: Github) -> None:
    repo = github.create("model", README)
    for number in range(5):
        github.call("POST", f"{repo}/issues", {"title": f"Issue {number}"})
    page = github.raw("GET", f"{repo}/issues", per_page="2", page="2")
    assert [issue["number"] for issue in page.json()] == [3, 2]
    assert set(page.links) == {"first", "prev", "next", "last"}
    assert int(page.headers["x-ratelimit-remaining"]) < 5_000


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"exp": int(time.time()) - 3600}, 401),
        ({"exp": int(time.time()) + 3600}, 401),
        ({"iss": "999"}, 404),
    ],
)
def test_a_jwt_that_github_would_refuse_is_refused(github: Github, claims: dict, status: int) -> None:
    assert github.raw("GET", "/app", token=github.app_jwt(**claims)).status_code == status


def test_a_jwt_of_another_key_is_refused(github: Github) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = Github(github.sandbox, github.base_url, stranger).app_jwt()
    github.refused(401, "GET", "/app", token=forged)


def test_a_token_reaches_only_what_it_was_narrowed_to(github: Github) -> None:
    repo, other = github.create("model", README), github.create("other", README)
    narrowed = github.installation_token(repositories=["model"], permissions={"issues": "read"})
    github.call("GET", f"{repo}/issues", token=narrowed)
    github.refused(403, "POST", f"{repo}/issues", {"title": "No"}, token=narrowed)
    github.refused(403, "GET", f"{repo}/contents/README.md", token=narrowed)
    github.refused(404, "GET", f"{other}/issues", token=narrowed)
    github.refused(401, "GET", f"{repo}/issues", token="ghs_invented")
    github.refused(401, "POST", f"{repo}/issues", {"title": "No"}, token="")
    github.refused(403, "GET", f"{repo}/issues", token=github.app_jwt())
    expired = github.installation_token()
    state = github.sandbox.state
    state.tokens[expired] = type(state.tokens[expired])(expired, 1, expires_at=state.started_at)
    github.refused(401, "GET", f"{repo}/issues", token=expired)


def test_a_user_acts_within_their_level(github: Github) -> None:
    repo = github.create("model", README)
    reader = github.admin("POST", "/users", {"login": "rita", "permission": "read"})["token"]
    writer = github.admin("POST", "/users", {"login": "walt", "permission": "write", "repo": "acme/model"})["token"]
    said = github.call("POST", f"{repo}/issues", {"title": "It broke"}, token=reader)
    assert said["user"]["login"] == "rita"
    new = {"ref": "refs/heads/x", "sha": github.call("GET", f"{repo}/branches/main")["commit"]["sha"]}
    github.refused(403, "POST", f"{repo}/git/refs", new, token=reader)
    github.call("POST", f"{repo}/git/refs", new, token=writer)
    assert github.call("GET", f"{repo}/collaborators/walt/permission")["permission"] == "write"
    assert github.call("GET", f"{repo}/collaborators/rita/permission")["permission"] == "read"
    github.refused(404, "GET", f"{repo}/collaborators/nobody/permission")


def test_equal_commits_have_equal_shas_and_refs_move_only_as_git_allows(github: Github) -> None:
    repo = github.create("model", README)
    main = github.call("GET", f"{repo}/git/ref/heads/main")["object"]["sha"]
    tree = github.call("GET", f"{repo}/git/commits/{main}")["tree"]["sha"]
    who = {"name": "heal", "email": "heal@example.org", "date": "2026-11-21T09:00:00Z"}
    commit = {"message": "Fix", "tree": tree, "parents": [main], "author": who, "committer": who}
    one = github.call("POST", f"{repo}/git/commits", commit)
    assert github.call("POST", f"{repo}/git/commits", commit)["sha"] == one["sha"]
    assert one["author"]["date"] == "2026-11-21T09:00:00Z"
    other = github.call("POST", f"{repo}/git/commits", commit | {"message": "Other"})["sha"]
    branch = {"ref": "refs/heads/heal/one", "sha": one["sha"]}
    github.call("POST", f"{repo}/git/refs", branch)
    assert "Reference already exists" in github.refused(422, "POST", f"{repo}/git/refs", branch)
    path = f"{repo}/git/refs/heads/heal/one"
    assert "not a fast forward" in github.refused(422, "PATCH", path, {"sha": other})
    assert github.call("PATCH", path, {"sha": other, "force": True})["object"]["sha"] == other
    github.refused(422, "DELETE", f"{repo}/git/refs/heads/nothing")


def test_a_file_is_changed_only_by_who_saw_its_latest_content(github: Github) -> None:
    repo = github.create("model", README)
    path, change = f"{repo}/contents/README.md", {"message": "Change", "content": "aGk="}
    seen = github.call("GET", path)["sha"]
    assert "sha" in github.refused(422, "PUT", path, change)
    github.call("PUT", path, change | {"sha": seen})
    assert "does not match" in github.refused(409, "PUT", path, change | {"sha": seen})


def test_a_workflow_file_needs_a_permission_that_the_app_does_not_have(github: Github) -> None:
    repo = github.create("model", README)
    github.refused(403, "PUT", f"{repo}/contents/{CI}", {"message": "No", "content": "aGk="})
    line = {"path": CI, "mode": "100644", "type": "blob", "content": "x"}
    github.refused(403, "POST", f"{repo}/git/trees", {"tree": [line]})


def test_a_second_pull_request_for_a_branch_and_an_empty_one_are_refused(github: Github) -> None:
    repo = github.create("model", README)
    main = github.call("GET", f"{repo}/branches/main")["commit"]["sha"]
    github.call("POST", f"{repo}/git/refs", {"ref": "refs/heads/heal/one", "sha": main})
    opened = {"title": "Fix", "head": "heal/one", "base": "main"}
    assert "No commits between main and heal/one" in github.refused(422, "POST", f"{repo}/pulls", opened)
    github.admin("POST", "/commits", {"repo": "acme/model", "branch": "heal/one", "files": {"a": "1"}})
    number = github.call("POST", f"{repo}/pulls", opened)["number"]
    assert "A pull request already exists for acme:heal/one." in github.refused(422, "POST", f"{repo}/pulls", opened)
    github.refused(422, "POST", f"{repo}/pulls", opened | {"head": "nothing"})
    github.call("DELETE", f"{repo}/git/refs/heads/heal/one")
    assert github.call("GET", f"{repo}/pulls/{number}")["state"] == "closed"


def test_conflicting_changes_are_not_merged(github: Github, listener: Listener) -> None:
    repo = github.create("model", README)
    for branch, text in (("heal/one", "one"), ("main", "other")):
        github.admin("POST", "/commits", {"repo": "acme/model", "branch": branch, "files": {"README.md": text}})
    pull = github.call("POST", f"{repo}/pulls", {"title": "Fix", "head": "heal/one", "base": "main"})
    assert (pull["mergeable"], pull["mergeable_state"]) == (False, "dirty")
    github.refused(405, "PUT", f"{repo}/pulls/{pull['number']}/merge", {})
    github.admin("POST", "/commits", {"repo": "acme/model", "branch": "heal/one", "files": {"b": "2"}})
    github.settle()
    [moved] = listener.bodies("pull_request", "synchronize")
    assert moved["after"] == github.call("GET", f"{repo}/branches/heal/one")["commit"]["sha"]


@pytest.mark.parametrize(
    "change",
    [
        {"actions": [{"label": "x", "description": "x", "identifier": str(n)} for n in range(4)]},
        {"actions": [{"label": "x" * 21, "description": "x", "identifier": "x"}]},
        {"actions": [{"label": "x", "description": "x" * 41, "identifier": "x"}]},
        {"actions": [{"label": "x", "description": "x", "identifier": "x" * 21}]},
        {"output": {"title": "t", "summary": "s", "text": "x" * 65_536}},
        {"output": {"title": "t", "summary": "s", "annotations": [
            {"path": "a", "start_line": 1, "end_line": 1, "annotation_level": "notice", "message": "m"}] * 51}},
        {"status": "completed"},
        {"conclusion": "wonderful"},
    ],
)  # fmt: skip
def test_a_check_run_beyond_githubs_limits_is_refused(github: Github, change: dict) -> None:
    repo = github.create("model", README)
    sha = github.call("GET", f"{repo}/branches/main")["commit"]["sha"]
    github.refused(422, "POST", f"{repo}/check-runs", {"name": "heal", "head_sha": sha} | change)
    assert github.call("GET", f"{repo}/commits/{sha}/check-runs")["total_count"] == 0


def test_a_click_on_a_button_arrives_with_its_sender(github: Github, listener: Listener) -> None:
    repo = github.create("model", README)
    sha = github.call("GET", f"{repo}/branches/main")["commit"]["sha"]
    button = {"label": "Approve", "description": "Apply it", "identifier": "approve"}
    made = github.call("POST", f"{repo}/check-runs", {"name": "heal", "head_sha": sha, "actions": [button]})
    github.admin("POST", f"/check-runs/{made['id']}/click", {"identifier": "approve", "login": "mona"})
    github.settle()
    [clicked] = listener.bodies("check_run", "requested_action")
    assert (clicked["sender"]["login"], clicked["requested_action"]) == ("mona", {"identifier": "approve"})


def test_git_clones_anonymously_and_a_push_with_the_token_starts_workflows(github: Github, tmp_path: Path) -> None:
    repo = github.create("model", {CI: FAILING})
    work = tmp_path / "work"
    url = f"{github.base_url}/acme/model.git"

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        names = ["-c", "user.name=mona", "-c", "user.email=mona@example.org", "-c", "credential.helper="]
        environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
        command = ["git", *names, "-C", str(work), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    subprocess.run(["git", "clone", "--quiet", url, str(work)], check=True)
    (work / "fixed.txt").write_text("fixed")
    git("add", "fixed.txt")
    git("commit", "--quiet", "-m", "Fix it")
    assert git("push", "--quiet", url, "HEAD:main").returncode != 0
    bearer = url.replace("//", f"//mona:{github.sandbox.admin_token}@")
    assert git("push", "--quiet", bearer, "HEAD:main").returncode == 0
    github.settle()
    newest = runs_of(github, repo)[0]
    assert (newest["display_title"], newest["conclusion"], newest["actor"]["login"]) == ("Fix it", "success", "mona")


def test_the_owners_dot_github_repository_can_be_read_like_any_other(github: Github) -> None:
    github.create("model", README)
    repo = github.create(".github", {".github/heal.yml": "mode: observe\n"})
    assert github.call("GET", f"{repo}/contents/.github/heal.yml")["name"] == "heal.yml"
    github.refused(404, "GET", "/repos/acme/model/contents/.github/heal.yml")


def test_the_package_index_is_served_beside_the_api(github: Github) -> None:
    assert requests.get(f"{github.base_url}/simple/", timeout=5).status_code == 200


def test_an_unreadable_workflow_is_a_failed_run_without_jobs(github: Github) -> None:
    repo = github.create("model", {CI: "on: push\njobs: [\n"})
    [run] = runs_of(github, repo)
    assert run["conclusion"] == "failure"
    assert github.call("GET", f"{repo}/actions/runs/{run['id']}/jobs")["jobs"] == []


def test_pages_escape_what_repositories_say_and_allow_no_script(github: Github) -> None:
    repo = github.create("model", {CI: FAILING})
    evil = "<script>alert(1)</script> [x](javascript:alert(1)) **bold**"
    number = github.call("POST", f"{repo}/issues", {"title": evil, "body": evil})["number"]
    github.admin("POST", "/commits", {"repo": "acme/model", "branch": "x", "files": {"a.html": evil}, "message": evil})
    pull = github.call("POST", f"{repo}/pulls", {"title": evil, "body": evil, "head": "x", "base": "main"})
    github.settle()
    run = runs_of(github, repo)[0]
    sha = pull["head"]["sha"]
    for path in ("", f"/issues/{number}", f"/pull/{pull['number']}", f"/actions/runs/{run['id']}", f"/commit/{sha}"):
        page = requests.get(f"{github.base_url}/acme/model{path}", timeout=5)
        assert page.status_code == 200
        assert "<script" not in page.text
        assert 'href="javascript' not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    page = requests.get(pull["html_url"], timeout=5).text
    assert "<strong>bold</strong>" in page
    assert "<ins>+&lt;script&gt;" in page
    assert requests.get(f"{github.base_url}/static.css", timeout=5).headers["content-type"].startswith("text/css")
    assert requests.get(f"{github.base_url}/acme/nothing", timeout=5).status_code == 404


def test_web_pages_of_others_cannot_give_orders(github: Github) -> None:
    order = {"name": "evil", "files": {CI: FAILING}}
    url = f"{github.base_url}/_sandbox/repositories"
    assert requests.post(url, json=order, headers={"Origin": "https://evil.example"}, timeout=5).status_code == 403
    assert requests.post(url, json=order, headers={"Host": "evil.example"}, timeout=5).status_code == 403
    assert github.admin("GET", "/state") == {}


def test_the_request_log_names_who_did_what_and_never_the_token(github: Github) -> None:
    repo = github.create("model", README)
    github.call("POST", f"{repo}/issues", {"title": "Once"})
    logged = github.admin("GET", "/requests")
    [made] = [r for r in logged if (r["method"], r["path"]) == ("POST", f"{repo}/issues")]
    assert (made["status"], made["body"]) == (201, {"title": "Once"})
    assert made["identity"].startswith("installation:")
    assert github.token not in json.dumps(logged)


def test_the_sandbox_as_a_process_says_where_it_is_and_ends_with_its_parent(
    tmp_path: Path, app_key: rsa.RSAPrivateKey
) -> None:
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(app_key.public_key().public_bytes(*form))
    (tmp_path / "secret").write_text("s3cret\n")
    command = [sys.executable, "-m", "sandbox", "serve", "--root", str(tmp_path / "root"), "--app-id", "1"]
    command += ["--webhook-secret-file", str(tmp_path / "secret"), "--app-public-key-file", str(tmp_path / "key.pem")]
    for ending in ("parent", "signal"):
        process = subprocess.Popen(
            [*command, "--exit-with-parent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == process.pid
        assert requests.get(f"{ready['api']}/rate_limit", timeout=5).status_code == 200
        if ending == "parent":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{ready['api']}/rate_limit", timeout=5)
        process.stdout.close()
        process.stdin.close()


def test_pygithub_sees_a_refusal_as_its_own_exception(github: Github) -> None:
    github.create("model", README)
    repo = pygithub(github).get_repo("acme/model")
    with pytest.raises(GithubException) as caught:
        repo.create_git_ref("refs/heads/main", repo.get_branch("main").commit.sha)
    assert (caught.value.status, caught.value.data["message"]) == (422, "Reference already exists")
