"""Secrets that were entrusted to the bot, sealed: the App's key, its client secret, its webhook secrets."""

from collections.abc import Mapping

from sqlalchemy import Engine, inspect, select

from app.db import audit
from app.db.dialect import insert
from app.db.engine import db_now, reading, writing
from app.db.tables import CredentialRow
from app.domain.audit import Act
from app.security.vault import Vault


class Credentials:
    def __init__(self, engine: Engine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault

    def keep(self, secrets: Mapping[str, bytes], act: Act | None = None) -> None:
        """All in one transaction, each in place of a former one, with the line of the audit log. Raises Sealed without
        a key."""
        sealed = {name: self._vault.seal(secret, f"credential {name}") for name, secret in secrets.items()}
        with writing(self._engine) as connection:
            if act is not None:
                audit.add(connection, act)
            for name, value in sealed.items():
                row = insert(connection, CredentialRow).values(name=name, sealed=value, updated_at=db_now())
                connection.execute(
                    row.on_conflict_do_update(
                        index_elements=[CredentialRow.name],
                        set_={"sealed": row.excluded.sealed, "updated_at": row.excluded.updated_at},
                    )
                )

    def renew(self) -> int:
        """Seal anew what a former key has sealed, so that it can be left out; how many there were. Raises Sealed."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(CredentialRow.name, CredentialRow.sealed)).all()
        former = {row.name: row.sealed for row in rows if not self._vault.is_current(row.sealed)}
        self.keep({name: self._vault.open(sealed, f"credential {name}") for name, sealed in former.items()})
        return len(former)

    def all(self) -> dict[str, bytes]:
        """By name; none where the database is not set up yet. Raises Sealed when a key is missing."""
        with reading(self._engine) as connection:
            if not inspect(connection).has_table(CredentialRow.__tablename__):
                return {}
            rows = connection.execute(select(CredentialRow.name, CredentialRow.sealed)).all()
        return {row.name: self._vault.open(row.sealed, f"credential {row.name}") for row in rows}
