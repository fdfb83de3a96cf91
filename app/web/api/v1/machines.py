"""Who a bearer token is: an API token, or an access token that was exchanged for one."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cached_property, partial

from starlette.requests import Request

from app.db.accounts import Accounts
from app.db.refresh import RefreshTokens
from app.db.tokens import PREFIX, Tokens
from app.domain.access import EVERYTHING, LOCAL, Account, Role, Scope, Sight, Token
from app.security.access_tokens import AccessTokens
from app.web.guard import Identity
from app.wiring import Wired

_ROLES = ((Scope.ADMIN, Role.ADMIN), (Scope.OPERATE, Role.OPERATOR), (Scope.READ, Role.VIEWER))


class Machines:
    """`seed` gives what signs access tokens, once it is needed; `operators` are the accounts that run the bot now."""

    def __init__(
        self,
        tokens: Tokens,
        seed: Callable[[], bytes],
        refresh: RefreshTokens,
        accounts: Accounts,
        operators: Collection[int] = (),
    ) -> None:
        self.tokens = tokens
        self.refresh = refresh
        self._seed = seed
        self._operators = frozenset({LOCAL, *operators})
        self._accounts = accounts

    @cached_property
    def access(self) -> AccessTokens:
        return AccessTokens(self._seed())

    def identify(self, request: Request) -> Identity | None:
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not text:
            return None
        token = self.token_of(text.strip())
        role = None if token is None else role_of(token)
        if token is None or role is None:
            return None
        maker = None if token.account_id is None else self._accounts.account(token.account_id)
        if token.account_id is not None and maker is None:
            return None
        if maker is not None:
            maker = replace(maker, operator=maker.id in self._operators)
        name = f"token {token.name or token.id}"
        return Identity(maker, sight_of(token, maker), name, token=token, most=role)

    def token_of(self, text: str) -> Token | None:
        """The API token behind either kind, if it is in force."""
        if text.startswith(PREFIX):
            return self.tokens.bearer(text)
        access = self.access.read(text)
        if access is None or not self.refresh.lives(access.family):
            return None
        return self.tokens.in_force(access.token_id)


def sight_of(token: Token, maker: Account | None) -> Sight:
    """What it is good for, and never more than whoever made it may see now."""
    repository_id = token.repository.id if token.repository is not None else None
    account_id = maker.id if maker is not None and not maker.operator else None
    if repository_id is None and token.installation_id is None and account_id is None:
        return EVERYTHING
    return Sight(account_id=account_id, installation_id=token.installation_id, repository_id=repository_id)


def role_of(token: Token) -> Role | None:
    """The most that its scopes allow; None for one that may only send."""
    return next((role for scope, role in _ROLES if token.may(scope)), None)


def machines_of(wired: Wired) -> Machines:
    secret = wired.store.secret
    return Machines(
        Tokens(wired.engine, secret),
        partial(secret, "access tokens"),
        RefreshTokens(wired.engine),
        Accounts(wired.engine),
        wired.settings.web.operators,
    )
