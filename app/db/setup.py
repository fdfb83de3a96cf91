"""The one-time address of the setup, and the one-time round trip to GitHub and back. Kept as hashes in `sign_ins`."""

import hmac
import secrets

from sqlalchemy import Engine, Update, select, update

from app.db import audit
from app.db.dialect import insert
from app.db.digest import digest
from app.db.engine import db_now, reading, writing
from app.db.tables import DeliveryRow, SignInRow
from app.domain.audit import Act

SETUP, MANIFEST = "setup", "manifest"
SETUP_S, MANIFEST_S = 365 * 24 * 3600.0, 3600.0
_BYTES = 32


class Setups:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self) -> str:
        """A new token, which nobody can be told again; those before it end."""
        token = secrets.token_urlsafe(_BYTES)
        with writing(self._engine) as connection:
            connection.execute(_used(SETUP))
            connection.execute(
                insert(connection, SignInRow).values(
                    digest=digest(token),
                    kind=SETUP,
                    verifier=b"",
                    onwards="/setup",
                    created_at=db_now(),
                    expires_at=db_now(SETUP_S),
                )
            )
        return token

    def knows(self, token: str) -> bool:
        """Whether the setup that is going on began with that token."""
        current = select(SignInRow.digest).where(
            SignInRow.kind == SETUP, SignInRow.used_at.is_(None), SignInRow.expires_at > db_now()
        )
        with reading(self._engine) as connection:
            known = connection.scalars(current).all()
        given = digest(token)
        return any(hmac.compare_digest(given, each) for each in known)

    def finish(self, act: Act) -> None:
        """No token of a setup is good any more."""
        with writing(self._engine) as connection:
            audit.add(connection, act)
            connection.execute(_used(SETUP, MANIFEST))

    def leave(self, token: str, luggage: str) -> str:
        """Somebody with that token is sent to GitHub: a state, with which they come back to the `luggage`."""
        state = secrets.token_urlsafe(_BYTES)
        with writing(self._engine) as connection:
            connection.execute(
                insert(connection, SignInRow).values(
                    digest=digest(state),
                    kind=MANIFEST,
                    verifier=digest(token).encode(),
                    onwards=luggage,
                    created_at=db_now(),
                    expires_at=db_now(MANIFEST_S),
                )
            )
        return state

    def come_back(self, token: str, state: str) -> str | None:
        """The luggage, once; None for a state that is not theirs, or was used."""
        this = select(SignInRow.verifier, SignInRow.onwards).where(
            SignInRow.digest == digest(state),
            SignInRow.kind == MANIFEST,
            SignInRow.used_at.is_(None),
            SignInRow.expires_at > db_now(),
        )
        with writing(self._engine) as connection:
            row = connection.execute(this).first()
            if row is None or not hmac.compare_digest(bytes(row.verifier), digest(token).encode()):
                return None
            unused = update(SignInRow).where(SignInRow.digest == digest(state), SignInRow.used_at.is_(None))
            first = connection.scalar(unused.values(used_at=db_now()).returning(SignInRow.digest)) is not None
        return str(row.onwards) if first else None

    def newest(self, token: str) -> str | None:
        """The luggage of whoever left last with that token, and has not come back."""
        with reading(self._engine) as connection:
            found: str | None = connection.scalar(
                select(SignInRow.onwards)
                .where(
                    SignInRow.kind == MANIFEST,
                    SignInRow.verifier == digest(token).encode(),
                    SignInRow.used_at.is_(None),
                    SignInRow.expires_at > db_now(),
                )
                .order_by(SignInRow.created_at.desc())
                .limit(1)
            )
        return found

    def lose(self, state: str) -> None:
        """The way back may be tried again: what it led to could not be reached."""
        with writing(self._engine) as connection:
            connection.execute(
                update(SignInRow)
                .where(SignInRow.digest == digest(state), SignInRow.kind == MANIFEST)
                .values(used_at=None)
            )

    def delivered(self) -> bool:
        """Whether anything has come from GitHub yet."""
        with reading(self._engine) as connection:
            first = select(DeliveryRow.id).where(DeliveryRow.source == "github").limit(1)
            return connection.scalar(first) is not None


def _used(*kinds: str) -> Update:
    return update(SignInRow).where(SignInRow.kind.in_(kinds), SignInRow.used_at.is_(None)).values(used_at=db_now())
