"""Whose a thing is, on both databases."""

from sqlalchemy import Engine, update

from app.db.engine import writing
from app.db.owners import Owner, Owners
from app.db.tables import RepositoryRow
from app.domain.incident import State
from tests.browser.incidents import add_incident
from tests.web.people import add_repository
from tests.web.test_deliveries import deliver

HOME, OLD, NEW = 7, 1, 2


def test_what_happened_in_a_repository_moves_with_it_to_another_installation(engine: Engine) -> None:
    add_repository(engine, HOME, "acme/vision", installation_id=OLD)
    add_repository(engine, 8, "rival/other", installation_id=NEW)
    with writing(engine) as connection:
        add_incident(connection, 1, State.AWAITING_APPROVAL, "broken")
    delivery, nobodys = deliver(engine, "a"), deliver(engine, "b", repository_id=None, repository="")
    owners = Owners(engine)
    assert owners.incident(1) == owners.delivery(delivery) == Owner(OLD, HOME)
    with writing(engine) as connection:
        connection.execute(update(RepositoryRow).where(RepositoryRow.id == HOME).values(installation_id=NEW))
    assert owners.incident(1) == owners.delivery(delivery) == Owner(NEW, HOME)
    assert owners.delivery(nobodys) == Owner(OLD)
    assert owners.incident(99) is None
