"""Sends news to the channels that the operator has configured: Slack, Teams, mail and many more through Apprise, and
webhooks that are signed as the Standard Webhooks specification says (standardwebhooks.com)."""

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests

from app.domain.errors import Malformed, Refused, Unreachable
from app.domain.finding import Severity
from app.ports.notifier import Notice

WEBHOOK = "webhook+"
LEAST_SECRET_BYTES = 16
_PASSING = (408, 425, 429)
_KINDS = {Severity.LOW: "info", Severity.MEDIUM: "info", Severity.HIGH: "warning", Severity.CRITICAL: "failure"}


class Channels:
    """The port `Notifier`. Addresses hold secrets: they are in no message and in no log."""

    def __init__(self, addresses: Mapping[str, str], *, timeout_s: float = 10.0) -> None:
        """Raises Malformed naming the channel whose address cannot be used."""
        self._senders = {name: _sender(name, address, timeout_s) for name, address in addresses.items()}

    def channels(self) -> frozenset[str]:
        return frozenset(self._senders)

    def send(self, channel: str, notice: Notice) -> None:
        sender = self._senders.get(channel)
        if sender is None:
            known = ", ".join(sorted(self._senders)) or "none"
            raise Refused(f"no channel is called {channel}; the operator has configured: {known}")
        sender.send(notice)


class _Signed:
    """POSTs JSON with an id, a time, and an HMAC-SHA256 over both and the body."""

    def __init__(self, name: str, url: str, secret: bytes, timeout_s: float) -> None:
        self._name = name
        self._url = url
        self._secret = secret
        self._timeout_s = timeout_s

    def send(self, notice: Notice) -> None:
        body = json.dumps(
            {
                "type": "heal.notice",
                "title": notice.title,
                "body": notice.body,
                "severity": str(notice.severity),
                "url": notice.url,
            },
            ensure_ascii=False,
        ).encode()
        number = hashlib.sha256(notice.key.encode()).hexdigest()[:32]
        at = str(int(time.time()))
        signed = hmac.digest(self._secret, b".".join((number.encode(), at.encode(), body)), "sha256")
        headers = {
            "Content-Type": "application/json",
            "webhook-id": number,
            "webhook-timestamp": at,
            "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
        }
        try:
            answer = requests.post(
                self._url, data=body, headers=headers, timeout=self._timeout_s, allow_redirects=False
            )
        except requests.RequestException as error:
            raise Unreachable(f"channel {self._name}: no answer ({type(error).__name__})") from None
        if 400 <= answer.status_code < 500 and answer.status_code not in _PASSING:
            raise Refused(f"channel {self._name} answered {answer.status_code}")
        if not 200 <= answer.status_code < 300:
            raise Unreachable(f"channel {self._name} answered {answer.status_code}")


class _Apprise:
    def __init__(self, name: str, service: Any) -> None:
        self._name = name
        self._service = service

    def send(self, notice: Notice) -> None:
        body = notice.body if not notice.url or notice.url in notice.body else f"{notice.body}\n{notice.url}"
        try:
            taken = self._service.notify(
                title=notice.title, body=body, notify_type=_KINDS[notice.severity], body_format="text"
            )
        except (OSError, ValueError, TypeError) as error:
            raise Unreachable(f"channel {self._name}: {type(error).__name__}") from None
        if not taken:
            raise Unreachable(f"channel {self._name} did not take the message")


def _sender(name: str, address: str, timeout_s: float) -> _Signed | _Apprise:
    if address.startswith(WEBHOOK):
        return _signed(name, address.removeprefix(WEBHOOK), timeout_s)
    import apprise  # not cheap, and needed only where there is a channel

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it logs addresses
    service = apprise.Apprise()
    if not service.add(address):
        raise Malformed(f"the address of channel {name} is none that Apprise knows (see its list of services)")
    for server in service:
        server.socket_connect_timeout = server.socket_read_timeout = timeout_s
    return _Apprise(name, service)


def _signed(name: str, url: str, timeout_s: float) -> _Signed:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    secret = query.pop("secret", "").removeprefix("whsec_")
    try:
        key = base64.b64decode(secret, validate=True)
    except ValueError:
        key = b""
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not local:
        raise Malformed(f"the address of channel {name} must be https")
    if len(key) < LEAST_SECRET_BYTES:
        raise Malformed(f"channel {name} needs secret=whsec_…: at least {LEAST_SECRET_BYTES} random bytes in Base64")
    return _Signed(name, urlunsplit(parts._replace(query=urlencode(query))), key, timeout_s)
