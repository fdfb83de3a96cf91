"""Threads that work off what is due, with and without a doorbell."""

import threading
from dataclasses import replace

import pytest

from app.domain.errors import Unreachable
from app.domain.incident import State
from app.healing.pump import Pump
from tests.healing.world import ASSERTION, World


def until(world: World, state: State) -> None:
    done = threading.Event()
    for _ in range(600):
        with world.store.begin() as ledger:
            found = ledger.incident_numbered(1)
        if found is not None and found.state is state:
            return
        done.wait(0.05)
    pytest.fail(f"no incident became {state}")


def test_without_a_doorbell_the_poll_finds_what_is_due(world: World) -> None:
    world.project()
    pump = Pump(world.kit, threads=2, poll_s=0.02, sweep_s=3600.0)
    pump.start()
    world.fail(ASSERTION)
    until(world, State.ESCALATED)
    assert pump.stop()


def test_a_ring_is_enough_without_the_poll(world: World) -> None:
    world.project()
    pump = Pump(world.kit, threads=2, poll_s=3600.0, sweep_s=3600.0)
    pump.start()
    world.fail(ASSERTION)
    pump.ring()
    until(world, State.ESCALATED)
    assert pump.stop()


def test_stop_finishes_what_runs_and_claims_nothing_new(world: World) -> None:
    world.project()
    inside, go_on = threading.Event(), threading.Event()

    def wait_inside(step: str) -> None:
        if step == "after diagnose":
            inside.set()
            go_on.wait(30)

    pump = Pump(replace(world.kit, passing=wait_inside), threads=1, poll_s=3600.0, sweep_s=3600.0)
    pump.start()
    world.fail(ASSERTION)
    pump.ring()
    assert inside.wait(30)
    threading.Timer(0.05, go_on.set).start()
    assert pump.stop()
    assert world.incident().state is State.REPAIRING
    assert not world.forge.issues


def test_a_database_that_is_away_stops_no_thread(world: World) -> None:
    world.project()
    away = threading.Event()
    away.set()
    claim = world.store.claim

    def claim_when_there(*words):
        if away.is_set():
            raise Unreachable("no route to the database")
        return claim(*words)

    world.store.claim = claim_when_there
    pump = Pump(world.kit, threads=1, poll_s=0.01, sweep_s=3600.0)
    pump.start()
    world.fail(ASSERTION)
    pump.ring()
    away.clear()
    until(world, State.ESCALATED)
    assert pump.alive()
    assert pump.stop()


def test_a_thread_that_died_of_a_bug_is_told(world: World) -> None:
    def broken(*_):
        raise RuntimeError("a bug in the store")

    world.store.claim = broken
    pump = Pump(world.kit, threads=1, poll_s=3600.0, sweep_s=3600.0)
    died = threading.Event()
    hook, threading.excepthook = threading.excepthook, lambda _: died.set()
    try:
        pump.start()
        pump.ring()
        assert died.wait(30)
    finally:
        threading.excepthook = hook
    pump.stop()
    assert not pump.alive()
