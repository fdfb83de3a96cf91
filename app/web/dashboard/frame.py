"""What every page has in common: templates, words, icons, links to the forge, static files, notices."""

import hashlib
import json
import mimetypes
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from sqlalchemy import Engine
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.healing.kit import Kit
from app.i18n import LANGUAGES
from app.settings import Settings
from app.web.dashboard.live import Changes
from app.web.dashboard.nav import sections_for
from app.web.dashboard.security import SECURITY_HEADERS
from app.web.guard import Visit
from app.web.words import Words
from app.wiring import Wired

HERE = Path(__file__).resolve().parent
ICONS: Mapping[str, str] = json.loads((HERE / "static" / "vendor" / "octicons.json").read_text())
TOLD, COLORS = "told", "color_mode"
_URL = re.compile(r"[!-\[\]-~]+", re.ASCII)  # printable, no space, no backslash
_NOTICE = 500


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


class ForgeLinks:
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


class Frame:
    """Renders templates. `here` in a template is the path, `visit` who looks, `layout` what to extend."""

    def __init__(self, forge_web_url: str, version: str) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.do"],
        )
        self.forge = ForgeLinks(forge_web_url)
        self._environment.globals.update(
            release=version,
            icon=icon,
            asset=lambda path: ASSETS[path].url,
            has_asset=lambda path: path in ASSETS,
            diff_lines=diff_lines,
            moment=moment,
            as_json=lambda thing: json.dumps(thing, ensure_ascii=False),
            with_query=with_query,
            forge=self.forge,
            languages=LANGUAGES,
        )

    def render(
        self, visit: Visit, template: str, status: int = 200, headers: Mapping[str, str] | None = None, **words: Any
    ) -> HTMLResponse:
        """A whole page, or its live parts alone where the page's own script asks for them."""
        return self._render(visit.request, visit.words, template, status, headers, visit=visit, **words)

    def error(self, request: Request, status: int, **words: Any) -> HTMLResponse:
        """A page for whoever was not let in, or for what went wrong."""
        return self._render(request, Words.of(request), "error.html", status, None, visit=None, **words)

    def _render(
        self,
        request: Request,
        words: Words,
        template: str,
        status: int,
        headers: Mapping[str, str] | None,
        **values: Any,
    ) -> HTMLResponse:
        fragment = request.headers.get("heal-fragment") == "live"
        mode = request.cookies.get(COLORS, "")
        told = "" if fragment else unquote(request.cookies.get(TOLD, ""))[:_NOTICE]
        text = self._environment.get_template(template, globals=_spoken(words)).render(
            layout="fragment.html" if fragment else "layout.html",
            color_mode=mode if mode in {"light", "dark"} else "auto",
            here=request.url.path,
            query=request.query_params,
            status=status,
            told=told,
            words=words,
            sections=sections_for(values.get("visit")),
            **values,
        )
        answer = HTMLResponse(text, status, {**SECURITY_HEADERS, "Cache-Control": "no-store", **(headers or {})})
        answer.headers["Vary"] = "Heal-Fragment, Cookie, Accept-Language"
        if told:
            answer.delete_cookie(TOLD)
        return answer

    def back(self, visit: Visit, path: str, told: str = "") -> Response:
        """After a write: on to that page of ours, which says what was done."""
        answer = RedirectResponse(path, 303, headers={"Cache-Control": "no-store"})
        if told:
            secure = visit.request.url.scheme == "https"
            cut = quote(told[:_NOTICE])
            answer.set_cookie(TOLD, cut, max_age=60, httponly=True, samesite="lax", secure=secure)
        return answer


def _spoken(words: Words) -> dict[str, Any]:
    """What templates say, in the visitor's language."""
    return {
        **words.catalog.html(),
        "number": words.number,
        "percent": words.percent,
        "date": words.date,
        "absolute": words.moment,
        "duration": words.duration,
        "retell": lambda text: words.catalog.retell(str(text or "")),  # prose that the bot wrote down in English
    }


def with_query(**words: object) -> str:
    """A query string of what is not empty."""
    return "?" + urlencode({key: word for key, word in words.items() if word})


@dataclass(frozen=True, slots=True)
class Desk:
    """What screens are made of."""

    engine: Engine
    kit: Kit
    settings: Settings
    frame: Frame
    changes: Changes
    wired: Wired


async def static(visit: Visit) -> Response:
    """A static file: for ever under its own hash, briefly under another (a page from before an update)."""
    asset = ASSETS.get(visit.request.path_params["path"])
    if asset is None:
        raise HTTPException(404)
    lasting = visit.request.url.path == asset.url
    headers = {"Cache-Control": "public, max-age=31536000, immutable" if lasting else "no-cache"}
    return Response(asset.body, media_type=asset.media_type, headers=headers)
