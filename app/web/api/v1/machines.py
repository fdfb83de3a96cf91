"""Who a bearer token is: an API token, or an access token that was exchanged for one."""

from starlette.requests import Request

from app.db.accounts import Accounts
from app.db.refresh import RefreshTokens
from app.db.tokens import PREFIX, Tokens
from app.domain.access import Role, Scope, Sight, Token
from app.security.access_tokens import AccessTokens
from app.web.guard import Identity

_ROLES = ((Scope.ADMIN, Role.ADMIN), (Scope.OPERATE, Role.OPERATOR), (Scope.READ, Role.VIEWER))


class Machines:
    def __init__(self, tokens: Tokens, access: AccessTokens, refresh: RefreshTokens, accounts: Accounts) -> None:
        self.tokens = tokens
        self.access = access
        self.refresh = refresh
        self._accounts = accounts

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
        name = f"token {token.name or token.id}"
        return (
            None if sight is None else Identity(None, sight, f"token {token.name or token.id}", token=token, most=role)
        )

    def token_of(self, text: str) -> Token | None:
        """The API token behind either kind, if it is in force."""
        if text.startswith(PREFIX):
            return self.tokens.bearer(text)
        access = self.access.read(text)
        if access is None or not self.refresh.lives(access.family):
            return None
        return self.tokens.in_force(access.token_id)

    def _sight(self, token: Token) -> Sight | None:
        """What it is good for, and never more than whoever made it may see now."""
        repository_id = token.repository.id if token.repository is not None else None
        installation_id = token.installation_id
        maker = None if token.account_id is None else self._accounts.account(token.account_id)
        if token.account_id is not None and maker is None:
            return None
        account_id = maker.id if maker is not None and not maker.operator else None
        if repository_id is None and installation_id is None and account_id is None:
            return Sight(everything=True)
        return Sight(account_id=account_id, installation_id=installation_id, repository_id=repository_id)


def role_of(token: Token) -> Role | None:
    """The most that its scopes allow; None for one that may only send."""
    return next((role for scope, role in _ROLES if token.may(scope)), None)
