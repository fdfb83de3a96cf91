"""The cookie of a browser that is signed in, and who that is."""

from collections.abc import Callable
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from app.db.accounts import Accounts, Session
from app.domain.access import LOCAL, Account, Sight
from app.settings import Web
from app.web.guard import SAFE, Identity

SECURE, PLAIN = "__Host-heal", "heal_session"  # browsers take a __Host- cookie over https alone
KEPT_S = 3600.0  # for so long what GitHub said last counts while it does not answer
_LONGEST = 200


class Cookies:
    """`refresh` asks GitHub for the person's rights when that was long ago, sooner for a write (the second argument);
    it gives None when the sign-in is over. `local`: whoever holds this machine may be signed in."""

    def __init__(
        self,
        accounts: Accounts,
        settings: Web,
        refresh: Callable[[Session, bool], Session | None] = lambda session, _: session,
        *,
        local: bool = True,
    ) -> None:
        self._accounts = accounts
        self._settings = settings
        self._refresh = refresh
        self._local = local

    def identify(self, request: Request) -> Identity | None:
        cookie = self._cookie(request)
        if not cookie:
            return None
        used = not _by_itself(request)
        session = self._accounts.session(cookie, idle_s=self._settings.idle_minutes * 60, used=used)
        session = self._refresh(session, request.method not in SAFE) if session is not None else None
        if session is None:
            return None
        account = self._of_now(session.account)
        if account.id == LOCAL and not self._local:
            return None
        known = account.id == LOCAL or session.stale_s <= KEPT_S
        sight = sight_of(account) if known or account.operator else Sight()
        return Identity(account, sight, account.login, session=session, by_cookie=True)

    def _of_now(self, account: Account) -> Account:
        """Who runs the bot is told by the settings, also to those who signed in before."""
        return replace(account, operator=account.id == LOCAL or account.id in self._settings.operators)

    def open(
        self,
        request: Request,
        answer: Response,
        account: Account,
        user_token: bytes = b"",
        lasts_s: float | None = None,
    ) -> None:
        """A new session, whatever cookie came along: nobody can be given one that somebody else knows. The one that
        came along ends."""
        former = self._accounts.session(self._cookie(request), idle_s=self._settings.idle_minutes * 60)
        if former is not None:
            self._accounts.end(former.id)
        lasts_s = min(self._settings.session_hours * 3600, lasts_s or float("inf"))
        cookie = self._accounts.open(account.id, seconds=lasts_s, user_token=user_token)
        answer.set_cookie(
            name_of(request),
            cookie,
            max_age=int(lasts_s),
            path="/",
            httponly=True,
            secure=request.url.scheme == "https",
            samesite="lax",
        )

    def _cookie(self, request: Request) -> str:
        cookie = request.cookies.get(name_of(request), "")
        return cookie if len(cookie) <= _LONGEST else ""

    def close(self, request: Request, answer: Response, session: Session) -> None:
        self._accounts.end(session.id)
        answer.delete_cookie(name_of(request), path="/", secure=request.url.scheme == "https", httponly=True)


def _by_itself(request: Request) -> bool:
    """Whether the script of an open page asks, and nobody who looks at it."""
    return request.headers.get("heal-fragment") == "live" or request.url.path == "/events"


def sight_of(account: Account) -> Sight:
    return Sight(everything=True) if account.operator else Sight(account_id=account.id)


def name_of(request: Request) -> str:
    return SECURE if request.url.scheme == "https" else PLAIN
