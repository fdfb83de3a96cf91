"""How the adapter behaves on the wire: tokens, retries, limits, threads, and what never leaves the process."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from github import Auth
from github.Requester import HTTPRequestsConnectionClass

from app.adapters.github import client as client_module
from app.adapters.github import forge as forge_module
from app.adapters.github.app import GitHubApp
from app.adapters.github.auth import AppKey, InstallationAuth, Scope, Token, Tokens
from app.adapters.github.client import Absent, Client, Connections, Invalid, Pace, trouble
from app.adapters.github.forge import GitHubForge
from app.domain.errors import HealError, Malformed, NotInstalled, RateLimited, Refused, Unreachable
from app.domain.evidence import Job
from app.domain.tenant import Repository
from app.ports.forge import About, CheckText
from tests.adapters.worlds import WRITES, Box, Now, SandboxWorld, new_key

NOW = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)
MARK = "<!-- heal:0123456789abcdef0123456789abcdef -->"
SCOPE = Scope(1, 2)
Make = Callable[..., SandboxWorld]


class Frozen:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


@dataclass
class Script:
    """A server that gives the answers it was told, then 200 with the path asked for. None: hang up without a word."""

    url: str = ""
    answers: list[tuple[int, dict[str, str], str] | None] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def client(self, auth: Auth.Auth | None = None, timeout_s: float = 5) -> Client:
        clock = Frozen()
        return Connections(self.url, timeout_s).client(auth or Auth.Token("t"), pace=Pace(0, clock), clock=clock)

    def forge(self) -> GitHubForge:
        repository = Repository(2, "acme/model", 1)
        client = self.client()
        return GitHubForge(repository, client, client, app_id=1, login=lambda: "heal[bot]", granted=dict, timeout_s=5)


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            script.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
            answer = script.answers.pop(0) if script.answers else (200, {}, json.dumps({"path": self.path}))
            if answer is None:
                self.close_connection = True
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body.encode())), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is part of the script."""

    server = Server(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield script
    server.shutdown()
    server.server_close()
    thread.join()


# what an answer means
@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "wait_s"),
    [
        (403, {"retry-after": "120"}, {"message": "secondary rate limit"}, RateLimited, 120),
        (429, {"retry-after": "7"}, {}, RateLimited, 7),
        (429, {}, {}, RateLimited, 60),
        (403, {}, {"message": "You have exceeded a secondary rate limit."}, RateLimited, 60),
        (
            403,
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW.timestamp()) + 900)},
            {},
            RateLimited,
            901,
        ),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW.timestamp()) - 900)}, {}, RateLimited, 1),
        (403, {"x-ratelimit-remaining": "4999"}, {"message": "Resource not accessible by integration"}, Refused, None),
        (401, {}, {"message": "Bad credentials"}, NotInstalled, None),
        (404, {}, {"message": "Not Found"}, Absent, None),
        (410, {}, {"message": "Gone"}, Absent, None),
        (422, {}, {"message": "Validation Failed", "errors": [{"message": "A pull request exists"}]}, Invalid, None),
        (409, {}, {"message": "Conflict", "errors": ["x"]}, Refused, None),
        (500, {}, {"message": "Server Error"}, Unreachable, None),
        (503, {"retry-after": "5"}, {}, Unreachable, None),
    ],
)
def test_an_answer_is_trouble_of_the_right_kind(
    status: int, headers: dict[str, str], body: Any, kind: type[HealError], wait_s: int | None
) -> None:
    found = trouble("GET /x", status, headers, json.dumps(body), NOW)
    assert type(found) is kind
    assert str(status) in str(found) or isinstance(found, RateLimited)
    if isinstance(found, RateLimited):
        assert wait_s is not None
        assert found.retry_at == NOW + timedelta(seconds=wait_s)


def test_githubs_own_words_are_in_the_message_but_never_all_of_them() -> None:
    body = json.dumps({"message": "Validation Failed", "errors": [{"code": "missing"}, {"message": "x" * 9_000}]})
    said = str(trouble("POST /x", 422, {}, body, NOW))
    assert "Validation Failed; missing; xxx" in said
    assert len(said) < 600


@pytest.mark.parametrize("body", ["", "<html>", "[]", "null", '{"errors": 5}', '{"message": null}'])
def test_an_error_that_is_not_in_githubs_form_is_still_trouble(body: str) -> None:
    assert isinstance(trouble("GET /x", 502, {}, body, NOW), Unreachable)


# patience
def test_a_read_is_tried_again_after_a_bad_gateway(script: Script) -> None:
    script.answers = [(502, {}, ""), None, (200, {}, '{"id": 1}')]
    assert script.client().requestJsonAndCheck("GET", "/x")[1] == {"id": 1, "url": "/x"}
    assert len(script.asked) == 3


def test_a_read_that_keeps_failing_is_unreachable(script: Script) -> None:
    script.answers = [(502, {}, "")] * 3
    with pytest.raises(Unreachable):
        script.client().requestJsonAndCheck("GET", "/x")
    assert len(script.asked) == 3


@pytest.mark.parametrize("answer", [(502, {}, ""), None])
def test_a_write_whose_answer_is_lost_is_never_repeated(
    script: Script, answer: tuple[int, dict[str, str], str] | None
) -> None:
    script.answers = [answer]
    with pytest.raises(Unreachable):
        script.client().requestJsonAndCheck("POST", "/x", input={})
    assert len(script.asked) == 1


@pytest.mark.parametrize("status", [403, 429])
def test_a_limit_is_neither_slept_out_nor_tried_again(script: Script, status: int) -> None:
    script.answers = [(status, {"Retry-After": "3600"}, "{}")]
    with pytest.raises(RateLimited):
        script.client().requestJsonAndCheck("GET", "/x")
    assert len(script.asked) == 1


def test_the_newest_of_each_limit_is_remembered(script: Script) -> None:
    def told(remaining: str, resource: str = "core") -> tuple[int, dict[str, str], str]:
        names = {"limit": "5000", "remaining": remaining, "reset": "1795251600", "resource": resource}
        return 200, {f"X-RateLimit-{name}": value for name, value in names.items()}, "{}"

    client = script.client()
    script.answers = [told("9"), told("8"), told("29", "search"), (200, {}, "{}"), told("7")]
    for _ in range(5):
        client.requestJson("GET", "/x")
    rates = client._connections.rates.all()
    assert [(rate.resource, rate.remaining) for rate in rates] == [("core", 7), ("search", 29)]
    assert rates[0].installation_id is None
    assert rates[1].resets_at == datetime.fromtimestamp(1795251600, UTC)


def test_nobody_listening_is_unreachable(script: Script) -> None:
    client = Connections("http://127.0.0.1:9", 5).client(Auth.Token("t"), pace=Pace(0, Frozen()), clock=Frozen())
    with pytest.raises(Unreachable):
        client.requestJsonAndCheck("GET", "/x")


def test_threads_never_send_each_others_requests(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyGithub's connection holds a request between two calls: give other threads time to come in between."""
    answer = HTTPRequestsConnectionClass.getresponse

    def late(connection: HTTPRequestsConnectionClass) -> Any:
        time.sleep(0.002)
        return answer(connection)

    monkeypatch.setattr(HTTPRequestsConnectionClass, "getresponse", late)
    client = script.client()
    wrong: list[str] = []

    def read(name: int) -> None:
        for number in range(10):
            asked = f"/{name}/{number}"
            if client.requestJsonAndCheck("GET", asked)[1]["path"] != asked:
                wrong.append(asked)

    threads = [threading.Thread(target=read, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(script.asked) == 40
    assert wrong == []


def test_a_forked_process_makes_a_connection_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = Connections("http://127.0.0.1:9", 5)
    first = connections.mine("127.0.0.1", 9, "http")
    assert connections.mine("127.0.0.1", 9, "http") is first
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert connections.mine("127.0.0.1", 9, "http") is not first


class FakeTime:
    def __init__(self) -> None:
        self.at = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_writes_keep_their_distance_and_a_long_queue_is_sent_home(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTime()
    monkeypatch.setattr(client_module, "time", fake)
    pace = Pace(1.0, Frozen())
    for _ in range(3):
        pace.take_turn()
    assert fake.slept == [0, 1, 2]
    with pytest.raises(RateLimited) as sent_home:
        pace.take_turn()
    assert sent_home.value.retry_at == NOW + timedelta(seconds=3)
    fake.at += 3
    pace.take_turn()
    assert fake.slept == [0, 1, 2, 0]


def test_only_writes_wait_for_their_turn(real: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTime()
    monkeypatch.setattr(client_module, "time", fake)
    world = real(seconds_between_writes=1.0)
    world.forge.paths("main")
    assert 1 not in fake.slept
    world.forge.commit(world.main, {"a": "b", "c": "d"}, "Two files, two writes", NOW)
    assert fake.slept[-2:] == [0, 1]


# who we are
def test_the_apps_token_is_short_and_dated_back() -> None:
    private, public = new_key()
    key = AppKey(4711, private, Frozen())
    claims = jwt.decode(key.token, public, algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False})
    assert claims["iss"] == "4711"
    assert claims["iat"] == int(NOW.timestamp()) - 60
    assert claims["exp"] - claims["iat"] <= 9 * 60


@pytest.mark.parametrize("pem", ["", "not a key", new_key()[1].decode()])
def test_a_key_that_cannot_be_read_says_which_file_to_give(pem: str) -> None:
    with pytest.raises(Malformed, match="pem"):
        AppKey(4711, pem, Frozen()).token  # noqa: B018


def minted(calls: list[Scope], clock: Frozen) -> Callable[[Scope], Token]:
    def mint(scope: Scope) -> Token:
        calls.append(scope)
        return Token(f"token-{len(calls)}", clock.now() + timedelta(hours=1))

    return mint


def test_a_token_serves_until_five_minutes_before_its_end() -> None:
    clock, calls = Frozen(), []  # type: ignore[var-annotated]
    tokens = Tokens(minted(calls, clock), clock)
    assert [tokens.get(SCOPE).value, tokens.get(SCOPE).value] == ["token-1", "token-1"]
    clock.at += timedelta(minutes=55)
    assert tokens.get(SCOPE).value == "token-1"
    clock.at += timedelta(seconds=1)
    assert tokens.get(SCOPE).value == "token-2"


def test_every_scope_has_its_own_token() -> None:
    clock, calls = Frozen(), []  # type: ignore[var-annotated]
    tokens = Tokens(minted(calls, clock), clock)
    assert len({tokens.get(scope).value for scope in (SCOPE, Scope(1), Scope(1, 3), Scope(2, 2))}) == 4


def test_many_threads_fetch_one_token() -> None:
    clock, calls = Frozen(), []  # type: ignore[var-annotated]
    together = threading.Barrier(8)
    tokens = Tokens(minted(calls, clock), clock)

    def ask() -> None:
        together.wait()
        tokens.get(SCOPE)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [SCOPE]


def test_forgetting_an_old_token_keeps_the_new_one() -> None:
    clock, calls = Frozen(), []  # type: ignore[var-annotated]
    tokens = Tokens(minted(calls, clock), clock)
    tokens.get(SCOPE)
    tokens.forget(SCOPE, "token-0")
    assert tokens.get(SCOPE).value == "token-1"
    tokens.forget(SCOPE, "token-1")
    assert tokens.get(SCOPE).value == "token-2"


def test_a_token_that_github_no_longer_takes_is_replaced_at_once(real: Make) -> None:
    world = real()
    tokens = world.box.sandbox.state.tokens
    for value in [value for value, token in tokens.items() if not token.login]:
        del tokens[value]
    assert world.forge.branch_head("main") == world.main


def test_a_token_that_is_refused_twice_means_not_installed(script: Script) -> None:
    clock, calls = Frozen(), []  # type: ignore[var-annotated]
    client = script.client(InstallationAuth(Tokens(minted(calls, clock), clock), SCOPE))
    script.answers = [(401, {}, '{"message": "Bad credentials"}')] * 2
    with pytest.raises(NotInstalled):
        client.requestJsonAndCheck("POST", "/x", input={})
    assert [headers["authorization"] for _, _, headers in script.asked] == ["Bearer token-1", "Bearer token-2"]


def test_a_forges_token_is_good_for_its_repository_alone(real: Make) -> None:
    world = real()
    narrow = [token for token in world.box.sandbox.state.tokens.values() if token.narrowed]
    assert world.repository.id in [number for token in narrow for number in token.repository_ids]
    assert all(len(token.repository_ids) == 1 for token in narrow)


def test_an_app_with_the_wrong_key_is_told_what_to_check(box: Box) -> None:
    stranger = Box(box.sandbox, box.url, new_key()[0])
    with pytest.raises(NotInstalled, match="key"):
        stranger.app().slug()


def test_an_installation_that_is_gone_is_not_installed(box: Box) -> None:
    with pytest.raises(NotInstalled):
        box.app().repositories(999_999)


def test_no_token_or_key_is_logged_or_shown(real: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world = real()
    run_id = world.failed_run()
    for job in world.forge.jobs(run_id, 1):
        with world.forge.job_log(job) as log:
            assert log.read()
    number = world.forge.ensure_issue(MARK, "Broken", "", ["heal"])
    world.forge.ensure_comment(number, MARK, "Ours")
    shown = [repr(part) for part in (world.app, world.forge, vars(world.app), vars(world.forge), Token("s3cret", NOW))]
    with pytest.raises(Refused) as refused:
        world.forge.pull(999)
    text = "\n".join([caplog.text, *shown, str(refused.value), repr(refused.value.__cause__)])
    secrets = [value for value, token in world.box.sandbox.state.tokens.items() if not token.login]
    assert secrets
    assert not [secret for secret in [*secrets, "s3cret", "eyJ", "PRIVATE KEY"] if secret in text]
    assert not [one for one in world.requests() if any(secret in one["query"] for secret in secrets)]


# effects
@pytest.mark.parametrize("kind", ["error_after_write", "drop_after_write"])
def test_whatever_breaks_after_a_comment_was_written_there_is_one_comment(real: Make, kind: str) -> None:
    world = real()
    number = world.forge.ensure_issue(MARK, "Broken", "", [])
    world.fault(kind, WRITES["ensure_comment"])
    with pytest.raises(Unreachable):
        world.forge.ensure_comment(number, MARK, "Ours")
    world.forge.ensure_comment(number, MARK, "Ours")
    assert len(world.comments(number)) == 1


def test_of_two_racing_comments_and_issues_the_older_stays(real: Make) -> None:
    """Two workers looked, saw nothing and both created: the twins are made by hand, as that other worker."""
    world = real()
    other = world.box.app().forge(world.repository)
    number = other.ensure_issue("<!-- other -->", "Where it happens", "", [])
    for marker in ("<!-- one -->", "<!-- two -->"):
        other.ensure_comment(number, marker, f"Ours {MARK}")
        other.ensure_issue(marker, "Broken", f"Evidence {MARK}", [])
    first = world.comments(number)[0]
    world.forge.ensure_comment(number, MARK, first[1])
    assert world.comments(number) == [first]
    assert world.open_issues().count("Broken") == 2
    kept = world.forge.ensure_issue(MARK, "Broken", f"Evidence {MARK}", [])
    assert kept == number + 1
    assert world.open_issues().count("Broken") == 1


def test_check_run_twins_show_the_same(real: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = real()
    look = world.forge._our_checks
    monkeypatch.setattr(world.forge, "_our_checks", lambda *_: [])
    text = CheckText(name="Heal", title="One", summary="One")
    ids = [world.forge.ensure_check(world.main, "incident", text) for _ in range(2)]
    monkeypatch.setattr(world.forge, "_our_checks", look)
    done = CheckText(name="Heal", title="Two", summary="Two")
    assert world.forge.ensure_check(world.main, "incident", done) == min(ids)
    assert world.checks(world.main) == [("incident", "Two")] * 2


def test_a_commits_author_is_the_bot_at_the_given_time(real: Make) -> None:
    world = real()
    sha = world.forge.commit(world.main, {"a": "b"}, "Repair", datetime(2026, 11, 21, 10, 0, 0, 500, tzinfo=UTC))
    made = world.as_user("GET", f"/git/commits/{sha}")
    assert made["author"] == made["committer"]
    assert made["author"]["name"] == "Self-Healing MLOps Bot"
    assert made["author"]["email"] == "4711+self-healing-mlops-bot[bot]@users.noreply.github.com"
    assert made["author"]["date"] == "2026-11-21T10:00:00Z"


def test_an_edited_file_stays_executable(real: Make) -> None:
    world = real()
    start = world.push("main", {"run.sh": "#!/bin/sh\necho 1\n"})
    sha = world.forge.commit(start, {"run.sh": "#!/bin/sh\necho 2\n"}, "Repair", NOW)
    tree = world.as_user("GET", f"/git/trees/{sha}")["tree"]
    assert {entry["path"]: entry["mode"] for entry in tree}["run.sh"] == "100755"


# logs
JOB = Job(id=5, name="train", run_id=1, attempt=1, head_sha="a" * 40, conclusion="failure")


def test_a_log_is_fetched_from_its_link_without_our_token(script: Script) -> None:
    script.answers = [(302, {"Location": f"{script.url}/blob?sig=1"}, ""), (200, {}, "line\n")]
    with script.forge().job_log(JOB) as log:
        assert log.read() == b"line\n"
    (_, asked, with_token), (_, blob, without) = script.asked
    assert (asked, blob) == ("/repos/acme/model/actions/jobs/5/logs", "/blob?sig=1")
    assert "authorization" in with_token
    assert "authorization" not in without


def test_an_enormous_log_is_cut_off(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forge_module, "MAX_LOG_BYTES", 100_000)
    script.answers = [(302, {"Location": f"{script.url}/blob"}, ""), (200, {}, "x" * 300_000)]
    with script.forge().job_log(JOB) as log:
        assert len(log.read()) == 100_000


@pytest.mark.parametrize(
    ("answer", "kind"),
    [((404, {}, ""), Refused), ((410, {}, ""), Refused), ((503, {}, ""), Unreachable), (None, Unreachable)],
)
def test_a_log_that_cannot_be_fetched_is_trouble_that_keeps_the_link_secret(
    script: Script, answer: tuple[int, dict[str, str], str] | None, kind: type[HealError]
) -> None:
    script.answers = [(302, {"Location": f"{script.url}/blob?sig=canary"}, ""), answer]
    with pytest.raises(kind) as found, script.forge().job_log(JOB):
        pytest.fail("there is no log")
    assert "canary" not in str(found.value)


def test_an_expired_log_is_refused(script: Script) -> None:
    script.answers = [(410, {}, '{"message": "Server Error"}')]
    with pytest.raises(Refused), script.forge().job_log(JOB):
        pytest.fail("there is no log")


# the App
def test_the_app_knows_its_name_installations_and_repositories(real: Make) -> None:
    world = real()
    assert world.app.slug() == "self-healing-mlops-bot"
    assert world.repository.installation_id in world.app.installations()
    assert world.app.repositories(world.repository.installation_id) == [world.repository]


def test_the_apps_name_is_not_asked_for_with_every_delivery(script: Script, box: Box) -> None:
    app = box.app()
    before = len(box.sandbox.state.requests)
    for _ in range(3):
        app.slug()
    assert [one["path"] for one in box.sandbox.state.requests[before:]] == ["/app"]


def test_what_github_sent_is_listed_newest_first_and_sent_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    box = Box.start(tmp_path_factory.mktemp("deliveries"))
    try:
        box.admin("/hook", {"url": "http://127.0.0.1:9/nobody-listens"})
        world = SandboxWorld(box, "model")
        start = Now().now() - timedelta(minutes=1)
        world.until(lambda: len(world.app.sent_deliveries(since=start)) >= 2)
        sent = world.app.sent_deliveries(since=start)
        assert [one.id for one in sent] == sorted((one.id for one in sent), reverse=True)
        assert {one.ok for one in sent} == {False}
        assert world.app.sent_deliveries(since=start + timedelta(hours=1)) == []
        body = world.app.sent_body(sent[0].id)
        assert (body.guid, body.event) == (sent[0].guid, sent[0].event)
        assert json.loads(body.payload)["installation"]["id"] > 0
        with pytest.raises(Refused):
            world.app.sent_body(999_999_999)
        world.app.redeliver(sent[-1].id)
        world.until(lambda: any(one.redelivery for one in world.app.sent_deliveries(since=start)))
        again = next(one for one in world.app.sent_deliveries(since=start) if one.redelivery)
        assert (again.guid, again.event) == (sent[-1].guid, sent[-1].event)
        with pytest.raises(Refused):
            world.app.redeliver(999_999_999)
    finally:
        box.sandbox.stop()


@pytest.mark.parametrize(
    ("told", "about"),
    [
        ({"fork": True}, About(fork=True)),
        ({"archived": True, "fork": False}, About(archived=True)),
        ({"archived": None}, About()),
    ],
)
def test_a_repository_says_what_it_is(script: Script, told: dict[str, Any], about: About) -> None:
    script.answers.append((200, {}, json.dumps(told)))
    assert script.forge().about() == about


@pytest.mark.parametrize(
    ("head", "from_fork"),
    [({"id": 2}, False), ({"id": 3}, True), (None, True)],
    ids=["own", "fork", "fork that is gone"],
)
def test_a_run_says_whose_head_it_ran_at(script: Script, head: object, from_fork: bool) -> None:
    run = {
        "id": 5,
        "run_attempt": 1,
        "status": "completed",
        "conclusion": "failure",
        "head_sha": "a" * 40,
        "head_branch": "main",
        "event": "push",
        "path": "ci.yml",
        "name": "CI",
        "html_url": "https://x",
        "created_at": "2026-11-21T09:00:00Z",
        "head_repository": head,
    }
    script.answers.append((200, {}, json.dumps({"total_count": 1, "workflow_runs": [run]})))
    (found,) = script.forge().runs()
    assert found.from_fork is from_fork
    assert len(script.asked) == 1  # the list tells all that is needed


def test_a_delivery_of_which_github_keeps_no_body_is_refused(script: Script) -> None:
    app = GitHubApp(api_url=script.url, app_id=1, private_key_pem=new_key()[0], clock=Frozen())
    script.answers.append((200, {}, json.dumps({"guid": "g", "event": "push", "request": {"payload": None}})))
    with pytest.raises(Refused, match="no body"):
        app.sent_body(7)
