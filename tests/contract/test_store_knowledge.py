"""What past repairs teach, kept and counted by the store."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, update

from app.db.store import SqlStore
from app.db.tables import SpendingRow
from app.domain.budget import Spent, Unit
from app.domain.finding import Remedy
from app.domain.incident import State
from app.domain.knowledge import Track
from app.domain.repair import Repair, RepairState, Verb
from app.ports.store import Ledger
from tests.contract.things import FINDING, REPOSITORY, incident, outcome, repair

PULL = Remedy("lower_batch_size", {"factor": 2})
RERUN = Remedy("rerun_failed_jobs")


def opened(store: SqlStore, name: str, kind: str = "host_oom") -> int:
    with store.begin() as ledger:
        ledger.remember_repository(REPOSITORY)
        return ledger.add_incident(incident(name, finding=replace(FINDING, kind=kind))).id


def tried(
    ledger: Ledger, number: int, key: str, state: RepairState, remedy: Remedy = PULL, **changes: object
) -> Repair:
    made = ledger.add_repair(repair(number, key, remedy=remedy, verb=changes.pop("verb", Verb.APPLY)))
    made = replace(made, state=state, **changes)
    ledger.save_repair(made, due_at=None)
    return made


def test_what_is_reserved_counts_until_its_period_is_over(store: SqlStore, engine: Engine) -> None:
    here = opened(store, "one")
    with store.begin() as ledger:
        made = tried(ledger, here, "a", RepairState.APPLIED)
        ledger.reserve(made, {Unit.API_POINTS: 40.0, Unit.PULLS: 1.0})
        ledger.reserve(made, {Unit.API_POINTS: 99.0})
        spent = ledger.history(7, here, 0).spent
        assert {unit: each.amount for unit, each in spent.items()} == {Unit.API_POINTS: 40.0, Unit.PULLS: 1.0}
        assert ledger.history(8, here, 0).spent == {}
    with store.begin() as ledger:
        now = ledger.now()
    with engine.begin() as connection:
        connection.execute(update(SpendingRow).values(at=now - timedelta(hours=2)))
    with store.begin() as ledger:
        assert ledger.history(7, here, 0).spent == {Unit.PULLS: Spent(1.0, now - timedelta(hours=2))}


def test_what_was_used_stands_in_place_of_what_was_reserved(store: SqlStore) -> None:
    here = opened(store, "one")
    with store.begin() as ledger:
        made = tried(ledger, here, "a", RepairState.APPLIED)
        ledger.reserve(made, {Unit.API_POINTS: 40.0, Unit.PULLS: 1.0})
        ledger.settle(made, {Unit.API_POINTS: 7.0, Unit.GPU_MINUTES: 3.0})
        spent = ledger.history(7, here, 0).spent
        assert {unit: each.amount for unit, each in spent.items()} == {Unit.API_POINTS: 7.0, Unit.GPU_MINUTES: 3.0}
        ledger.settle(made, {Unit.GPU_MINUTES: 2.0})  # of what lasted, when it is over
        spent = ledger.history(7, here, 0).spent
    assert {unit: each.amount for unit, each in spent.items()} == {Unit.API_POINTS: 7.0, Unit.GPU_MINUTES: 2.0}


def test_failed_proofs_in_a_row_are_those_of_one_action_since_it_worked_last(store: SqlStore) -> None:
    here = opened(store, "one")
    with store.begin() as ledger:
        for number, state in enumerate(
            (RepairState.DISPROVEN, RepairState.PROVEN, RepairState.DISPROVEN, RepairState.FAILED, RepairState.SKIPPED)
        ):
            tried(ledger, here, f"k{number}", state, proof={"proven": True} if state is RepairState.PROVEN else {})
        tried(ledger, here, "other", RepairState.DISPROVEN, RERUN)
        history = ledger.history(7, here, 0, PULL)
        assert (history.failures_in_row, history.failed_at is not None) == (2, True)
        assert ledger.history(7, here, 0).failures_in_row == 0


def test_each_rung_has_its_own_track_for_each_cause(store: SqlStore) -> None:
    here, other = opened(store, "one"), opened(store, "two", kind="disk_full")
    with store.begin() as ledger:
        tried(ledger, here, "a", RepairState.PROVEN)
        tried(ledger, here, "b", RepairState.DISPROVEN)
        tried(ledger, here, "c", RepairState.UNDONE, proof={"proven": True})
        tried(ledger, here, "d", RepairState.PROVEN, Remedy("lower_batch_size", {"factor": 4}))
        tried(ledger, here, "e", RepairState.AGREED, RERUN, verb=Verb.SHADOW)
        tried(ledger, here, "f", RepairState.DIFFERED, RERUN, verb=Verb.SHADOW)
        tried(ledger, other, "g", RepairState.PROVEN)
        tracks = ledger.history(7, here, 0).tracks
    first = tracks['lower_batch_size {"factor": 2}']
    assert (first.proven, first.failed, first.since_revert, first.reverted_at is not None) == (1, 2, 0, True)
    assert tracks['lower_batch_size {"factor": 4}'].proven == 1
    assert tracks["rerun_failed_jobs"] == Track(agreed=1, differed=1)


def test_what_people_closed_counts_until_somebody_asks_for_a_repair(store: SqlStore) -> None:
    here = opened(store, "one")
    with store.begin() as ledger:
        for _ in range(2):
            ledger.note(here, "closed", {"pull": 1})
            ledger.note(here, "found", {})
        assert ledger.history(7, here, 0).closed_unmerged == 2
        ledger.note(here, "retried", {"by": "maria"})
        assert ledger.history(7, here, 0).closed_unmerged == 0
        ledger.note(here, "closed", {"pull": 2})
        assert ledger.history(7, here, 0).closed_unmerged == 1
        ledger.note(here, "merged", {"pull": 3})
        assert ledger.history(7, here, 0).closed_unmerged == 0


@pytest.mark.parametrize("state", [State.REPAIRING, State.VERIFYING, State.AWAITING_APPROVAL])
def test_of_two_incidents_with_one_cause_the_older_is_repaired(store: SqlStore, state: State) -> None:
    with store.begin() as ledger:
        same = replace(FINDING, fingerprint="same")
        first = ledger.add_incident(incident("main", finding=same, state=state, updated_at=ledger.now()))
        second = ledger.add_incident(
            incident("feature", finding=replace(FINDING, fingerprint="same"), state=State.OPEN)
        )
        other = ledger.add_incident(incident("else", finding=replace(FINDING, fingerprint="other"), state=State.OPEN))
        assert ledger.history(7, second.id, 0).twin == first.id
        assert ledger.history(7, other.id, 0).twin is None
        assert ledger.history(7, first.id, 0).twin is None
        ledger.save_incident(replace(second, state=State.REPAIRING))
        assert ledger.history(7, first.id, 0).twin is None
        assert ledger.history(7, second.id, 0).twin == first.id


@pytest.mark.parametrize(("state", "blocks"), [(State.AWAITING_APPROVAL, False), (State.VERIFYING, True)])
def test_a_question_that_nobody_answers_stands_in_nobodys_way_for_ever(
    store: SqlStore, state: State, blocks: bool
) -> None:
    same = replace(FINDING, fingerprint="same")
    with store.begin() as ledger:
        first = ledger.add_incident(incident("gone", finding=same, state=state))
        second = ledger.add_incident(incident("main", finding=same, state=State.OPEN))
        asked_at = ledger.now() - timedelta(days=8)
        ledger.save_incident(replace(first, updated_at=asked_at))
        assert ledger.history(7, second.id, 0).twin == (first.id if blocks else None)
        ledger.save_incident(replace(first, updated_at=ledger.now()))
        assert ledger.history(7, second.id, 0).twin == first.id


def test_what_is_in_hand_has_begun_or_waits_to_be_merged(store: SqlStore) -> None:
    here, there = opened(store, "one"), opened(store, "two")
    with store.begin() as ledger:
        tried(ledger, here, "planned", RepairState.PLANNED)
        tried(ledger, here, "begun", RepairState.PLANNED, begun_at=ledger.now())
        tried(ledger, here, "applied", RepairState.APPLIED)
        tried(ledger, there, "waiting", RepairState.PROVEN, outcome=outcome(pull=5))
        ledger.save_incident(replace(ledger.incident(there), pull_number=5))
        assert [each.effect_key for each in ledger.in_hand(7)] == ["begun", "applied", "waiting"]
        ledger.save_incident(replace(ledger.incident(there), merged_at=ledger.now()))
        assert [each.effect_key for each in ledger.in_hand(7)] == ["begun", "applied"]
        assert ledger.in_hand(8) == []


def test_what_an_action_keeps_is_kept_for_each_repository(store: SqlStore) -> None:
    with store.begin() as ledger:
        assert ledger.shelved(7, "baseline") is None
        ledger.shelve(7, "baseline", {"p50_ms": 3.5})
        ledger.shelve(7, "baseline", {"p50_ms": 4})
    with store.begin() as ledger:
        assert ledger.shelved(7, "baseline") == {"p50_ms": 4}
        assert ledger.shelved(8, "baseline") is None
