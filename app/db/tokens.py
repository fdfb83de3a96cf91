"""Tokens: made once, kept as a hash, found by it."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Engine, Row, Select, and_, or_, select, update

from app.db.dialect import insert
from app.db.engine import db_now, reading, writing
from app.db.rows import repository_of
from app.db.tables import RepositoryRow, TokenRow
from app.domain.access import Scope, Token, TokenKind
from app.domain.tenant import Repository

PREFIX = "heal_"
USED_EVERY_S = 300.0
_BYTES = 32


class Tokens:
    """`secret` gives the product's own secret of a name (ports.store.Store.secret): what signs for MLflow is made from
    it, so that it need not be kept."""

    def __init__(self, engine: Engine, secret: Callable[[str], bytes]) -> None:
        self._engine = engine
        self._secret = secret

    def create(
        self,
        repository: Repository,
        scopes: Collection[Scope],
        *,
        name: str = "",
        kind: TokenKind = TokenKind.BEARER,
        expires_in_s: float | None = None,
    ) -> tuple[Token, str]:
        """A new token and its text, which nobody can be told again."""
        random = secrets.token_bytes(_BYTES)
        text = _text(random)
        kept = digest(text)
        if kind is TokenKind.MLFLOW:
            kept = random.hex()
            text = self._signing_secret(kept)
        with writing(self._engine) as connection:
            made = connection.execute(
                insert(connection, TokenRow)
                .values(
                    digest=kept,
                    kind=kind.value,
                    repository_id=repository.id,
                    scopes=sorted(scope.value for scope in scopes),
                    name=name,
                    created_at=db_now(),
                    expires_at=None if expires_in_s is None else db_now(expires_in_s),
                )
                .returning(TokenRow.id)
            ).scalar_one()
            return _token(connection.execute(_tokens().where(TokenRow.id == made)).one()), text

    def all(self, repository_id: int | None = None) -> list[Token]:
        """Newest first, also those that are over."""
        here = [] if repository_id is None else [TokenRow.repository_id == repository_id]
        with reading(self._engine) as connection:
            rows = connection.execute(_tokens().where(*here).order_by(TokenRow.id.desc()))
            return [_token(row) for row in rows]

    def revoke(self, token_id: int) -> bool:
        """False: there is no such token, or it is revoked already."""
        with writing(self._engine) as connection:
            this = update(TokenRow).where(TokenRow.id == token_id, TokenRow.revoked_at.is_(None))
            return connection.scalar(this.values(revoked_at=db_now()).returning(TokenRow.id)) is not None

    def bearer(self, text: str) -> Token | None:
        """Whose token that is, if it is in force and the App is installed there. Found by its hash: the time that this
        takes tells nothing of the token."""
        found = self._in_force(TokenRow.digest == digest(text), TokenRow.kind == TokenKind.BEARER.value)
        return None if found is None else found[0]

    def mlflow(self, token_id: int) -> tuple[Token, str] | None:
        """The token of that number, if it is in force, and the secret that MLflow signs with. Anybody can name a
        number: it counts as `used` only once the signature is known to be right."""
        found = self._in_force(TokenRow.id == token_id, TokenRow.kind == TokenKind.MLFLOW.value, touch=False)
        return None if found is None else (found[0], self._signing_secret(found[1]))

    def used(self, token_id: int) -> None:
        this = update(TokenRow).where(TokenRow.id == token_id, _unused())
        with writing(self._engine) as connection:
            connection.execute(this.values(last_used_at=db_now()))

    def _signing_secret(self, kept: str) -> str:
        return _text(hmac.digest(self._secret("mlflow"), kept.encode(), "sha256"))

    def _in_force(self, *which: Any, touch: bool = True) -> tuple[Token, str] | None:
        valid = and_(
            TokenRow.revoked_at.is_(None),
            or_(TokenRow.expires_at.is_(None), TokenRow.expires_at > db_now()),
            RepositoryRow.removed_at.is_(None),
        )
        with reading(self._engine) as connection:
            row = connection.execute(_tokens(_unused()).where(*which, valid)).first()
        if row is None:
            return None
        if touch and row.unused:
            self.used(row.token_id)
        return _token(row), row.digest


def _unused() -> Any:
    return or_(TokenRow.last_used_at.is_(None), TokenRow.last_used_at < db_now(-USED_EVERY_S))


def _text(value: bytes) -> str:
    return PREFIX + base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _tokens(*more: Any) -> Select[Any]:
    told = (TokenRow.id.label("token_id"), *(column for column in TokenRow.__table__.c if column.name != "id"))
    flags = (flag.label("unused") for flag in more)
    return select(*told, *RepositoryRow.__table__.c, *flags).join(
        RepositoryRow, RepositoryRow.id == TokenRow.repository_id
    )


def _token(row: Row[Any]) -> Token:
    return Token(
        id=row.token_id,
        kind=TokenKind(row.kind),
        repository=repository_of(row),
        scopes=frozenset(Scope(scope) for scope in row.scopes),
        name=row.name,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
