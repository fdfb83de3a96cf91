"""Settings: oneself, and for each installation its members, its tokens, and the rules that are in force."""

from functools import lru_cache
from zoneinfo import available_timezones

from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.db.accounts import Accounts
from app.db.audit import Audit
from app.db.owners import Home, Owners
from app.db.tokens import Tokens
from app.domain.access import Role, Scope, Token
from app.domain.errors import HealError
from app.domain.tenant import Repository
from app.healing.configuration import Configured
from app.healing.freeze_section import told as freeze_told
from app.healing.gather import configuration
from app.i18n import LANGUAGES
from app.web import token_forms
from app.web.acts import act_of
from app.web.dashboard.frame import Desk
from app.web.guard import PERSON, Guarded, Of, Rule, Visit, page
from app.web.members import AS_GITHUB, appoint
from app.web.signing_in import cookies_of
from app.web.words import LANGUAGE, TIME_ZONE

SEEN, SET = Rule(Of.INSTALLATION), Rule(Of.INSTALLATION, Role.ADMIN)
_HERE = "/settings/installations/{installation}"


@lru_cache(1)
def zones() -> tuple[str, ...]:
    """The names of time zones that people know, UTC first."""
    named = (name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "SystemV/")))
    return ("UTC", *sorted(named))


def routes(desk: Desk) -> list[Guarded]:
    return [*Me(desk).routes(), *Installations(desk).routes()]


class Me:
    """`/settings`: language, time zone, where one is signed in, one's own tokens."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._accounts = Accounts(desk.engine)
        self._owners = Owners(desk.engine)
        self._audit = Audit(desk.engine)
        self._tokens = Tokens(desk.engine, desk.kit.store.secret)
        self._cookies = cookies_of(desk.wired)
        self._idle_s = desk.settings.web.idle_minutes * 60

    def routes(self) -> list[Guarded]:
        return [
            page("/settings", self.show, PERSON, name="settings"),
            page("/settings/preferences", self.prefer, PERSON, methods=("POST",), name="preferences"),
            page("/settings/sign-out-everywhere", self.leave, PERSON, methods=("POST",), name="sign_out_everywhere"),
            page("/settings/tokens", self.make_token, PERSON, methods=("POST",), name="make_token"),
            page("/settings/tokens/{token}/revoke", self.revoke, PERSON, methods=("POST",), name="revoke_token"),
        ]

    def show(self, visit: Visit, wish: token_forms.Wish | None = None) -> Response:
        assert visit.account is not None  # the rule asks for a person
        number = visit.account.id
        return self._desk.frame.render(
            visit,
            "settings.html",
            422 if wish and wish.trouble else 200,
            account=visit.account,
            zones=zones(),
            browsers=self._accounts.sessions(number, idle_s=self._idle_s),
            this=visit.identity.session.id if visit.identity and visit.identity.session else None,
            tokens=self._tokens.of_account(number),
            homes=self._owners.homes(visit.sight),
            wish=wish,
            scopes=token_forms.ACTING,
            lasts=tuple(token_forms.LASTS),
            usual=token_forms.USUAL,
        )

    def prefer(self, visit: Visit) -> Response:
        assert visit.account is not None
        locale, zone = visit.field("locale", 20), visit.field("time_zone", 60)
        if (locale and locale not in LANGUAGES) or (zone and zone not in zones()):
            raise HTTPException(400, visit.t("There is no such language or time zone."))
        self._accounts.choose(visit.account.id, locale=locale, time_zone=zone)
        answer = self._desk.frame.back(visit, "/settings", visit.t("Your preferences are kept."))
        for cookie in (LANGUAGE, TIME_ZONE):  # what was chosen before signing in
            answer.delete_cookie(cookie)
        return answer

    def leave(self, visit: Visit) -> Response:
        assert visit.account is not None
        self._accounts.end_all(visit.account.id)
        self._audit.add(act_of(visit, "sign_out_everywhere", "account", visit.account.id))
        answer = self._desk.frame.back(visit, "/sign-in", visit.t("You are signed out everywhere."))
        if visit.identity is not None and visit.identity.session is not None:
            self._cookies.close(visit.request, answer, visit.identity.session)
        return answer

    def make_token(self, visit: Visit) -> Response:
        wish = token_forms.wished(visit)
        if wish.trouble:
            return self.show(visit, wish)
        token, text = token_forms.make(visit, self._tokens, wish)
        return _shown_once(self._desk, visit, token, text, "/settings#tokens")

    def revoke(self, visit: Visit) -> Response:
        assert visit.account is not None
        token = _named(visit, self._tokens.of_account(visit.account.id))
        token_forms.revoke(visit, self._tokens, token)
        told = visit.t("The token %(name)s is revoked.", name=token.name or token.id)
        return self._desk.frame.back(visit, "/settings#tokens", told)


class Installations:
    """`/settings/installations/…`: members and their roles, tokens of machines, the rules in force."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._accounts = Accounts(desk.engine)
        self._owners = Owners(desk.engine)
        self._tokens = Tokens(desk.engine, desk.kit.store.secret)
        self._channels = _channels(desk)

    def routes(self) -> list[Guarded]:
        return [
            page(_HERE, self.members, SEEN, name="members"),
            page(f"{_HERE}/members", self.appoint, SET, methods=("POST",), name="appoint"),
            page(f"{_HERE}/tokens", self.tokens, SET, name="installation_tokens"),
            page(f"{_HERE}/tokens", self.make_token, SET, methods=("POST",), name="make_installation_token"),
            page(f"{_HERE}/tokens/{{token}}/revoke", self.revoke, SET, methods=("POST",), name="revoke_for_all"),
            page(f"{_HERE}/rules", self.rules, SEEN, name="rules"),
        ]

    def members(self, visit: Visit) -> Response:
        home = self._home(visit)
        return self._desk.frame.render(
            visit,
            "settings_members.html",
            home=home,
            members=self._accounts.members(home.id),
            may=visit.may(Role.ADMIN),
            roles=tuple(Role),
            as_github=AS_GITHUB,
        )

    def appoint(self, visit: Visit) -> Response:
        """What somebody may do here at most. Only what is less than GitHub's own word counts."""
        home = self._home(visit)
        account, role = visit.field("account", 30), visit.field("role", 20)
        member = appoint(self._accounts, visit, home.id, account, role)
        told = visit.t("The role of %(login)s is changed.", login=member.account.login)
        return self._desk.frame.back(visit, f"/settings/installations/{home.id}", told)

    def tokens(self, visit: Visit, wish: token_forms.Wish | None = None) -> Response:
        home = self._home(visit)
        return self._desk.frame.render(
            visit,
            "settings_tokens.html",
            422 if wish and wish.trouble else 200,
            home=home,
            tokens=self._tokens.of_installation(home.id),
            repositories=self._owners.repositories(visit.sight, home.id),
            wish=wish,
            scopes=tuple(Scope),
            lasts=tuple(token_forms.LASTS),
            usual=token_forms.USUAL,
        )

    def make_token(self, visit: Visit) -> Response:
        home = self._home(visit)
        wish = token_forms.wished(visit, self._owners.repositories(visit.sight, home.id), home.id)
        if wish.trouble:
            return self.tokens(visit, wish)
        token, text = token_forms.make(visit, self._tokens, wish)
        return _shown_once(self._desk, visit, token, text, f"/settings/installations/{home.id}/tokens")

    def revoke(self, visit: Visit) -> Response:
        home = self._home(visit)
        token = _named(visit, self._tokens.of_installation(home.id))
        token_forms.revoke(visit, self._tokens, token)
        told = visit.t("The token %(name)s is revoked.", name=token.name or token.id)
        return self._desk.frame.back(visit, f"/settings/installations/{home.id}/tokens", told)

    def rules(self, visit: Visit) -> Response:
        """Where news go and what is frozen, as heal.yml of a repository says."""
        home = self._home(visit)
        repositories = self._owners.repositories(visit.sight, home.id)
        wanted = visit.query.get("repository", "")
        chosen = next((each for each in repositories if str(each.id) == wanted), None)
        if wanted and chosen is None:
            raise HTTPException(404)
        chosen = chosen or next(iter(repositories), None)
        configured = self._configured(chosen)
        now = self._desk.kit.clock.now()
        policy = configured.policy if configured else None
        return self._desk.frame.render(
            visit,
            "settings_rules.html",
            home=home,
            repositories=repositories,
            chosen=chosen,
            policy=policy,
            broken=bool(configured and any(problem.level == "failure" for problem in configured.problems)),
            freezes=[(each, freeze_told(each), each.until(now)) for each in policy.freeze] if policy else [],
            channels=self._channels,
        )

    def _configured(self, repository: Repository | None) -> Configured | None:
        """None while GitHub does not answer."""
        if repository is None:
            return None
        try:
            return configuration(self._desk.kit, self._desk.kit.app.forge(repository))
        except HealError:
            return None

    def _home(self, visit: Visit) -> Home:
        found = self._owners.home(visit.number("installation"))
        if found is None:
            raise HTTPException(404)
        return found


def _channels(desk: Desk) -> tuple[str, ...]:
    """The names alone: their addresses are secrets."""
    try:
        return tuple(sorted(desk.settings.notify.addresses()))
    except (OSError, ValueError):
        return ()


def _named(visit: Visit, tokens: list[Token]) -> Token:
    """The token of the path, of those. Raises HTTPException."""
    found = next((each for each in tokens if str(each.id) == visit.path["token"]), None)
    if found is None:
        raise HTTPException(404)
    return found


def _shown_once(desk: Desk, visit: Visit, token: Token, text: str, back: str) -> Response:
    return desk.frame.render(visit, "settings_token.html", 201, token=token, text=text, back=back)
