"""The audit log: who did what. Rows are only added, each chained to the one before, so that a change shows."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, select, text

from app.db.dialect import insert
from app.db.engine import db_now, reading, writing
from app.db.tables import AuditRow, storable
from app.domain.audit import Act

FIRST = "0" * 64
_LOCK = 0x6865616C  # PostgreSQL's advisory lock of the chain: additions queue up
_AT_ONCE = 1_000

__all__ = ["FIRST", "Act", "Audit", "Verified", "add", "link", "verify"]


@dataclass(frozen=True, slots=True)
class Verified:
    """`count` rows hold together, up to the first one that does not: `broken` is its number, None where all do.
    `newest` is the chain's last link that holds: compare it with a former note of it, since rows that are missing at
    the end leave no gap."""

    count: int
    newest: str
    broken: int | None = None


class Audit:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, act: Act) -> None:
        with writing(self._engine) as connection:
            add(connection, act)


def add(connection: Connection, act: Act) -> None:
    """In the caller's transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    former = connection.scalar(select(AuditRow.chain).order_by(AuditRow.id.desc()).limit(1)) or FIRST
    at: datetime = connection.scalar(select(db_now()))
    values = {
        "at": at,
        "actor": act.actor,
        "actor_id": act.actor_id,
        "via": act.via,
        "verb": act.verb,
        "what": act.what,
        "number": act.number,
        "installation_id": act.installation_id,
        "repository_id": act.repository_id,
        "data": dict(act.data),
    }
    connection.execute(insert(connection, AuditRow).values(chain=link(former, values), **values))


def verify(engine: Engine) -> Verified:
    """Follow the chain from its beginning to the first row that was changed, added by hand, or whose former one is
    gone."""
    count, former, last = 0, FIRST, 0
    while True:
        part = select(*AuditRow.__table__.columns).where(AuditRow.id > last).order_by(AuditRow.id).limit(_AT_ONCE)
        with reading(engine) as connection:
            rows = connection.execute(part).all()
        for row in rows:
            values = {name: value for name, value in row._mapping.items() if name not in ("id", "chain")}
            if row.chain != link(former, values):
                return Verified(count, former, row.id)
            count, former, last = count + 1, row.chain, row.id
        if len(rows) < _AT_ONCE:
            return Verified(count, former)


def link(former: str, values: Mapping[str, Any]) -> str:
    """The chain's next link. `values` are a row's, but for its number and its link."""
    told = {name: storable(value) if isinstance(value, str) else value for name, value in values.items()}
    told["at"] = values["at"].isoformat()
    written = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{former}\n{written}".encode()).hexdigest()
