"""The right to act ends when the lease can no longer be trusted."""

import threading
import time
from dataclasses import dataclass, field

import pytest

from app.domain.errors import LeaseLost, Unreachable
from app.healing.hold import Hold
from app.ports.queue import Work
from app.ports.store import Lease


@dataclass
class Renewals:
    """A store of which only `renew` is used. `answers` are given in turn, the last one for ever."""

    answers: list[float | Exception]
    asked: threading.Event = field(default_factory=threading.Event)
    count: int = 0

    def renew(self, lease: Lease) -> Lease:
        answer = self.answers[min(self.count, len(self.answers) - 1)]
        self.count += 1
        if self.count >= len(self.answers):
            self.asked.set()
        if isinstance(answer, Exception):
            raise answer
        return Lease(lease.work, lease.row_id, lease.token, time.monotonic() + answer, lease.attempts)


def lease(seconds: float) -> Lease:
    return Lease(Work.REPAIR, 1, 1, time.monotonic() + seconds, 1)


def test_a_renewed_lease_stays_good_past_its_first_end() -> None:
    store = Renewals([1000.0])
    with Hold(store, lease(0.0), 0.001) as hold:
        assert store.asked.wait(10)
        while hold.lease.until_monotonic < time.monotonic():
            time.sleep(0.001)
        hold.guard()


def test_a_lease_that_ran_out_forbids_to_write() -> None:
    with Hold(Renewals([1000.0]), lease(-1.0), 1000.0) as hold, pytest.raises(LeaseLost):
        hold.guard()


def test_a_lease_that_another_took_forbids_to_write_at_once() -> None:
    store = Renewals([LeaseLost("taken")])
    with Hold(store, lease(1000.0), 0.001) as hold:
        assert store.asked.wait(10)
        for _ in range(2000):
            if hold.lease.until_monotonic < time.monotonic():
                break
            time.sleep(0.005)
        with pytest.raises(LeaseLost):
            hold.guard()


def test_a_database_that_is_away_for_a_moment_does_not_end_the_hold() -> None:
    store = Renewals([Unreachable("away"), 1000.0])
    with Hold(store, lease(1000.0), 0.001) as hold:
        assert store.asked.wait(10)
        hold.guard()
