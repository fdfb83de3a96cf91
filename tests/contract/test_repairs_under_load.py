"""Many workers on many repairs: each is carried out once, also when workers freeze and wake up when it is too late."""

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.synchronize import Barrier

import pytest
from sqlalchemy import Engine, func, select

from app.db.engine import make_engine, reading
from app.db.store import SqlStore
from app.db.tables import RepairRow
from app.domain.errors import LeaseLost
from app.domain.repair import RepairState
from app.ports.queue import Work
from app.ports.store import Lease
from tests.conftest import Bell
from tests.contract.things import incident, repair

REPAIRS = 200
REPOSITORIES = 25
THREADS = 8
PROCESSES = 3
LEASE_S = 4.0  # longer than the slowest machine holds up a worker that is not frozen
FREEZES = 20  # every so many-th repair freezes its first worker


@dataclass
class Done:
    """What some workers did: the repairs they carried out, and those for which they came too late."""

    applied: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)


class OneAtATime:
    """Fails when two of a repository are worked on at once in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: set[int] = set()

    @contextmanager
    def on(self, repository_id: int) -> Iterator[None]:
        with self._lock:
            assert repository_id not in self._busy, f"two workers on {repository_id}"
            self._busy.add(repository_id)
        yield
        with self._lock:
            self._busy.discard(repository_id)


def plan(store: SqlStore) -> list[int]:
    """Due repairs of several repositories, some of each."""
    ids = []
    with store.begin() as ledger:
        for number in range(REPOSITORIES):
            found = ledger.add_incident(incident(f"feed-{number}", repository_id=100 + number))
            made = [ledger.add_repair(repair(found.id, f"effect-{number}-{n}")) for n in range(REPAIRS // REPOSITORIES)]
            ids += [each.id for each in made]
    return ids


def left(engine: Engine) -> int:
    with reading(engine) as connection:
        planned = select(func.count()).select_from(RepairRow).where(RepairRow.state == RepairState.PLANNED)
        return connection.scalar(planned) or 0


def carry_out(store: SqlStore, lease: Lease) -> None:
    """By compare-and-set, as the loop does. Raises LeaseLost."""
    with store.begin(lease) as ledger:
        current = ledger.repair(lease.row_id)
        assert current.state is RepairState.PLANNED
        ledger.save_repair(replace(current, state=RepairState.DONE), due_at=None)


def worker(engine: Engine, one: OneAtATime) -> Done:
    """Until nothing is planned any more; then what froze is thawed."""
    store = SqlStore(engine, Bell(), lease_s=LEASE_S)
    done, frozen = Done(), []
    while left(engine):
        lease = store.claim(Work.REPAIR)
        if lease is None:
            time.sleep(0.01)
        elif lease.row_id % FREEZES == 0 and lease.crashes == 0:
            frozen.append(lease)
        else:
            with store.begin() as ledger:
                repository_id = ledger.incident(ledger.repair(lease.row_id).incident_id).repository_id
            with one.on(repository_id):
                time.sleep(0.001)  # the next of the repository may begin as soon as this one is written down
            carry_out(store, lease)
            done.applied.append(lease.row_id)
    for lease in frozen:
        try:
            carry_out(store, lease)
            done.applied.append(lease.row_id)
        except LeaseLost:
            done.refused.append(lease.row_id)
    return done


def in_threads(url: str) -> Done:
    engine, one = make_engine(url), OneAtATime()
    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(lambda _: worker(engine, one), range(THREADS)))
    engine.dispose()
    return together(parts)


def together(parts: list[Done]) -> Done:
    return Done(sorted(i for part in parts for i in part.applied), sorted(i for part in parts for i in part.refused))


def exactly_once(done: Done, ids: list[int]) -> None:
    assert [each for each, count in Counter(done.applied).items() if count > 1] == []
    assert done.applied == sorted(ids)
    assert done.refused == [each for each in sorted(ids) if each % FREEZES == 0]
    assert len(done.refused) == REPAIRS // FREEZES


def test_many_threads_carry_every_repair_out_once(store: SqlStore, database_url: str) -> None:
    ids = plan(store)
    exactly_once(in_threads(database_url), ids)


_together: list[Barrier] = []


def _start(barrier: Barrier) -> None:
    _together.append(barrier)


def _in_threads_at_once(url: str) -> Done:
    """Not before every process is up: the first would have done it all."""
    _together[0].wait(60)
    return in_threads(url)


@pytest.mark.parametrize("database_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_many_threads_of_many_processes_carry_every_repair_out_once(store: SqlStore, database_url: str) -> None:
    ids = plan(store)
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(PROCESSES, _start, (spawn.Barrier(PROCESSES),)) as pool:
        exactly_once(together(pool.map(_in_threads_at_once, [database_url] * PROCESSES, chunksize=1)), ids)
