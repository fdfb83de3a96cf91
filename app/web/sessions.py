"""The cookie of a browser that is signed in, and who that is."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from app.db.accounts import Accounts, Session
from app.domain.access import Account, Sight
from app.settings import Web
from app.web.guard import Identity

SECURE, PLAIN = "__Host-heal", "heal_session"  # browsers take a __Host- cookie over https alone
_LONGEST = 200


class Cookies:
    """`refresh` asks GitHub for the person's rights when that was long ago; it gives None when the sign-in is over."""

    def __init__(
        self, accounts: Accounts, settings: Web, refresh: Callable[[Session], Session | None] = lambda session: session
    ) -> None:
        self._accounts = accounts
        self._settings = settings
        self._refresh = refresh

    def identify(self, request: Request) -> Identity | None:
        cookie = request.cookies.get(name_of(request), "")
        if not cookie or len(cookie) > _LONGEST:
            return None
        session = self._accounts.session(cookie, idle_s=self._settings.idle_minutes * 60)
        session = self._refresh(session) if session is not None else None
        if session is None:
            return None
        account = session.account
        return Identity(account, sight_of(account), account.login, session=session, by_cookie=True)

    def open(self, request: Request, answer: Response, account: Account, user_token: bytes = b"") -> None:
        """A new session, whatever cookie came along: nobody can be given one that somebody else knows."""
        lasts_s = self._settings.session_hours * 3600
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

    def close(self, request: Request, answer: Response, session: Session) -> None:
        self._accounts.end(session.id)
        answer.delete_cookie(name_of(request), path="/", secure=request.url.scheme == "https", httponly=True)


def sight_of(account: Account) -> Sight:
    return Sight(everything=True) if account.operator else Sight(account_id=account.id)


def name_of(request: Request) -> str:
    return SECURE if request.url.scheme == "https" else PLAIN
