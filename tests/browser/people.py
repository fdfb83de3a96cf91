"""What the settings show: people with their roles, and tokens that were made."""

from sqlalchemy import Engine, select

from app.adapters.doorbells import Silence
from app.db.accounts import Accounts, Grant
from app.db.engine import reading
from app.db.store import SqlStore
from app.db.tables import RepositoryRow
from app.db.tokens import Tokens
from app.domain.access import LOCAL, Role, Scope
from app.domain.audit import Act

DAY_S = 24 * 3600.0


def fill_people(engine: Engine) -> None:
    """Of installation 1: an admin, an operator that may only look, and somebody with a long name."""
    with reading(engine) as connection:
        here = select(RepositoryRow.id).where(RepositoryRow.installation_id == 1, RepositoryRow.removed_at.is_(None))
        repositories = connection.scalars(here.order_by(RepositoryRow.id)).all()
    accounts = Accounts(engine)
    accounts.remember(LOCAL, "local", operator=True)
    for number, login, role in (
        (501, "mona", Role.ADMIN),
        (502, "hubot", Role.OPERATOR),
        (503, "a-login-of-thirty-nine-characters-is-long", Role.VIEWER),
    ):
        accounts.remember(number, login, operator=False)
        accounts.grant(number, [Grant(repository, 1, role) for repository in repositories])
    accounts.appoint(1, 502, Role.VIEWER, Act("mona", "dashboard", "set_role", "account", "502"))
    store = SqlStore(engine, Silence())
    tokens = Tokens(engine, store.secret)
    with store.begin() as ledger:
        first = ledger.repository(repositories[0])
    tokens.create(first, [Scope.OBSERVATIONS, Scope.SIGNALS], name="serving in production", account_id=501)
    tokens.create(
        None, [Scope.READ], name="a report every week", installation_id=1, account_id=501, expires_in_s=90 * DAY_S
    )
    tokens.create(None, [Scope.READ, Scope.OPERATE], name="laptop", account_id=LOCAL, expires_in_s=30 * DAY_S)
