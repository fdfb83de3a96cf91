"""What the operator's watch sees of endpoints and of GitHub's status page."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.watch import MAX_STATUS_BYTES, OperatorsWatch, status_of

DEGRADED = {
    "page": {"id": "kctbh9vrtdwd"},
    "components": [
        {"name": "Git Operations", "status": "operational"},
        {"name": "Actions", "status": "partial_outage"},
        {"name": "Pages", "status": "under_maintenance"},
    ],
    "incidents": [
        {
            "name": "Delays in starting jobs",
            "status": "investigating",
            "impact": "major",
            "shortlink": "https://stspg.io/1",
            "started_at": "2026-11-21T09:00:00.000Z",
            "components": [{"name": "Actions"}],
        },
        {"name": "Old", "status": "resolved", "impact": "minor", "started_at": "2026-11-20T09:00:00Z"},
        {"name": "Without a time", "status": "investigating"},
    ],
}


@dataclass
class Server:
    """Answers in turn, and remembers what was asked."""

    url: str
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append((self.path, dict(self.headers)))
            status, body = told.answers.pop(0) if len(told.answers) > 1 else told.answers[0]
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = Server(f"http://127.0.0.1:{http.server_port}")
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield told
    http.shutdown()
    http.server_close()


def test_an_endpoint_that_answers_is_well(server: Server) -> None:
    server.answers = [(204, b"")]
    (answered,) = OperatorsWatch(endpoints=[f"{server.url}/healthz"]).endpoints()
    assert (answered.ok, answered.status) == (True, 204)
    assert len(server.asked) == 1


def test_an_endpoint_gets_a_second_try(server: Server) -> None:
    server.answers = [(503, b""), (200, b"")]
    (answered,) = OperatorsWatch(endpoints=[server.url]).endpoints()
    assert answered.ok
    server.answers = [(503, b"")]
    (answered,) = OperatorsWatch(endpoints=[server.url]).endpoints()
    assert (answered.ok, answered.status) == (False, 503)


def test_nobody_is_followed_anywhere(server: Server) -> None:
    server.answers = [(302, b"")]
    (answered,) = OperatorsWatch(endpoints=[server.url]).endpoints()
    assert (answered.ok, answered.status) == (True, 302)
    assert [path for path, _ in server.asked] == ["/"]


def test_nobody_there_is_an_answer_too() -> None:
    (answered,) = OperatorsWatch(endpoints=["http://127.0.0.1:1/"], timeout_s=2).endpoints()
    assert (answered.ok, answered.status, answered.problem) == (False, 0, "ConnectionError")


def test_githubs_status_is_read_and_asked_for_once_a_minute(server: Server) -> None:
    server.answers = [(200, json.dumps(DEGRADED).encode())]
    watch = OperatorsWatch(status_url=server.url)
    status = watch.github()
    assert status is not None
    assert status.components == {"Actions": "partial_outage"}
    (trouble,) = status.troubles
    assert (trouble.name, trouble.impact, trouble.components) == ("Delays in starting jobs", "major", ("Actions",))
    assert trouble.started_at == datetime(2026, 11, 21, 9, tzinfo=UTC)
    assert watch.github() == status
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer", [(500, b"{}"), (200, b"<html>"), (200, b"[1]"), (200, b"x" * (MAX_STATUS_BYTES + 1))]
)
def test_a_status_that_cannot_be_read_is_none(server: Server, answer: tuple[int, bytes]) -> None:
    server.answers = [answer]
    assert OperatorsWatch(status_url=server.url).github() is None


def test_without_an_address_nothing_is_asked() -> None:
    assert OperatorsWatch().github() is None
    assert OperatorsWatch().endpoints() == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "status", "components", "incidents", "started_at", "impact"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_a_status_or_none(content: object) -> None:
    status_of(content)
