"""Signing in with the sandbox is signing in with GitHub, and the product's own client takes it for that."""

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from app.adapters.github.user import CodeRefused, GitHubPeople, Permitted, SignedOut
from app.domain.errors import Malformed, Unreachable
from app.web.github_sign_in import challenge
from tests.sandbox.conftest import Github

BACK = "http://127.0.0.1:8000/auth/callback"
VERIFIER = "v" * 64


@pytest.fixture
def people(github: Github) -> GitHubPeople:
    github.admin("POST", "/client", {"client_id": "Iv1.sandbox", "client_secret": "s3cret", "callback_urls": [BACK]})
    return client(github)


def client(github: Github, **more: str) -> GitHubPeople:
    told: dict[str, Any] = {
        "client_id": "Iv1.sandbox",
        "client_secret": "s3cret",
        "web_url": github.base_url,
        "api_url": github.api_url,
    }
    return GitHubPeople(**{**told, **more})


def answer(people: GitHubPeople, login: str, says: str = "authorize", back_to: str = BACK) -> dict[str, str]:
    """What GitHub sends the browser back with."""
    address = people.way_in(state="xyz", challenge=challenge(VERIFIER), back_to=back_to)
    page = requests.get(address, timeout=30, allow_redirects=False)
    if page.status_code == 302:
        return told(page)
    assert page.status_code == 200
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
    base = f"{urlsplit(address).scheme}://{urlsplit(address).netloc}/login/oauth/authorize"
    sent = requests.post(base, {**form, "login": login, "answer": says}, timeout=30, allow_redirects=False)
    assert sent.status_code == 302
    return told(sent)


def told(answer: requests.Response) -> dict[str, str]:
    where = urlsplit(answer.headers["location"])
    assert f"{where.scheme}://{where.netloc}{where.path}" == BACK
    return {name: values[0] for name, values in parse_qs(where.query).items()}


def test_a_person_signs_in_and_is_known_by_number(github: Github, people: GitHubPeople) -> None:
    github.admin("POST", "/users", {"login": "mona", "permission": "write"})
    back = answer(people, "mona")
    assert back["state"] == "xyz"
    token = people.exchange(back["code"], verifier=VERIFIER, back_to=BACK)
    assert token.text.startswith("ghu_")
    assert token.lasts_s == 8 * 3600
    assert token.text not in repr(token)
    person = people.person(token.text)
    assert person.login == "mona"
    assert person.id == github.call("GET", "/user", token=token.text)["id"]


def test_what_a_person_may_is_told_by_installation_and_repository(github: Github, people: GitHubPeople) -> None:
    github.create("model", {"README.md": "x"}, settle=False)
    github.create("secret", {"README.md": "x"}, settle=False)
    for repository, level in (("acme/model", "read"), ("acme/secret", "none")):
        github.admin("POST", "/users", {"login": "mona", "permission": level, "repo": repository})
    token = people.exchange(answer(people, "mona")["code"], verifier=VERIFIER, back_to=BACK).text
    (installation,) = github.call("GET", "/user/installations", token=token)["installations"]
    shown = github.call("GET", f"/user/installations/{installation['id']}/repositories", token=token)
    (repository,) = shown["repositories"]
    assert people.permissions(token, within=[installation["id"], 999_999]) == [
        Permitted(installation["id"], repository["id"], "pull")
    ]
    assert people.permissions(token, within=[]) == []


def test_who_sees_nothing_of_an_installation_does_not_hear_of_it(github: Github, people: GitHubPeople) -> None:
    github.create("model", {"README.md": "x"}, settle=False)
    github.admin("POST", "/users", {"login": "mona", "permission": "write"})
    github.admin("POST", "/users", {"login": "eve", "permission": "none"})
    hers, mine = (
        people.exchange(answer(people, login)["code"], verifier=VERIFIER, back_to=BACK).text
        for login in ("eve", "mona")
    )
    assert github.call("GET", "/user/installations", token=hers)["installations"] == []
    (installation,) = github.call("GET", "/user/installations", token=mine)["installations"]
    github.refused(404, "GET", f"/user/installations/{installation['id']}/repositories", token=hers)


def test_lists_of_several_pages_are_read_to_the_end(
    github: Github, people: GitHubPeople, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.adapters.github.user._PAGE", 2)
    for number in range(5):
        github.create(f"model-{number}", {"README.md": "x"}, settle=False)
    github.admin("POST", "/users", {"login": "mona", "permission": "admin"})
    token = people.exchange(answer(people, "mona")["code"], verifier=VERIFIER, back_to=BACK).text
    (installation,) = github.call("GET", "/user/installations", token=token)["installations"]
    found = people.permissions(token, within=[installation["id"]])
    assert [each.permission for each in found] == ["admin"] * 5


@pytest.mark.parametrize(
    ("more", "verifier", "code", "reason"),
    [
        ({}, "another", "", "bad_verification_code"),
        ({}, VERIFIER, "unknown", "bad_verification_code"),
        ({"client_secret": "wrong"}, VERIFIER, "", "incorrect_client_credentials"),
    ],
)
def test_a_code_is_refused_without_the_verifier_or_the_secret(
    github: Github, people: GitHubPeople, more: dict[str, str], verifier: str, code: str, reason: str
) -> None:
    github.admin("POST", "/users", {"login": "mona", "permission": "write"})
    given = answer(people, "mona")["code"]
    with pytest.raises(CodeRefused) as refused:
        client(github, **more).exchange(code or given, verifier=verifier, back_to=BACK)
    assert refused.value.reason == reason


def test_a_code_is_good_once(github: Github, people: GitHubPeople) -> None:
    github.admin("POST", "/users", {"login": "mona", "permission": "write"})
    code = answer(people, "mona")["code"]
    people.exchange(code, verifier=VERIFIER, back_to=BACK)
    with pytest.raises(CodeRefused):
        people.exchange(code, verifier=VERIFIER, back_to=BACK)


def test_who_cancels_comes_back_with_that(github: Github, people: GitHubPeople) -> None:
    github.admin("POST", "/users", {"login": "mona", "permission": "write"})
    assert answer(people, "mona", says="cancel")["error"] == "access_denied"


def test_an_address_that_is_not_registered_is_led_to_nobody(github: Github, people: GitHubPeople) -> None:
    assert answer(people, "mona", back_to="https://evil.example/")["error"] == "redirect_uri_mismatch"


def test_a_token_that_github_does_not_know_is_over(people: GitHubPeople) -> None:
    for ask in (lambda: people.person("ghu_x"), lambda: people.permissions("ghu_x", within=[1])):
        with pytest.raises(SignedOut):
            ask()


def test_what_is_not_github_is_told_from_what_is_away(github: Github, people: GitHubPeople) -> None:
    with pytest.raises(Unreachable):
        client(github, api_url="http://127.0.0.1:1").person("ghu_x")
    with pytest.raises(Malformed):
        client(github, api_url=f"{github.base_url}/static.css?").person("ghu_x")
