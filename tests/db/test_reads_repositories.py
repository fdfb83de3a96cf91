"""What is read of repositories, for people."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, insert, update

from app.db.accounts import Accounts, Grant
from app.db.engine import writing
from app.db.reads.repositories import RepositoryReads, muted_kind
from app.db.store import SqlStore
from app.db.tables import IncidentRow, RepairRow, RepositoryRow
from app.domain.access import EVERYTHING, Role, Sight
from app.domain.incident import State
from app.domain.policy import Switch, mute_scope, repository_scope
from tests.browser.incidents import NOW, add_incident, note
from tests.db.test_reads import counting
from tests.web.people import add_repository


@pytest.fixture
def reads(engine: Engine) -> RepositoryReads:
    """Two repositories of acme and one of another installation; incidents in the first."""
    add_repository(engine, 7, "acme/vision")
    add_repository(engine, 8, "acme/churn")
    add_repository(engine, 9, "zoo/lions", installation_id=2)
    with writing(engine) as connection:
        add_incident(connection, 1, State.HEALED, "one", ago=timedelta(days=3), heal_s=60)
        add_incident(connection, 2, State.ESCALATED, "two", ago=timedelta(days=3))
        add_incident(connection, 3, State.AWAITING_APPROVAL, "three", ago=timedelta(hours=5))
        add_incident(connection, 4, State.OPEN, "four", ago=timedelta(minutes=5))
    return RepositoryReads(engine)


def names(reads: RepositoryReads, sight: Sight = EVERYTHING, query: str = "", after: int | None = None) -> list[str]:
    return [line.full_name for line in reads.repositories(sight, query, after).lines]


def judged(engine: Engine, number: int, state: str, incident: int = 1, **proof: object) -> None:
    with writing(engine) as connection:
        connection.execute(
            insert(RepairRow).values(
                id=number, incident_id=incident, repository_id=7, effect_key=f"key-{number}", action="raise_timeout",
                remedy={"action": "raise_timeout", "params": {"factor": 2}}, rung=0, verb="apply", state=state,
                approved_by="", intent={}, plan=None, proof=proof, intended_at=NOW, proof_s=60, watch_s=60,
                mailbox="1", due_at=None, ended_at=NOW,
            )
        )  # fmt: skip


def test_repositories_come_by_name_page_by_page(reads: RepositoryReads) -> None:
    assert names(reads) == ["acme/churn", "acme/vision", "zoo/lions"]
    first = reads.repositories(EVERYTHING, limit=2)
    assert first.next == 7
    second = reads.repositories(EVERYTHING, after=first.next, limit=2)
    assert ([line.full_name for line in second.lines], second.next) == (["zoo/lions"], None)


def test_of_one_name_each_repository_is_on_one_page(reads: RepositoryReads, engine: Engine) -> None:
    add_repository(engine, 6, "acme/vision")
    pages: list[int] = []
    after: int | None = None
    while not pages or after is not None:
        page = reads.repositories(EVERYTHING, after=after, limit=1)
        pages += [line.id for line in page.lines]
        after = page.next
    assert pages == [8, 6, 7, 9]


def test_a_search_holds_every_word(reads: RepositoryReads) -> None:
    assert names(reads, query="ACME vis") == ["acme/vision"]
    assert names(reads, query="acme lions") == []
    assert names(reads, query="%") == []


def test_nobody_reads_of_repositories_that_they_may_not_see(reads: RepositoryReads, engine: Engine) -> None:
    accounts = Accounts(engine)
    accounts.remember(501, "mona", operator=False)
    accounts.grant(501, [Grant(8, 1, Role.VIEWER)])
    assert names(reads, Sight(account_id=501)) == ["acme/churn"]
    assert names(reads, Sight(installation_id=2)) == ["zoo/lions"]
    assert names(reads, Sight()) == []


def test_where_the_app_was_removed_is_not_listed(reads: RepositoryReads, engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(update(RepositoryRow).where(RepositoryRow.id == 8).values(removed_at=NOW))
    assert names(reads) == ["acme/vision", "zoo/lions"]
    line = reads.repository_line(8)
    assert line is not None
    assert line.removed_at is not None


def test_a_line_tells_how_the_repository_does(reads: RepositoryReads, store: SqlStore) -> None:
    with store.begin() as ledger:
        ledger.switch_on(Switch(repository_scope(7), "mona", ledger.now(), "exams"))
    line = reads.repository_line(7)
    assert line is not None
    assert (line.open, line.waiting, line.escalated, line.mode) == (2, 1, 1, "auto")
    assert line.failed is not None
    assert (line.failed.incident_id, line.failed.summary) == (4, "four")
    assert line.healed is not None
    assert line.healed.incident_id == 1
    assert line.paused is not None
    assert (line.paused.by, line.paused.reason) == ("mona", "exams")


def test_where_nothing_happened_nothing_is_told(reads: RepositoryReads) -> None:
    line = reads.repository_line(9)
    assert line is not None
    assert (line.open, line.failed, line.healed, line.mode, line.paused) == (0, None, None, "", None)
    assert reads.repository_line(10) is None
    assert reads.days(9) == ()
    assert reads.learned(9) == ()


def test_the_mode_is_that_of_the_last_decision(reads: RepositoryReads, engine: Engine) -> None:
    with writing(engine) as connection:
        note(connection, 4, "decided", {"mode": "observe"})
        note(connection, 4, "found", {"mode": "auto"})
    line = reads.repository_line(7)
    assert line is not None
    assert line.mode == "observe"


def test_a_longer_list_asks_no_more_often(reads: RepositoryReads, engine: Engine) -> None:
    with counting(engine) as few:
        reads.repositories(EVERYTHING, limit=1)
    with counting(engine) as many:
        reads.repositories(EVERYTHING)
    assert len(many) == len(few) <= 6


def test_days_count_what_was_opened_and_what_was_healed(reads: RepositoryReads, engine: Engine) -> None:
    opened = (NOW - timedelta(days=3)).date()
    told = {day.at: (day.found, day.healed) for day in reads.days(7)}
    assert told[opened][0] == 2
    assert sum(found for found, _ in told.values()) == 4
    assert sum(healed for _, healed in told.values()) == 1
    with writing(engine) as connection:
        long_ago = NOW - timedelta(days=100)
        connection.execute(update(IncidentRow).values(opened_at=long_ago, healed_at=long_ago))
    assert reads.days(7) == ()


def test_what_was_learned_is_told_by_cause_and_rung(reads: RepositoryReads, engine: Engine) -> None:
    judged(engine, 1, "proven", incident=1)
    judged(engine, 2, "proven", incident=2)
    judged(engine, 3, "disproven", incident=3)
    judged(engine, 4, "asked", incident=4)
    (learned,) = reads.learned(7)
    assert (learned.kind, learned.remedy.action, learned.detector) == ("gpu_oom", "raise_timeout", "pipeline_failure")
    assert (learned.track.proven, learned.track.failed) == (2, 1)
    assert learned.incidents == (3, 2, 1)
    assert reads.learned(8) == ()


def test_a_proven_repair_that_was_taken_back_counts_as_failed(reads: RepositoryReads, engine: Engine) -> None:
    judged(engine, 1, "proven")
    judged(engine, 2, "undone", proven=True)
    (learned,) = reads.learned(7)
    assert (learned.track.proven, learned.track.failed, learned.track.reverted_at) == (1, 1, NOW)


def test_muted_causes_are_those_of_the_repository(reads: RepositoryReads, store: SqlStore) -> None:
    with store.begin() as ledger:
        for repository, kind in ((7, "gpu_oom"), (71, "gpu_oom"), (8, "lint")):
            ledger.switch_on(Switch(mute_scope(repository, kind), "mona", ledger.now(), "never"))
        ledger.switch_on(Switch("app", "root", ledger.now()))
    assert [(muted_kind(switch), switch.by) for switch in reads.muted(7)] == [("gpu_oom", "mona")]
    everything = reads.everything_paused()
    assert everything is not None
    assert everything.by == "root"
