"""Signing in and out: by GitHub, by a link of one use, and what ends a sign-in."""

import base64
import hashlib
import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.adapters.github.user import CodeRefused, Permitted, Person, SignedOut, UserToken
from app.db.accounts import Accounts
from app.db.engine import db_now, reading, writing
from app.db.tables import AuditRow, GrantRow, RepositoryRow, SessionRow, SignInRow
from app.domain.access import LOCAL, Role
from app.domain.errors import Malformed, Unreachable
from app.settings import Queue, Settings, Web
from app.web import one_time_link, signing_in
from app.web.github_sign_in import challenge
from app.web.sessions import PLAIN, SECURE
from tests.browser.site import dashboard, settings_for
from tests.sandbox.conftest import Github, app_key, github, listener
from tests.web.people import SAME_ORIGIN, add_repository

__all__ = ["app_key", "github", "listener"]

HOME = "http://127.0.0.1:8000"
OAUTH = {"client_id": "Iv1.client", "client_secret": "s3cret"}
KEY = base64.b64encode(b"k" * 32).decode()
MONA = Person(501, "mona")


class People:
    """GitHub, as far as signing in goes."""

    def __init__(self) -> None:
        self.person_is = MONA
        self.may = [Permitted(1, 70, "push"), Permitted(9, 90, "admin")]
        self.trouble: Exception | None = None
        self.challenge = ""
        self.lasts_s: float | None = None
        self.asked = 0

    def way_in(self, *, state: str, challenge: str, back_to: str) -> str:
        self.challenge = challenge
        return f"https://github.example/login/oauth/authorize?state={state}&redirect_uri={back_to}"

    def exchange(self, code: str, *, verifier: str, back_to: str) -> UserToken:
        if self.trouble is not None:
            raise self.trouble
        if code != "code" or challenge(verifier) != self.challenge:
            raise CodeRefused("bad_verification_code")
        return UserToken("ghu_of_mona", self.lasts_s)

    def person(self, token: str) -> Person:
        assert token == "ghu_of_mona"
        return self.person_is

    def permissions(self, token: str, *, within: Iterable[int]) -> list[Permitted]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        assert token == "ghu_of_mona"
        return [each for each in self.may if each.installation_id in set(within)]


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch) -> People:
    found = People()
    monkeypatch.setattr(signing_in, "GitHubPeople", lambda **_: found)
    return found


@pytest.fixture
def client(engine: Engine, people: People) -> TestClient:
    add_repository(engine, 70, "acme/trainer", installation_id=1)
    return browser(engine)


def browser(engine: Engine, **more: Any) -> TestClient:
    told = {"github": {**settings_for(engine).github.model_dump(), **OAUTH}, "vault": {"keys": KEY}, **more}
    client = TestClient(dashboard(engine, **told), base_url=HOME, follow_redirects=False, raise_server_exceptions=False)
    client.headers.update({"Accept": "text/html"})
    return client


def begin(client: TestClient, onwards: str = "") -> str:
    """The state with which GitHub sends the browser back."""
    answer = client.get("/auth/github", params={"onwards": onwards} if onwards else {})
    assert answer.status_code == 303, answer.text
    return parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]


def sign_in(client: TestClient, onwards: str = "") -> Any:
    return client.get("/auth/callback", params={"code": "code", "state": begin(client, onwards)})


def cookie(answer: Any, name: str = PLAIN) -> str:
    """The Set-Cookie line of that name."""
    return next((line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{name}=")), "")


def acts(engine: Engine) -> list[tuple[str, str, Any]]:
    with reading(engine) as connection:
        rows = connection.execute(select(AuditRow.actor, AuditRow.verb, AuditRow.data).order_by(AuditRow.id))
        return [tuple(row) for row in rows]


def age(engine: Engine, **seconds: float) -> None:
    """Makes all sessions older."""
    with writing(engine) as connection:
        connection.execute(update(SessionRow).values({name: db_now(-s) for name, s in seconds.items()}))


# by GitHub


def test_somebody_signs_in_by_github_and_comes_to_where_they_wanted_to_go(
    client: TestClient, people: People, engine: Engine
) -> None:
    first = client.get("/?q=repo:acme/trainer")
    assert first.status_code == 303
    assert first.headers["location"] == "/sign-in?onwards=%2F%3Fq%3Drepo%3Aacme%2Ftrainer"
    offered = client.get(first.headers["location"]).text
    assert "/auth/github?onwards=%2F%3Fq%3Drepo%3Aacme%2Ftrainer" in offered
    answer = sign_in(client, "/?q=repo:acme/trainer")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?q=repo:acme/trainer")
    assert client.get("/").status_code == 200
    account = Accounts(engine).account(501)
    assert account is not None
    assert (account.login, account.operator) == ("mona", False)
    assert acts(engine) == [("mona", "sign_in", {"by": "github"})]


def test_what_they_may_is_what_github_says_where_the_app_is(client: TestClient, engine: Engine) -> None:
    sign_in(client)
    with reading(engine) as connection:
        rows = connection.execute(select(GrantRow.repository_id, GrantRow.installation_id, GrantRow.role)).all()
    assert [tuple(row) for row in rows] == [(70, 1, "operator")]


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(client: TestClient) -> None:
    line = cookie(sign_in(client)).lower()
    assert "httponly" in line
    assert "samesite=lax" in line
    assert "path=/" in line
    assert "domain" not in line


def test_under_a_public_https_address_the_cookie_is_bound_to_it(engine: Engine, people: People) -> None:
    from app.web.origin import Origin

    add_repository(engine, 70, "acme/trainer", installation_id=1)
    public = "https://heal.example.com"
    inner = browser(engine, web={"public_url": public, "requests_per_minute": 10_000})
    client = TestClient(Origin(inner.app, public), base_url="http://heal.example.com", follow_redirects=False)
    began = client.get("/auth/github")
    assert "redirect_uri=https://heal.example.com/auth/callback" in began.headers["location"]
    state_line = cookie(began, "__Host-heal-sign-in")
    assert "Secure" in state_line
    state = state_line.partition("=")[2].partition(";")[0]
    answer = client.get(
        "/auth/callback", params={"code": "code", "state": state}, headers={"Cookie": f"__Host-heal-sign-in={state}"}
    )
    line = cookie(answer, SECURE)
    assert "Secure" in line
    assert "HttpOnly" in line
    assert "Domain" not in line


def test_who_came_by_another_name_of_the_bot_is_led_to_the_public_one_first(engine: Engine, people: People) -> None:
    client = browser(engine, web={"public_url": "https://heal.example.com", "requests_per_minute": 10_000})
    answer = client.get("/auth/github", params={"onwards": "/audit"})
    assert answer.headers["location"] == "https://heal.example.com/auth/github?onwards=%2Faudit"


def test_the_token_of_github_is_kept_sealed_alone(client: TestClient, engine: Engine) -> None:
    answer = sign_in(client)
    with reading(engine) as connection:
        row = connection.execute(select(SessionRow)).one()
    assert row.user_token
    assert b"ghu_of_mona" not in row.user_token
    assert "ghu_of_mona" not in str(answer.headers) + answer.text


def test_state_and_verifier_are_kept_as_hash_and_sealed(client: TestClient, people: People, engine: Engine) -> None:
    state = begin(client)
    with reading(engine) as connection:
        row = connection.execute(select(SignInRow)).one()
    assert row.digest == hashlib.sha256(state.encode()).hexdigest()
    assert len(base64.urlsafe_b64decode(people.challenge + "=")) == 32
    assert len(row.verifier) > 64


def test_a_way_back_is_good_once(client: TestClient) -> None:
    state = begin(client)
    known = dict(client.cookies)
    assert client.get("/auth/callback", params={"code": "code", "state": state}).status_code == 303
    client.cookies.clear()
    client.cookies.update(known)
    again = client.get("/auth/callback", params={"code": "code", "state": state})
    assert again.status_code == 400
    assert not cookie(again)


def test_a_way_back_that_another_browser_began_signs_nobody_in(client: TestClient, engine: Engine) -> None:
    state = begin(client)
    answer = browser(engine).get("/auth/callback", params={"code": "code", "state": state})
    assert answer.status_code == 400
    assert "begun in another browser" in answer.text
    assert not cookie(answer)


def test_a_way_back_after_ten_minutes_is_over(client: TestClient, engine: Engine) -> None:
    state = begin(client)
    with writing(engine) as connection:
        connection.execute(update(SignInRow).values(expires_at=db_now(-1.0)))
    assert client.get("/auth/callback", params={"code": "code", "state": state}).status_code == 400


@pytest.mark.parametrize(
    ("trouble", "status", "said"),
    [
        (CodeRefused("bad_verification_code"), 400, "bad_verification_code"),
        (CodeRefused("incorrect_client_credentials"), 502, "client secret"),
        (Unreachable("no answer"), 503, "does not answer"),
        (Malformed("not GitHub's"), 502, "cannot be used"),
    ],
)
def test_what_goes_wrong_at_github_is_a_page_that_says_what_to_do(
    client: TestClient, people: People, trouble: Exception, status: int, said: str
) -> None:
    people.trouble = trouble
    answer = sign_in(client)
    assert answer.status_code == status
    assert said in answer.text
    assert 'href="/sign-in"' in answer.text
    assert not cookie(answer)


def test_who_refuses_at_github_is_not_signed_in(client: TestClient) -> None:
    state = begin(client)
    answer = client.get("/auth/callback", params={"error": "access_denied", "state": state})
    assert answer.status_code == 403
    assert not cookie(answer)
    assert client.get("/auth/callback", params={"code": "code", "state": state}).status_code == 400


def test_a_stranger_gets_no_account(client: TestClient, people: People, engine: Engine) -> None:
    people.may = [Permitted(9, 90, "admin")]
    answer = sign_in(client)
    assert answer.status_code == 403
    assert "mona" in answer.text
    assert not cookie(answer)
    assert Accounts(engine).account(501) is None


def test_who_runs_the_bot_is_told_by_number_never_by_name(engine: Engine, people: People) -> None:
    client = browser(engine, web={"operators": "501", "requests_per_minute": 10_000})
    people.may = []
    assert sign_in(client).status_code == 303
    people.person_is = Person(502, "mona")
    assert sign_in(browser(engine, web={"operators": "501", "requests_per_minute": 10_000})).status_code == 403


def test_who_runs_the_bot_no_more_sees_no_more_than_others_from_then_on(engine: Engine, people: People) -> None:
    add_repository(engine, 70, "acme/trainer", installation_id=1)
    client = browser(engine, web={"operators": "501", "requests_per_minute": 10_000})
    line = cookie(sign_in(client)).partition(";")[0].partition("=")[2]
    assert 'href="/system"' in client.get("/").text
    later = browser(engine)
    later.cookies.set(PLAIN, line)
    page = later.get("/")
    assert page.status_code == 200
    assert 'href="/system"' not in page.text


def test_without_a_client_id_there_is_no_way_to_github(engine: Engine) -> None:
    client = TestClient(dashboard(engine), base_url=HOME, follow_redirects=False)
    assert client.get("/auth/github").status_code == 404
    assert client.get("/auth/callback").status_code == 404
    assert "HEAL_GITHUB__CLIENT_ID" in client.get("/sign-in").text


@pytest.mark.parametrize(
    "onwards",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "evil",
        "",
    ],
)
def test_nobody_is_sent_to_another_address_after_the_sign_in(client: TestClient, onwards: str) -> None:
    assert sign_in(client, onwards).headers["location"] == "/"
    assert client.get("/sign-in", params={"onwards": onwards}).headers["location"] == "/"


def test_begun_sign_ins_of_one_address_are_limited(client: TestClient) -> None:
    answers = [client.get("/auth/github") for _ in range(70)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1


# what ends a session


def test_a_sign_in_never_takes_over_a_session_that_came_along(client: TestClient, engine: Engine) -> None:
    planted = Accounts(engine)
    planted.remember(666, "mallory", operator=False)
    known = planted.open(666, seconds=3600)
    client.cookies.set(PLAIN, known)
    answer = sign_in(client)
    fresh = cookie(answer).partition(";")[0].partition("=")[2]
    assert fresh
    assert fresh != known
    assert planted.session(known, idle_s=3600) is None


def test_a_session_ends_when_it_is_not_used_and_when_its_time_is_over(client: TestClient, engine: Engine) -> None:
    sign_in(client)
    age(engine, seen_at=29 * 60.0)
    assert client.get("/").status_code == 200
    age(engine, seen_at=31 * 60.0)
    assert client.get("/").status_code == 303
    client.cookies.clear()
    sign_in(client)
    age(engine, expires_at=1.0)
    assert client.get("/").status_code == 303


def test_a_session_lasts_no_longer_than_githubs_token(client: TestClient, people: People, engine: Engine) -> None:
    people.lasts_s = 3600.0
    sign_in(client)
    with reading(engine) as connection:
        row = connection.execute(select(SessionRow.created_at, SessionRow.expires_at)).one()
    assert row.expires_at - row.created_at < timedelta(hours=1, seconds=5)


def test_rights_are_asked_for_again_after_ten_minutes(client: TestClient, people: People, engine: Engine) -> None:
    sign_in(client)
    people.may = [Permitted(1, 70, "pull")]
    client.get("/")
    assert Accounts(engine).role_in(501, 70) is Role.OPERATOR
    age(engine, checked_at=601.0)
    client.get("/")
    assert Accounts(engine).role_in(501, 70) is Role.VIEWER
    asked = people.asked
    client.get("/")
    assert people.asked == asked


def test_before_a_write_rights_are_asked_for_sooner(client: TestClient, people: People, engine: Engine) -> None:
    people.may = [Permitted(1, 70, "admin")]
    sign_in(client)
    people.may = [Permitted(1, 70, "pull")]
    age(engine, checked_at=90.0)
    assert client.get("/settings/installations/1/tokens").status_code == 200
    form = {"name": "x", "scope": "read", "lasts": "7"}
    assert client.post("/settings/installations/1/tokens", data=form, headers=SAME_ORIGIN).status_code == 403


def test_a_new_name_on_github_is_known_here_by_then(client: TestClient, people: People, engine: Engine) -> None:
    sign_in(client)
    people.person_is = Person(501, "mona-lisa")
    age(engine, checked_at=601.0)
    assert "mona-lisa" in client.get("/").text
    people.person_is = Person(502, "mona")
    age(engine, checked_at=601.0)
    assert client.get("/").status_code == 303


def test_a_token_that_github_does_not_take_ends_the_session(client: TestClient, people: People, engine: Engine) -> None:
    sign_in(client)
    people.trouble = SignedOut("401")
    age(engine, checked_at=601.0)
    assert client.get("/").status_code == 303
    people.trouble = None
    assert client.get("/").status_code == 303


def test_while_github_is_away_rights_last_an_hour_and_then_nothing_is_seen(
    client: TestClient, people: People, engine: Engine
) -> None:
    sign_in(client)
    people.trouble = Unreachable("no answer")
    age(engine, checked_at=3_500.0)
    assert client.get("/settings/installations/1").status_code == 200
    age(engine, checked_at=3_700.0)
    assert client.get("/settings/installations/1").status_code == 404
    assert client.get("/").status_code == 200
    assert people.asked == 2  # once at the sign-in, and once for all the pages of a minute


def test_an_app_that_was_removed_is_seen_by_nobody_from_then_on(client: TestClient, engine: Engine) -> None:
    sign_in(client)
    accounts = Accounts(engine)
    assert (accounts.role_in(501, 70), accounts.role_at(501, 1)) == (Role.OPERATOR, Role.OPERATOR)
    with writing(engine) as connection:
        connection.execute(update(RepositoryRow).values(removed_at=db_now()))
    assert (accounts.role_in(501, 70), accounts.role_at(501, 1)) == (None, None)


def test_signing_out_ends_the_session_and_not_just_the_cookie(client: TestClient, engine: Engine) -> None:
    sign_in(client)
    kept = client.cookies[PLAIN]
    answer = client.post("/sign-out", headers=SAME_ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    client.cookies.set(PLAIN, kept)
    assert client.get("/").status_code == 303
    assert [verb for _, verb, _ in acts(engine)] == ["sign_in", "sign_out"]
    with reading(engine) as connection:
        assert connection.scalars(select(SessionRow.user_token)).all() == [b""]


# by a link


def link(engine: Engine, **web: Any) -> str:
    told = Settings.model_construct(queue=Queue(), web=Web(**{"port": 8000, **web}))
    return one_time_link.make(Accounts(engine), told)


def test_a_link_signs_in_whoever_holds_the_machine_once(client: TestClient, engine: Engine) -> None:
    address = link(engine)
    assert address.startswith("http://127.0.0.1:8000/sign-in/link?token=")
    for _ in range(3):  # previews of links look, too
        shown = client.get(address)
        assert shown.status_code == 200
        assert not cookie(shown)
    token = parse_qs(urlsplit(address).query)["token"][0]
    answer = client.post("/sign-in/link", data={"token": token}, headers=SAME_ORIGIN)
    assert answer.status_code == 303
    account = Accounts(engine).account(LOCAL)
    assert account is not None
    assert account.operator
    assert 'href="/system"' in client.get("/").text
    again = browser(engine).post("/sign-in/link", data={"token": token}, headers=SAME_ORIGIN)
    assert again.status_code == 400
    assert "heal sign-in-link" in again.text


def test_a_link_is_over_after_ten_minutes(client: TestClient, engine: Engine) -> None:
    token = parse_qs(urlsplit(link(engine)).query)["token"][0]
    with writing(engine) as connection:
        connection.execute(update(SignInRow).values(expires_at=db_now(-1.0)))
    assert client.post("/sign-in/link", data={"token": token}, headers=SAME_ORIGIN).status_code == 400


def test_another_site_cannot_sign_anybody_in(client: TestClient, engine: Engine) -> None:
    token = parse_qs(urlsplit(link(engine)).query)["token"][0]
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
        assert client.post("/sign-in/link", data={"token": token}, headers=headers).status_code == 403
    assert client.post("/sign-in/link", data={"token": token}, headers=SAME_ORIGIN).status_code == 303


@pytest.mark.parametrize("told", [{"web": {"host": "0.0.0.0"}}, {"queue": {"broker_url": "redis://127.0.0.1:1/0"}}])
def test_links_sign_nobody_in_where_others_than_this_machine_are_served(
    engine: Engine, people: People, told: dict[str, Any]
) -> None:
    token = parse_qs(urlsplit(link(engine)).query)["token"][0]
    client = browser(engine, **told)
    assert client.get("/sign-in/link").status_code == 404
    assert client.post("/sign-in/link", data={"token": token}, headers=SAME_ORIGIN).status_code == 404
    assert "heal sign-in-link" not in client.get("/sign-in").text
    accounts = Accounts(engine)
    accounts.remember(LOCAL, "local", operator=True)
    client.cookies.set(PLAIN, accounts.open(LOCAL, seconds=3600))
    assert client.get("/").status_code == 303


def test_no_link_is_made_where_it_would_sign_nobody_in(engine: Engine) -> None:
    with pytest.raises(one_time_link.NotLocal, match="HEAL_WEB__HOST"):
        link(engine, host="0.0.0.0")


# language


def test_anybody_chooses_a_language_and_stays_where_they_are(client: TestClient) -> None:
    answer = client.post("/language", data={"language": "de", "onwards": "/sign-in"}, headers=SAME_ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert 'lang="de"' in client.get("/sign-in").text


def test_the_language_of_somebody_goes_with_them(client: TestClient, engine: Engine) -> None:
    sign_in(client)
    answer = client.post("/language", data={"language": "fr", "onwards": "//evil.example"}, headers=SAME_ORIGIN)
    assert answer.headers["location"] == "/"
    account = Accounts(engine).account(501)
    assert account is not None
    assert account.locale == "fr"


def test_a_language_that_there_is_not_changes_nothing(client: TestClient) -> None:
    answer = client.post("/language", data={"language": "../x", "onwards": "/sign-in"}, headers=SAME_ORIGIN)
    assert answer.status_code == 303
    assert not cookie(answer, "language")


def test_pages_of_the_sign_in_are_kept_nowhere(client: TestClient, tmp_path: Path) -> None:
    for path in ("/sign-in", "/sign-in/link?token=x", "/auth/github", "/auth/callback"):
        assert client.get(path).headers["cache-control"] == "no-store", path


# all of it


def test_from_the_button_through_githubs_page_to_the_incidents(engine: Engine, github: Github) -> None:
    github.create("model", {"README.md": "x"}, settle=False)
    told = {"client_id": "Iv1.sandbox", "client_secret": "s3cret", "callback_urls": [f"{HOME}/auth/callback"]}
    github.admin("POST", "/client", told)
    token = github.admin("POST", "/users", {"login": "mona", "permission": "write"})["token"]
    (installation,) = github.call("GET", "/user/installations", token=token)["installations"]
    (repository,) = github.call("GET", f"/user/installations/{installation['id']}/repositories", token=token)[
        "repositories"
    ]
    add_repository(engine, repository["id"], repository["full_name"], installation_id=installation["id"])
    there = {"web_url": github.base_url, "api_url": github.api_url, "client_id": "Iv1.sandbox"}
    client = browser(engine, github={**settings_for(engine).github.model_dump(), **there, "client_secret": "s3cret"})
    page = requests.get(client.get("/auth/github").headers["location"], timeout=30)
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
    sent = {**form, "login": "mona", "answer": "authorize"}
    back = requests.post(f"{github.base_url}/login/oauth/authorize", sent, timeout=30, allow_redirects=False)
    answer = client.get(back.headers["location"])
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert client.get("/").status_code == 200
    accounts = Accounts(engine)
    (member,) = accounts.members(installation["id"])
    assert (member.account.login, member.ceiling) == ("mona", Role.OPERATOR)
    github.admin("POST", "/users", {"login": "mona", "permission": "none"})
    age(engine, checked_at=601.0)
    client.get("/")
    assert accounts.role_in(member.account.id, repository["id"]) is None
