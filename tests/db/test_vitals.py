from datetime import timedelta

from sqlalchemy import Engine, update

from app.db.engine import db_now
from app.db.tables import DeliveryRow
from app.db.vitals import LATE_S, Vitals
from app.ports.queue import Work
from tests.contract.things import delivery


def test_the_bots_parts_are_well_while_nothing_waits(engine: Engine) -> None:
    assert [(part.name, part.ok) for part in Vitals(engine).parts()] == [("database", True), ("workers", True)]


def test_a_row_that_nobody_takes_tells_of_missing_workers(engine: Engine, store) -> None:
    store.keep([delivery("guid-1")])
    assert all(part.ok for part in Vitals(engine).parts())
    with engine.begin() as connection:
        connection.execute(update(DeliveryRow).values(due_at=db_now(-LATE_S - timedelta(minutes=1).total_seconds())))
    database, workers = Vitals(engine).parts()
    assert database.ok
    assert not workers.ok
    assert workers.detail.startswith(f"the oldest {Work.DELIVERY} waits for 36")
