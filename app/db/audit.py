"""The audit log: who did what. Rows are only added, each chained to the one before, so that a change shows."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, select, text

from app.db.dialect import insert
from app.db.engine import db_now, writing
from app.db.tables import AuditRow
from app.domain.audit import Act

FIRST = "0" * 64
_LOCK = 0x6865616C  # PostgreSQL's advisory lock of the chain: additions queue up


__all__ = ["FIRST", "Act", "Audit", "add", "link"]


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
    at: datetime = connection.scalar(select(db_now()))  # type: ignore[assignment]  # it is never null
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


def link(former: str, values: Mapping[str, Any]) -> str:
    """The chain's next link. `values` are a row's, but for its number and its link."""
    told = {**values, "at": values["at"].isoformat()}
    written = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{former}\n{written}".encode()).hexdigest()
