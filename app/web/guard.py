"""Who may come in: every address of the dashboard and of the API says in one Rule whose thing it is about and what they
must be to it, and nothing is looked at before that is settled.

Whoever may not see a thing is told that there is no such thing; whoever sees it and may not do that is told so.
"""

import inspect
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlsplit

from anyio.to_thread import run_sync
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.db.accounts import Accounts, Session
from app.db.owners import Owner, Owners
from app.domain.access import Account, Role, Sight, Token, least
from app.resilience.rate import Buckets
from app.web.words import Words

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
MOST_FIELDS, MOST_FILES = 1_000, 4
MOST_BODY, MOST_STRANGE = 32 * 1024 * 1024, 16 * 1024  # bytes of a form, from whom we know and from others
_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)  # fits into 64 bits


class Of(StrEnum):
    """What an address is about, and where its number stands in the path."""

    ANYBODY = "anybody"  # nothing that needs a sign-in
    PERSON = "person"  # whoever is signed in, about themselves
    LISTS = "lists"  # what whoever is signed in may see; the handler narrows by `sight`
    INCIDENT = "incident"
    DELIVERY = "delivery"
    REPOSITORY = "repository"
    MODEL = "model"
    INSTALLATION = "installation"
    BOT = "bot"  # the bot itself: its operators alone


@dataclass(frozen=True, slots=True)
class Rule:
    of: Of
    role: Role = Role.VIEWER


ANYBODY, PERSON, LISTS, BOT = Rule(Of.ANYBODY), Rule(Of.PERSON), Rule(Of.LISTS), Rule(Of.BOT, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking: a person with a session, or a machine with a token. `most` is what the token is good for, and its
    `account` is whoever made it, if anybody did."""

    account: Account | None
    sight: Sight
    name: str
    session: Session | None = None
    token: Token | None = None
    most: Role = Role.ADMIN
    by_cookie: bool = False

    @property
    def principal(self) -> str:
        """A name that nobody else has."""
        if self.token is not None:
            return f"token {self.token.id}"
        return f"account {self.account.id}" if self.account is not None else self.name


@dataclass(frozen=True, slots=True)
class Visit:
    """One request that was let in. `role` is theirs at the thing that the path names, `owner` is whose that is."""

    request: Request
    words: Words
    identity: Identity | None = None
    owner: Owner | None = None
    role: Role | None = None
    form: FormData = field(default_factory=FormData)

    @property
    def account(self) -> Account | None:
        return self.identity.account if self.identity else None

    @property
    def sight(self) -> Sight:
        return self.identity.sight if self.identity else Sight()

    @property
    def who(self) -> str:
        """The name for timelines and the audit log."""
        return self.identity.name if self.identity else ""

    @property
    def path(self) -> Mapping[str, Any]:
        return self.request.path_params

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    def number(self, name: str) -> int:
        """A number of the path. The guard has found what it names."""
        return int(self.request.path_params[name])

    def field(self, name: str, most: int = 2_000) -> str:
        """A text field of the form, without space around it, cut at `most` characters."""
        value = self.form.get(name, "")
        return value.strip()[:most] if isinstance(value, str) else ""

    def may(self, role: Role) -> bool:
        """Whether they may do that to the thing of this page."""
        return self.role is not None and self.role.covers(role)

    def t(self, message: str, /, **values: object) -> str:
        return self.words.gettext(message, **values)

    def nt(self, one: str, many: str, n: int, /, **values: object) -> str:
        return self.words.ngettext(one, many, n, **values)


Handler = Callable[[Visit], Response | Awaitable[Response]]
Identify = Callable[[Request], Identity | None]


class Guarded(Route):
    """A route with its rule; the same rule says who is let in and what the matrix of rights shows."""

    def __init__(
        self, path: str, handler: Handler, rule: Rule, *, methods: Sequence[str] = ("GET",), name: str | None = None
    ) -> None:
        self.rule = rule
        self.handler = handler
        super().__init__(path, self._answer, methods=list(methods), name=name or getattr(handler, "__name__", path))

    async def _answer(self, request: Request) -> Response:
        guard: Guard = request.app.state.guard
        try:
            visit = await guard.admit(request, self.rule)
        except SignInFirst as away:
            return away.answer
        if inspect.iscoroutinefunction(self.handler):
            return await self.handler(visit)  # type: ignore[no-any-return]
        return await run_sync(self.handler, visit)  # type: ignore[arg-type]


def page(
    path: str, handler: Handler, rule: Rule, *, methods: Sequence[str] = ("GET",), name: str | None = None
) -> Guarded:
    return Guarded(path, handler, rule, methods=methods, name=name)


class SignInFirst(Exception):
    """Nobody is signed in, and a browser asks for a page: it is sent to the sign-in, and comes back afterwards."""

    def __init__(self, onwards: str) -> None:
        super().__init__(onwards)
        self.answer = RedirectResponse(
            f"/sign-in?onwards={quote(onwards, safe='')}", 303, headers={"Cache-Control": "no-store"}
        )


class Guard:
    """`identify` are the ways to say who one is, in order; the first that knows somebody counts."""

    def __init__(self, accounts: Accounts, owners: Owners, identify: Sequence[Identify], *, per_minute: int) -> None:
        self._accounts = accounts
        self._owners = owners
        self._identify = tuple(identify)
        self._buckets = Buckets(per_minute)

    async def admit(self, request: Request, rule: Rule, *, for_programs: bool = False) -> Visit:
        """Raises SignInFirst, and HTTPException: 401, 403, 404, 429. What is for programs may be written to from
        anywhere by whoever has no cookie."""
        identity = await self.identify(request)
        self._count(request, identity)
        words = Words.of(request, identity.account if identity else None)
        if rule.of is not Of.ANYBODY and identity is None:
            if request.method in SAFE and "text/html" in request.headers.get("accept", ""):
                raise SignInFirst(_onwards(request))
            raise HTTPException(401, "Sign in first.", {"WWW-Authenticate": "Bearer"})
        if request.method not in SAFE and (not for_programs if identity is None else identity.by_cookie):
            same_site(request)
        owner, role = None, None
        if identity is not None and rule.of is not Of.ANYBODY:
            owner, role = await run_sync(self._rights, request, rule, identity)
            if not role.covers(rule.role):
                why = words.gettext("This needs the role %(role)s; yours is %(yours)s.", role=rule.role, yours=role)
                raise HTTPException(403, why)
        form = FormData()
        if request.method not in SAFE and request.headers.get("content-type", "").startswith(_FORMS):
            most = MOST_BODY if identity is not None else MOST_STRANGE
            _bounded(request, most, words)
            form = await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=most)
        return Visit(request, words, identity, owner, role, form)

    async def identify(self, request: Request) -> Identity | None:
        """Who is asking; looked up once a request."""
        if not hasattr(request.state, "identity"):
            request.state.identity = await run_sync(self._who, request)
        return request.state.identity  # type: ignore[no-any-return]

    def _who(self, request: Request) -> Identity | None:
        return next((found for way in self._identify if (found := way(request)) is not None), None)

    def _count(self, request: Request, identity: Identity | None) -> None:
        """One more request of this person or token, or of this address where nobody is known."""
        name = identity.principal if identity else f"address {request.client.host if request.client else ''}"
        wait_s = math.ceil(self._buckets.take(name))
        if wait_s:
            why = Words.of(request).gettext("Too many requests: wait %(seconds)s s.", seconds=wait_s)
            raise HTTPException(429, why, {"Retry-After": str(wait_s)})

    def _rights(self, request: Request, rule: Rule, identity: Identity) -> tuple[Owner | None, Role]:
        match rule.of:
            case Of.PERSON:
                if identity.account is None or identity.token is not None:
                    raise HTTPException(403, "This is for people who have signed in.")
                return None, identity.most
            case Of.LISTS:
                return None, identity.most
            case Of.BOT:
                if not identity.sight.everything:
                    raise HTTPException(404)
                return None, identity.most
        owner = self._owner(rule.of, str(request.path_params.get(rule.of.value, "")))
        role = self.role(identity, owner) if owner is not None else None
        if role is None:
            raise HTTPException(404)
        return owner, role

    def _owner(self, of: Of, number: str) -> Owner | None:
        if not _NUMBER.fullmatch(number):
            return None
        find: Mapping[Of, Callable[[int], Owner | None]] = {
            Of.INCIDENT: self._owners.incident,
            Of.DELIVERY: self._owners.delivery,
            Of.REPOSITORY: self._owners.repository,
            Of.MODEL: self._owners.model,
            Of.INSTALLATION: self._owners.installation,
        }
        return find[of](int(number))

    def role(self, identity: Identity, owner: Owner) -> Role | None:
        """What they are to a thing; None: they may not know that it exists."""
        sight = identity.sight
        if sight.everything:
            return identity.most
        if sight.installation_id is not None and sight.installation_id != owner.installation_id:
            return None
        if sight.repository_id is not None and sight.repository_id != owner.repository_id:
            return None
        if sight.account_id is None:
            return identity.most if sight.installation_id is not None or sight.repository_id is not None else None
        if owner.repository_id is not None:
            role = self._accounts.role_in(sight.account_id, owner.repository_id)
        elif owner.installation_id is not None:
            role = self._accounts.role_at(sight.account_id, owner.installation_id)
        else:
            role = None
        return None if role is None else least(role, identity.most)


_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def same_site(request: Request) -> None:
    """A write with a cookie must come from our own pages: by Fetch Metadata, else by Origin. Raises HTTPException."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin", "")
    ours = site == "same-origin" if site is not None else urlsplit(origin).netloc == request.headers.get("host")
    if ours:
        return
    say = Words.of(request).gettext
    raise HTTPException(
        403, say("This request did not come from a page of this address. Open the page, and try again.")
    )


def _bounded(request: Request, most: int, words: Words) -> None:
    """A form says how long it is, and is not too long. Raises HTTPException: 411, 413."""
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdecimal()):
        raise HTTPException(411, words.gettext("The form does not say how long it is."))
    if len(length) > 18 or int(length) > most:
        raise HTTPException(413, words.gettext("The form is too large: at most %(bytes)s bytes.", bytes=most))


def _onwards(request: Request) -> str:
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


def local_path(onwards: str) -> str:
    """A path of ours, or `/`: nobody is sent to another address after the sign-in."""
    safe = onwards.startswith("/") and not onwards.startswith(("//", "/\\")) and "\\" not in onwards
    return onwards if safe and onwards.isprintable() and len(onwards) < 2_000 else "/"
