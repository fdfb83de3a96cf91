"""Looks at GitHub's status page, at the endpoints that the operator lists, and at the bot itself."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import requests

from app.domain.fleet import Answered, GitHubStatus, Part, Trouble

STATUS_LIFE_S = 60.0
MAX_STATUS_BYTES = 1 << 20
MOST_ENDPOINTS = 50
MOST_TROUBLES = 20
TRIES = 2
_OVER = ("resolved", "postmortem", "completed", "scheduled")


class OperatorsWatch:
    """The port `Watch`. `repository`, `endpoints` and `status_url` are the operator's alone: no repository can have the
    bot call an address. One object serves a whole process; the status page is asked at most once a minute."""

    def __init__(
        self,
        *,
        repository: str = "",
        endpoints: Sequence[str] = (),
        status_url: str = "",
        timeout_s: float = 10.0,
        parts: Callable[[], list[Part]] = list,
    ) -> None:
        self._repository = repository
        self._endpoints = tuple(endpoints)[:MOST_ENDPOINTS]
        self._status_url = status_url
        self._timeout_s = timeout_s
        self._parts = parts
        self._lock = threading.Lock()
        self._status: GitHubStatus | None = None
        self._status_until = 0.0

    @property
    def repository(self) -> str:
        return self._repository

    def github(self) -> GitHubStatus | None:
        if not self._status_url:
            return None
        with self._lock:
            if time.monotonic() >= self._status_until:
                self._status = self._read_status()
                self._status_until = time.monotonic() + STATUS_LIFE_S
            return self._status

    def endpoints(self) -> list[Answered]:
        return [self._asked(url) for url in self._endpoints]

    def parts(self) -> list[Part]:
        return self._parts()

    def _asked(self, url: str) -> Answered:
        """The better of two tries; only the head of the answer is read."""
        answered = self._try(url)
        return answered if answered.ok else self._try(url)

    def _try(self, url: str) -> Answered:
        start = time.monotonic()
        try:
            with _get(url, self._timeout_s) as answer:
                return Answered(url, answer.status_code, time.monotonic() - start)
        except requests.RequestException as error:
            return Answered(url, 0, time.monotonic() - start, type(error).__name__)

    def _read_status(self) -> GitHubStatus | None:
        try:
            with _get(self._status_url, self._timeout_s) as answer:
                if answer.status_code != 200:
                    return None
                body = b"".join(_within(answer.iter_content(1 << 16), MAX_STATUS_BYTES))
            return status_of(json.loads(body))
        except (requests.RequestException, ValueError):
            return None


def status_of(content: Any) -> GitHubStatus | None:
    """What Statuspage's `summary.json` says. None: that is no such thing."""
    if not isinstance(content, dict) or not isinstance(content.get("components"), list):
        return None
    components = {str(one["name"])[:80]: str(one.get("status"))[:40] for one in _named(content["components"])}
    troubles = [
        Trouble(
            name=str(one["name"])[:200],
            impact=str(one.get("impact"))[:20],
            started_at=started,
            components=tuple(str(part["name"])[:80] for part in _named(one.get("components")))[:20],
            url=str(one.get("shortlink") or "")[:200],
        )
        for one in _named(content.get("incidents"))
        if one.get("status") not in _OVER and (started := _moment(one.get("started_at") or one.get("created_at")))
    ]
    bad = {name: state for name, state in components.items() if state not in ("operational", "under_maintenance")}
    return GitHubStatus(bad, tuple(troubles[:MOST_TROUBLES]))


def _named(found: Any) -> Iterator[Mapping[str, Any]]:
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            yield one


def _moment(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _get(url: str, timeout_s: float) -> requests.Response:
    """Without following anybody anywhere, and without rights from a .netrc."""
    return requests.get(url, timeout=timeout_s, stream=True, allow_redirects=False, auth=_no_auth)


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _within(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    """Raises ValueError for more than that."""
    for piece in pieces:
        most -= len(piece)
        if most < 0:
            raise ValueError("more than was expected")
        yield piece
