"""What is kept of OSV on this machine: records by the packages they are about, and when a version was last looked up.

A file of SQLite beside the process. It may be lost at any time: everything in it can be asked for again.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from pysqlite3 import dbapi2 as sqlite3

from app.adapters.osv.records import id_of, names_in

log = structlog.get_logger()

BUSY_S = 30.0
_TABLES = """
    CREATE TABLE IF NOT EXISTS record (id TEXT PRIMARY KEY, modified TEXT NOT NULL, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS about (
        ecosystem TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (ecosystem, name, id)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS about_id ON about (id);
    CREATE TABLE IF NOT EXISTS looked (
        ecosystem TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (ecosystem, name, version)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS dump (ecosystem TEXT PRIMARY KEY, at REAL NOT NULL);
"""

Key = tuple[str, str, str]


class Cache:
    """`path` None: in memory, for as long as the process lives."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._memory = _connect(":memory:") if path is None else None

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """One transaction. A file that cannot be opened or is no database is done without, and said."""
        if self._memory is None and self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                connection = _connect(str(self._path))
            except (OSError, sqlite3.DatabaseError) as error:
                log.warning("advisory_cache_unusable", path=str(self._path), error=str(error))
                self._memory = _connect(":memory:")
            else:
                with closing(connection), connection:
                    yield connection
                return
        with self._memory:  # type: ignore[union-attr]
            yield self._memory

    def keep(self, records: Iterable[Mapping[str, Any]]) -> int:
        """How many of them can be used and are kept."""
        kept = 0
        with self._open() as connection:
            for record in records:
                name, about = id_of(record), names_in(record)
                if not name:
                    continue
                modified = record.get("modified")
                body = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
                connection.execute("DELETE FROM about WHERE id = ?", (name,))
                connection.execute("REPLACE INTO record VALUES (?, ?, ?)", (name, _text(modified), _storable(body)))
                connection.executemany("INSERT INTO about VALUES (?, ?, ?)", [(*each, name) for each in about])
                kept += 1
        return kept

    def about(self, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """The records about these packages (ecosystem, name), by id; packages without any are left out."""
        wanted = "SELECT body FROM record JOIN about USING (id) WHERE ecosystem = ? AND name = ? ORDER BY id"
        found = {}
        with self._open() as connection:
            for place in places:
                records = [json.loads(body) for (body,) in connection.execute(wanted, place)]
                if records:
                    found[place] = records
        return found

    def modified(self, names: Iterable[str]) -> dict[str, str]:
        """Of those records that are kept: when they were last changed."""
        found = {}
        with self._open() as connection:
            for name in names:
                for (modified,) in connection.execute("SELECT modified FROM record WHERE id = ?", (name,)):
                    found[name] = modified
        return found

    def looked(self, keys: Iterable[Key], at: datetime) -> None:
        rows = [(*key, at.timestamp()) for key in keys]
        with self._open() as connection:
            connection.executemany("REPLACE INTO looked VALUES (?, ?, ?, ?)", rows)

    def ages(self, keys: Iterable[Key]) -> dict[Key, datetime]:
        """When each was last looked up, or how new the dump of its ecosystem is; without those that never were."""
        found: dict[Key, datetime] = {}
        with self._open() as connection:
            dumps = dict(connection.execute("SELECT ecosystem, at FROM dump"))
            for key in keys:
                wanted = "SELECT at FROM looked WHERE ecosystem = ? AND name = ? AND version = ?"
                times = [at for (at,) in connection.execute(wanted, key)]
                times += [dumps[key[0]]] if key[0] in dumps else []
                if times:
                    found[key] = datetime.fromtimestamp(max(times), UTC)
        return found

    def dumped(self, ecosystem: str, at: datetime) -> None:
        with self._open() as connection:
            connection.execute("REPLACE INTO dump VALUES (?, ?)", (ecosystem, at.timestamp()))

    def stock(self) -> dict[str, Any]:
        """What is there, for people: records by ecosystem, dumps, versions looked up."""
        with self._open() as connection:
            counted = connection.execute("SELECT ecosystem, count(DISTINCT id) FROM about GROUP BY ecosystem")
            dumps = connection.execute("SELECT ecosystem, at FROM dump")
            looked = connection.execute("SELECT count(*), max(at) FROM looked").fetchone()
            return {
                "records": dict(counted),
                "dumps": {name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in dumps},
                "versions_looked_up": looked[0],
                "last_looked_up_at": datetime.fromtimestamp(looked[1], UTC).isoformat() if looked[1] else None,
            }


def _connect(where: str) -> Any:
    connection = sqlite3.connect(where, timeout=BUSY_S, check_same_thread=False)
    connection.executescript(_TABLES)
    return connection


def _text(value: object) -> str:
    return _storable(value) if isinstance(value, str) else ""


def _storable(text: str) -> str:
    """SQLite takes no lone surrogates."""
    return text.encode("utf-8", "replace").decode()
