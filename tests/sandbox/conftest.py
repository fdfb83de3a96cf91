"""A running sandbox, a listener that keeps what it delivers, and a client that holds both to GitHub's contract."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.server import Sandbox
from tests.sandbox.contract import check_request, check_response

APP_ID = 7
SECRET = "It's a Secret to Everybody"
WAIT_S = 60.0
FAILING = """\
name: CI
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - name: Look for the file
        run: |
          echo "attempt $GITHUB_RUN_ATTEMPT"
          test -f fixed.txt
"""
TWO_JOBS = """\
name: Two jobs
on:
  push:
  workflow_dispatch:
    inputs:
      reason:
        type: string
jobs:
  steady:
    runs-on: ubuntu-latest
    steps:
      - run: echo steady
  flaky:
    runs-on: ubuntu-latest
    steps:
      - name: Fail the first time
        run: test "$GITHUB_RUN_ATTEMPT" -gt 1
  after:
    needs: flaky
    runs-on: ubuntu-latest
    steps:
      - run: echo after
"""


@dataclass
class Listener:
    """A webhook endpoint that keeps (headers, body) of all it gets and answers `status`."""

    url: str = ""
    status: int = 202
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def bodies(self, event: str, action: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(raw) for headers, raw in list(self.received) if headers["x-github-event"] == event]
        return [body for body in found if action is None or body.get("action") == action]


@pytest.fixture
def listener() -> Iterator[Listener]:
    kept = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            kept.received.append(({name.lower(): value for name, value in self.headers.items()}, raw))
            self.send_response(kept.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}/webhooks/github"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def app_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(key: rsa.RSAPrivateKey) -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


@dataclass
class Github:
    """A client whose every request and answer is held to GitHub's description."""

    sandbox: Sandbox
    base_url: str
    key: rsa.RSAPrivateKey
    token: str = ""

    @property
    def api_url(self) -> str:
        return f"{self.base_url}/api/v3"

    def app_jwt(self, **claims: Any) -> str:
        now = int(time.time())
        return jwt.encode(
            {"iss": str(APP_ID), "iat": now - 30, "exp": now + 540} | claims, private_pem(self.key), "RS256"
        )

    def raw(
        self, method: str, path: str, body: Any = None, token: str | None = None, **query: str
    ) -> requests.Response:
        """One request, without checks. `token` None: the installation's; empty: none."""
        token = self.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = self.api_url + path
        return requests.request(
            method, url, json=body, params=query, headers=headers, timeout=30, allow_redirects=False
        )

    def call(self, method: str, path: str, body: Any = None, token: str | None = None, **query: str) -> Any:
        """One request that must succeed; its JSON."""
        check_request(method, path, query, body)
        answer = self.raw(method, path, body, token, **query)
        assert answer.status_code < 400, (method, path, answer.status_code, answer.text)
        parsed = answer.json() if answer.content else None
        check_response(method, path, answer.status_code, parsed)
        return parsed

    def refused(self, status: int, method: str, path: str, body: Any = None, token: str | None = None) -> str:
        """One request that must be refused with `status`; the message and errors as text."""
        answer = self.raw(method, path, body, token)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        check_response(method, path, status, answer.json())
        return answer.text

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, f"{self.base_url}/_sandbox{path}", json=body, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def settle(self) -> None:
        """Wait until nothing runs and nothing waits to be delivered."""
        self.until(lambda: bool(self.admin("GET", "/idle")["idle"]))

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.03)

    def create(self, name: str, files: dict[str, str], *, settle: bool = True) -> str:
        """A repository with these files, the App installed on it; its path in the API."""
        self.admin("POST", "/repositories", {"name": name, "files": files})
        self.token = self.installation_token()
        if settle:
            self.settle()
        return f"/repos/acme/{name}"

    def installation_token(self, **narrowed: Any) -> str:
        installation = self.call("GET", "/app/installations", token=self.app_jwt())[0]["id"]
        path = f"/app/installations/{installation}/access_tokens"
        return str(self.call("POST", path, narrowed, token=self.app_jwt())["token"])


@pytest.fixture
def github(tmp_path: Path, listener: Listener, app_key: rsa.RSAPrivateKey) -> Iterator[Github]:
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    public = app_key.public_key().public_bytes(*form)
    sandbox = Sandbox(
        tmp_path, webhook_url=listener.url, webhook_secret=SECRET, app_id=APP_ID, app_public_key_pem=public
    )
    yield Github(sandbox, sandbox.start(), app_key)
    sandbox.stop()
