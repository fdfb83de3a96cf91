from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, func, select, update

from app.db.accounts import Accounts
from app.db.answers import Answers
from app.db.engine import db_now, reading, writing
from app.db.store import SqlStore
from app.db.tables import AnswerRow, DeliveryRow, SessionRow
from app.domain.delivery import OBSERVATIONS, DeliveryState
from app.ports.queue import Work
from tests.conftest import Bell
from tests.contract.things import NOON, delivery


def test_a_delivery_comes_back_as_it_was_received(store: SqlStore) -> None:
    body = bytes(range(256)) * 40
    (kept,) = store.keep([delivery(body=body, received_at=NOON)])
    with store.begin() as ledger:
        found = ledger.delivery(kept.id)
    assert found == delivery(body=body, received_at=NOON, id=kept.id)


def test_a_redelivery_is_kept_once(store: SqlStore, engine: Engine) -> None:
    (first,) = store.keep([delivery()])
    (again,) = store.keep([delivery()])
    assert first.fresh
    assert not again.fresh
    assert first.id == again.id
    assert _count(engine) == 1


def test_the_same_guid_twice_in_one_batch_is_kept_once(store: SqlStore, engine: Engine) -> None:
    kept = store.keep([delivery("a"), delivery("b"), delivery("a")])
    assert [each.fresh for each in kept] == [True, True, False]
    assert kept[0].id == kept[2].id
    assert _count(engine) == 2


def test_one_guid_of_two_sources_is_two_deliveries(store: SqlStore, engine: Engine) -> None:
    kept = store.keep([delivery(), delivery(source="alertmanager")])
    assert [each.fresh for each in kept] == [True, True]
    assert _count(engine) == 2


def test_callers_at_the_same_time_keep_a_guid_once(store: SqlStore, engine: Engine) -> None:
    guids = [f"guid-{number}" for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: store.keep([delivery(guid) for guid in guids]), range(8)))
    assert _count(engine) == len(guids)
    assert sum(kept.fresh for answer in answers for kept in answer) == len(guids)
    assert len({tuple(kept.id for kept in answer) for answer in answers}) == 1


def test_deliveries_are_numbered_in_the_order_given(store: SqlStore) -> None:
    kept = store.keep([delivery(f"guid-{9 - number}") for number in range(10)])
    assert [each.id for each in kept] == sorted(each.id for each in kept)


def test_the_first_new_delivery_of_each_repository_rings_once_after_the_commit(store: SqlStore, bell: Bell) -> None:
    first, _, _, other = store.keep(
        [delivery("a"), delivery("b"), delivery("a"), delivery("c", repository_id=8)]
    )  # b cannot be claimed before a, and is rung for when a is let go
    assert bell.rung == [(Work.DELIVERY, first.id), (Work.DELIVERY, other.id)]


def test_a_delivery_rings_unless_another_of_its_repository_waits_before_it(store: SqlStore, bell: Bell) -> None:
    (first,) = store.keep([delivery("a")])
    bell.rung.clear()
    store.keep([delivery("a"), delivery("b")])  # a redelivery rings anew
    assert bell.rung == [(Work.DELIVERY, first.id)]
    lease = store.claim(Work.DELIVERY)
    assert lease is not None
    bell.rung.clear()
    store.keep([delivery("c")])
    assert bell.rung == []
    with store.begin(lease) as ledger:
        ledger.finish_delivery(lease.row_id, DeliveryState.DONE)
    lease = store.claim(Work.DELIVERY)
    assert lease is not None
    with store.begin(lease) as ledger:
        ledger.finish_delivery(lease.row_id, DeliveryState.DONE)
    assert store.claim(Work.DELIVERY) is not None
    bell.rung.clear()
    (behind_one_in_hand,) = store.keep([delivery("d")])
    assert bell.rung == [(Work.DELIVERY, behind_one_in_hand.id)]


@pytest.mark.parametrize("state", [DeliveryState.DONE, DeliveryState.IGNORED])
def test_a_redelivery_of_a_finished_delivery_is_not_worked_on_again(store: SqlStore, state: DeliveryState) -> None:
    store.keep([delivery()])
    lease = store.claim(Work.DELIVERY)
    assert lease is not None
    with store.begin(lease) as ledger:
        ledger.finish_delivery(lease.row_id, state, "seen")
    store.keep([delivery()])
    assert store.claim(Work.DELIVERY) is None


def test_a_redelivery_of_one_that_waits_for_its_next_try_is_due_at_once(store: SqlStore) -> None:
    store.keep([delivery()])
    lease = store.claim(Work.DELIVERY)
    assert lease is not None
    assert store.retry(lease, "GitHub is away", at=NOON.replace(year=2999), counts=True)
    assert store.claim(Work.DELIVERY) is None
    store.keep([delivery()])
    assert store.claim(Work.DELIVERY) is not None


def test_a_redelivery_of_a_dead_delivery_revives_it(store: SqlStore) -> None:
    store.keep([delivery()])
    lease = store.claim(Work.DELIVERY)
    assert lease is not None
    store.bury(lease, "poison")
    store.keep([delivery()])
    again = store.claim(Work.DELIVERY)
    assert again is not None
    assert (again.row_id, again.attempts) == (lease.row_id, 1)


def test_a_redelivery_does_not_take_a_delivery_from_its_worker(store: SqlStore) -> None:
    store.keep([delivery()])
    lease = store.claim(Work.DELIVERY)
    assert lease is not None
    store.keep([delivery()])
    assert store.claim(Work.DELIVERY) is None
    with store.begin(lease) as ledger:
        ledger.finish_delivery(lease.row_id, DeliveryState.DONE)
    assert store.claim(Work.DELIVERY) is None


def test_text_that_a_database_cannot_hold_is_kept_all_the_same(store: SqlStore) -> None:
    odd = "nul \x00 and \ud800"
    (kept,) = store.keep([delivery(odd, action=odd, headers={"x": odd})])
    with store.begin() as ledger:
        found = ledger.delivery(kept.id)
    assert found.action == "nul \ufffd and \ufffd"
    assert store.keep([delivery(odd)])[0].id == kept.id


def test_known_tells_which_guids_are_here(store: SqlStore) -> None:
    store.keep([delivery("a"), delivery("b")])
    assert store.known(["a", "c"]) == {"a"}
    assert store.known([]) == set()


def test_pruning_drops_the_bodies_of_finished_deliveries_and_keeps_their_guids(store: SqlStore) -> None:
    done, waiting = store.keep([delivery("done"), delivery("waiting", repository_id=8)])
    with store.begin() as ledger:
        ledger.finish_delivery(done.id, DeliveryState.DONE)
    assert store.prune(older_than_s=3600) == 0
    assert store.prune(older_than_s=-1) == 1
    assert store.prune(older_than_s=-1) == 0
    with store.begin() as ledger:
        assert ledger.delivery(done.id).body == b""
        assert ledger.delivery(waiting.id).body == delivery().body
    assert not store.keep([delivery("done")])[0].fresh


def test_a_models_rows_are_not_kept_when_they_are_ignored_or_dead(store: SqlStore) -> None:
    ignored, dead, other = store.keep(
        [delivery("ignored", source=OBSERVATIONS), delivery("dead", source=OBSERVATIONS), delivery("other")]
    )
    with store.begin() as ledger:
        ledger.finish_delivery(ignored.id, DeliveryState.IGNORED, "switched off")
        assert ledger.delivery(ignored.id).body == b""
    for kept in (dead, other):
        lease = store.claim(Work.DELIVERY, kept.id)
        assert lease is not None
        store.bury(lease, "boom")
    assert store.prune(older_than_s=3600) == 0
    assert store.prune(older_than_s=-1) == 1
    with store.begin() as ledger:
        assert ledger.delivery(dead.id).body == b""
        assert ledger.delivery(other.id).body == delivery().body
    assert store.redrive(Work.DELIVERY, other.id)


def _count(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(DeliveryRow)).scalar_one()


def test_what_people_left_behind_is_tidied_up_though_nobody_comes(store: SqlStore, engine: Engine) -> None:
    accounts = Accounts(engine)
    accounts.remember(11, "maria", operator=False)
    accounts.open(11, seconds=60)
    Answers(engine).begin("token:1", "key", "hash")

    def left() -> list[int]:
        store.prune(older_than_s=3600)
        with reading(engine) as connection:
            return [connection.scalar(select(func.count()).select_from(row)) or 0 for row in (AnswerRow, SessionRow)]

    assert left() == [1, 1]
    with writing(engine) as connection:
        connection.execute(update(AnswerRow).values(at=db_now(-2 * 86_400)))
        connection.execute(update(SessionRow).values(expires_at=db_now(-8 * 86_400)))
    assert left() == [0, 0]


def test_what_was_marked_of_a_runner_long_ago_is_forgotten_and_nothing_else(store: SqlStore) -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    store.mark("runner:7:1:well", long_ago)
    store.mark("runner:7:2:well", datetime.now(UTC))
    store.mark("deliveries audited until", long_ago)
    store.prune(older_than_s=3600)
    assert store.marked("runner:7:1:well") is None
    assert store.marked("runner:7:2:well") is not None
    assert store.marked("deliveries audited until") == long_ago
