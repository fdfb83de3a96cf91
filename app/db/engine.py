"""One engine a process, its two kinds of transactions, and the one place where a database's absence gets its name."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, FunctionElement, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from app.db.tables import UtcTime, json_text
from app.domain.errors import Unreachable

BUSY_S = 10.0
POOL_SIZE = 10

_writers: WeakKeyDictionary[Engine, threading.Lock] = WeakKeyDictionary()


def make_engine(url: str) -> Engine:
    """An engine for `sqlite:///FILE` or `postgresql+psycopg://…`. Opens no connection yet."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError("the SQLite database must be a file: sqlite:////var/lib/heal/heal.db")
        return _sqlite_engine(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            json_serializer=json_text,
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
            pool_timeout=BUSY_S,
            pool_use_lifo=True,
            connect_args={
                "connect_timeout": 5,
                "application_name": "heal",
                # a process that is frozen within a transaction must not hold its locks for longer than a moment
                "options": "-c lock_timeout=10s -c statement_timeout=30s -c timezone=UTC"
                " -c idle_in_transaction_session_timeout=5s",
            },
        )
    raise ValueError(f"{parsed.get_backend_name()} is not supported: use sqlite:///FILE or postgresql://…")


def _sqlite_engine(url: str) -> Engine:
    import pysqlite3  # not the interpreter's sqlite3: libraries before 3.51.3 can corrupt a database in WAL mode

    file = make_url(url).database
    if file:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        module=pysqlite3,
        json_serializer=json_text,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_timeout=BUSY_S,
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
    )
    _writers[engine] = threading.Lock()

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself: `begin` below does
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write. Raises Unreachable when the database is away, full or busy for too long.

    Writers of one SQLite file queue up at a lock of this process: waiting inside SQLite is polling, and starves some.
    """
    lock = _writers.get(engine)
    if lock is not None and not lock.acquire(timeout=BUSY_S):
        raise Unreachable("another transaction holds the database for too long; try again")
    try:
        with naming_absence(), engine.connect() as connection:
            connection = connection.execution_options(writes=True)
            with connection.begin():
                yield connection
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: one consistent picture. Raises Unreachable when the database is away."""
    with naming_absence(), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def naming_absence() -> Iterator[None]:
    """Turn what a driver raises when the database is away or unwell into Unreachable; a mistake in SQL stays loud."""
    try:
        yield
    except PoolTimeoutError as error:
        raise Unreachable("every database connection is in use; try again") from error
    except DBAPIError as error:
        if not _is_absence(error):
            raise
        raise Unreachable(f"the database does not answer: {_first_line(error)}") from error


def _is_absence(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    # SQLite says OperationalError for everything; its code 1 is a mistake in SQL
    return getattr(error.orig, "sqlite_errorcode", None) != 1


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]


class db_now(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock, `offset_s` seconds from now. All leases and due times are told by it alone."""

    type = UtcTime()
    inherit_cache = True
    name = "db_now"

    def __init__(self, offset_s: Any = None) -> None:
        super().__init__(*([] if offset_s is None else [offset_s]))


@compiles(db_now, "postgresql")
def _now_postgresql(element: db_now, compiler: SQLCompiler, **words: Any) -> str:
    if not element.clauses.clauses:
        return "statement_timestamp()"
    offset = compiler.process(element.clauses, **words)
    return f"(statement_timestamp() + make_interval(secs => {offset}))"


@compiles(db_now, "sqlite")
def _now_sqlite(element: db_now, compiler: SQLCompiler, **words: Any) -> str:
    if not element.clauses.clauses:
        return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
    offset = compiler.process(element.clauses, **words)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({offset}) || ' seconds')"
