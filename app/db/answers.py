"""Answers to writes that came with an Idempotency-Key: said again when the same write comes again."""

from dataclasses import dataclass

from sqlalchemy import Engine, delete, select, update

from app.db.dialect import insert
from app.db.engine import db_now, writing
from app.db.tables import AnswerRow

KEPT_S = 86_400.0
UNDER_WAY_S = 300.0  # no answer takes so long: whoever worked on it has died
_UNDER_WAY = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """`request` is a hash of what was sent. `status` 0: it is being worked on."""

    request: str
    status: int
    body: bytes


class Answers:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, principal: str, key: str, request: str) -> Kept | None:
        """None: this is the first; answer it and `keep` or `forget`. Else what is known of the first."""
        row = AnswerRow
        with writing(self._engine) as connection:
            connection.execute(delete(row).where(row.at < db_now(-KEPT_S)))
            left = (row.status == _UNDER_WAY, row.at < db_now(-UNDER_WAY_S))
            connection.execute(delete(row).where(row.principal == principal, row.key == key, *left))
            first = insert(connection, row).values(
                principal=principal, key=key, request=request, status=_UNDER_WAY, body=b"", at=db_now()
            )
            added = connection.execute(first.on_conflict_do_nothing().returning(row.key)).one_or_none()
            if added is not None:
                return None
            known = connection.execute(
                select(row.request, row.status, row.body).where(row.principal == principal, row.key == key)
            ).one()
        return Kept(known.request, known.status, known.body)

    def keep(self, principal: str, key: str, status: int, body: bytes) -> None:
        row = AnswerRow
        this = update(row).where(row.principal == principal, row.key == key)
        with writing(self._engine) as connection:
            connection.execute(this.values(status=status, body=body))

    def forget(self, principal: str, key: str) -> None:
        """It failed in a way that may be tried again."""
        row = AnswerRow
        with writing(self._engine) as connection:
            connection.execute(delete(row).where(row.principal == principal, row.key == key))
