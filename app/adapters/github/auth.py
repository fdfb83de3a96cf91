"""How the App proves who it is: with its key, and with short-lived tokens for one installation or one repository."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from github.Auth import Auth

from app.domain.errors import Malformed
from app.ports.clock import Clock

# GitHub takes a JWT of at most 10 minutes and refuses one from its future: stay clear of both with any sane clock.
JWT_LIFE = timedelta(minutes=9)
JWT_BACKDATE = timedelta(seconds=60)
REFRESH_EARLY = timedelta(minutes=5)


class AppKey(Auth):
    """The App's own identity: a fresh JWT for every request. Only for `/app` and for minting tokens."""

    def __init__(self, app_id: int, private_key_pem: str, clock: Clock) -> None:
        self._app_id = app_id
        self._private_key_pem = private_key_pem
        self._clock = clock

    @property
    def token_type(self) -> str:
        return "Bearer"

    @property
    def token(self) -> str:
        now = self._clock.now()
        issued_at = now - JWT_BACKDATE
        claims = {"iat": int(issued_at.timestamp()), "exp": int((issued_at + JWT_LIFE).timestamp())}
        return jwt.encode(claims | {"iss": str(self._app_id)}, self._private_key, algorithm="RS256")

    @cached_property
    def _private_key(self) -> RSAPrivateKey:
        try:
            key = load_pem_private_key(self._private_key_pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise Malformed("the App's private key cannot be read; give the .pem file that GitHub made") from error
        if not isinstance(key, RSAPrivateKey):
            raise Malformed("the App's private key is not an RSA key; give the .pem file that GitHub made")
        return key

    def __repr__(self) -> str:
        return f"AppKey(app_id={self._app_id})"


@dataclass(frozen=True, slots=True)
class Token:
    """An installation token. Its value never shows in a representation."""

    value: str = field(repr=False)
    expires_at: datetime
    permissions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is good for: one repository, or reading in all of the installation's."""

    installation_id: int
    repository_id: int | None = None


class Tokens:
    """Installation tokens in memory, one per scope, renewed before they run out. Safe for threads."""

    def __init__(self, mint: Callable[[Scope], Token], clock: Clock) -> None:
        self._mint = mint
        self._clock = clock
        self._lock = threading.Lock()
        self._minting: dict[Scope, threading.Lock] = {}
        self._tokens: dict[Scope, Token] = {}

    def get(self, scope: Scope) -> Token:
        """A token with at least five minutes left. Raises what minting raises."""
        with self._lock:
            turn = self._minting.setdefault(scope, threading.Lock())
        with turn:
            token = self._tokens.get(scope)
            if token is None or token.expires_at - self._clock.now() < REFRESH_EARLY:
                token = self._tokens[scope] = self._mint(scope)
                self._drop_expired()
            return token

    def forget(self, scope: Scope, value: str) -> None:
        """GitHub no longer takes this token. A newer one that another thread fetched meanwhile is kept."""
        with self._lock:
            held = self._tokens.get(scope)
            if held is not None and held.value == value:
                del self._tokens[scope]

    def _drop_expired(self) -> None:
        now = self._clock.now()
        with self._lock:
            for scope in [scope for scope, token in self._tokens.items() if token.expires_at <= now]:
                del self._tokens[scope]


class InstallationAuth(Auth):
    """Requests made as the App's installation, with a token of the given scope."""

    def __init__(self, tokens: Tokens, scope: Scope) -> None:
        self._tokens = tokens
        self._scope = scope

    @property
    def installation_id(self) -> int:
        return self._scope.installation_id

    @property
    def token_type(self) -> str:
        return "Bearer"

    @property
    def token(self) -> str:
        return self._tokens.get(self._scope).value

    def forget(self, authorization: str) -> None:
        """The token in this Authorization header was not accepted: the next request gets a new one."""
        self._tokens.forget(self._scope, authorization.removeprefix(f"{self.token_type} "))

    def __repr__(self) -> str:
        return f"InstallationAuth({self._scope})"
