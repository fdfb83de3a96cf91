"""The one way to GitHub's API: connections, pace, patience, and what an answer other than success means."""

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
from github.Auth import Auth
from github.GithubException import GithubException
from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass, Requester
from urllib3 import Retry

from app.adapters.github.auth import InstallationAuth
from app.domain.errors import HealError, NotInstalled, RateLimited, Refused, Unreachable
from app.ports.clock import Clock

API_VERSION = "2022-11-28"
USER_AGENT = "self-healing-mlops-bot"
LEAST_WAIT = timedelta(minutes=1)
READ_RETRIES = 2

# PyGithub's requester writes whole requests and answers to its logger at DEBUG, minted tokens among them.
_quiet = logging.getLogger("app.adapters.github.requests")
_quiet.setLevel(logging.INFO)

Connection = HTTPRequestsConnectionClass | HTTPSRequestsConnectionClass


class Absent(Refused):
    """404 or 410: it is not there, or hidden from us."""


class Invalid(Refused):
    """422: understood, and not possible as things are, e.g. because it exists already."""


class Pace:
    """Keeps the writes of one installation apart, over all threads: GitHub asks for a second between them.

    A short wait is slept; when others wait already, RateLimited gives the worker back instead.
    """

    def __init__(self, seconds_between_writes: float, clock: Clock) -> None:
        self._seconds = seconds_between_writes
        self._clock = clock
        self._lock = threading.Lock()
        self._next_at = 0.0

    def take_turn(self) -> None:
        """Raises RateLimited when the turn would come later than two writes from now."""
        with self._lock:
            now = time.monotonic()
            wait_s = max(self._next_at - now, 0.0)
            if wait_s > 2 * self._seconds:
                retry_at = self._clock.now() + timedelta(seconds=wait_s)
                raise RateLimited("other writes of this installation are waiting for their turn", retry_at=retry_at)
            self._next_at = now + wait_s + self._seconds
        time.sleep(wait_s)


@dataclass(frozen=True, slots=True)
class Rate:
    """What GitHub said last of one limit of an installation; `installation_id` is None for the App itself."""

    installation_id: int | None
    resource: str
    limit: int
    remaining: int
    resets_at: datetime
    seen_at: datetime


class Rates:
    """The newest of each limit that this process has been told. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[int | None, str], Rate] = {}

    def note(self, auth: Auth | None, headers: Mapping[str, str], now: datetime) -> None:
        told = [headers.get(f"x-ratelimit-{name}", "") for name in ("limit", "remaining", "reset")]
        if not all(each.isascii() and each.isdecimal() for each in told):
            return
        limit, remaining, reset = (int(each[:18]) for each in told)
        installation_id = auth.installation_id if isinstance(auth, InstallationAuth) else None
        resource = headers.get("x-ratelimit-resource", "core")[:40]
        try:
            rate = Rate(installation_id, resource, limit, remaining, datetime.fromtimestamp(reset, UTC), now)
        except (ValueError, OverflowError, OSError):
            return
        with self._lock:
            self._seen[installation_id, resource] = rate

    def all(self) -> list[Rate]:
        """The App's own first, then by installation."""
        with self._lock:
            return sorted(self._seen.values(), key=lambda rate: (rate.installation_id or 0, rate.resource))


class Connections:
    """One connection per thread and process, shared by all clients of the App.

    PyGithub's connection keeps the request that it is about to send in its own attributes, so two threads on one
    connection can send each other's requests.
    """

    def __init__(self, api_url: str, timeout_s: float) -> None:
        self._api_url = api_url
        self._timeout_s = timeout_s
        self._local = threading.local()
        self.rates = Rates()

    def client(self, auth: Auth, *, pace: Pace, clock: Clock) -> "Client":
        return Client(self, auth, api_url=self._api_url, timeout_s=self._timeout_s, pace=pace, clock=clock)

    def mine(self, host: str, port: int | None, scheme: str) -> Connection:
        """This thread's connection."""
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None or self._local.process != os.getpid():
            kind = HTTPSRequestsConnectionClass if scheme == "https" else HTTPRequestsConnectionClass
            connection = kind(host, port, retry=_read_retry(), timeout=self._timeout_s)  # type: ignore[arg-type]
            self._local.connection, self._local.process = connection, os.getpid()
        return connection


def _read_retry() -> Retry:
    """Reads are tried again at once; a write never is, or a 502 after a POST would make a second pull request.

    Not PyGithub's own retry: that one sleeps for as long as Retry-After says.
    """
    return Retry(
        total=READ_RETRIES,
        backoff_factor=0.1,
        allowed_methods={"GET"},
        status_forcelist={500, 502, 503, 504},
        respect_retry_after_header=False,
        raise_on_status=False,
    )


class Client(Requester):
    """PyGithub's requester, with one place where trouble gets its name: an error of `app.domain.errors`.

    It never sleeps to wait out a limit. Lazy: an object is fetched when something of it is read that is not known.
    """

    def __init__(
        self, connections: Connections, auth: Auth, *, api_url: str, timeout_s: float, pace: Pace, clock: Clock
    ) -> None:
        super().__init__(
            auth=auth,
            base_url=api_url,
            timeout=timeout_s,  # type: ignore[arg-type]
            user_agent=USER_AGENT,
            per_page=100,
            verify=True,
            retry=None,
            pool_size=None,
            lazy=True,
            api_version=API_VERSION,
        )
        self._connections = connections
        self._url = urlsplit(api_url)
        self._pace = pace
        self._clock = clock

    @property
    def _logger(self) -> logging.Logger:
        return _quiet

    def requestJson(  # noqa: N802 (PyGithub's name)
        self,
        verb: str,
        url: str,
        parameters: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
        input: Any | None = None,
        cnx: Connection | None = None,
        follow_302_redirect: bool = False,
    ) -> tuple[int, dict[str, Any], str]:
        """Every call of PyGithub comes through here. A redirect is returned, any worse answer raised."""
        if verb != "GET":
            self._pace.take_turn()
        sent = dict(headers or {})
        status, answer_headers, body = self._send(verb, url, parameters, sent, input, cnx, follow_302_redirect)
        if status == 401 and isinstance(self.auth, InstallationAuth):
            # Nothing was done, so trying once more is safe for a write as well.
            self.auth.forget(sent.get("Authorization", ""))
            status, answer_headers, body = self._send(verb, url, parameters, sent, input, cnx, follow_302_redirect)
        self._connections.rates.note(self.auth, answer_headers, self._clock.now())
        if status >= 400:
            raise trouble(f"{verb} {_path(url)}", status, answer_headers, body, self._clock.now())
        return status, answer_headers, body

    def _send(
        self,
        verb: str,
        url: str,
        parameters: dict[str, Any] | None,
        headers: dict[str, Any],
        body: Any,
        connection: Connection | None,
        follow: bool,
    ) -> tuple[int, dict[str, Any], str]:
        connection = connection or self._connections.mine(self._url.hostname or "", self._url.port, self._url.scheme)
        try:
            return super().requestJson(verb, url, parameters, headers, body, connection, follow)
        except (requests.RequestException, GithubException) as error:
            raise Unreachable(f"{verb} {_path(url)}: no answer from GitHub ({type(error).__name__})") from error


def trouble(call: str, status: int, headers: Mapping[str, str], body: str, now: datetime) -> HealError:
    """What an answer of 400 and above means for us. `headers` in lower case."""
    said = _message(body)
    retry_at = _retry_at(status, headers, said, now)
    if retry_at is not None:
        return RateLimited(f"{call}: GitHub asks to wait until {retry_at.isoformat()}", retry_at=retry_at)
    message = f"{call}: {status} {said}"
    if status >= 500:
        return Unreachable(message)
    if status == 401:
        return NotInstalled(f"{message}; check the App's id and key, and that it is still installed")
    if status in (404, 410):
        return Absent(message)
    return Invalid(message) if status == 422 else Refused(message)


def _retry_at(status: int, headers: Mapping[str, str], said: str, now: datetime) -> datetime | None:
    if status not in (403, 429):
        return None
    after = headers.get("retry-after", "")
    if after.isdecimal():
        return now + timedelta(seconds=int(after))
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return max(datetime.fromtimestamp(int(reset), UTC), now) + timedelta(seconds=1)
    if status == 429 or "rate limit" in said.lower():
        return now + LEAST_WAIT
    return None


def _message(body: str) -> str:
    """GitHub's own words about an error, shortened: it is shown to people."""
    try:
        content = json.loads(body)
    except ValueError:
        return "without an explanation"
    if not isinstance(content, dict):
        return "without an explanation"
    details = content.get("errors")
    words = [str(content.get("message", ""))]
    words += [
        str(detail.get("message") or detail.get("code")) if isinstance(detail, dict) else str(detail)
        for detail in (details if isinstance(details, list) else [])
    ]
    return "; ".join(word for word in words if word)[:500]


def _path(url: str) -> str:
    return urlsplit(url).path
