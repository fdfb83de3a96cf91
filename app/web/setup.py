"""`/setup`: registers the App at GitHub in one round trip, and shows how far it has come. Open only to whoever has the
token that was printed at the start, and to nobody once the setup is finished."""

import inspect
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import structlog
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.adapters.github.manifest import Extra, Registered, Site, Wish, convert, is_private
from app.db.accounts import Accounts
from app.db.audit import Audit
from app.db.credentials import Credentials
from app.db.setup import Setups
from app.domain.access import LOCAL
from app.domain.audit import Act
from app.domain.errors import HealError, Malformed, Transient
from app.resilience.rate import Buckets
from app.settings import Settings
from app.web.checklist import FRESH_S, Checklist, finished, steps
from app.web.dashboard.frame import Frame, static
from app.web.dashboard.pages import errors
from app.web.dashboard.security import SECURITY_HEADERS, SecurityHeaders
from app.web.guard import SAFE, Visit, same_site
from app.web.origin import Origin, base_of, links_are_given
from app.web.signing_in import cookies_of
from app.web.words import Words
from app.wiring import Wired

COOKIE = "heal_setup"
NAME = "Self-Healing MLOps Bot"
GUESSES_PER_MINUTE = 20

log = structlog.get_logger()

Handler = Callable[[Visit, str], Response | Awaitable[Response]]


class Setup:
    """`wired` gives the whole bot once it is set up; `look` has it started as soon as it can be."""

    def __init__(
        self,
        settings: Settings,
        setups: Setups,
        credentials: Credentials,
        *,
        wired: Callable[[], Wired | None],
        look: Callable[[], Awaitable[bool]],
        fresh_s: float = FRESH_S,
    ) -> None:
        self._settings = settings
        self._setups = setups
        self._credentials = credentials
        self._wired = wired
        self._look = look
        self._frame = Frame(settings.github.web_url, version("self-healing-mlops-bot"))
        self._checklist = Checklist(fresh_s=fresh_s)
        self._guesses = Buckets(GUESSES_PER_MINUTE)

    def app(self) -> Starlette:
        """Answers `/setup` and below, static files, and whatever else is asked for meanwhile."""
        site = Starlette(
            routes=[
                Route("/setup", self._enter, methods=["GET"]),
                Route("/setup/installed", self._installed),
                Route("/setup/app", self._guarded(self._review), methods=["GET"]),
                Route("/setup/created", self._guarded(self._created), methods=["GET"]),
                Route("/setup/finish", self._guarded(self._finish), methods=["POST"]),
                Route("/static/{version}/{path:path}", self._static),
                Route("/{path:path}", self._closed),
            ],
            exception_handlers=errors(self._frame),
        )
        site.add_middleware(SecurityHeaders)
        site.add_middleware(Origin, public_url=self._settings.web.public_url)
        return site

    async def _enter(self, request: Request) -> Response:
        """With the token in the address: keep it as a cookie, and clean the address."""
        token = request.query_params.get("token", "")
        if not token:
            return await self._admitted(request, self._show)
        await self._check(request, token)
        answer = RedirectResponse("/setup", 303, headers={"Cache-Control": "no-store"})
        secure = request.url.scheme == "https"
        # lax, for GitHub sends people back from its own pages
        answer.set_cookie(COOKIE, token, path="/setup", httponly=True, secure=secure, samesite="lax")
        return answer

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await self._admitted(request, handler)

        return endpoint

    async def _admitted(self, request: Request, handler: Handler) -> Response:
        token = request.cookies.get(COOKIE, "")
        await self._check(request, token)
        form = FormData()
        if request.method not in SAFE:
            same_site(request)
            form = await request.form(max_fields=20, max_files=0)
        visit = Visit(request, Words.of(request), form=form)
        if inspect.iscoroutinefunction(handler):
            return await handler(visit, token)  # type: ignore[no-any-return]
        return await run_sync(handler, visit, token)  # type: ignore[arg-type]

    async def _check(self, request: Request, token: str) -> None:
        """Raises HTTPException: 404 as for any address that there is not, 429."""
        if await run_sync(self._setups.knows, token):
            return
        client = request.client.host if request.client else ""
        wait_s = math.ceil(self._guesses.take(client))
        if wait_s:
            raise HTTPException(429, f"Too many requests: wait {wait_s} s.", {"Retry-After": str(wait_s)})
        raise HTTPException(404)

    async def _installed(self, request: Request) -> Response:
        """Where GitHub sends whoever has installed the App."""
        theirs = await run_sync(self._setups.knows, request.cookies.get(COOKIE, ""))
        return RedirectResponse("/setup", 303, headers={"Cache-Control": "no-store"}) if theirs else installed(request)

    async def _static(self, request: Request) -> Response:
        return await static(Visit(request, Words.of(request)))

    async def _closed(self, request: Request) -> Response:
        visit = Visit(request, Words.of(request))
        return self._frame.render(visit, "setup_closed.html", 503, {"Retry-After": "30"})

    def _show(self, visit: Visit, _token: str) -> Response:
        wired = self._wired()
        if wired is None:
            again = "github" in visit.query
            return self._ask(visit, _told(visit.request) if again else self._proposed(visit.request))
        facts = self._checklist.look(wired)
        found = steps(facts, visit.t, visit.nt)
        return self._frame.render(
            visit, "setup.html", steps=found, facts=facts, finished=finished(found), registered=True
        )

    def _proposed(self, request: Request) -> dict[str, Any]:
        github = self._settings.github.web_url
        public = self._settings.web.public_url or base_of(request, self._settings)
        relay = is_private(public) and not is_private(github)
        return {
            "github": github,
            "public_url": public,
            "relay": relay,
            "name": NAME,
            "organization": False,
            "owner": "",
            "extras": (),
        }

    def _ask(self, visit: Visit, told: Mapping[str, Any], trouble: str = "") -> Response:
        found = steps(self._checklist.look(None), visit.t, visit.nt)
        status = 422 if trouble else 200
        return self._frame.render(
            visit, "setup.html", status, steps=found, wanted=told, trouble=trouble, registered=False
        )

    def _review(self, visit: Visit, token: str) -> Response:
        """What would be registered, and the button that does it: a form that is sent to GitHub's own page."""
        if self._wired() is not None:
            return RedirectResponse("/setup", 303)
        told = _told(visit.request)
        if told["organization"] and not told["owner"]:
            return self._ask(visit, told, visit.t("Name the organisation, as it stands in its address."))
        try:
            wish = Wish(
                Site(told["github"]),
                told["public_url"],
                told["name"],
                told["owner"] if told["organization"] else "",
                relay=told["relay"],
                extras=frozenset(Extra(extra) for extra in told["extras"]),
                here=_here(visit.request, self._settings, told["public_url"]),
            )
        except (Malformed, ValueError) as error:
            return self._ask(visit, told, visit.words.catalog.retell(str(error)))
        if trouble := self._overruled(visit, wish):
            return self._ask(visit, told, trouble)
        state = self._setups.leave(token, json.dumps(luggage_of(wish)))
        manifest = wish.manifest()
        policy = SECURITY_HEADERS["Content-Security-Policy"].replace(
            "form-action 'self'", f"form-action {wish.site.web_url}"
        )
        return self._frame.render(
            visit,
            "setup_review.html",
            headers={"Content-Security-Policy": policy, "Referrer-Policy": "strict-origin"},
            wish=wish,
            manifest=manifest,
            text=json.dumps(manifest),
            address=wish.site.new_app(wish.organization, state),
            back=f"/setup?{visit.request.url.query}",
        )

    def _overruled(self, visit: Visit, wish: Wish) -> str:
        """What the environment says comes first, and would not fit the App; empty if it fits."""
        github, public = self._settings.github, self._settings.web.public_url.rstrip("/")
        for variable, said, wanted in (
            ("HEAL_GITHUB__WEB_URL", github.web_url if "web_url" in github.model_fields_set else "", wish.site.web_url),
            ("HEAL_GITHUB__API_URL", github.api_url if "api_url" in github.model_fields_set else "", wish.site.api_url),
            ("HEAL_WEB__PUBLIC_URL", public, wish.public_url),
        ):
            if said and said.rstrip("/") != wanted:
                return visit.t(
                    "The environment says %(said)s in %(variable)s, which comes first: change it there.",
                    said=said,
                    variable=variable,
                )
        return ""

    async def _created(self, visit: Visit, token: str) -> Response:
        """GitHub sends people back here, with a code that is good once."""
        query = visit.request.query_params
        state = query.get("state", "")
        luggage = await run_sync(self._setups.come_back, token, state)
        if luggage is None:
            return self._trouble(
                visit,
                400,
                visit.t("This way back is over"),
                visit.t("It leads back from GitHub once, for whoever left from here, within an hour."),
            )
        told = json.loads(luggage)
        try:
            registered = await run_sync(convert, Site(told["web_url"]), query.get("code", ""))
            await run_sync(self._credentials.keep, kept(registered, told), registration(registered, "dashboard"))
        except Transient as error:
            await run_sync(self._setups.lose, state)
            return self._trouble(
                visit,
                503,
                visit.t("GitHub does not answer"),
                visit.t("The App is registered there, and its key waits for an hour to be fetched."),
                str(error),
                again=f"/setup/created?{visit.request.url.query}",
            )
        except HealError as error:
            return self._trouble(
                visit,
                400,
                visit.t("GitHub did not hand over the App"),
                visit.t("Delete what was registered on GitHub, if anything was, and begin again."),
                str(error),
            )
        log.info("app_registered", app_id=registered.app_id, slug=registered.slug)
        try:
            await self._look()
        except HealError as error:
            return self._trouble(
                visit,
                503,
                visit.t("The App is registered, but the bot cannot start"),
                visit.t("Mend what is told below; it is tried again every few seconds."),
                str(error),
            )
        return RedirectResponse("/setup", 303, headers={"Cache-Control": "no-store"})

    def _trouble(self, visit: Visit, status: int, title: str, told: str, why: str = "", again: str = "") -> Response:
        return self._frame.render(visit, "setup_trouble.html", status, title=title, help=told, why=why, again=again)

    def _finish(self, visit: Visit, _token: str) -> Response:
        wired = self._wired()
        if wired is None:
            return RedirectResponse("/setup", 303)
        number = str(wired.settings.github.app_id)
        self._setups.finish(Act("whoever set it up", "dashboard", "finish_setup", "app", number))
        log.info("setup_finished")
        answer = self._frame.back(visit, "/", visit.t("The bot is set up."))
        if links_are_given(wired.settings):  # whoever was shown the token holds this machine
            account = Accounts(wired.engine).remember(LOCAL, "local", operator=True)
            cookies_of(wired).open(visit.request, answer, account)
            signed_in = Act(account.login, "dashboard", "sign_in", "account", str(account.id), data={"by": "setup"})
            Audit(wired.engine).add(signed_in)
        answer.delete_cookie(COOKIE, path="/setup", httponly=True)
        return answer


def _told(request: Request) -> dict[str, Any]:
    """What the form says."""
    query = request.query_params
    return {
        "github": query.get("github", ""),
        "public_url": query.get("public_url", ""),
        "relay": query.get("reach") == "relay",
        "name": query.get("name", "").strip(),
        "organization": query.get("whose") == "organization",
        "owner": query.get("owner", "").strip(),
        "extras": tuple(query.getlist("extras")),
    }


def _here(request: Request, settings: Settings, public_url: str) -> str:
    """Where the cookie of the setup is sent to. A proxy may speak plain HTTP with us where the browser does not."""
    same = urlsplit(public_url).netloc == request.url.netloc
    return public_url if same else base_of(request, settings)


def luggage_of(wish: Wish) -> dict[str, str]:
    """What must be known when GitHub hands the App over."""
    return {"web_url": wish.site.web_url, "public_url": wish.public_url, "relay": "1" if wish.relay else ""}


def registration(registered: Registered, via: str) -> Act:
    """For the audit log."""
    return Act("whoever set it up", via, "register_app", "app", str(registered.app_id), data={"slug": registered.slug})


def kept(registered: Registered, luggage: Mapping[str, str]) -> dict[str, bytes]:
    """The credentials that complete the settings (app.wiring.completed)."""
    told = {name: str(value) for name, value in asdict(registered).items()}
    site = Site(luggage["web_url"])
    return {name: value.encode() for name, value in {**told, **luggage, "api_url": site.api_url}.items()}


def installed(_: Request) -> Response:
    """`/setup/installed`, where GitHub sends whoever has installed the App."""
    return RedirectResponse("/", 303, headers={"Cache-Control": "no-store"})
