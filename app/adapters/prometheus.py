"""Ask Prometheus, or what answers like it (Thanos, Mimir, VictoriaMetrics), over its HTTP API."""

import ipaddress
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import structlog
import urllib3

from app.domain.errors import Permanent, Unreachable
from app.domain.model import Query
from app.domain.signal import Series
from app.domain.tenant import Repository

log = structlog.get_logger()

POINTS = 300  # of each series that are asked for
LEAST_STEP_S = 15
MOST_SERIES = 100  # of each query that are looked at
MOST_BYTES = 16 * 1024 * 1024
MOST_LABELS = 64
LONGEST_LABEL = 1_000


class Insecure(Permanent):
    """A token, or what is asked, would cross a network in the clear."""


class Prometheus:
    """`url` is the operator's. A repository only gives questions, and only those that `repositories` names may ask:
    what Prometheus knows is shown to whoever may read the repository. Redirections are not followed."""

    def __init__(
        self,
        url: str,
        *,
        repositories: Sequence[str],
        token_file: Path | None = None,
        hours: float = 6.0,
        timeout_s: float = 10.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
            raise Insecure("HEAL_PROMETHEUS__URL must be https://…, or http:// on a loopback address")
        self._address = f"{url.rstrip('/')}/api/v1/query_range"
        self._repositories = tuple(pattern.lower() for pattern in repositories)
        self._token_file = token_file
        self._hours = hours
        self._timeout_s = timeout_s

    def lets(self, repository: Repository) -> bool:
        return any(fnmatchcase(repository.full_name.lower(), pattern) for pattern in self._repositories)

    def ask(self, queries: Mapping[str, Query], *, until: datetime) -> list[Series]:
        found = []
        with requests.Session() as session:
            session.trust_env = False  # no proxy and no .netrc that the environment names
            for name, query in queries.items():
                found += [_series(name, each, query.limit) for each in self._asked(session, name, query, until)]
        return [series for series in found if series.points]

    def _asked(self, session: requests.Session, name: str, query: Query, until: datetime) -> list[Any]:
        step_s = max(LEAST_STEP_S, math.ceil(self._hours * 3600 / POINTS))
        form = {
            "query": query.promql,
            "start": f"{(until - timedelta(hours=self._hours)).timestamp():.3f}",
            "end": f"{until.timestamp():.3f}",
            "step": f"{step_s}s",
            "timeout": f"{self._timeout_s:g}s",
        }
        headers = {"Accept": "application/json"}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {self._token_file.read_text().strip()}"
        try:
            with session.post(
                self._address,
                data=form,
                headers=headers,
                timeout=self._timeout_s,
                allow_redirects=False,
                stream=True,
            ) as answer:
                if answer.status_code in (400, 422):
                    log.warning("prometheus_refused", series=name, status=answer.status_code)
                    return []
                if answer.status_code != 200:
                    raise Unreachable(f"Prometheus answers {answer.status_code}")
                body = answer.raw.read(MOST_BYTES + 1, decode_content=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"Prometheus does not answer: {type(error).__name__}") from error
        if len(body) > MOST_BYTES:
            log.warning("prometheus_answer_too_large", series=name)
            return []
        return _matrix(body)[:MOST_SERIES]


def _matrix(body: bytes) -> list[Any]:
    """The series of an answer. Raises Unreachable for what is none."""
    try:
        data = json.loads(body)["data"]
        kind, result = data["resultType"], data["result"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise Unreachable("Prometheus answers with something else") from error
    return result if kind == "matrix" and isinstance(result, list) else []


def _series(name: str, value: Any, limit: float | None) -> Series:
    given = value.get("metric") if isinstance(value, dict) else None
    labels = {
        str(label)[:LONGEST_LABEL]: str(text)[:LONGEST_LABEL]
        for label, text in list(given.items() if isinstance(given, dict) else ())[:MOST_LABELS]
        if label != "__name__"
    }
    points = value.get("values") if isinstance(value, dict) else None
    found = (_point(point) for point in (points if isinstance(points, list) else ()))
    return Series(name, tuple(point for point in found if point is not None), labels, limit)


def _point(value: Any) -> tuple[float, float] | None:
    """None for what is no number: Prometheus says NaN where there is nothing."""
    try:
        at, measured = float(value[0]), float(value[1])
    except (TypeError, ValueError, LookupError):
        return None
    return (at, measured) if math.isfinite(at) and math.isfinite(measured) else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
