"""Which processes of ours live: each says so while it does."""

import os
import platform
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

import structlog
from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import SQLAlchemyError

from app.db.dialect import insert
from app.db.engine import db_now, reading, writing
from app.db.tables import ProcessRow
from app.domain.errors import Unreachable

log = structlog.get_logger()

WEB, WORKER = "web", "worker"
BEAT_S = 20.0
GONE_S = 3 * BEAT_S
_FORGOTTEN_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Process:
    """`alive`: it has said so lately. One that ended in order is not kept; one that did not is, for a week."""

    name: str
    kind: str
    version: str
    started_at: datetime
    seen_at: datetime
    facts: Mapping[str, Any]
    alive: bool


class Processes:
    """All methods raise Unreachable when the database is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def beat(self, name: str, kind: str, facts: Mapping[str, Any], release: str) -> None:
        """Live. The first time is when the process started."""
        values = {"kind": kind, "version": release, "seen_at": db_now(), "facts": dict(facts)}
        with writing(self._engine) as connection:
            add = insert(connection, ProcessRow).values(name=name, started_at=db_now(), **values)
            connection.execute(add.on_conflict_do_update(index_elements=[ProcessRow.name], set_=values))
            connection.execute(delete(ProcessRow).where(ProcessRow.seen_at < db_now(-_FORGOTTEN_S)))

    def leave(self, name: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(delete(ProcessRow).where(ProcessRow.name == name))

    def all(self) -> list[Process]:
        """The living first, then by kind and name."""
        row = ProcessRow
        alive = (row.seen_at > db_now(-GONE_S)).label("alive")
        columns = (row.name, row.kind, row.version, row.started_at, row.seen_at, row.facts, alive)
        with reading(self._engine) as connection:
            rows = connection.execute(select(*columns).order_by(alive.desc(), row.kind, row.name)).all()
        return [Process(**{**each._mapping, "alive": bool(each.alive)}) for each in rows]


class Heart:
    """A thread that says every BEAT_S seconds that this process lives. `facts` are for people: what it does here."""

    def __init__(self, engine: Engine, kind: str, facts: Mapping[str, Any] | None = None) -> None:
        host, pid = socket.gethostname(), os.getpid()
        self._processes = Processes(engine)
        self._name = f"{host}:{pid}:{kind}"
        self._kind = kind
        self._facts = {"host": host, "pid": pid, "python": platform.python_version(), **(facts or {})}
        self._release = version("self-healing-mlops-bot")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="heal-heart", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ended in order: nobody has to wonder where it is."""
        self._stopping.set()
        self._thread.join(5.0)
        with suppress(Unreachable, SQLAlchemyError):
            self._processes.leave(self._name)

    def _live(self) -> None:
        while True:
            try:
                self._processes.beat(self._name, self._kind, self._facts, self._release)
            except (Unreachable, SQLAlchemyError) as error:  # a heart that stops because of it would tell less still
                log.warning("heartbeat_not_kept", error=str(error).partition("\n")[0])
            if self._stopping.wait(BEAT_S):
                return
