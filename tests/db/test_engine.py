import random
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError

from app.db import migrate
from app.db.engine import make_engine, reading, writing
from app.db.store import SqlStore
from app.domain.errors import Unreachable
from app.ports.queue import Work
from tests.conftest import Bell
from tests.contract.things import delivery
from tests.services import private_postgres


def test_sqlite_is_durable_and_keeps_its_references(sqlite_template: Path) -> None:
    engine = make_engine(f"sqlite:///{sqlite_template}")
    with reading(engine) as connection:
        told = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
        version = connection.execute(text("SELECT sqlite_version()")).scalar_one()
    engine.dispose()
    assert told == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    assert tuple(map(int, version.split("."))) >= (3, 51, 3)


def test_a_file_of_sqlite_can_be_read_while_it_is_written(sqlite_template: Path, tmp_path: Path) -> None:
    path = tmp_path / "heal.db"
    path.write_bytes(sqlite_template.read_bytes())
    engine = make_engine(f"sqlite:///{path}")
    with writing(engine) as writer:
        writer.execute(text("INSERT INTO turns VALUES ('sweep', '2026-11-21 00:00:00.000000')"))
        with reading(engine) as reader:
            assert reader.execute(text("SELECT count(*) FROM turns")).scalar_one() == 0
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/heal"])
def test_a_database_that_could_not_hold_what_is_promised_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///"):
        make_engine(url)


def test_a_mistake_in_sql_stays_loud(engine: Engine) -> None:
    with pytest.raises(DBAPIError), writing(engine) as connection:
        connection.execute(text("SELECT nothing FROM nowhere"))


def test_a_database_that_cannot_be_opened_is_unreachable(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}", "postgresql://heal@127.0.0.1:1/heal"):  # a folder is no database
        engine = make_engine(url)
        with pytest.raises(Unreachable):
            SqlStore(engine, Bell()).keep([delivery()])
        engine.dispose()


def test_a_full_disk_is_unreachable_and_leaves_nothing_half_done(sqlite_template: Path, tmp_path: Path) -> None:
    path = tmp_path / "heal.db"
    path.write_bytes(sqlite_template.read_bytes())
    engine = make_engine(f"sqlite:///{path}")
    store = SqlStore(engine, Bell())
    store.keep([delivery("before")])
    with engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    engine.dispose()

    @event.listens_for(engine, "connect")
    def cap(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    with pytest.raises(Unreachable, match="full"):
        store.keep([delivery("small"), delivery("large", body=random.Random(1).randbytes(200_000))])
    assert store.known(["before", "small", "large"]) == {"before"}
    engine.dispose()


def test_writers_of_one_file_wait_for_each_other_without_failing(sqlite_template: Path, tmp_path: Path) -> None:
    path = tmp_path / "heal.db"
    path.write_bytes(sqlite_template.read_bytes())
    engine = make_engine(f"sqlite:///{path}")
    store = SqlStore(engine, Bell())
    threads = [threading.Thread(target=store.keep, args=([delivery(f"guid-{n}")],)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.known([f"guid-{n}" for n in range(12)])) == 12
    engine.dispose()


@pytest.mark.postgres
def test_the_store_survives_the_end_of_its_postgresql() -> None:
    with private_postgres() as server:
        engine = make_engine(server.url)
        migrate.upgrade(engine)
        store = SqlStore(engine, Bell())
        store.keep([delivery("before")])
        server.kill()
        with pytest.raises(Unreachable):
            store.keep([delivery("during")])
        with pytest.raises(Unreachable):
            store.claim(Work.DELIVERY)
        server.start()
        store.keep([delivery("after", repository_id=8)])
        assert store.known(["before", "during", "after"]) == {"before", "after"}
        server.restart()
        # the connections in the pool are dead without knowing it: one try more, and nobody notices
        assert store.claim(Work.DELIVERY) is not None
        engine.dispose()


def test_the_folder_of_a_new_database_is_made(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/new/folder/heal.db")
    with writing(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()


@pytest.mark.postgres
def test_a_process_that_stops_within_a_transaction_does_not_hold_its_locks(postgres_url: str) -> None:
    engine = make_engine(postgres_url)
    with writing(engine) as connection:
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one() == "5s"
    engine.dispose()
