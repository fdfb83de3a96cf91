"""The guard: who is let in, who is told what, where writes may come from, how often anybody may ask."""

from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Engine, update
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from app.db.accounts import Accounts, Grant
from app.db.engine import db_now, writing
from app.db.owners import Owners
from app.db.tables import RepositoryRow, SessionRow
from app.domain.access import LOCAL, Role, Sight
from app.settings import Settings, Web
from app.web.app import named
from app.web.dashboard.frame import Frame
from app.web.dashboard.pages import errors
from app.web.guard import (
    ANYBODY,
    BOT,
    LISTS,
    MOST_BODY,
    MOST_STRANGE,
    PERSON,
    Guard,
    Guarded,
    Identify,
    Identity,
    Of,
    Rule,
    Visit,
    local_path,
    page,
)
from app.web.origin import Origin, is_loopback
from app.web.sessions import KEPT_S, PLAIN, Cookies
from tests.web.people import SAME_ORIGIN, add_repository, local, visitor

HERE, THERE = 70, 90


def told(visit: Visit) -> Response:
    return PlainTextResponse(f"{visit.who} {visit.role or ''} {visit.field('said')}")


async def told_later(visit: Visit) -> Response:
    return told(visit)


ROUTES = [
    page("/open", told, ANYBODY, methods=("GET", "POST")),
    page("/me", told, PERSON, methods=("GET", "POST")),
    page("/list", told_later, LISTS),
    page("/bot", told, BOT),
    page("/repositories/{repository}", told, Rule(Of.REPOSITORY)),
    page("/repositories/{repository}/pause", told, Rule(Of.REPOSITORY, Role.OPERATOR), methods=("POST",)),
    page("/installations/{installation}", told, Rule(Of.INSTALLATION, Role.ADMIN)),
]


def site(engine: Engine, *more: Identify, per_minute: int = 10_000, **web: float) -> TestClient:
    accounts = Accounts(engine)
    cookies = Cookies(accounts, Web(**web))
    app = Starlette(
        routes=[Guarded(each.path, each.handler, each.rule, methods=list(each.methods or ())) for each in ROUTES],
        exception_handlers=errors(Frame("https://github.example", "0")),
    )
    app.state.guard = Guard(accounts, Owners(engine), (cookies.identify, *more), per_minute=per_minute)
    return TestClient(app, base_url="http://127.0.0.1:8000", follow_redirects=False, raise_server_exceptions=False)


@pytest.fixture
def client(engine: Engine) -> TestClient:
    add_repository(engine, HERE, "acme/trainer", installation_id=1)
    add_repository(engine, THERE, "globex/secret", installation_id=9)
    return site(engine)


# who is let in


def test_a_browser_without_a_sign_in_is_sent_there_and_comes_back(client: TestClient) -> None:
    answer = client.get("/list?q=a b&x=1", headers={"Accept": "text/html,*/*"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?onwards=%2Flist%3Fq%3Da%2520b%26x%3D1"
    assert answer.headers["cache-control"] == "no-store"


def test_a_program_without_a_token_and_a_write_are_told_to_sign_in(client: TestClient) -> None:
    for answer in (client.get("/list"), client.post("/me", headers={"Accept": "text/html", **SAME_ORIGIN})):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def test_who_may_not_see_a_thing_is_told_what_is_told_of_nothing(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, Role.ADMIN, [HERE])
    there, nothing = client.get(f"/repositories/{THERE}"), client.get("/repositories/91")
    assert (there.status_code, nothing.status_code) == (404, 404)
    assert there.text.replace(str(THERE), "91") == nothing.text


def test_who_sees_it_and_may_not_do_that_is_told_so(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, Role.VIEWER, [HERE])
    assert client.get(f"/repositories/{HERE}").text == "mona viewer "
    answer = client.post(f"/repositories/{HERE}/pause")
    assert answer.status_code == 403
    assert "operator" in answer.text
    visitor(client, engine, Role.OPERATOR, [HERE])
    assert client.post(f"/repositories/{HERE}/pause", data={"said": " yes "}).text == "mona operator yes"


def test_who_sees_only_some_of_an_installation_is_a_viewer_of_it(client: TestClient, engine: Engine) -> None:
    add_repository(engine, 71, "acme/other", installation_id=1)
    visitor(client, engine, Role.ADMIN, [HERE])
    assert client.get("/installations/1").status_code == 403
    visitor(client, engine, Role.ADMIN, [HERE, 71])
    assert client.get("/installations/1").status_code == 200


def test_what_has_moved_to_another_installation_is_not_seen_with_the_old_rights(
    client: TestClient, engine: Engine
) -> None:
    visitor(client, engine, Role.ADMIN, [HERE])
    with writing(engine) as connection:
        connection.execute(update(RepositoryRow).where(RepositoryRow.id == HERE).values(installation_id=9))
    assert client.get(f"/repositories/{HERE}").status_code == 404


def test_the_bots_own_pages_are_for_its_operators_and_unknown_to_others(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, Role.ADMIN, [HERE])
    assert client.get("/bot").status_code == 404
    local(client, engine)
    assert client.get("/bot").status_code == 200


def token(sight: Sight, most: Role) -> Identify:
    return lambda request: Identity(None, sight, "token ci", most=most) if "x-token" in request.headers else None


@pytest.mark.parametrize(
    ("sight", "most", "statuses"),
    [
        (Sight(), Role.ADMIN, (404, 404, 404)),
        (Sight(repository_id=HERE), Role.VIEWER, (200, 404, 403)),
        (Sight(repository_id=HERE), Role.OPERATOR, (200, 404, 200)),
        (Sight(installation_id=1), Role.OPERATOR, (200, 404, 200)),
        (Sight(installation_id=9, repository_id=HERE), Role.ADMIN, (404, 404, 404)),
        (Sight(account_id=501), Role.ADMIN, (200, 404, 403)),
        (Sight(account_id=501, repository_id=THERE), Role.ADMIN, (404, 404, 404)),
        (Sight(account_id=777), Role.ADMIN, (404, 404, 404)),
        (Sight(everything=True), Role.VIEWER, (200, 200, 403)),
    ],
)
def test_a_token_does_what_it_is_good_for_and_no_more_than_its_maker(
    client: TestClient, engine: Engine, sight: Sight, most: Role, statuses: tuple[int, int, int]
) -> None:
    accounts = Accounts(engine)
    accounts.remember(501, "mona", operator=False)
    accounts.grant(501, [Grant(HERE, 1, Role.VIEWER)])
    machine = site(engine, token(sight, most))
    machine.headers["x-token"] = "1"
    asked = (
        machine.get(f"/repositories/{HERE}"),
        machine.get(f"/repositories/{THERE}"),
        machine.post(f"/repositories/{HERE}/pause"),
    )
    assert tuple(answer.status_code for answer in asked) == statuses
    assert machine.get("/me").status_code == 403


# where a write comes from


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8000"}, True),
        ({"Origin": "http://127.0.0.1:8000"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8000"}, False),
        ({"Origin": "http://127.0.0.1:9000"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:8000.evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Referer": "http://127.0.0.1:8000/"}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("path", ["/me", "/open"])
def test_a_write_with_a_cookie_comes_from_our_own_pages(
    client: TestClient, engine: Engine, headers: dict[str, str], let_in: bool, path: str
) -> None:
    visitor(client, engine, repositories=[HERE])
    del client.headers["Sec-Fetch-Site"]
    assert client.post(path, headers=headers).status_code == (200 if let_in else 403)


def test_nobody_is_signed_in_or_out_by_another_site_either(client: TestClient) -> None:
    assert client.post("/open", headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/open", headers=SAME_ORIGIN).status_code == 200


def test_a_read_may_come_from_anywhere(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, repositories=[HERE])
    assert client.get("/me", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_token_is_sent_by_no_browser_so_it_may_come_from_anywhere(client: TestClient, engine: Engine) -> None:
    machine = site(engine, token(Sight(repository_id=HERE), Role.OPERATOR))
    answer = machine.post(f"/repositories/{HERE}/pause", headers={"x-token": "1", "Origin": "https://ci.example"})
    assert answer.status_code == 200


# how often


def test_who_asks_too_often_is_told_when_to_come_again(client: TestClient, engine: Engine) -> None:
    slow = site(engine, per_minute=3)
    answers = [slow.get("/open") for _ in range(5)]
    assert [answer.status_code for answer in answers[:3]] == [200] * 3
    assert answers[-1].status_code == 429
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20


def test_somebody_is_limited_wherever_they_come_from_and_others_are_not(client: TestClient, engine: Engine) -> None:
    slow = site(engine, per_minute=3)
    visitor(slow, engine, repositories=[HERE])
    assert [slow.get("/me").status_code for _ in range(4)][-1] == 429
    visitor(slow, engine, repositories=[HERE], account_id=502, login="eve")
    assert slow.get("/me").status_code == 200
    slow.cookies.clear()
    assert slow.get("/open").status_code == 200


def test_what_is_refused_counts_too(client: TestClient, engine: Engine) -> None:
    slow = site(engine, per_minute=3)
    assert [slow.get("/list").status_code for _ in range(4)] == [401, 401, 401, 429]


# sessions


def test_a_cookie_that_nobody_was_given_is_nobodys(client: TestClient) -> None:
    for cookie in ("", "x", "A" * 43, "A" * 10_000, "é" * 20, "' OR 1=1 --"):
        assert client.get("/me", headers={b"Cookie": f"{PLAIN}={cookie}".encode()}).status_code == 401, cookie


def test_a_session_is_over_after_its_time_however_much_it_is_used(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, repositories=[HERE])
    with writing(engine) as connection:
        connection.execute(update(SessionRow).values(expires_at=db_now(-1.0)))
    assert client.get("/me").status_code == 401


def test_a_session_that_is_not_used_is_over_and_use_keeps_it(client: TestClient, engine: Engine) -> None:
    client = site(engine, idle_minutes=10)
    visitor(client, engine, repositories=[HERE])
    for idle_s, status in ((9 * 60.0, 200), (9 * 60.0, 200), (11 * 60.0, 401)):
        with writing(engine) as connection:
            connection.execute(update(SessionRow).values(seen_at=db_now(-idle_s)))
        assert client.get("/me").status_code == status


def test_a_page_that_is_open_and_refreshes_itself_does_not_keep_a_session(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, repositories=[HERE])
    for headers, left in (({"Heal-Fragment": "live"}, False), ({}, True)):
        with writing(engine) as connection:
            connection.execute(update(SessionRow).values(seen_at=db_now(-20 * 60.0)))
        assert client.get("/me", headers=headers).status_code == 200
        (browser,) = Accounts(engine).sessions(501, idle_s=3600.0)
        assert (Accounts(engine).sessions(501, idle_s=10 * 60.0) != []) is left, browser


def test_rights_that_nobody_could_ask_for_in_an_hour_are_none(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, Role.ADMIN, [HERE])
    for stale_s, status in ((KEPT_S - 60.0, 200), (KEPT_S + 60.0, 404)):
        with writing(engine) as connection:
            connection.execute(update(SessionRow).values(checked_at=db_now(-stale_s)))
        assert client.get(f"/repositories/{HERE}").status_code == status
    local(client, engine)
    with writing(engine) as connection:
        connection.execute(update(SessionRow).values(checked_at=db_now(-KEPT_S - 60.0)))
    assert client.get(f"/repositories/{HERE}").status_code == 200


def test_whoever_holds_the_machine_is_nobody_where_others_are_served(engine: Engine) -> None:
    accounts = Accounts(engine)
    accounts.remember(LOCAL, "local", operator=True)
    cookie = accounts.open(LOCAL, seconds=3600)
    request = Request({"type": "http", "method": "GET", "scheme": "http", "path": "/",
                       "headers": [(b"cookie", f"{PLAIN}={cookie}".encode())],
                       "query_string": b"", "server": ("127.0.0.1", 8000)})  # fmt: skip
    assert Cookies(accounts, Web(), local=True).identify(request) is not None
    assert Cookies(accounts, Web(), local=False).identify(request) is None


# where people are sent


@given(st.text(max_size=40) | st.text(alphabet="/\\.:@%?#\t\n evil", max_size=20).map(lambda text: f"/{text}"))
@example("//evil.example")
@example("/\\evil.example")
@example("/\t/evil.example")
@example("https:evil.example")
@example("/%5cevil.example")
@example("///evil.example")
@example("/.//evil.example")
def test_nobody_is_sent_away_from_here(onwards: str) -> None:
    found = urlsplit(urljoin("https://heal.example/sign-in", local_path(onwards)))
    assert (found.scheme, found.netloc) == ("https", "heal.example")
    assert local_path(onwards).isprintable()


def test_a_path_of_ours_is_kept_as_it_is() -> None:
    for path in ("/", "/incidents/7?tab=log#L12", "/?q=repo:acme/model state:open", "/über"):
        assert local_path(path) == path
    assert local_path("/" + "x" * 3_000) == "/"


# under which address


def through(public_url: str, **asked: str) -> tuple[str, str]:
    """The scheme and the client that the pages see."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client") or ("", 0)
        await PlainTextResponse(f"{scope['scheme']} {client[0]}")(scope, receive, send)

    peer = asked.pop("peer", "127.0.0.1")
    client = TestClient(Origin(app, public_url), base_url="http://heal.example", client=(peer, 1))
    headers = [(name.replace("_", "-"), line) for name, value in asked.items() for line in value.split("\n")]
    scheme, _, address = client.get("/", headers=headers).text.partition(" ")
    return scheme, address


def test_the_public_address_says_whether_it_is_https() -> None:
    assert through("https://heal.example")[0] == "https"
    assert through("https://heal.example", host="HEAL.example:443")[0] == "https"
    assert through("http://heal.example")[0] == "http"
    assert through("")[0] == "http"
    assert through("https://heal.example", host="127.0.0.1:8000")[0] == "http"


def test_nobody_else_says_it() -> None:
    assert through("", x_forwarded_proto="https")[0] == "http"
    assert through("http://heal.example", x_forwarded_proto="https", x_forwarded_host="heal.example")[0] == "http"
    assert through("https://heal.example", x_forwarded_proto="http")[0] == "https"


def test_a_proxy_of_this_machine_says_for_whom_it_asks_and_no_other() -> None:
    assert through("", x_forwarded_for="6.6.6.6, 10.0.0.7")[1] == "10.0.0.7"
    assert through("", x_forwarded_for="6.6.6.6\n10.0.0.7")[1] == "10.0.0.7"
    assert through("", x_forwarded_for="10.0.0.7", peer="10.9.9.9")[1] == "10.9.9.9"
    assert through("")[1] == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
     ("10.0.0.7", False), ("127.0.0.1.evil.example", False), ("", False)],
)  # fmt: skip
def test_what_is_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_another_name_of_this_machine_is_refused_where_the_names_are_known() -> None:
    app = named(Settings(), PlainTextResponse("ok"))
    client = TestClient(app, base_url="http://127.0.0.1:8000")
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_a_form_from_nobody_is_short_and_says_how_long_it_is(client: TestClient) -> None:
    long = client.post("/open", data={"text": "x" * MOST_STRANGE}, headers=SAME_ORIGIN)
    assert long.status_code == 413

    def unending() -> Iterator[bytes]:
        yield b"text=x"

    kind = {**SAME_ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/open", content=unending(), headers=kind).status_code == 411
    assert client.post("/open", data={"text": "x"}, headers=SAME_ORIGIN).status_code == 200


def test_whom_we_know_may_send_more_but_not_without_end(client: TestClient, engine: Engine) -> None:
    local(client, engine)
    assert client.post("/open", data={"text": "x" * MOST_STRANGE}).status_code == 200
    assert client.post("/open", content=b"x" * 6, headers=too_long()).status_code == 413


def too_long() -> dict[str, str]:
    return {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(MOST_BODY + 1)}
