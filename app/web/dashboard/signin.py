"""Signing in and out: by GitHub, and on the embedded default by a link of one use."""

import hmac
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.adapters.github.user import CodeRefused
from app.db.accounts import Accounts
from app.db.audit import Act, Audit
from app.domain.access import Account
from app.domain.errors import HealError, Transient
from app.i18n import LANGUAGES
from app.resilience.rate import Buckets
from app.security.vault import Sealed
from app.web import one_time_link
from app.web.dashboard.frame import Desk
from app.web.github_sign_in import BEGUN_S, GitHubSignIn, NotBegun, Stranger
from app.web.github_sign_in import KIND as OAUTH
from app.web.guard import ANYBODY, PERSON, Guarded, Visit, local_path, page
from app.web.origin import base_of, links_are_given
from app.web.signing_in import cookies_of, github_of
from app.web.words import LANGUAGE

TRIES_PER_MINUTE = 60
YEAR_S = 365 * 24 * 3600
_OURS = ("incorrect_client_credentials", "redirect_uri_mismatch", "application_suspended")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Trouble:
    """A sign-in that came to nothing: what happened, and what to do."""

    status: int
    title: str
    help: str


def routes(desk: Desk) -> list[Guarded]:
    accounts = Accounts(desk.engine)
    audit = Audit(desk.engine)
    cookies = cookies_of(desk.wired)
    github = github_of(desk.wired)
    by_link = links_are_given(desk.settings)
    tries, lock = Buckets(TRIES_PER_MINUTE), threading.Lock()

    def tried(visit: Visit) -> None:
        """One more try of this address. Raises HTTPException."""
        client = visit.request.client
        with lock:
            wait_s = math.ceil(tries.take(client.host if client else ""))
        if wait_s:
            why = visit.t("Too many sign-ins from this address: wait %(seconds)s s.", seconds=wait_s)
            raise HTTPException(429, why, {"Retry-After": str(wait_s)})

    def sign_in(visit: Visit) -> Response:
        onwards = local_path(visit.query.get("onwards", "/"))
        if visit.account is not None:
            return RedirectResponse(onwards, 303, headers=_NOT_KEPT)
        return desk.frame.render(visit, "signin.html", onwards=onwards, github=github is not None, by_link=by_link)

    def failed(visit: Visit, trouble: Trouble) -> Response:
        return desk.frame.render(visit, "signin_trouble.html", trouble.status, trouble=trouble, by_link=by_link)

    # by GitHub
    def begin(visit: Visit) -> Response:
        way = _known(github)
        onwards = local_path(visit.query.get("onwards", "/"))
        base = desk.settings.web.public_url.rstrip("/")
        if base and base_of(visit.request, desk.settings) != base:
            # GitHub leads back to the public address, and the state must be known to the browser there
            return RedirectResponse(f"{base}/auth/github?{urlencode({'onwards': onwards})}", 303, headers=_NOT_KEPT)
        tried(visit)
        address, state = way.begin(onwards, _back_to(visit, desk))
        answer = RedirectResponse(address, 303, headers=_NOT_KEPT)
        secure = _is_secure(visit.request)
        answer.set_cookie(
            _state_cookie(visit.request), state, max_age=int(BEGUN_S), httponly=True, samesite="lax", secure=secure
        )
        return answer

    def callback(visit: Visit) -> Response:
        way = _known(github)
        tried(visit)
        answer = come_back(visit, way)
        secure = _is_secure(visit.request)
        answer.delete_cookie(_state_cookie(visit.request), httponly=True, samesite="lax", secure=secure)
        return answer

    def come_back(visit: Visit, way: GitHubSignIn) -> Response:
        state, known = visit.query.get("state", ""), visit.request.cookies.get(_state_cookie(visit.request), "")
        if not state or not hmac.compare_digest(_bytes(state), _bytes(known)):
            return failed(visit, _not_begun(visit))
        if "code" not in visit.query:
            accounts.redeem(OAUTH, state)
            return failed(visit, _refused(visit, visit.query.get("error", "")))
        try:
            entered = way.finish(state, visit.query["code"], _back_to(visit, desk))
        except NotBegun:
            return failed(visit, _not_begun(visit))
        except Stranger as error:
            return failed(visit, _stranger(visit, error.login))
        except CodeRefused as error:
            return failed(visit, _refused(visit, error.reason))
        except (HealError, Sealed) as error:
            log.warning("sign_in_failed", reason=str(error))
            return failed(visit, _away(visit, transient=isinstance(error, Transient)))
        answer = desk.frame.back(visit, local_path(entered.onwards))
        cookies.open(visit.request, answer, entered.account, entered.user_token, entered.lasts_s)
        audit.add(_act(entered.account, "sign_in", by="github"))
        return answer

    # by a link
    def link(visit: Visit) -> Response:
        if not by_link:
            raise HTTPException(404)
        return desk.frame.render(visit, "signin_link.html", token=visit.query.get("token", "")[:200])

    def redeem(visit: Visit) -> Response:
        if not by_link:
            raise HTTPException(404)
        tried(visit)
        account = one_time_link.redeem(accounts, visit.field("token", 200))
        if account is None:
            return failed(visit, _link_is_over(visit))
        answer = desk.frame.back(visit, "/")
        cookies.open(visit.request, answer, account)
        audit.add(_act(account, "sign_in", by="link"))
        return answer

    def sign_out(visit: Visit) -> Response:
        if visit.identity is None or visit.identity.session is None or visit.account is None:
            raise HTTPException(400, visit.t("A token cannot sign out: revoke it under Settings."))
        answer = desk.frame.back(visit, "/sign-in", visit.t("You are signed out."))
        cookies.close(visit.request, answer, visit.identity.session)
        audit.add(_act(visit.account, "sign_out"))
        return answer

    def language(visit: Visit) -> Response:
        chosen = visit.field("language")
        answer = desk.frame.back(visit, local_path(visit.field("onwards")))
        if chosen in LANGUAGES:
            secure = _is_secure(visit.request)
            answer.set_cookie(LANGUAGE, chosen, max_age=YEAR_S, httponly=True, samesite="lax", secure=secure)
            if visit.account is not None:
                accounts.choose(visit.account.id, locale=chosen, time_zone=visit.account.time_zone)
        return answer

    return [
        page("/sign-in", sign_in, ANYBODY),
        page(one_time_link.PATH, link, ANYBODY),
        page(one_time_link.PATH, redeem, ANYBODY, methods=("POST",)),
        page("/auth/github", begin, ANYBODY),
        page("/auth/callback", callback, ANYBODY),
        page("/sign-out", sign_out, PERSON, methods=("POST",)),
        page("/language", language, ANYBODY, methods=("POST",)),
    ]


_NOT_KEPT: Mapping[str, str] = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def _known(github: GitHubSignIn | None) -> GitHubSignIn:
    if github is None:
        raise HTTPException(404)
    return github


def _back_to(visit: Visit, desk: Desk) -> str:
    return f"{base_of(visit.request, desk.settings)}/auth/callback"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"


def _state_cookie(request: Request) -> str:
    return "__Host-heal-sign-in" if _is_secure(request) else "heal_sign_in"


def _act(account: Account, verb: str, **data: str) -> Act:
    return Act(account.login, "dashboard", verb, "account", str(account.id), actor_id=account.id, data=data)


def _not_begun(visit: Visit) -> Trouble:
    return Trouble(
        400,
        visit.t("This sign-in is over"),
        visit.t(
            "It was used already, took longer than ten minutes, or was begun in another browser. "
            "Nothing has happened: sign in again."
        ),
    )


def _refused(visit: Visit, reason: str) -> Trouble:
    if reason == "access_denied":
        return Trouble(
            403,
            visit.t("You did not let GitHub tell who you are"),
            visit.t("The bot asks GitHub for your name and for what you may do, and for nothing else."),
        )
    if reason in _OURS:
        log.warning("sign_in_refused", reason=reason)
        return Trouble(
            502,
            visit.t("GitHub refuses the bot"),
            visit.t(
                "Whoever runs the bot must compare its client id, its client secret and its callback address "
                "with those on GitHub (%(reason)s).",
                reason=reason,
            ),
        )
    return Trouble(
        400,
        visit.t("GitHub did not sign you in"),
        visit.t("GitHub says: %(reason)s. Sign in again.", reason=reason[:100] or visit.t("no reason")),
    )


def _stranger(visit: Visit, login: str) -> Trouble:
    return Trouble(
        403,
        visit.t("There is nothing here for you to see"),
        visit.t(
            "GitHub says that you are %(login)s. The App is in no repository that you can see: "
            "install it on GitHub, or ask an owner of the repository to do so, and sign in again.",
            login=login,
        ),
    )


def _away(visit: Visit, *, transient: bool) -> Trouble:
    if transient:
        return Trouble(
            503,
            visit.t("GitHub does not answer"),
            visit.t("Nobody can be signed in as long as GitHub is away. Try again in a minute."),
        )
    return Trouble(
        502,
        visit.t("GitHub’s answer cannot be used"),
        visit.t("The server’s log tells more. Try again; if it stays so, whoever runs the bot must look at it."),
    )


def _link_is_over(visit: Visit) -> Trouble:
    return Trouble(
        400,
        visit.t("This link is over"),
        visit.t("A link is good once, and for ten minutes. Make another on the machine that runs the bot."),
    )
