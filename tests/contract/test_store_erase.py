"""What is kept of whom the App was removed from is erased, and what accountability needs stays; on both databases."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select, update

from app.db import erase as erasing
from app.db.audit import Act, Audit
from app.db.engine import db_now, reading, writing
from app.db.reads import Reads
from app.db.store import SqlStore
from app.db.tables import (
    AccountRow,
    AuditRow,
    Base,
    DeliveryRow,
    GrantRow,
    IncidentRow,
    MarkRow,
    MemberRow,
    ModelRow,
    RefreshRow,
    RepairRow,
    RepositoryRow,
    SpendingRow,
    TimelineRow,
    TokenRow,
)
from app.db.tokens import Tokens
from app.domain.access import Scope
from app.domain.delivery import DeliveryState
from app.domain.effect import Effect, EffectKind
from app.domain.evidence import Observed
from app.domain.finding import EvidenceLine, Finding, Remedy, Severity
from app.domain.incident import State
from app.domain.model import Role
from app.domain.policy import Switch
from app.domain.repair import FileEdit, Intent, Plan, RepairState
from app.domain.signal import Series
from app.domain.tenant import Repository
from app.ports.models import Window
from app.ports.queue import Work
from tests.contract.things import REPOSITORY, delivery, incident, outcome, repair

WORD = "xyzzy"  # stands in whatever a repository, a log or a person wrote
OTHER = Repository(8, "octo/other", 3)
FINDING = Finding(
    *("pipeline_failure", "host_oom", WORD, Severity.HIGH, 0.9, WORD, WORD),
    facts={WORD: WORD},
    lines=(EvidenceLine(1, WORD, WORD),),
    ladder=(Remedy("lower_batch_size", {"path": WORD}),),
    job=WORD,
    jobs=(WORD,),
)


def fill(store: SqlStore, engine: Engine, where: Repository = REPOSITORY) -> int:
    """Something of everything, for a repository; the incident's number."""
    tag = f"{where.id}"
    with store.begin() as ledger:
        ledger.remember_installation(where.installation_id, where.owner, "selected")
        ledger.remember_repository(where)
        place = {"repository_id": where.id, "branch": WORD, "workflow_path": WORD, "run_url": WORD, "pull_number": 4}
        found = ledger.add_incident(incident(f"{WORD}{tag}", finding=FINDING, issue_number=5, **place))
        plan = Plan(WORD, WORD, (FileEdit(WORD, WORD, WORD),), report={"kind": WORD})
        made = ledger.add_repair(
            repair(found.id, f"key-{tag}", plan=plan, approved_by="maria", intent=Intent(1, 1, WORD, WORD, (WORD,)))
        )
        ledger.save_repair(
            replace(
                made,
                outcome=outcome(branch=WORD, pull=4),
                proof={"url": WORD},
                remedy=FINDING.ladder[0],
                state=RepairState.PROVEN,
            ),
            due_at=None,
        )
        ledger.reserve(made, {})
        ledger.note(found.id, "found", {"summary": WORD}, 1)
        ledger.want_effect(Effect(f"check:{tag}", EffectKind.CHECK, where.id, {"sha": WORD}))
        ledger.want_effect(Effect(f"comment:{tag}", EffectKind.PULL_COMMENT, where.id, {"message": WORD}, found.id))
        ledger.shelve(where.id, WORD, {WORD: WORD})
        ledger.switch_on(Switch(f"repository:{where.id}", "maria", datetime.fromisoformat("2026-01-01T00:00Z"), WORD))
        model = ledger.models.add_model(where.id, WORD)
        assert model is not None
        ledger.models.save_window(model, Window(Role.CURRENT, Observed(WORD, 3, {WORD: WORD}, {WORD: WORD})))
        ledger.models.add_samples(where.id, [Series(WORD, ((1.0, 2.0),), {WORD: WORD})])
    sent: dict[str, Any] = {"installation_id": where.installation_id, "repository": where.full_name}
    (kept,) = store.keep([delivery(f"guid-{tag}", repository_id=where.id, headers={WORD: WORD}, **sent)])
    with store.begin() as ledger:
        ledger.finish_delivery(kept.id, DeliveryState.IGNORED, WORD)
    store.mark(f"runner:{where.id}:{WORD}:well", datetime.fromisoformat("2026-01-01T00:00Z"))
    token, _ = Tokens(engine, store.secret).create(where, {Scope.SIGNALS}, name=WORD)
    with writing(engine) as connection:
        connection.execute(
            insert(RefreshRow).values(
                digest=tag, family=WORD, token_id=token.id, created_at=db_now(), expires_at=db_now(60)
            )
        )
        spent = {"repair_id": made.id, "repository_id": where.id, "unit": "pulls", "amount": 1.0, "settled": True}
        connection.execute(insert(SpendingRow).values(at=db_now(), **spent))
        if not connection.scalar(select(AccountRow.id)):
            connection.execute(insert(AccountRow).values(id=11, login="maria", created_at=db_now(), seen_at=db_now()))
        granted = {"repository_id": where.id, "installation_id": where.installation_id, "granted_at": db_now()}
        connection.execute(insert(GrantRow).values(account_id=11, role="admin", **granted))
    return found.id


def remove(store: SqlStore, *, whole: bool = False) -> None:
    with store.begin() as ledger:
        if whole:
            ledger.forget_installation(3, erase=True)
        else:
            ledger.forget_repositories([7], erase=True)


def traces(engine: Engine) -> list[str]:
    """The columns in which the word still stands."""
    found = []
    with reading(engine) as connection:
        for table in Base.metadata.sorted_tables:
            for row in connection.execute(select(table)).mappings():
                found += [f"{table.name}.{name}" for name, value in row.items() if WORD in str(value)]
    return found


def count(engine: Engine, row: Any) -> int:
    with reading(engine) as connection:
        return connection.scalar(select(func.count()).select_from(row)) or 0


def pending(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return list(connection.scalars(select(MarkRow.name).where(MarkRow.name.startswith("erase:"))))


@pytest.mark.parametrize("whole", [True, False])
def test_no_word_of_a_removed_repository_is_left(store: SqlStore, engine: Engine, whole: bool) -> None:
    fill(store, engine)
    assert len(set(traces(engine))) > 15
    remove(store, whole=whole)
    counts = store.erase()
    assert traces(engine) == []
    assert (counts["deliveries"], counts["incidents"], counts["tokens"]) == (1, 1, 1)
    assert [count(engine, row) for row in (ModelRow, TimelineRow, TokenRow, GrantRow, RefreshRow)] == [0] * 5
    with reading(engine) as connection:
        assert connection.scalars(select(DeliveryRow.body)).all() == [b""]
    assert pending(engine) == []


def test_no_table_of_a_tenant_is_forgotten() -> None:
    erased = {
        *("deliveries", "incidents", "effects", "repairs", "models", "series", "shelf"),
        *("tokens", "grants", "members", "spending"),
    }
    kept = {"audit", "repositories"}
    theirs = {t.name for t in Base.metadata.sorted_tables if {"repository_id", "installation_id"} & set(t.c.keys())}
    assert theirs == erased | kept


def test_what_accountability_needs_is_kept(store: SqlStore, engine: Engine) -> None:
    number = fill(store, engine)
    Audit(engine).add(Act("maria", "dashboard", "approve", "incident", str(number), repository_id=7))
    remove(store)
    store.erase()
    with store.begin() as ledger:
        left = ledger.incident(number)
        (done,) = ledger.repairs_of(number)
    assert (left.state, left.finding.kind, left.opened_at) == (State.DISMISSED, "erased", incident().opened_at)
    assert (done.state, done.approved_by) == (RepairState.PROVEN, "maria")
    assert store.known(["guid-7"]) == {"guid-7"}
    with reading(engine) as connection:
        acts = connection.execute(select(AuditRow.actor, AuditRow.verb, AuditRow.number).order_by(AuditRow.id)).all()
    assert [tuple(act) for act in acts] == [("maria", "approve", str(number)), ("the bot", "erase", "7")]
    assert Reads(engine).incident(number) is not None


def test_the_neighbour_keeps_everything(store: SqlStore, engine: Engine) -> None:
    fill(store, engine)
    alone = traces(engine)
    fill(store, engine, OTHER)
    remove(store)
    store.erase()
    assert sorted(traces(engine)) == sorted(alone)


def test_the_app_leaving_an_account_takes_its_members_along(store: SqlStore, engine: Engine) -> None:
    fill(store, engine)
    with writing(engine) as connection:
        connection.execute(
            insert(MemberRow).values(installation_id=3, account_id=11, role="viewer", by="ada", at=db_now())
        )
    assert store.take_turn("onboarding:3:0", 60)
    remove(store, whole=True)
    store.erase()
    assert count(engine, MemberRow) == 0
    assert store.take_turn("onboarding:3:0", 60)


def test_suspended_is_not_removed(store: SqlStore, engine: Engine) -> None:
    fill(store, engine)
    before = set(traces(engine))
    with store.begin() as ledger:
        ledger.forget_installation(3)
    assert store.erase() == {}
    assert set(traces(engine)) == before


def test_who_is_away_for_long_without_a_word_is_erased_once(store: SqlStore, engine: Engine) -> None:
    fill(store, engine)
    with store.begin() as ledger:
        ledger.forget_installation(3)
    for away_s, erased in ((erasing.ABSENT_S - 60, 0), (erasing.ABSENT_S + 60, 1), (erasing.ABSENT_S + 120, 0)):
        with writing(engine) as connection:
            connection.execute(update(RepositoryRow).values(removed_at=db_now(-away_s)))
        assert store.erase().get("incidents", 0) == erased
    assert traces(engine) == []


def test_it_is_done_in_small_steps_and_goes_on_where_it_was(
    store: SqlStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "BATCH", 2)
    fill(store, engine)
    for number in range(5):
        (kept,) = store.keep([delivery(f"more-{number}")])
        with store.begin() as ledger:
            ledger.finish_delivery(kept.id, DeliveryState.DONE)
    remove(store)
    assert store.erase(batches=1) == {"deliveries": 2}
    assert store.erase(batches=1) == {"deliveries": 2}
    assert pending(engine) == ["erase:repository:7"]
    left = store.erase()
    assert left["deliveries"] == 2
    assert (traces(engine), pending(engine)) == ([], [])


def test_done_twice_it_changes_nothing(store: SqlStore, engine: Engine) -> None:
    fill(store, engine)
    remove(store)
    store.erase()
    remove(store)
    assert store.erase() == {}
    assert store.erase() == {}


def test_who_comes_back_starts_clean(store: SqlStore, engine: Engine) -> None:
    number = fill(store, engine)
    remove(store)
    with store.begin() as ledger:
        ledger.remember_repository(REPOSITORY)
        again = ledger.add_incident(incident(f"{WORD}7", finding=FINDING))
    assert again.id != number
    store.erase()
    with store.begin() as ledger:
        assert ledger.incident(again.id).finding == FINDING
        history = ledger.history(7, again.id, 1, FINDING.ladder[0])
    assert (history.open_pulls, history.spent, history.tracks, history.switches) == (0, {}, {}, ())


def test_what_came_after_the_return_stays(store: SqlStore, engine: Engine) -> None:
    remove(store)
    with writing(engine) as connection:
        connection.execute(update(MarkRow).values(at=db_now(-5)))
    fill(store, engine)
    before = sorted(traces(engine))
    store.erase()
    assert sorted(each for each in traces(engine) if not each.startswith("marks")) == sorted(
        each for each in before if not each.startswith("marks") and not each.startswith("switches")
    )


def test_only_those_that_are_named_are_erased_if_some_are(store: SqlStore, engine: Engine) -> None:
    fill(store, engine)
    remove(store)
    assert store.erase({8}) == {}
    assert store.erase({7})["incidents"] == 1


def test_a_delivery_that_was_put_aside_is_erased_and_cannot_be_driven_again(store: SqlStore, engine: Engine) -> None:
    fill(store, engine)
    (kept,) = store.keep([delivery("dead")])
    lease = store.claim(Work.DELIVERY, kept.id)
    assert lease is not None
    store.bury(lease, WORD)
    remove(store)
    store.erase()
    assert traces(engine) == []
    assert store.put_aside(Work.DELIVERY) == []
    assert not store.redrive(Work.DELIVERY, kept.id)


def test_an_erased_incident_is_found_by_nothing_any_more(store: SqlStore, engine: Engine) -> None:
    number = fill(store, engine)
    remove(store)
    store.erase()
    with store.begin() as ledger:
        assert ledger.find_incident(7, f"{WORD}7") is None
        assert ledger.incident_of_pull(7, 4) is None
        assert ledger.incident_of_issue(7, 5) is None
        assert ledger.past(7, "host_oom", WORD, 0).runs == 0
    with reading(engine) as connection:
        assert connection.scalar(select(IncidentRow.summary).where(IncidentRow.id == number)) == "erased"
        assert connection.scalar(select(RepairRow.action)) == "erased"
