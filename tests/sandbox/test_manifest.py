"""An App is registered by its manifest as on GitHub, and works from then on with its own key, secrets and events."""

import json
import re
import time
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests

from tests.sandbox.conftest import SECRET, Github, Listener

MANIFEST: dict[str, Any] = {
    "name": "My Heal",
    "url": "http://127.0.0.1:9",
    "hook_attributes": {"url": "http://127.0.0.1:9/webhooks/github", "active": True},
    "redirect_url": "http://127.0.0.1:9/setup/created",
    "setup_url": "http://127.0.0.1:9/setup/installed",
    "default_permissions": {"actions": "write", "contents": "read", "metadata": "read"},
    "default_events": ["push", "workflow_run"],
}


def post(url: str, fields: dict[str, str], **headers: str) -> requests.Response:
    return requests.post(url, data=fields, headers=headers, timeout=10, allow_redirects=False)


def hidden(page: str) -> dict[str, str]:
    return {name: unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', page)}


def register(github: Github, manifest: dict[str, Any] | None = None, state: str = "xyz", org: str = "") -> str:
    """Go through GitHub's pages; the code that they end with."""
    owner = f"/organizations/{org}" if org else ""
    asked = post(
        f"{github.base_url}{owner}/settings/apps/new?state={state}", {"manifest": json.dumps(manifest or MANIFEST)}
    )
    assert asked.status_code == 200, asked.text
    made = post(f"{github.base_url}/settings/apps", hidden(asked.text), origin=github.base_url)
    assert made.status_code == 302
    assert made.headers["location"].startswith("http://127.0.0.1:9/setup/created?")
    query = parse_qs(urlsplit(made.headers["location"]).query)
    assert query["state"] == [state]
    return query["code"][0]


def test_a_manifest_becomes_an_app_with_a_key_of_its_own(github: Github) -> None:
    former = github.app_jwt()
    handed = github.call("POST", f"/app-manifests/{register(github, org='acme')}/conversions", token="")
    assert handed["slug"] == "my-heal"
    assert handed["permissions"] == MANIFEST["default_permissions"]
    assert handed["events"] == MANIFEST["default_events"]
    claims = {"iss": str(handed["id"]), "iat": int(time.time()) - 30, "exp": int(time.time()) + 300}
    mine = jwt.encode(claims, handed["pem"], "RS256")
    assert github.call("GET", "/app", token=mine)["slug"] == "my-heal"
    assert github.raw("GET", "/app", token=former).status_code == 401


def test_a_code_is_good_once(github: Github) -> None:
    path = f"/app-manifests/{register(github)}/conversions"
    github.call("POST", path, token="")
    github.refused(404, "POST", path, token="")


def test_it_is_installed_on_a_page_and_sent_what_it_subscribed_to(github: Github, listener: Listener) -> None:
    github.create("model", {"README.md": "# Model"})
    listener.received.clear()
    manifest = {**MANIFEST, "hook_attributes": {"url": listener.url}}
    handed = github.call("POST", f"/app-manifests/{register(github, manifest)}/conversions", token="")
    page = requests.get(f"{github.base_url}/apps/my-heal/installations/new", timeout=10)
    assert "Install on acme" in page.text
    done = post(f"{github.base_url}/apps/my-heal/installations", {"owner": "acme"})
    assert done.headers["location"].startswith(MANIFEST["setup_url"])
    github.admin("POST", "/commits", {"repo": "acme/model", "files": {"a.txt": "a"}})
    github.settle()
    assert [headers["x-github-event"] for headers, _ in listener.received] == ["ping", "installation", "push"]
    (installed,) = listener.bodies("installation")
    assert installed["installation"]["permissions"] == MANIFEST["default_permissions"]
    assert [each["full_name"] for each in installed["repositories"]] == ["acme/model"]
    assert handed["webhook_secret"] != SECRET


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "x" * 35}, "1 to 34 characters"),
        ({"default_permissions": {"everything": "write"}}, "everything is not a permission"),
        ({"default_events": ["push", "issue_comment"]}, "issue_comment needs the permission issues"),
        ({"default_events": ["sunrise"]}, "sunrise is not an event"),
        ({"redirect_url": "nowhere"}, "redirect_url must be a valid URL"),
        ({"hook_attributes": {}}, "hook_attributes.url must be a valid URL"),
    ],
)
def test_what_github_would_not_register_is_refused(github: Github, change: dict[str, Any], complaint: str) -> None:
    answer = post(f"{github.base_url}/settings/apps/new?state=x", {"manifest": json.dumps({**MANIFEST, **change})})
    assert answer.status_code == 422
    assert complaint in unescape(answer.text)


def test_another_page_cannot_confirm_in_somebody_s_name(github: Github) -> None:
    fields = {"manifest": json.dumps(MANIFEST), "state": "x", "owner": ""}
    assert post(f"{github.base_url}/settings/apps", fields, origin="https://evil.example").status_code == 403
    assert github.call("GET", "/app", token=github.app_jwt())["slug"] == "self-healing-mlops-bot"
