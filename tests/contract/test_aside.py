"""What was put aside, and is worked off again because somebody said so."""

import pytest
from sqlalchemy import Engine, select

from app.db.aside import again
from app.db.audit import Act
from app.db.engine import reading
from app.db.store import SqlStore
from app.db.tables import AuditRow
from app.ports.queue import Work
from tests.contract.things import delivery


@pytest.fixture
def buried(store: SqlStore) -> int:
    (kept,) = store.keep([delivery()])
    lease = store.claim(Work.DELIVERY)
    assert lease is not None
    store.bury(lease, "poison")
    return kept.id


def test_who_asked_is_written_down_once_with_what_they_asked_for(store: SqlStore, engine: Engine, buried: int) -> None:
    act = Act("ada", "dashboard", "replay", "delivery", str(buried))
    assert again(store, engine, Work.DELIVERY, buried, act)
    assert not again(store, engine, Work.DELIVERY, buried, act)
    with reading(engine) as connection:
        assert connection.scalars(select(AuditRow.verb)).all() == ["replay"]


def test_nothing_is_worked_off_again_that_could_not_be_written_down(
    store: SqlStore, engine: Engine, buried: int
) -> None:
    with pytest.raises(TypeError):
        again(store, engine, Work.DELIVERY, buried, Act("ada", "dashboard", "replay", data={"unwritable": object()}))
    assert store.claim(Work.DELIVERY) is None
