import pytest
from sqlalchemy import Engine

from app.db.store import SqlStore
from tests.healing.world import World


@pytest.fixture
def world(engine: Engine, store: SqlStore) -> World:
    return World(engine, store, look_every_s=3600.0)
