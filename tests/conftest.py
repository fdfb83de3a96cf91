"""Fixtures for all tests. Whatever uses `database_url` (or `engine`, `store`) runs on SQLite and on PostgreSQL."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from app.db import migrate
from app.db.engine import make_engine
from app.db.store import SqlStore
from app.db.tables import Base
from app.ports.queue import Work
from tests import services


@contextmanager
def _postgres_database(server: str, name: str) -> Iterator[str]:
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


class Bell:
    """A doorbell that remembers who rang."""

    def __init__(self) -> None:
        self.rung: list[tuple[Work, int]] = []

    def ring(self, work: Work, row_id: int) -> None:
        self.rung.append((work, row_id))

    def reachable(self) -> bool:
        return True


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """The URL of a running PostgreSQL in which databases may be made."""
    url = services.running_postgres()
    if url is None:
        pytest.fail(f"no PostgreSQL: run `python -m tests.services pytest …`, or set {services.POSTGRES}")
    return url


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The URL of a running Redis."""
    url = services.running_redis()
    if url is None:
        pytest.fail(f"no Redis: run `python -m tests.services pytest …`, or set {services.REDIS}")
    return url


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[services.Server]:
    """A real MLflow server, shared by the tests of this process: each uses a model of its own."""
    with services.private_mlflow() as server:
        yield server


@pytest.fixture(scope="session")
def empty_postgres(postgres_server: str, worker: str) -> Iterator[str]:
    """The URL of an empty database of this test process alone."""
    with _postgres_database(postgres_server, f"heal_test_empty_{worker}") as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str, worker: str) -> Iterator[str]:
    """The URL of a migrated database of this test process alone; `database_url` empties it for each test."""
    with _postgres_database(postgres_server, f"heal_test_{worker}") as url:
        engine = make_engine(url)
        migrate.upgrade(engine)
        engine.dispose()
        yield url


@pytest.fixture(scope="session")
def worker() -> str:
    return f"{os.getpid()}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    engine = make_engine(f"sqlite:///{path}")
    migrate.upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated and empty database, once on each kind."""
    if request.param == "sqlite":
        path = tmp_path / "heal.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("postgres_url")
    _empty(url)
    return url


def _empty(url: str) -> None:
    """Whoever is still connected belongs to a test that is over: a server has only so many connections. Then touch only
    what that test has: emptying every table takes a file and a sync for each of their indexes."""
    names = [table.name for table in reversed(Base.metadata.sorted_tables)]
    filled = SQL(" UNION ALL ").join(
        SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(name, Identifier(name)) for name in names
    )
    here = "datname = current_database() AND pid <> pg_backend_pid()"
    others = SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {}").format(SQL(here))
    with psycopg.connect(url) as connection:
        connection.execute(others)
        found = {name for (name,) in connection.execute(filled)}
        for name in names:
            if name in found:
                connection.execute(SQL("DELETE FROM {}").format(Identifier(name)))
        used = "SELECT sequencename FROM pg_sequences WHERE last_value IS NOT NULL"
        for (sequence,) in connection.execute(used).fetchall():
            connection.execute(SQL("ALTER SEQUENCE {} RESTART").format(Identifier(sequence)))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def store(engine: Engine, bell: Bell) -> SqlStore:
    return SqlStore(engine, bell)
