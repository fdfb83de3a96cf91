import multiprocessing
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, update

from app.db.engine import make_engine
from app.db.leases import ROWS
from app.db.store import MAX_CRASHES, SqlStore
from app.domain.delivery import DeliveryState
from app.domain.errors import LeaseLost
from app.ports.queue import Work
from app.ports.store import Lease
from tests.conftest import Bell
from tests.contract.things import NOON, delivery, effect, incident, repair

LATER = NOON.replace(year=2999)


def keep(store: SqlStore, count: int, *, repository_id: int | None = None) -> list[int]:
    """Deliveries of as many repositories, or of this one."""
    deliveries = [delivery(f"guid-{repository_id}-{n}", repository_id=repository_id or n + 1) for n in range(count)]
    return [kept.id for kept in store.keep(deliveries)]


def must_claim(store: SqlStore, work: Work = Work.DELIVERY, row_id: int | None = None) -> Lease:
    lease = store.claim(work, row_id)
    assert lease is not None
    return lease


def expire(engine: Engine, lease: Lease) -> None:
    """As if the lease's time were over."""
    row = ROWS[lease.work]
    with engine.begin() as connection:
        connection.execute(update(row).where(row.id == lease.row_id).values(lease_until=NOON.replace(year=2001)))


def finish(store: SqlStore, lease: Lease) -> None:
    with store.begin(lease) as ledger:
        ledger.finish_delivery(lease.row_id, DeliveryState.DONE)


def one_of(store: SqlStore, work: Work) -> int:
    """A due row of this kind."""
    with store.begin() as ledger:
        if work is Work.REPAIR:
            return ledger.add_repair(repair(ledger.add_incident(incident()).id)).id
        if work is Work.EFFECT:
            return ledger.want_effect(effect())
    return keep(store, 1)[0]


@pytest.mark.parametrize("work", Work)
def test_a_row_is_claimed_by_one_worker_at_a_time(store: SqlStore, work: Work) -> None:
    row_id = one_of(store, work)
    before = time.monotonic()
    lease = must_claim(store, work)
    assert (lease.work, lease.row_id, lease.attempts, lease.crashes) == (work, row_id, 1, 0)
    assert before < lease.until_monotonic < time.monotonic() + 30
    assert store.claim(work) is None
    assert store.claim(work, row_id) is None


def test_nothing_is_claimed_where_nothing_is_due(store: SqlStore) -> None:
    assert store.claim(Work.DELIVERY) is None
    assert store.claim(Work.DELIVERY, 4711) is None


def test_many_threads_claim_every_row_once(store: SqlStore) -> None:
    ids = keep(store, 40)

    def drain(_: int) -> list[int]:
        taken = []
        while (lease := store.claim(Work.DELIVERY)) is not None:
            taken.append(lease.row_id)
            finish(store, lease)
        return taken

    with ThreadPoolExecutor(6) as pool:
        taken = [row_id for each in pool.map(drain, range(6)) for row_id in each]
    assert sorted(taken) == ids


def _drain(url: str) -> list[int]:
    engine = make_engine(url)
    store = SqlStore(engine, Bell())
    taken = []
    while (lease := store.claim(Work.DELIVERY)) is not None:
        taken.append(lease.row_id)
        finish(store, lease)
    engine.dispose()
    return taken


def test_many_processes_claim_every_row_once(store: SqlStore, database_url: str) -> None:
    ids = keep(store, 60)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        taken = [row_id for each in pool.map(_drain, [database_url] * 3) for row_id in each]
    # a process that found only mailboxes in others' hands stops early: what is left is still due
    taken += _drain(database_url)
    assert sorted(taken) == ids


@pytest.mark.parametrize("work", Work)
def test_a_write_under_an_old_lease_is_refused_and_leaves_nothing(store: SqlStore, engine: Engine, work: Work) -> None:
    one_of(store, work)
    old = must_claim(store, work)
    expire(engine, old)
    new = must_claim(store, work)
    assert new.token > old.token
    with pytest.raises(LeaseLost), store.begin(old) as ledger:
        ledger.add_incident(incident("never"))
    for refused in (
        lambda: store.renew(old),
        lambda: store.retry(old, "late", at=None, counts=True),
        lambda: store.bury(old, "late"),
    ):
        with pytest.raises(LeaseLost):
            refused()
    store.hand_back(old)
    store.release(old)
    with store.begin(new) as ledger:
        assert ledger.find_incident(7, "never") is None
    store.renew(new)


def test_a_lease_that_ran_out_unnoticed_still_serves_while_nobody_else_took_the_row(
    store: SqlStore, engine: Engine
) -> None:
    keep(store, 1)
    lease = must_claim(store)
    expire(engine, lease)
    store.renew(lease)
    assert store.claim(Work.DELIVERY) is None
    finish(store, lease)


def test_an_expired_lease_is_claimed_again_and_counted_as_a_crash(store: SqlStore, engine: Engine) -> None:
    keep(store, 1)
    expire(engine, must_claim(store))
    again = must_claim(store)
    assert (again.attempts, again.crashes) == (2, 1)


def test_a_row_on_which_three_workers_died_is_put_aside(store: SqlStore, engine: Engine) -> None:
    (row_id,) = keep(store, 1)
    for _ in range(MAX_CRASHES):
        expire(engine, must_claim(store))
    assert store.claim(Work.DELIVERY) is None
    with engine.connect() as connection:
        row = connection.execute(ROWS[Work.DELIVERY].__table__.select()).one()
    assert row.state == "dead"
    assert "3 workers" in row.last_error
    assert store.redrive(Work.DELIVERY, row_id)
    assert must_claim(store).attempts == 1


def test_putting_a_poisonous_row_aside_does_not_keep_the_next_one_waiting(store: SqlStore, engine: Engine) -> None:
    poison, sound = keep(store, 2, repository_id=7)
    for _ in range(MAX_CRASHES):
        expire(engine, must_claim(store))
    assert must_claim(store).row_id == sound
    assert poison not in store.due(Work.DELIVERY, 10)


def test_a_renewed_lease_ends_later(store: SqlStore) -> None:
    keep(store, 1)
    lease = must_claim(store)
    renewed = store.renew(lease)
    assert renewed.until_monotonic > lease.until_monotonic
    assert renewed.token == lease.token
    assert renewed.cause == lease.cause != ""


def test_a_row_handed_back_is_due_at_once_and_the_attempt_is_not_counted(store: SqlStore) -> None:
    keep(store, 1)
    store.hand_back(must_claim(store))
    assert must_claim(store).attempts == 1


def test_a_failed_try_waits_before_the_next_one(store: SqlStore) -> None:
    keep(store, 1)
    assert store.retry(must_claim(store), "no answer", at=None, counts=True)
    assert store.claim(Work.DELIVERY) is None
    assert store.due(Work.DELIVERY, 10) == []


def test_a_retry_at_a_time_that_has_come_is_due(store: SqlStore) -> None:
    keep(store, 1)
    store.retry(must_claim(store), "no answer", at=NOON.replace(year=2001), counts=True)
    assert must_claim(store).attempts == 2


def test_waiting_for_a_rate_limit_costs_no_attempt(store: SqlStore) -> None:
    keep(store, 1)
    for _ in range(20):
        assert store.retry(must_claim(store), "slow down", at=NOON.replace(year=2001), counts=False)
    assert must_claim(store).attempts == 1


def test_the_last_try_buries_the_row_and_redrive_brings_it_back(engine: Engine, bell: Bell) -> None:
    store = SqlStore(engine, bell, max_attempts=2)
    (row_id,) = keep(store, 1)
    assert store.retry(must_claim(store), "first", at=NOON.replace(year=2001), counts=True)
    assert not store.retry(must_claim(store), "second", at=NOON.replace(year=2001), counts=True)
    assert store.claim(Work.DELIVERY) is None
    bell.rung.clear()
    assert store.redrive(Work.DELIVERY, row_id)
    assert bell.rung == [(Work.DELIVERY, row_id)]
    assert must_claim(store).attempts == 1


@pytest.mark.parametrize("work", Work)
def test_a_buried_row_of_any_kind_can_be_redriven_once(store: SqlStore, work: Work) -> None:
    row_id = one_of(store, work)
    assert not store.redrive(work, row_id)
    store.bury(must_claim(store, work), "poison")
    assert store.claim(work) is None
    assert store.redrive(work, row_id)
    assert not store.redrive(work, row_id)
    assert must_claim(store, work).row_id == row_id


def test_a_mailbox_is_worked_on_in_order_and_one_row_at_a_time(store: SqlStore) -> None:
    ids = keep(store, 3, repository_id=7)
    seen = []
    for _ in ids:
        lease = must_claim(store)
        assert store.claim(Work.DELIVERY) is None
        seen.append(lease.row_id)
        finish(store, lease)
    assert seen == ids


def test_a_ring_for_a_row_whose_turn_has_not_come_is_not_answered(store: SqlStore) -> None:
    first, second = keep(store, 2, repository_id=7)
    assert store.claim(Work.DELIVERY, second) is None
    assert must_claim(store, row_id=first).row_id == first


def test_finishing_a_row_rings_for_the_next_of_its_mailbox(store: SqlStore, bell: Bell) -> None:
    _, second = keep(store, 2, repository_id=7)
    lease = must_claim(store)
    bell.rung.clear()
    finish(store, lease)
    assert bell.rung == [(Work.DELIVERY, second)]


def test_a_row_that_waits_for_its_next_try_does_not_hold_up_its_mailbox(store: SqlStore) -> None:
    _, second = keep(store, 2, repository_id=7)
    store.retry(must_claim(store), "no answer", at=LATER, counts=True)
    assert must_claim(store).row_id == second


def test_a_busy_repository_does_not_starve_a_quiet_one(store: SqlStore) -> None:
    keep(store, 50, repository_id=7)
    quiet = keep(store, 2, repository_id=8)
    served: list[int] = []
    for _ in range(6):
        lease = must_claim(store)
        served.append(lease.row_id)
        finish(store, lease)
    assert set(quiet) <= set(served)


def test_mailboxes_take_turns(store: SqlStore, engine: Engine) -> None:
    for repository_id in (7, 8, 9):
        keep(store, 4, repository_id=repository_id)
    mailboxes: list[str] = []
    for _ in range(9):
        lease = must_claim(store)
        with engine.connect() as connection:
            table = ROWS[Work.DELIVERY].__table__
            mailboxes.append(connection.execute(table.select().where(table.c.id == lease.row_id)).one().mailbox)
        finish(store, lease)
    assert set(Counter(mailboxes).values()) == {3}


def test_due_names_what_could_be_claimed_oldest_first(store: SqlStore) -> None:
    ids = keep(store, 4)
    waiting = keep(store, 2, repository_id=50)
    lease = must_claim(store, row_id=ids[1])
    assert store.due(Work.DELIVERY, 10) == [ids[0], ids[2], ids[3], waiting[0]]
    assert store.due(Work.DELIVERY, 2) == [ids[0], ids[2]]
    assert store.due(Work.DELIVERY, 10, overdue_s=60) == []
    store.hand_back(lease)
    assert ids[1] in store.due(Work.DELIVERY, 10)


def test_exactly_one_of_many_callers_takes_the_turn(store: SqlStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: store.take_turn("sweep", 3600), range(24)))
    assert taken.count(True) == 1
    assert store.take_turn("another", 3600)


def test_the_turn_comes_again_after_its_period(store: SqlStore) -> None:
    assert store.take_turn("sweep", -1)
    assert store.take_turn("sweep", 3600)
    assert not store.take_turn("sweep", 3600)
