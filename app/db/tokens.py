"""Tokens: made once, kept as a hash, found by it."""

import base64
import hmac
import secrets
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, Select, and_, or_, select, update

from app.db.audit import Act, add
from app.db.dialect import insert
from app.db.digest import digest
from app.db.engine import db_now, reading, writing
from app.db.rows import repository_of
from app.db.tables import InstallationRow, RepositoryRow, TokenRow
from app.domain.access import Scope, Token, TokenKind
from app.domain.tenant import Repository

PREFIX = "heal_"
USED_EVERY_S = 300.0
MOST_SHOWN = 500
_BYTES = 32


class Tokens:
    """`secret` gives the product's own secret of a name (ports.store.Store.secret): what signs for MLflow is made from
    it, so that it need not be kept."""

    def __init__(self, engine: Engine, secret: Callable[[str], bytes]) -> None:
        self._engine = engine
        self._secret = secret

    def create(
        self,
        repository: Repository | None,
        scopes: Collection[Scope],
        *,
        name: str = "",
        kind: TokenKind = TokenKind.BEARER,
        expires_in_s: float | None = None,
        installation_id: int | None = None,
        account_id: int | None = None,
        act: Act | None = None,
    ) -> tuple[Token, str]:
        """A new token and its text, which nobody can be told again. Without a repository it is good for all of the
        installation, without either for everything that `account_id` may. `act` is told to the audit log, with the
        token's number."""
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
                    repository_id=repository.id if repository else None,
                    installation_id=None if repository else installation_id,
                    account_id=account_id,
                    scopes=sorted(scope.value for scope in scopes),
                    name=name,
                    created_at=db_now(),
                    expires_at=None if expires_in_s is None else db_now(expires_in_s),
                )
                .returning(TokenRow.id)
            ).scalar_one()
            if act is not None:
                add(connection, replace(act, number=str(made)))
            return _token(connection.execute(_tokens().where(TokenRow.id == made)).one()), text

    def all(self, repository_id: int | None = None) -> list[Token]:
        """Newest first, also those that are over."""
        here = [] if repository_id is None else [TokenRow.repository_id == repository_id]
        with reading(self._engine) as connection:
            rows = connection.execute(_tokens().where(*here).order_by(TokenRow.id.desc()))
            return [_token(row) for row in rows]

    def of_account(self, account_id: int) -> list[Token]:
        """Those that somebody made for all that they may, newest first; not those that are revoked."""
        theirs = (
            TokenRow.account_id == account_id,
            TokenRow.repository_id.is_(None),
            TokenRow.installation_id.is_(None),
        )
        return self._current(*theirs)

    def of_installation(self, installation_id: int) -> list[Token]:
        """Those that are good for an installation or for one of its repositories, newest first; not the revoked."""
        return self._current(
            or_(TokenRow.installation_id == installation_id, RepositoryRow.installation_id == installation_id)
        )

    def _current(self, *which: ColumnElement[bool]) -> list[Token]:
        with reading(self._engine) as connection:
            wanted = (
                _tokens().where(*which, TokenRow.revoked_at.is_(None)).order_by(TokenRow.id.desc()).limit(MOST_SHOWN)
            )
            return [_token(row) for row in connection.execute(wanted)]

    def revoke(self, token_id: int, act: Act | None = None) -> bool:
        """False: there is no such token, or it is revoked already."""
        with writing(self._engine) as connection:
            this = update(TokenRow).where(TokenRow.id == token_id, TokenRow.revoked_at.is_(None))
            ended = connection.scalar(this.values(revoked_at=db_now()).returning(TokenRow.id)) is not None
            if ended and act is not None:
                add(connection, replace(act, number=str(token_id)))
            return ended

    def bearer(self, text: str) -> Token | None:
        """Whose token that is, if it is in force and the App is installed there. Found by its hash: the time that this
        takes tells nothing of the token."""
        found = self._in_force(TokenRow.digest == digest(text), TokenRow.kind == TokenKind.BEARER.value)
        return None if found is None else found[0]

    def in_force(self, token_id: int) -> Token | None:
        """The bearer token of that number, if it is in force."""
        found = self._in_force(TokenRow.id == token_id, TokenRow.kind == TokenKind.BEARER.value)
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
            or_(TokenRow.repository_id.is_(None), RepositoryRow.removed_at.is_(None)),
            or_(TokenRow.installation_id.is_(None), InstallationRow.removed_at.is_(None)),
        )
        with reading(self._engine) as connection:
            row = connection.execute(_tokens(_unused()).where(*which, valid)).first()
        if row is None:
            return None
        if touch and row.unused:
            self.used(row.token_id)
        return _token(row), row.token_digest


def _unused() -> Any:
    return or_(TokenRow.last_used_at.is_(None), TokenRow.last_used_at < db_now(-USED_EVERY_S))


def _text(value: bytes) -> str:
    return PREFIX + base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _tokens(*more: Any) -> Select[Any]:
    told = (column.label(f"token_{column.name}") for column in TokenRow.__table__.c)
    flags = (flag.label("unused") for flag in more)
    return (
        select(*told, *RepositoryRow.__table__.c, *flags)
        .outerjoin(RepositoryRow, RepositoryRow.id == TokenRow.repository_id)
        .outerjoin(InstallationRow, InstallationRow.id == TokenRow.installation_id)
    )


def _token(row: Row[Any]) -> Token:
    return Token(
        id=row.token_id,
        kind=TokenKind(row.token_kind),
        repository=None if row.token_repository_id is None else repository_of(row),
        scopes=frozenset(Scope(scope) for scope in row.token_scopes),
        name=row.token_name,
        created_at=row.token_created_at,
        expires_at=row.token_expires_at,
        revoked_at=row.token_revoked_at,
        last_used_at=row.token_last_used_at,
        installation_id=row.token_installation_id,
        account_id=row.token_account_id,
    )
