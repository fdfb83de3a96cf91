"""The faults that can be switched on: GitHub's bad days."""

from __future__ import annotations

import json

import pytest
import requests
from github import Auth, RateLimitExceededException
from github import Github as PyGithub

from sandbox.faults import Faults
from tests.sandbox.conftest import Github, Listener

README = {"README.md": "# Model\n"}


def guids(listener: Listener, event: str) -> list[str]:
    return [h["x-github-delivery"] for h, _ in listener.received if h["x-github-event"] == event]


@pytest.mark.parametrize("status", [403, 429])
def test_a_secondary_rate_limit_says_when_to_come_back(github: Github, status: int) -> None:
    repo = github.create("model", README)
    github.admin("POST", "/faults", {"kind": "secondary_rate_limit", "status": status, "seconds": 3})
    refused = github.raw("POST", f"{repo}/issues", {"title": "t"})
    assert (refused.status_code, refused.headers["retry-after"]) == (status, "3")
    assert "secondary rate limit" in refused.json()["message"]
    assert github.admin("GET", "/state")["acme/model"]["issues"] == []
    github.call("POST", f"{repo}/issues", {"title": "t"})


def test_pygithub_knows_the_secondary_rate_limit(github: Github) -> None:
    github.create("model", README)
    client = PyGithub(auth=Auth.Token(github.token), base_url=github.api_url, retry=None)
    github.admin("POST", "/faults", {"kind": "secondary_rate_limit"})
    with pytest.raises(RateLimitExceededException):
        client.get_repo("acme/model")


def test_a_502_after_a_write_leaves_the_write_done(github: Github) -> None:
    repo = github.create("model", README)
    github.admin("POST", "/faults", {"kind": "error_after_write", "match": "POST .*/issues$"})
    assert github.raw("POST", f"{repo}/issues", {"title": "t"}).status_code == 502
    assert len(github.call("GET", f"{repo}/issues")) == 1


def test_a_connection_dropped_after_a_write_leaves_the_write_done(github: Github) -> None:
    repo = github.create("model", README)
    github.admin("POST", "/faults", {"kind": "drop_after_write"})
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        github.raw("POST", f"{repo}/issues", {"title": "t"})
    assert len(github.call("GET", f"{repo}/issues")) == 1


def test_a_slow_answer_outlasts_an_impatient_client(github: Github) -> None:
    repo = github.create("model", README)
    github.admin("POST", "/faults", {"kind": "slow", "seconds": 1.0})
    headers = {"Authorization": f"Bearer {github.token}"}
    with pytest.raises(requests.ReadTimeout):
        requests.get(github.api_url + repo, headers=headers, timeout=0.2)


def test_a_duplicate_delivery_has_the_same_guid_and_bytes(github: Github, listener: Listener) -> None:
    github.admin("POST", "/faults", {"kind": "duplicate_delivery", "match": "^push$"})
    github.create("model", README)
    one, two = guids(listener, "push")
    assert one == two


def test_a_lost_delivery_is_listed_as_failed_and_can_be_redelivered(github: Github, listener: Listener) -> None:
    github.admin("POST", "/faults", {"kind": "lost_delivery", "match": "^push$"})
    github.create("model", README)
    assert guids(listener, "push") == []
    app = github.app_jwt()
    [lost] = github.call("GET", "/app/hook/deliveries", token=app, status="failure")
    assert lost["event"] == "push"
    github.call("POST", f"/app/hook/deliveries/{lost['id']}/attempts", token=app)
    github.settle()
    assert guids(listener, "push") == [lost["guid"]]


@pytest.mark.parametrize("kind", ["late_delivery", "out_of_order_delivery"])
def test_a_delivery_can_be_overtaken(github: Github, listener: Listener, kind: str) -> None:
    github.create("model", README)
    github.admin("POST", "/faults", {"kind": kind, "match": "^push$", "seconds": 0.3})
    github.admin("POST", "/commits", {"repo": "acme/model", "files": {"a": "1"}})
    github.call("POST", "/repos/acme/model/issues", {"title": "t"})
    github.settle()
    assert [h["x-github-event"] for h, _ in listener.received][-2:] == ["issues", "push"]


def test_faults_end_by_count_or_when_they_are_cleared(github: Github) -> None:
    repo = github.create("model", README)
    github.admin("POST", "/faults", {"kind": "secondary_rate_limit", "count": 2})
    assert [github.raw("GET", repo).status_code for _ in range(3)] == [403, 403, 200]
    github.admin("POST", "/faults", {"kind": "secondary_rate_limit", "count": None})
    assert github.raw("GET", repo).status_code == 403
    github.admin("DELETE", "/faults")
    assert github.raw("GET", repo).status_code == 200


def test_the_same_seed_gives_the_same_faults() -> None:
    def drawn(seed: int) -> list[bool]:
        faults = Faults()
        faults.add({"kind": "slow", "count": None, "probability": 0.5, "seed": seed})
        return [faults.take("slow", "GET /") is not None for _ in range(64)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert 0 < sum(drawn(1)) < 64


def test_an_unknown_fault_is_refused(github: Github) -> None:
    for wrong in ({"kind": "plague"}, {"kind": "slow", "speed": 1}, {"kind": "slow", "match": "("}):
        answer = requests.post(f"{github.base_url}/_sandbox/faults", json=wrong, timeout=5)
        assert answer.status_code == 422, json.dumps(wrong)
