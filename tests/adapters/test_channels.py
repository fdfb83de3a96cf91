"""Channels: a real mail server, a real receiver of webhooks, and addresses that cannot be used."""

import base64
import hmac
import json
import logging
import threading
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from app.adapters.channels import Channels
from app.domain.errors import Malformed, Refused, Unreachable
from app.domain.finding import Severity
from app.ports.notifier import Notice
from tests.e2e.stage import free_port

SECRET = b"sixteen bytes or more"
SPELT = f"whsec_{base64.b64encode(SECRET).decode()}"
NOTICE = Notice("key 1", "acme/train: out of memory", "healed: see below", Severity.HIGH, "https://heal.example/1")


class Receiver(BaseHTTPRequestHandler):
    status = 200
    got: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(type(self).status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[Receiver]]]:
    kind = type("Fresh", (Receiver,), {"got": [], "status": 200})
    server = HTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", kind
    server.shutdown()


def test_a_webhook_is_signed_over_its_id_its_time_and_its_body(receiver: tuple[str, type[Receiver]]) -> None:
    where, kind = receiver
    Channels({"team": f"webhook+http://{where}/news?room=7&secret={SPELT}"}).send("team", NOTICE)
    ((headers, body),) = kind.got
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(SECRET, signed, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert json.loads(body) == {
        "type": "heal.notice",
        "title": NOTICE.title,
        "body": NOTICE.body,
        "severity": "high",
        "url": NOTICE.url,
    }


def test_the_same_news_has_the_same_id(receiver: tuple[str, type[Receiver]]) -> None:
    where, kind = receiver
    channels = Channels({"team": f"webhook+http://{where}/?secret={SPELT}"})
    for notice in (NOTICE, NOTICE, Notice("key 2", "t", "b")):
        channels.send("team", notice)
    first, again, other = (headers["webhook-id"] for headers, _ in kind.got)
    assert first == again != other


@pytest.mark.parametrize(
    ("status", "error"), [(400, Refused), (410, Refused), (429, Unreachable), (503, Unreachable), (302, Unreachable)]
)
def test_an_answer_says_whether_trying_again_helps(
    receiver: tuple[str, type[Receiver]], status: int, error: type[Exception]
) -> None:
    where, kind = receiver
    kind.status = status
    with pytest.raises(error, match=f"channel team answered {status}"):
        Channels({"team": f"webhook+http://{where}/?secret={SPELT}"}).send("team", NOTICE)


def test_a_receiver_that_is_away_is_unreachable_and_its_secret_is_in_no_message() -> None:
    with pytest.raises(Unreachable) as told:
        Channels({"team": f"webhook+http://127.0.0.1:{free_port()}/?secret={SPELT}"}).send("team", NOTICE)
    assert SPELT not in str(told.value)
    assert told.value.__suppress_context__


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"


def test_a_mail_reaches_a_mail_server() -> None:
    box, port = Mailbox(), free_port()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    try:
        address = f"mailto://127.0.0.1:{port}?from=heal@example.com&to=ops@example.com&mode=insecure"
        Channels({"ops": address}).send("ops", NOTICE)
    finally:
        server.stop()
    (mail,) = box.mails
    assert mail["To"] == "ops@example.com"
    assert "out of memory" in mail["Subject"]
    text = mail.get_payload(decode=True) or mail.get_payload(0).get_payload(decode=True)
    assert b"https://heal.example/1" in text


@pytest.mark.parametrize(
    "address",
    [
        "slack://TokenA123/TokenB123/tokenC1234567890abcdefgh/#general",
        "workflows://host.example:443/workflow1234567890/signature1234567890/",
        "json://127.0.0.1:9/path",
    ],
)
def test_the_usual_services_are_known(address: str) -> None:
    assert Channels({"team": address}).channels() == {"team"}


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("carrier-pigeon://roof", "channel team is none that Apprise knows"),
        (f"webhook+http://hooks.example/?secret={SPELT}", "must be https"),
        ("webhook+https://hooks.example/", "needs secret=whsec_"),
        ("webhook+https://hooks.example/?secret=whsec_c2hvcnQ=", "at least 16"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_without_being_shown(address: str, words: str) -> None:
    with pytest.raises(Malformed, match=words) as told:
        Channels({"team": address})
    assert address not in str(told.value)


def test_a_channel_that_nobody_has_configured_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match="no channel is called nobody; the operator has configured: team"):
        Channels({"team": "json://127.0.0.1:9/"}).send("nobody", NOTICE)


def test_addresses_do_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Unreachable):
        Channels({"team": f"json://user:s3cret-word@127.0.0.1:{free_port()}/"}).send("team", NOTICE)
    assert "s3cret-word" not in caplog.text
