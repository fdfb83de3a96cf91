"""What a reader sees, told in rows: by grant, by token, and for how long."""

import pytest
from sqlalchemy import Engine, select, update

from app.db.accounts import Accounts, Grant
from app.db.engine import db_now, reading, writing
from app.db.sight import GRANTED_S, seen_repository
from app.db.tables import GrantRow, RepositoryRow
from app.domain.access import EVERYTHING, Role, Sight
from tests.web.people import add_repository

MONA = 501


@pytest.fixture
def tenants(engine: Engine) -> Engine:
    """Repositories 1 and 2 of installation 1, and 3 of installation 2; mona may read 1 and 3."""
    add_repository(engine, 1, "acme/one", 1)
    add_repository(engine, 2, "acme/two", 1)
    add_repository(engine, 3, "other/three", 2)
    accounts = Accounts(engine)
    accounts.remember(MONA, "mona", operator=False)
    accounts.grant(MONA, [Grant(1, 1, Role.OPERATOR), Grant(3, 2, Role.VIEWER)])
    return engine


def seen_by(engine: Engine, sight: Sight) -> set[int]:
    with reading(engine) as connection:
        return set(connection.scalars(select(RepositoryRow.id).where(seen_repository(sight, RepositoryRow.id))))


@pytest.mark.parametrize(
    ("sight", "repositories"),
    [
        (Sight(), set()),
        (EVERYTHING, {1, 2, 3}),
        (Sight(account_id=MONA), {1, 3}),
        (Sight(account_id=7), set()),
        (Sight(installation_id=1), {1, 2}),
        (Sight(repository_id=2), {2}),
        (Sight(account_id=MONA, installation_id=1), {1}),
        (Sight(account_id=MONA, repository_id=2), set()),
    ],
    ids=["nobody", "everything", "mona", "a stranger", "an installation", "a repository", "hers of it", "not hers"],
)
def test_the_narrowest_of_what_is_said_counts(tenants: Engine, sight: Sight, repositories: set[int]) -> None:
    assert seen_by(tenants, sight) == repositories


def test_what_github_said_long_ago_counts_no_more(tenants: Engine) -> None:
    with writing(tenants) as connection:
        old = update(GrantRow).where(GrantRow.repository_id == 1)
        connection.execute(old.values(granted_at=db_now(-GRANTED_S - 1.0)))
    assert seen_by(tenants, Sight(account_id=MONA)) == {3}
    accounts = Accounts(tenants)
    assert accounts.role_in(MONA, 1) is None
    assert accounts.role_in(MONA, 3) is Role.VIEWER
    assert accounts.role_at(MONA, 1) is None


def test_what_the_app_was_removed_from_is_seen_by_nobody_who_was_granted_it(tenants: Engine) -> None:
    with writing(tenants) as connection:
        connection.execute(update(RepositoryRow).where(RepositoryRow.id == 3).values(removed_at=db_now()))
    assert seen_by(tenants, Sight(account_id=MONA)) == {1}
