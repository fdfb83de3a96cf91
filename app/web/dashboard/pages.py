"""The dashboard's pages. Words for people stand in the templates, never here."""

import hashlib
import json
import mimetypes
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ExceptionHandler

from app.db.reads import Reads
from app.domain.errors import Transient
from app.domain.incident import State
from app.domain.interval import DRAWN as REPORTS
from app.web.dashboard.drift import DRAWN, drift_of
from app.web.dashboard.gate import drawing_of
from app.web.dashboard.live import Changes
from app.web.dashboard.security import SECURITY_HEADERS

HERE = Path(__file__).resolve().parent
TABS: Mapping[str, frozenset[State]] = {
    "all": frozenset(),
    "needs_approval": frozenset({State.AWAITING_APPROVAL}),
    "repairing": frozenset({State.OPEN, State.REPAIRING, State.VERIFYING}),
    "healed": frozenset({State.HEALED}),
    "escalated": frozenset({State.ESCALATED}),
    "observed": frozenset({State.OBSERVED}),
}
QUERY_LENGTH = 200
_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)  # fits into 64 bits
_URL = re.compile(r"[!-\[\]-~]+", re.ASCII)  # printable, no space, no backslash
ICONS: Mapping[str, str] = json.loads((HERE / "static" / "vendor" / "octicons.json").read_text())


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    media_type: str
    url: str


def _assets() -> dict[str, Asset]:
    """The static files by path. They are few and small: kept in memory, with their hash in the URL."""
    found = {}
    for file in sorted((HERE / "static").rglob("*")):
        if file.suffix in {".css", ".js", ".svg"}:
            body, path = file.read_bytes(), file.relative_to(HERE / "static").as_posix()
            media_type = "text/javascript" if file.suffix == ".js" else mimetypes.types_map[file.suffix]
            found[path] = Asset(body, media_type, f"/static/{hashlib.sha256(body).hexdigest()[:12]}/{path}")
    return found


ASSETS: Mapping[str, Asset] = _assets()


@dataclass(frozen=True, slots=True)
class DiffLine:
    """`kind` is file, hunk, add, del or same; `sign` is the first character of an added or removed line."""

    kind: str
    sign: str
    text: str


def diff_lines(diff: str) -> Iterator[DiffLine]:
    """The lines of a unified diff. Headers are told from content by the hunks' own line counts."""
    old = new = 0
    removed_from = ""
    for line in diff.removesuffix("\n").split("\n"):
        if old <= 0 and new <= 0:
            if hunk := re.match(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@", line):
                old, new = (int(count or 1) for count in hunk.groups())
                yield DiffLine("hunk", "", line)
            elif line.startswith("--- "):
                removed_from = line[4:].removeprefix("a/")
            elif line.startswith("+++ "):
                yield DiffLine("file", "", removed_from if line[4:] == "/dev/null" else line[4:].removeprefix("b/"))
            elif line:
                yield DiffLine("same", "", line)
        elif line.startswith("+"):
            new -= 1
            yield DiffLine("add", "+", line[1:])
        elif line.startswith("-"):
            old -= 1
            yield DiffLine("del", "-", line[1:])
        elif line.startswith("\\"):
            yield DiffLine("same", "", line)
        else:
            old, new = old - 1, new - 1
            yield DiffLine("same", "", line[1:])


def icon(name: str) -> Markup:
    """An octicon, for decoration only: what it means must stand beside it in words."""
    path = Markup(ICONS[name])  # noqa: S704 - vendored, not input
    return Markup('<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">{}</svg>').format(path)


def moment(value: object) -> datetime | None:
    """A time that was kept as ISO text, None for anything else."""
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return at if at.tzinfo else None


class Forge:
    """Links to the forge. Nothing that came with a delivery becomes a link unless it leads to the forge."""

    def __init__(self, web_url: str) -> None:
        self._web_url = web_url.rstrip("/")
        parts = urlsplit(self._web_url)
        self._home = (parts.scheme, parts.netloc)
        if parts.scheme not in {"http", "https"}:
            raise ValueError(f"{web_url} is no web address")

    def link(self, url: object) -> str:
        """The URL itself when it leads to the forge, else an empty string."""
        if not isinstance(url, str) or not _URL.fullmatch(url):
            return ""
        try:
            parts = urlsplit(url)
        except ValueError:
            return ""
        return url if (parts.scheme, parts.netloc) == self._home else ""

    def at(self, repository: str, *path: object) -> str:
        """A page of a repository, for example `at("o/r", "pull", 7)`."""
        return "/".join((self._web_url, quote(repository), *(quote(str(part)) for part in path)))


def _environment(version: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        version=version,
        icon=icon,
        asset=lambda path: ASSETS[path].url,
        diff_lines=diff_lines,
        moment=moment,
        as_json=lambda thing: json.dumps(thing, ensure_ascii=False),
        with_query=lambda **words: "?" + urlencode({key: word for key, word in words.items() if word}),
    )
    return environment


def _render(environment: Environment, request: Request, template: str, status: int = 200, **words: Any) -> HTMLResponse:
    """A whole page, or its live parts alone where the page's own script asks for them."""
    fragment = request.headers.get("heal-fragment") == "live"
    mode = request.cookies.get("color_mode", "")
    text = environment.get_template(template).render(
        layout="fragment.html" if fragment else "layout.html",
        color_mode=mode if mode in {"light", "dark"} else "auto",
        here=request.url.path,
        status=status,
        **words,
    )
    headers = {**SECURITY_HEADERS, "Cache-Control": "no-store", "Vary": "Heal-Fragment, Cookie"}
    return HTMLResponse(text, status, headers)


def routes(reads: Reads, *, forge_web_url: str, version: str, changes: Changes | None = None) -> list[BaseRoute]:
    """The dashboard: `/`, `/incidents/{id}` with `/data` and `/gate`, `/events`, `/static/…`. Wrap in SecurityHeaders.

    Whoever stops the server hands in `changes`, and closes it first.
    """
    environment = _environment(version)
    environment.globals["forge"] = Forge(forge_web_url)
    news = changes or Changes(reads.latest_change)

    def incidents(request: Request) -> Response:
        tab = request.query_params.get("state", "all")
        tab = tab if tab in TABS else "all"
        query = request.query_params.get("q", "")[:QUERY_LENGTH].strip()
        page = reads.incidents(TABS[tab], query, _identity(request.query_params.get("before", "")))
        counts = reads.counts()
        tabs = {name: sum(counts.get(state, 0) for state in states or State) for name, states in TABS.items()}
        paged = "before" in request.query_params
        return _render(environment, request, "incidents.html", page=page, tab=tab, tabs=tabs, query=query, paged=paged)

    def incident(request: Request) -> Response:
        number = _identity(request.path_params["number"])
        detail = reads.incident(number) if number is not None else None
        if detail is None:
            raise HTTPException(404)
        gated = number is not None and reads.report(number, REPORTS) is not None
        line, finding = detail.line, detail.finding
        return _render(environment, request, "incident.html", detail=detail, line=line, finding=finding, gated=gated)

    def data(request: Request) -> Response:
        number = _identity(request.path_params["number"])
        compared = reads.compared(number) if number is not None else None
        page = drift_of(*compared) if compared is not None else None
        if page is None:
            raise HTTPException(404)
        return HTMLResponse(page, headers={**SECURITY_HEADERS, **DRAWN, "Cache-Control": "no-store"})

    def gate(request: Request) -> Response:
        number = _identity(request.path_params["number"])
        report = reads.report(number, REPORTS) if number is not None else None
        if report is None:
            raise HTTPException(404)
        drawing = drawing_of(report)
        return _render(environment, request, "gate.html", report=report, number=number, drawing=drawing)

    async def events(_request: Request) -> Response:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(news.stream(), media_type="text/event-stream", headers=headers)

    return [
        Route("/", incidents, name="incidents"),
        Route("/incidents/{number}", incident, name="incident"),
        Route("/incidents/{number}/data", data, name="data"),
        Route("/incidents/{number}/gate", gate, name="gate"),
        Route("/events", events, name="events"),
        Route("/static/{version}/{path:path}", static, name="static"),
    ]


async def static(request: Request) -> Response:
    """A static file: for ever under its own hash, briefly under another (a page from before an update)."""
    asset = ASSETS.get(request.path_params["path"])
    if asset is None:
        raise HTTPException(404)
    lasting = request.url.path == asset.url
    headers = {"Cache-Control": "public, max-age=31536000, immutable" if lasting else "no-cache"}
    return Response(asset.body, media_type=asset.media_type, headers=headers)


def errors(*, version: str) -> dict[type[Exception], ExceptionHandler]:
    """Exception handlers that answer with a page: HTTPException (404, 405, …), Transient (503), the rest (500)."""
    environment = _environment(version)

    def page(request: Request, error: Exception) -> Response:
        status = 500
        if isinstance(error, HTTPException):
            status = error.status_code
        elif isinstance(error, Transient):
            status = 503
        answer = _render(environment, request, "error.html", status)
        if isinstance(error, HTTPException) and error.headers:
            answer.headers.update(error.headers)
        return answer

    return {HTTPException: page, Transient: page, Exception: page}


def _identity(text: str) -> int | None:
    return int(text) if _ID.fullmatch(text) else None
