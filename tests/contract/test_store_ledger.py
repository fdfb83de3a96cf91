import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, update

from app.db.store import SqlStore
from app.db.tables import RepairRow
from app.domain.delivery import DeliveryState
from app.domain.errors import LeaseLost
from app.domain.incident import Past, State
from app.domain.policy import Switch
from app.domain.repair import Intent, RepairState, Verb
from app.domain.tenant import Repository
from app.ports.queue import Work
from tests.conftest import Bell
from tests.contract.things import FINDING, NOON, PLAN, REPOSITORY, delivery, effect, incident, outcome, repair


def opened(store: SqlStore, fingerprint: str = "feed") -> int:
    with store.begin() as ledger:
        return ledger.add_incident(incident(fingerprint)).id


def test_an_error_in_a_transaction_leaves_nothing_and_rings_nobody(store: SqlStore, bell: Bell) -> None:
    def fail_late() -> None:
        with store.begin() as ledger:
            found = ledger.add_incident(incident())
            ledger.add_repair(repair(found.id))
            ledger.want_effect(effect())
            ledger.note(found.id, "found", {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_late()
    with store.begin() as ledger:
        assert ledger.find_incident(7, "feed") is None
    assert store.claim(Work.REPAIR) is None
    assert store.claim(Work.EFFECT) is None
    assert bell.rung == []


def test_rings_come_after_the_commit_and_once_a_row(store: SqlStore, bell: Bell) -> None:
    incident_id = opened(store)
    with store.begin() as ledger:
        made = ledger.add_repair(repair(incident_id))
        wanted = ledger.want_effect(effect())
        ledger.want_effect(effect())
        ledger.wake_repair(made.id)
        ledger.ring_after_commit(Work.DELIVERY, 5)
        assert bell.rung == []
    assert bell.rung == [(Work.REPAIR, made.id), (Work.EFFECT, wanted), (Work.DELIVERY, 5)]


def test_an_incident_comes_back_as_it_was_saved(store: SqlStore) -> None:
    with store.begin() as ledger:
        added = ledger.add_incident(incident())
        assert added == incident(id=added.id)
        changed = replace(
            added, state=State.HEALED, rung=2, pull_number=5, issue_number=6, healed_at=NOON, merged_at=NOON,
            watch_until=NOON + timedelta(days=7), run_url="https://example.org/1", attempt=2, head_sha="b" * 40,
            finding=replace(FINDING, summary="Another"),
        )  # fmt: skip
        ledger.save_incident(changed)
    with store.begin() as ledger:
        assert ledger.incident(added.id) == changed
        assert ledger.find_incident(7, "feed") == changed
        assert ledger.incident_of_pull(7, 5) == changed
        assert ledger.incident_of_issue(7, 6) == changed
        assert ledger.incident_of_fix_branch(7, "heal/feed") == changed
        assert ledger.incidents_at(7, branch="main", head_sha="b" * 40) == [changed]
        assert ledger.incidents_at(7, head_sha="a" * 40) == []
        assert ledger.incident_of_fix_branch(7, "feature/feed") is None
        assert ledger.incident_of_pull(8, 5) is None


def test_the_past_of_a_cause_is_that_of_the_repository_on_all_branches(store: SqlStore) -> None:
    with store.begin() as ledger:
        here = ledger.add_incident(incident("here"))
        there = ledger.add_incident(replace(incident("there"), branch="other"))
        others = [
            replace(incident("elsewhere"), repository_id=8),
            replace(incident("something"), finding=replace(FINDING, fingerprint="else")),
        ]
        for run_id, found in ((1, here), (1, here), (2, there), (3, here)):
            ledger.note(found.id, "found", {"run_id": run_id})
            ledger.note(found.id, "decided", {"run_id": 77})
        for other in others:
            ledger.note(ledger.add_incident(other).id, "found", {"run_id": 9})
        for key, state, ended in (
            ("a", RepairState.PROVEN, 1),
            ("b", RepairState.PROVEN, 2),
            ("c", RepairState.FAILED, 3),
        ):
            made = ledger.add_repair(replace(repair(there.id), effect_key=key))
            done = replace(made, state=state, outcome=replace(outcome(), data={"pull": ended}))
            ledger.save_repair(done, due_at=None)
        past = ledger.past(7, FINDING.kind, FINDING.fingerprint, 3)
        assert (past.runs, past.healed_by, past.pull) == (2, "rerun_failed_jobs", 2)
        assert past.healed_at is not None
        assert ledger.past(7, FINDING.kind, "unheard of", 3) == Past()


def test_two_who_find_the_same_incident_get_the_same_one(store: SqlStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(lambda _: opened(store), range(8)))
    assert len(ids) == 1


def test_an_unknown_row_is_a_lookup_error(store: SqlStore) -> None:
    with store.begin() as ledger:
        for look in (ledger.incident, ledger.repair, ledger.effect, ledger.delivery, ledger.record):
            with pytest.raises(LookupError):
                look(4711)


def test_a_repair_comes_back_as_it_was_saved(store: SqlStore) -> None:
    incident_id = opened(store)
    with store.begin() as ledger:
        added = ledger.add_repair(repair(incident_id))
        assert added == repair(incident_id, id=added.id)
        changed = replace(
            added, state=RepairState.APPLIED, approved_by="ada", intent=Intent(7, 2, "abc"), plan=PLAN, applied_at=NOON,
            outcome=outcome(pull=12, run_id=99, branch="heal/feed"), proof={"run": 1}, proof_deadline=NOON, proof_s=1,
        )  # fmt: skip
        ledger.save_repair(changed, due_at=None)
        undo = ledger.add_repair(repair(incident_id, "effect-2", verb=Verb.UNDO, undoes=added.id))
    with store.begin() as ledger:
        assert ledger.repair(added.id) == changed
        assert ledger.repairs_of(incident_id) == [changed, undo]
        assert ledger.repairs_awaiting_proof(7) == [changed]
        pull = ledger.incident_of_pull(7, 12)
        assert pull is not None
        assert pull.id == incident_id


def test_a_repair_asked_for_twice_is_one(store: SqlStore, bell: Bell) -> None:
    incident_id = opened(store)
    with store.begin() as ledger:
        first = ledger.add_repair(repair(incident_id))
        assert ledger.add_repair(repair(incident_id, rung=5)) == first
    assert bell.rung == [(Work.REPAIR, first.id)]


def test_saving_a_repair_for_later_ends_the_lease(store: SqlStore) -> None:
    incident_id = opened(store)
    with store.begin() as ledger:
        made = ledger.add_repair(repair(incident_id))
    lease = store.claim(Work.REPAIR)
    assert lease is not None
    with store.begin(lease) as ledger:
        ledger.save_repair(made, due_at=ledger.now())
    assert store.claim(Work.REPAIR) is None
    with store.begin(lease) as ledger:
        ledger.save_repair(made, due_at=NOON.replace(year=2999))
    with pytest.raises(LeaseLost):
        store.renew(lease)
    assert store.claim(Work.REPAIR) is None
    with store.begin() as ledger:
        ledger.wake_repair(made.id)
    again = store.claim(Work.REPAIR)
    assert again is not None
    assert (again.attempts, again.crashes) == (1, 0)


def test_a_step_that_is_released_is_due_again_at_once(store: SqlStore) -> None:
    incident_id = opened(store)
    with store.begin() as ledger:
        made = ledger.add_repair(repair(incident_id))
    lease = store.claim(Work.REPAIR)
    assert lease is not None
    with store.begin(lease) as ledger:
        ledger.save_repair(made, due_at=ledger.now())
    store.release(lease)
    assert store.claim(Work.REPAIR) is not None


def test_a_wake_during_the_work_is_not_lost(store: SqlStore) -> None:
    incident_id = opened(store)
    with store.begin() as ledger:
        made = ledger.add_repair(repair(incident_id))
    lease = store.claim(Work.REPAIR)
    assert lease is not None
    with store.begin() as ledger:
        ledger.wake_repair(made.id)
    with store.begin(lease) as ledger:
        ledger.save_repair(replace(made, state=RepairState.APPLIED), due_at=NOON.replace(year=2999))
    again = store.claim(Work.REPAIR)
    assert again is not None
    with store.begin(again) as ledger:
        ledger.save_repair(replace(made, state=RepairState.APPLIED), due_at=NOON.replace(year=2999))
    assert store.claim(Work.REPAIR) is None


def test_who_works_on_a_repair_that_somebody_else_changes_loses_it(store: SqlStore) -> None:
    incident_id = opened(store)
    with store.begin() as ledger:
        made = ledger.add_repair(repair(incident_id))
    lease = store.claim(Work.REPAIR)
    assert lease is not None
    with store.begin() as ledger:
        ledger.save_repair(replace(made, state=RepairState.REJECTED), due_at=None)
    with pytest.raises(LeaseLost), store.begin(lease):
        pass
    assert store.claim(Work.REPAIR) is None


def test_an_effect_that_waits_is_one_effect_with_the_newest_request(store: SqlStore) -> None:
    with store.begin() as ledger:
        first = ledger.want_effect(effect(text="old"))
        assert ledger.want_effect(effect(text="new")) == first
    lease = store.claim(Work.EFFECT)
    assert lease is not None
    with store.begin(lease) as ledger:
        wanted = ledger.effect(lease.row_id)
        assert (wanted.request, wanted.revision) == ({"text": "new"}, 2)
        ledger.settle_effect(wanted, "remote-1")
    assert store.claim(Work.EFFECT) is None


def test_an_effect_wanted_again_after_it_was_done_knows_what_it_made(store: SqlStore) -> None:
    with store.begin() as ledger:
        effect_id = ledger.want_effect(effect(text="old"))
        ledger.settle_effect(ledger.effect(effect_id), "remote-1")
    assert store.claim(Work.EFFECT) is None
    with store.begin() as ledger:
        assert ledger.want_effect(effect(text="new")) == effect_id
    lease = store.claim(Work.EFFECT)
    assert lease is not None
    with store.begin(lease) as ledger:
        again = ledger.effect(effect_id)
    assert (again.remote_id, again.request) == ("remote-1", {"text": "new"})


def test_an_effect_wanted_again_while_it_is_done_stays_due(store: SqlStore) -> None:
    with store.begin() as ledger:
        ledger.want_effect(effect(text="old"))
    lease = store.claim(Work.EFFECT)
    assert lease is not None
    with store.begin(lease) as ledger:
        doing = ledger.effect(lease.row_id)
    with store.begin() as ledger:
        ledger.want_effect(effect(text="new"))
    with store.begin(lease) as ledger:
        ledger.settle_effect(doing, "remote-1")
    again = store.claim(Work.EFFECT)
    assert again is not None
    with store.begin(again) as ledger:
        newest = ledger.effect(again.row_id)
        assert (newest.remote_id, newest.request) == ("remote-1", {"text": "new"})
        ledger.settle_effect(newest, "remote-1")
    assert store.claim(Work.EFFECT) is None


def test_a_repository_is_remembered_by_its_id_and_found_by_its_name(store: SqlStore) -> None:
    with store.begin() as ledger:
        ledger.remember_repository(Repository(7, "octo/old", 3))
        ledger.remember_repository(REPOSITORY)
        assert ledger.repository(7) == REPOSITORY
        assert ledger.repository_named("Octo/Train") == REPOSITORY
        assert ledger.repository_named("octo/old") is None
        assert ledger.repository(8) is None


@pytest.mark.parametrize("whole", [True, False])
def test_removing_the_app_cancels_what_is_not_finished_there(store: SqlStore, whole: bool) -> None:
    store.keep([delivery("theirs"), delivery("other", repository_id=8, installation_id=4)])
    with store.begin() as ledger:
        ledger.remember_repository(REPOSITORY)
        ledger.remember_repository(Repository(8, "other/repo", 4))
        found = ledger.add_incident(incident())
        made = ledger.add_repair(repair(found.id))
        ledger.want_effect(effect())
    worker = store.claim(Work.REPAIR)
    assert worker is not None
    with store.begin() as ledger:
        if whole:
            ledger.forget_installation(3)
        else:
            ledger.forget_repositories([7])
    with pytest.raises(LeaseLost):
        store.renew(worker)
    assert (store.claim(Work.REPAIR), store.claim(Work.EFFECT)) == (None, None)
    left = store.claim(Work.DELIVERY)
    assert left is not None
    assert store.claim(Work.DELIVERY) is None
    with store.begin() as ledger:
        assert ledger.delivery(left.row_id).guid == "other"
        assert (ledger.repository(7), ledger.repository_named("octo/train")) == (None, None)
        assert ledger.repository(8) is not None
        assert ledger.incident(found.id).state is State.DISMISSED
        assert ledger.repair(made.id).state is RepairState.SKIPPED
        ledger.remember_repository(REPOSITORY)
        assert ledger.repository(7) == REPOSITORY


def test_the_delivery_that_removes_the_app_is_finished_as_usual(store: SqlStore) -> None:
    store.keep([delivery()])
    lease = store.claim(Work.DELIVERY)
    assert lease is not None
    with store.begin(lease) as ledger:
        ledger.remember_repository(REPOSITORY)
        ledger.forget_installation(3)
        ledger.finish_delivery(lease.row_id, DeliveryState.DONE)


def test_the_record_holds_repairs_and_timeline_in_order(store: SqlStore) -> None:
    incident_id = opened(store)
    with store.begin() as ledger:
        made = [ledger.add_repair(repair(incident_id, key)) for key in ("a", "b")]
        ledger.note(incident_id, "found", {"line": 12}, 5)
        ledger.note(incident_id, "decided", {})
    with store.begin() as ledger:
        record = ledger.record(incident_id)
    assert record.incident == incident(id=incident_id)
    assert record.repairs == tuple(made)
    assert [(entry.kind, entry.data, entry.delivery_id) for entry in record.timeline] == [
        ("found", {"line": 12}, 5),
        ("decided", {}, None),
    ]


def test_switches_are_seen_by_those_whom_they_stop(store: SqlStore) -> None:
    incident_id = opened(store)
    everywhere, here, elsewhere = (
        Switch(scope, "ada", NOON, "why") for scope in ("app", "repository:7", "repository:8")
    )
    with store.begin() as ledger:
        for switch in (everywhere, here, elsewhere, replace(here, reason="again")):
            ledger.switch_on(switch)
        assert ledger.history(7, incident_id, 99).switches == (everywhere, replace(here, reason="again"))
        ledger.switch_off("app")
        ledger.switch_off("nothing")
        assert ledger.history(7, incident_id, 99).switches == (replace(here, reason="again"),)


def test_history_counts_what_the_limits_are_about(store: SqlStore, engine: Engine) -> None:
    first, second = opened(store, "first"), opened(store, "second")
    with store.begin() as ledger:
        assert ledger.history(7, first, 99).attempts_of_fingerprint == 0
        now = ledger.now()
        long_ago, hour_ago = now - timedelta(days=3), now - timedelta(hours=1)

        def add(incident_id: int, key: str, state: RepairState, **changes: object) -> None:
            made = ledger.add_repair(repair(incident_id, key, intended_at=changes.pop("intended_at", now)))
            ledger.save_repair(replace(made, state=state, **changes), due_at=None)

        pull = outcome(pull=5)
        add(first, "open", RepairState.APPLIED, outcome=pull, applied_at=hour_ago, intended_at=hour_ago)
        add(second, "proven", RepairState.PROVEN, outcome=outcome(pull=6), applied_at=long_ago, intended_at=long_ago)
        add(second, "undone", RepairState.UNDONE, outcome=outcome(pull=7), applied_at=now)
        add(first, "planned", RepairState.PLANNED)
        add(first, "skipped", RepairState.SKIPPED)
        add(first, "disproven", RepairState.DISPROVEN, outcome=outcome(run_id=99), applied_at=now)
        add(second, "old run", RepairState.APPLIED, outcome=outcome(run_id=98), applied_at=now)
        third = ledger.add_incident(incident("third", pull_number=8)).id
        ledger.add_incident(incident("merged", pull_number=9, merged_at=now))
        ledger.save_incident(replace(ledger.incident(first), pull_number=5))
        assert ledger.history(7, third, 99).open_pulls == 1  # its own is no other, the merged one is not open
        history = ledger.history(7, first, 99)
        assert history.open_pulls == 1
        assert history.reruns_of_run == 1
        assert (history.attempts_of_fingerprint, history.oldest_attempt_at) == (2, hour_ago)
        assert history.disproven_at is not None
        assert history.disproven_at - now < timedelta(minutes=1)
        assert ledger.history(7, second, 1).disproven_at is None
        ledger.save_incident(replace(ledger.incident(second), merged_at=now))
        assert ledger.history(7, first, 99).open_pulls == 1
    with engine.begin() as connection:
        connection.execute(update(RepairRow).values(intended_at=long_ago, applied_at=long_ago))
    with store.begin() as ledger:
        later = ledger.history(7, first, 99)
    assert later.attempts_of_fingerprint == 0


def test_an_incident_is_read_by_one_transaction_at_a_time(store: SqlStore) -> None:
    incident_id = opened(store)
    reading = threading.Barrier(4)

    def climb(_: int) -> None:
        reading.wait()
        with store.begin() as ledger:
            found = ledger.incident(incident_id)
            ledger.save_incident(replace(found, rung=found.rung + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(climb, range(4)))
    with store.begin() as ledger:
        assert ledger.incident(incident_id).rung == 4
