"""Signing in with GitHub: OAuth's code flow with state and PKCE, and what the person may do, asked for again later.

The person's token is kept sealed in the session, and used for nothing but these questions.
"""

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from app.adapters.github.user import Permitted, Person, SignedOut, UserToken
from app.db.accounts import Accounts, Grant, Session
from app.db.owners import Owners
from app.domain.access import LOCAL, Account, role_for
from app.domain.errors import HealError
from app.security.vault import Sealed, Vault

KIND = "oauth"
BEGUN_S = 600.0
CHECK_EVERY_S, BEFORE_A_WRITE_S = 600.0, 60.0
AGAIN_S = 60.0  # after GitHub gave no answer: pages do not wait for it each time
_VERIFIER, _TOKEN = "sign-in", "session"

log = structlog.get_logger()


class People(Protocol):
    """GitHub as people see it (app.adapters.github.user.GitHubPeople)."""

    def way_in(self, *, state: str, challenge: str, back_to: str) -> str: ...

    def exchange(self, code: str, *, verifier: str, back_to: str) -> UserToken: ...

    def person(self, token: str) -> Person: ...

    def permissions(self, token: str, *, within: Iterable[int]) -> list[Permitted]: ...


class NotBegun(Exception):
    """That way back from GitHub was not begun here, was used already, or took too long."""


class Stranger(Exception):
    """GitHub says who they are, and the App is nowhere that they could see."""

    def __init__(self, login: str) -> None:
        super().__init__(login)
        self.login = login


@dataclass(frozen=True, slots=True)
class Entered:
    """`user_token` is sealed; `lasts_s` is how long GitHub takes it, None for as long as the session."""

    account: Account
    user_token: bytes
    lasts_s: float | None
    onwards: str


class GitHubSignIn:
    def __init__(
        self, people: People, accounts: Accounts, owners: Owners, vault: Vault, *, operators: Iterable[int] = ()
    ) -> None:
        self._people = people
        self._accounts = accounts
        self._owners = owners
        self._vault = vault
        self._operators = frozenset(operators)
        self._not_before: dict[int, float] = {}
        self._lock = threading.Lock()

    def begin(self, onwards: str, back_to: str) -> tuple[str, str]:
        """Where the browser is sent, and the state with which it comes back."""
        verifier = secrets.token_urlsafe(48)
        sealed = self._vault.seal(verifier.encode(), _VERIFIER)
        state = self._accounts.begin(KIND, seconds=BEGUN_S, verifier=sealed, onwards=onwards)
        return self._people.way_in(state=state, challenge=challenge(verifier), back_to=back_to), state

    def finish(self, state: str, code: str, back_to: str) -> Entered:
        """Who has come back, once. Raises NotBegun, Stranger, and what GitHubPeople raises."""
        begun = self._accounts.redeem(KIND, state)
        if begun is None:
            raise NotBegun
        verifier = self._vault.open(begun.verifier, _VERIFIER).decode()
        token = self._people.exchange(code, verifier=verifier, back_to=back_to)
        person = self._people.person(token.text)
        grants = self._grants(token.text)
        operator = person.id in self._operators
        if not grants and not operator:
            raise Stranger(person.login)
        account = self._accounts.remember(person.id, person.login, operator=operator)
        self._accounts.grant(account.id, grants)
        sealed = self._vault.seal(token.text.encode(), _about(account.id))
        return Entered(account, sealed, token.lasts_s, begun.onwards)

    def refresh(self, session: Session, writes: bool = False) -> Session | None:
        """The session with rights of now; as it is while GitHub does not answer; None when GitHub has ended it.

        One request of a session asks, and the others go on meanwhile with what is known.
        """
        fresh_s = BEFORE_A_WRITE_S if writes else CHECK_EVERY_S
        if session.account.id == LOCAL or session.stale_s < fresh_s or not self._turn(session.id):
            return session
        try:
            token = self._vault.open(session.user_token, _about(session.account.id)).decode()
            account = self._called_now(session.account, token)
            self._accounts.grant(account.id, self._grants(token))
            self._accounts.checked(session.id)
        except (SignedOut, Sealed) as error:
            log.info("session_ended", account=session.account.id, reason=str(error))
            self._accounts.end(session.id)
            return None
        except HealError as error:
            log.warning("rights_not_asked", account=session.account.id, reason=str(error))
            return session
        with self._lock:
            self._not_before.pop(session.id, None)
        return replace(session, account=account, stale_s=0.0)

    def _called_now(self, account: Account, token: str) -> Account:
        """Names change hands: the App asks by name what somebody may before they change anything."""
        person = self._people.person(token)
        if person.id != account.id:
            raise SignedOut("GitHub says that the token is somebody else's")
        if person.login == account.login:
            return account
        return self._accounts.remember(account.id, person.login, operator=account.operator)

    def _turn(self, session_id: int) -> bool:
        """Whether it is time to ask, and nobody does already."""
        now = time.monotonic()
        with self._lock:
            if self._not_before.get(session_id, now) > now:
                return False
            self._not_before = {each: until for each, until in self._not_before.items() if until > now}
            self._not_before[session_id] = now + AGAIN_S
            return True

    def _grants(self, token: str) -> list[Grant]:
        permitted = self._people.permissions(token, within=self._owners.installations())
        roles = ((each, role_for(each.permission)) for each in permitted)
        return [Grant(each.repository_id, each.installation_id, role) for each, role in roles if role is not None]


def challenge(verifier: str) -> str:
    """RFC 7636, S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _about(account_id: int) -> str:
    return f"{_TOKEN} {account_id}"
