"""What GitHub lets people do, as it is asked for by several browsers at once."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine, func, select

from app.db.accounts import Accounts, Grant
from app.db.engine import reading
from app.db.tables import GrantRow
from app.domain.access import Role

MONA, BROWSERS = 501, 4


def test_several_browsers_of_one_person_ask_for_their_rights_at_once(engine: Engine) -> None:
    accounts = Accounts(engine)
    accounts.remember(MONA, "mona", operator=False)
    grants = [Grant(number, 1, Role.VIEWER) for number in range(1, 40)]
    with ThreadPoolExecutor(BROWSERS) as browsers:
        asked = [browsers.submit(accounts.grant, MONA, grants) for _ in range(10 * BROWSERS)]
    assert [each.exception() for each in asked if each.exception()] == []
    with reading(engine) as connection:
        assert connection.scalar(select(func.count()).select_from(GrantRow)) == len(grants)
