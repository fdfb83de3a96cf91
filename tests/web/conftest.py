from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.db.engine import make_engine
from app.db.tables import Base
from tests.browser.incidents import fill
from tests.web.people import signed_in


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Engine]:
    """A database without a row, for what is the same on both kinds."""
    engine = make_engine(f"sqlite:///{tmp_path}/heal.db")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def site(empty: Engine) -> TestClient:
    """Ten incidents, as whoever holds the machine sees them."""
    fill(empty)
    return signed_in(empty)
