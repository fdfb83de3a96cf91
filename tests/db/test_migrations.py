from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from app.db import migrate
from app.db.engine import make_engine
from app.db.tables import Base


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a database without any table."""
    url = f"sqlite:///{tmp_path}/empty.db" if request.param == "sqlite" else request.getfixturevalue("empty_postgres")
    engine = make_engine(url)
    yield engine
    if migrate.current(engine) is not None:
        migrate.downgrade(engine, "base")
    engine.dispose()


def test_an_empty_database_is_brought_up_and_down_again(empty: Engine) -> None:
    assert migrate.current(empty) is None
    assert migrate.pending(empty)
    migrate.upgrade(empty)
    assert migrate.current(empty) == migrate.head()
    assert not migrate.pending(empty)
    migrate.upgrade(empty)
    migrate.downgrade(empty, "base")
    assert set(inspect(empty).get_table_names()) <= {"alembic_version"}
    migrate.upgrade(empty)


def test_the_migrated_schema_is_the_one_in_the_code(empty: Engine) -> None:
    migrate.upgrade(empty)
    defaults = empty.dialect.name != "sqlite"  # SQLite reports an empty default in another spelling than it was given
    with empty.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": defaults}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_several_processes_may_migrate_at_once(empty: Engine) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: migrate.upgrade(empty), range(3)))
    assert not migrate.pending(empty)


@pytest.mark.postgres
def test_postgresql_does_not_compress_what_is_compressed(postgres_url: str) -> None:
    engine = make_engine(postgres_url)
    with engine.connect() as connection:
        storage = "SELECT attstorage FROM pg_attribute WHERE attrelid = 'deliveries'::regclass AND attname = 'body'"
        assert connection.scalar(text(storage)) in ("e", b"e")
    engine.dispose()
