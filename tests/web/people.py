"""People for tests of the dashboard: who is signed in, and what GitHub lets them do."""

from collections.abc import Iterable

from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.db.accounts import Accounts, Grant
from app.db.dialect import insert
from app.db.engine import db_now, writing
from app.db.tables import InstallationRow, RepositoryRow
from app.domain.access import LOCAL, Role
from app.healing.kit import Kit
from app.web.sessions import PLAIN
from tests.browser.site import dashboard

HOUR_S = 3600.0
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


def signed_in(engine: Engine, kit: Kit | None = None) -> TestClient:
    """The dashboard on that database, as whoever holds the machine sees it."""
    client = TestClient(dashboard(engine, kit=kit), raise_server_exceptions=False)
    local(client, engine)
    return client


def local(client: TestClient, engine: Engine) -> None:
    """Whoever holds the machine: sees everything, may do everything."""
    accounts = Accounts(engine)
    accounts.remember(LOCAL, "local", operator=True)
    enter(client, accounts.open(LOCAL, seconds=HOUR_S))


def visitor(
    client: TestClient,
    engine: Engine,
    role: Role = Role.VIEWER,
    repositories: Iterable[int] = (),
    *,
    account_id: int = 501,
    login: str = "mona",
    installation_id: int = 1,
) -> None:
    """Somebody with that role in those repositories of one installation, and nothing elsewhere."""
    accounts = Accounts(engine)
    accounts.remember(account_id, login, operator=False)
    accounts.grant(account_id, [Grant(number, installation_id, role) for number in repositories])
    enter(client, accounts.open(account_id, seconds=HOUR_S))


def enter(client: TestClient, cookie: str) -> None:
    client.cookies.set(PLAIN, cookie)
    client.headers.update(SAME_ORIGIN)


def add_repository(engine: Engine, number: int, full_name: str, installation_id: int = 1) -> None:
    with writing(engine) as connection:
        home = insert(connection, InstallationRow).values(
            id=installation_id, account=full_name.partition("/")[0], added_at=db_now()
        )
        connection.execute(home.on_conflict_do_nothing())
        row = insert(connection, RepositoryRow).values(
            id=number,
            full_name=full_name,
            installation_id=installation_id,
            default_branch="main",
            added_at=db_now(),
        )
        connection.execute(row.on_conflict_do_nothing())
