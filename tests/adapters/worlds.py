"""Two GitHubs behind one interface: the twin in memory, and the real adapter against the sandbox."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from app.adapters.github.app import GitHubApp
from app.domain.errors import RateLimited, Unreachable
from app.domain.evidence import Annotation
from app.domain.fleet import Runner
from app.ports.forge import Forge
from sandbox.server import Sandbox
from sandbox.state import Runner as SandboxRunner
from tests.sandbox.contract import check_request
from tests.twins.forge import MemoryApp, MemoryForge

APP_ID = 4711
WORKFLOW = ".github/workflows/ci.yml"
FAILS_ONCE = """\
name: CI
on: [push]
jobs:
  steady:
    runs-on: ubuntu-latest
    steps:
      - run: echo steady
  train:
    runs-on: ubuntu-latest
    steps:
      - name: Train
        run: |
          echo "::error file=train.py,line=3::no more memory"
          test "$GITHUB_RUN_ATTEMPT" -gt 1
"""
UPLOADS = """\
name: CI
on: [push]
jobs:
  score:
    runs-on: ubuntu-latest
    steps:
      - run: |
          mkdir -p out/deep
          printf '[{"age": 1}]' > out/churn.json
          printf x > out/deep/notes.txt
      - uses: actions/upload-artifact@v4
        with: {name: heal-observations, path: out}
"""
START = {"README.md": "# Model\n", "train.py": "print('train')\n"}
WRITES = {
    "ensure_branch": "POST .*/git/refs$",
    "ensure_pull": "POST .*/pulls$",
    "ensure_comment": "POST .*/issues/[0-9]+/comments$",
    "ensure_check": "POST .*/check-runs$",
    "ensure_issue": "POST .*/issues$",
    "commit": "POST .*/git/commits$",
}
WAIT_S = 60.0


class Now:
    """A clock that a test can push forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class MemoryWorld:
    """The twin."""

    def __init__(self) -> None:
        self.app = MemoryApp(app_slug="heal")
        self.twin: MemoryForge = self.app.add("acme/model")
        self.forge: Forge = self.twin
        self.main = self.twin.push("main", START)

    def push(self, branch: str, files: dict[str, str | None]) -> str:
        if branch not in self.twin.branches:
            self.twin.branches[branch] = self.twin.branches["main"]
        return self.twin.push(branch, files)

    def failed_run(self) -> int:
        sha = self.push("main", {WORKFLOW: FAILS_ONCE})
        wrong = Annotation("failure", "no more memory", "train.py", 3)
        log = b"2026-11-21T09:00:00.0000000Z ##[error]Process completed with exit code 1.\n"
        train = self.twin.job("train", "failure", log, [wrong])
        run = self.twin.add_run(head_sha=sha, head_branch="main", jobs=[self.twin.job("steady", "success"), train])
        jobs = [self.twin.job("steady", "success"), self.twin.job("train", "success")]
        self.twin.script_rerun(run.id, "success", jobs)
        return run.id

    def uploading_run(self) -> int:
        sha = self.push("main", {WORKFLOW: UPLOADS})
        run = self.twin.add_run(head_sha=sha, head_branch="main", conclusion="success")
        self.twin.upload(run.id, "heal-observations", {"churn.json": b'[{"age": 1}]', "deep/notes.txt": b"x"})
        return run.id

    def finished(self, run_id: int, attempt: int) -> None:
        """Runs of the twin end at once."""

    def share(self, files: dict[str, str]) -> None:
        """What stands in the owner's `.github` repository."""
        self.twin.owner_files = files

    def allow(self, login: str, level: str) -> None:
        self.twin.permissions[login] = level

    def comment(self, login: str, number: int, body: str) -> int:
        return self.twin.comment_by_hand(number, body, login)

    def comments(self, number: int) -> list[tuple[str, str]]:
        return [(comment.author, comment.body) for comment in self.twin.comments.get(number, [])]

    def pull_by_hand(self, head: str, title: str, login: str) -> int:
        return self.twin.pull_by_hand(head, title, login=login).number

    def close_by_hand(self, number: int) -> None:
        self.twin.close_by_hand(number)

    def close_issue_by_hand(self, number: int) -> None:
        self.twin.close_issue_by_hand(number)

    def merge_by_hand(self, number: int) -> None:
        self.twin.merge(number)

    def checks(self, sha: str) -> list[tuple[str, str]]:
        return [(check.external_id, check.text.title) for check in self.twin.checks if check.sha == sha]

    def open_issues(self) -> list[str]:
        return [issue.title for issue in self.twin.issues.values() if issue.state == "open"]

    def break_after(self, method: str) -> None:
        self.twin.fail_next(method, Unreachable("502"), after_write=True)

    def limit(self, method: str) -> None:
        wait = datetime.now(UTC) + timedelta(seconds=90)
        self.twin.fail_next(method, RateLimited("slow down", retry_at=wait))

    def uninstall(self) -> None:
        self.twin.installed = False

    def own(self, *runners: Runner) -> None:
        """The repository's self-hosted runners."""
        self.twin.own_runners = list(runners)

    def check_requests(self) -> None:
        """The twin sends none."""


def new_key() -> tuple[str, bytes]:
    """The App's private key and the public one that GitHub keeps."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public


@dataclass
class Box:
    """A sandbox that serves, and the key with which the App speaks to it."""

    sandbox: Sandbox
    url: str
    private_key_pem: str

    @classmethod
    def start(cls, root: Path) -> "Box":
        private, public = new_key()
        sandbox = Sandbox(root, webhook_url=None, webhook_secret="s", app_id=APP_ID, app_public_key_pem=public)
        return cls(sandbox, sandbox.start(), private)

    def app(self, *, clock: Now | None = None, seconds_between_writes: float = 0) -> GitHubApp:
        return GitHubApp(
            api_url=f"{self.url}/api/v3",
            app_id=APP_ID,
            private_key_pem=self.private_key_pem,
            clock=clock or Now(),
            seconds_between_writes=seconds_between_writes,
        )

    def admin(self, path: str, body: dict[str, Any]) -> Any:
        answer = requests.post(f"{self.url}/_sandbox{path}", json=body, timeout=30)
        assert answer.ok, answer.text
        return answer.json()


class SandboxWorld:
    """The adapter, one repository of its own in a sandbox shared by many tests."""

    def __init__(self, box: Box, name: str, *, clock: Now | None = None, seconds_between_writes: float = 0) -> None:
        self.box = box
        owner = f"{name}-owner"
        self.path = f"/repos/{owner}/{name}"
        box.admin("/repositories", {"owner": owner, "name": name, "files": START})
        self.app = box.app(clock=clock, seconds_between_writes=seconds_between_writes)
        made = box.sandbox.state.repository(owner, name)
        installation = box.sandbox.state.installation_of(made) if made else None
        assert installation
        (self.repository,) = self.app.repositories(installation.id)
        self.forge = self.app.forge(self.repository)
        head = self.forge.branch_head("main")
        assert head
        self.main = head
        self.maintainer = box.admin("/users", {"login": "maintainer", "permission": "admin"})["token"]
        self._first_request = len(box.sandbox.state.requests)

    def push(self, branch: str, files: dict[str, str | None]) -> str:
        pushed = self.box.admin("/commits", {"repo": self.repository.full_name, "branch": branch, "files": files})
        return str(pushed["sha"])

    def failed_run(self) -> int:
        sha = self.push("main", {WORKFLOW: FAILS_ONCE})
        self.until(lambda: [run.status for run in self.forge.runs(head_sha=sha)] == ["completed"])
        return self.forge.runs(head_sha=sha)[0].id

    def uploading_run(self) -> int:
        sha = self.push("main", {WORKFLOW: UPLOADS})
        self.until(lambda: [run.status for run in self.forge.runs(head_sha=sha)] == ["completed"])
        return self.forge.runs(head_sha=sha)[0].id

    def finished(self, run_id: int, attempt: int) -> None:
        def over() -> bool:
            run = self.forge.run(run_id)
            return (run.attempt, run.status) == (attempt, "completed")

        self.until(over)

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.05)

    def share(self, files: dict[str, str]) -> None:
        self.box.admin("/repositories", {"owner": self.repository.owner, "name": ".github", "files": files})

    def allow(self, login: str, level: str) -> None:
        self.box.admin("/users", {"login": login, "permission": level, "repo": self.repository.full_name})

    def comment(self, login: str, number: int, body: str) -> int:
        token = self.box.admin("/users", {"login": login, "permission": "write"})["token"]
        return int(self.as_user("POST", f"/issues/{number}/comments", {"body": body}, token)["id"])

    def comments(self, number: int) -> list[tuple[str, str]]:
        found = self.as_user("GET", f"/issues/{number}/comments?per_page=100")
        return [(one["user"]["login"].replace("self-healing-mlops-bot", "heal"), one["body"]) for one in found]

    def pull_by_hand(self, head: str, title: str, login: str) -> int:
        token = self.box.admin("/users", {"login": login, "permission": "write"})["token"]
        return int(self.as_user("POST", "/pulls", {"head": head, "base": "main", "title": title}, token)["number"])

    def close_by_hand(self, number: int) -> None:
        self.as_user("PATCH", f"/pulls/{number}", {"state": "closed"})

    def close_issue_by_hand(self, number: int) -> None:
        self.as_user("PATCH", f"/issues/{number}", {"state": "closed"})

    def merge_by_hand(self, number: int) -> None:
        self.as_user("PUT", f"/pulls/{number}/merge", {})

    def checks(self, sha: str) -> list[tuple[str, str]]:
        found = self.as_user("GET", f"/commits/{sha}/check-runs?filter=all")["check_runs"]
        return [(one["external_id"], one["output"]["title"]) for one in found if one["app"]["id"] == APP_ID]

    def open_issues(self) -> list[str]:
        return [one["title"] for one in self.as_user("GET", "/issues?state=open") if "pull_request" not in one]

    def break_after(self, method: str) -> None:
        self.fault("error_after_write", WRITES[method])

    def limit(self, method: str) -> None:
        self.fault("secondary_rate_limit", WRITES[method], seconds=90)

    def fault(self, kind: str, match: str, **more: Any) -> None:
        self.box.admin("/faults", {"kind": kind, "match": match.replace(".*", f".*{self.path}"), **more})

    def uninstall(self) -> None:
        state = self.box.sandbox.state
        with state.lock:
            for installation in state.installations.values():
                installation.repository_ids.discard(self.repository.id)
        self.forge = self.box.app().forge(self.repository)

    def own(self, *runners: Runner) -> None:
        made = self.box.sandbox.state.repository(self.repository.owner, self.repository.full_name.split("/")[1])
        assert made
        made.runners = [
            SandboxRunner(r.id, r.name, "online" if r.online else "offline", r.busy, r.ephemeral, tuple(r.labels))
            for r in runners
        ]

    def as_user(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token or self.maintainer}"}
        url = f"{self.box.url}/api/v3{self.path}{path}"
        answer = requests.request(method, url, json=body, headers=headers, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def requests(self) -> list[dict[str, Any]]:
        """What the App has sent since the world began, tokens and all other repositories left out."""
        sent = self.box.sandbox.state.requests[self._first_request :]
        ours = [one for one in sent if one["path"].startswith(f"{self.path}/") or one["path"].startswith("/app")]
        return [one for one in ours if not one["identity"].startswith("user:")]

    def check_requests(self) -> None:
        """Everything that the adapter sent is a request that GitHub describes."""
        for one in self.requests():
            query = dict(part.split("=", 1) for part in one["query"].split("&")) if one["query"] else {}
            check_request(one["method"], one["path"], query, None if one["method"] == "GET" else one["body"])
