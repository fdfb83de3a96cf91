"""Refresh tokens of machines: each is good once, and one that comes a second time ends its family.

Whoever stole one and uses it is found out as soon as the owner uses theirs, and the other way round (RFC 9700, 4.14).
"""

import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, select, update

from app.db.dialect import insert
from app.db.digest import digest
from app.db.engine import db_now, reading, writing
from app.db.tables import RefreshRow, TokenRow

LASTS_S = 30 * 86_400.0
PREFIX = "healr_"
_BYTES = 32


@dataclass(frozen=True, slots=True)
class Rotated:
    """`refresh` is the next refresh token, which nobody can be told again. `stolen`: it had been used before, and its
    family has ended."""

    token_id: int
    family: str
    refresh: str = ""
    stolen: bool = False


class RefreshTokens:
    """The family lasts LASTS_S from its beginning, however often it is refreshed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, token_id: int) -> Rotated:
        """A new family for an API token."""
        family, text = secrets.token_hex(16), PREFIX + secrets.token_urlsafe(_BYTES)
        with writing(self._engine) as connection:
            _add(connection, text, family, token_id, db_now(LASTS_S))
            connection.execute(delete(RefreshRow).where(RefreshRow.expires_at < db_now(-86_400.0)))
        return Rotated(token_id, family, text)

    def rotate(self, text: str) -> Rotated | None:
        """None for one that is unknown, expired, or of a family that has ended."""
        row = RefreshRow
        with writing(self._engine) as connection:
            valid = (row.digest == digest(text), row.ended_at.is_(None), row.expires_at > db_now())
            used = update(row).where(*valid, row.used_at.is_(None)).values(used_at=db_now())
            fresh = connection.execute(used.returning(row.family, row.token_id, row.expires_at)).one_or_none()
            if fresh is not None:
                following = PREFIX + secrets.token_urlsafe(_BYTES)
                _add(connection, following, fresh.family, fresh.token_id, fresh.expires_at)
                return Rotated(fresh.token_id, fresh.family, following)
            again = connection.execute(select(row.family, row.token_id).where(*valid)).one_or_none()
            if again is None:
                return None
            connection.execute(update(row).where(row.family == again.family).values(ended_at=db_now()))
            return Rotated(again.token_id, again.family, stolen=True)

    def lives(self, family: str) -> bool:
        """Whether the family is in force, and the API token that it was issued for."""
        row = RefreshRow
        wanted = (
            select(row.id)
            .join(TokenRow, TokenRow.id == row.token_id)
            .where(row.family == family, row.ended_at.is_(None), row.expires_at > db_now())
        )
        with reading(self._engine) as connection:
            return connection.scalar(wanted.limit(1)) is not None

    def end(self, family: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(update(RefreshRow).where(RefreshRow.family == family).values(ended_at=db_now()))


def _add(connection: Connection, text: str, family: str, token_id: int, expires_at: object) -> None:
    row = insert(connection, RefreshRow).values(
        digest=digest(text), family=family, token_id=token_id, created_at=db_now(), expires_at=expires_at
    )
    connection.execute(row)
