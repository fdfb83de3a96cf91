"""Bots that are started once per module and mode; each test brings a repository of its own."""

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from app.db import migrate
from app.db.engine import make_engine
from sandbox.catalogue import PACKAGES
from sandbox.index import Package
from tests.conftest import _postgres_database
from tests.e2e.stage import Stage, stage
from tests.services import private_postgres, private_redis

Staged = Callable[..., AbstractContextManager[Stage]]


@pytest.fixture(scope="session")
def app_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def staged(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    app_key: rsa.RSAPrivateKey,
    sqlite_template: Path,
) -> Staged:
    """Make a stage in a mode, with servers of its own where the mode needs some."""

    @contextmanager
    def make(mode: str, settings: Mapping[str, str] = {}, packages: Iterable[Package] = PACKAGES) -> Iterator[Stage]:
        root = tmp_path_factory.mktemp("e2e")
        if mode == "embedded":
            shutil.copy(sqlite_template, root / "heal.db")
            url = f"sqlite:///{root}/heal.db"
            with _ended(stage(root, app_key, database_url=url, settings=settings, packages=packages)) as made:
                yield made
            return
        with ExitStack() as stack:
            redis = stack.enter_context(private_redis())
            postgres = stack.enter_context(private_postgres()) if mode == "full with a PostgreSQL of its own" else None
            server = postgres.url if postgres else request.getfixturevalue("postgres_server")
            url = stack.enter_context(_postgres_database(server, f"heal_e2e_{uuid.uuid4().hex[:12]}"))
            engine = make_engine(url)
            migrate.upgrade(engine)
            engine.dispose()
            made = stage(root, app_key, database_url=url, broker_url=redis.url, settings=settings, packages=packages)
            made.postgres, made.redis = postgres, redis
            yield stack.enter_context(_ended(made))

    return make


@contextmanager
def _ended(made: Stage) -> Iterator[Stage]:
    try:
        yield made
    finally:
        made.end()
