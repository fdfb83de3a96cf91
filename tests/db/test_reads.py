from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Engine, event

from app.db.accounts import Accounts, Grant
from app.db.engine import writing
from app.db.reads import TIMELINE, IncidentPage, Reads
from app.domain import access
from app.domain.delivery import DeliveryState
from app.domain.incident import State
from tests.browser.incidents import (
    EVERYTHING,
    GUID,
    HEALED,
    add_delivery,
    add_incident,
    add_repair,
    change_state,
    fill,
    finding,
    note,
)
from tests.web.people import add_repository


@pytest.fixture
def reads(engine: Engine) -> Reads:
    fill(engine)
    return Reads(engine)


@contextmanager
def counting(engine: Engine) -> Iterator[list[str]]:
    """The queries that are sent meanwhile, without those that only begin a transaction."""
    sent: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            sent.append(statement)

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", record)


def ids(reads: Reads, *states: State, query: str = "") -> list[int]:
    return [line.id for line in reads.incidents(access.EVERYTHING, states, query).lines]


def test_incidents_come_newest_first(reads: Reads) -> None:
    assert ids(reads) == list(range(10, 0, -1))


def test_incidents_are_narrowed_to_states(reads: Reads) -> None:
    assert ids(reads, State.HEALED) == [7, 3]
    assert ids(reads, State.OPEN, State.REPAIRING, State.VERIFYING) == [10, 9, 8]


def test_words_may_stand_in_summary_repository_and_kind(reads: Reads) -> None:
    assert ids(reads, query="cuda segmentation") == [1]
    assert ids(reads, query="gpu_oom") == [3, 1]
    assert ids(reads, query="日本語") == [10]
    assert ids(reads, query='"cuda ran"') == [3, 1]
    assert ids(reads, query='"ran cuda"') == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("repo:acme/churn", [23, 21]),
        ("repo:ACME/Churn", [23, 21]),
        ("repo:churn", [23, 21]),
        ("repo:acme", [23, 21]),
        ("repo:acme/c*", [23, 21]),
        ("repo:*/churn,other/*", [23, 22, 21]),
        ("repo:chur", []),
        ("repo:acme/churn kind:lint", [21]),
        ("kind:lint", [22, 21]),
        ("kind:LINT,disk_full", [23, 22, 21]),
        ("kind:li*", [22, 21]),
        ("kind:l%", []),
        ("-kind:lint", [23]),
        ("detector:pipeline_failure", [23, 22, 21]),
        ("detector:data_drift", []),
        ("status:healed", [21]),
        ("-status:healed", [23, 22]),
        ("status:waiting,healed", [23, 21]),
        ("action:pin_dependency", [21]),
        ("action:pin_*", [21]),
        ("-action:pin_dependency", [23, 22]),
        ("actor:@Mona", [22]),
        ("actor:octo*", [23]),
        ("-actor:mona", [23, 21]),
        ("since:3h", [23, 22]),
        ("since:2000-01-01", [23, 22, 21]),
        ("red", [22]),
        ("-red", [23, 21]),
        ("red kind:disk_full", []),
        ("who:knows", []),
        ("status:ill", []),
        ("100%", []),
        ("\x00 \ud800", []),
        ("'; DROP TABLE incidents; --", []),
    ],
)
def test_a_search_finds_what_fits_every_term(engine: Engine, query: str, found: list[int]) -> None:
    add_repository(engine, 7, "acme/churn")
    add_repository(engine, 8, "other/churn2", 2)
    with writing(engine) as connection:
        hour = timedelta(hours=1)
        add_incident(connection, 21, State.HEALED, "first", kind="lint", ago=5 * hour, story=[("found", {})])
        add_incident(connection, 22, State.OPEN, "red", kind="lint", ago=2 * hour, repository_id=8)
        add_incident(connection, 23, State.AWAITING_APPROVAL, "third", kind="disk_full", ago=hour)
        add_repair(connection, 21, "pin_dependency")
        note(connection, 22, "rejected", {"by": "mona"})
        note(connection, 23, "approved", {"by": "octocat"})
    assert ids(Reads(engine), query=query) == found
    tally = Reads(engine).tally(access.EVERYTHING, query)
    assert sum(tally.counts.values()) == len(found)
    assert not tally.least


def test_a_search_never_tells_of_what_may_not_be_seen(engine: Engine) -> None:
    add_repository(engine, 7, "acme/churn")
    add_repository(engine, 8, "other/secret", 2)
    with writing(engine) as connection:
        add_incident(connection, 21, State.HEALED, "mine")
        add_incident(connection, 22, State.OPEN, "theirs", repository_id=8)
    accounts = Accounts(engine)
    accounts.remember(501, "mona", operator=False)
    accounts.grant(501, [Grant(7, 1, access.Role.VIEWER)])
    theirs = access.Sight(account_id=501)
    reads = Reads(engine)
    assert [line.id for line in reads.incidents(theirs).lines] == [21]
    for query in ("repo:other/secret", "repo:nowhere/nothing", "theirs", "-repo:acme/churn", "status:open"):
        assert reads.incidents(theirs, (), query) == IncidentPage((), None), query
        assert reads.counts(theirs, query) == {}, query
    assert list(reads.every_incident(access.Sight())) == []


def test_pages_lead_both_ways_and_count_what_lies_ahead(reads: Reads) -> None:
    first = reads.incidents(access.EVERYTHING, limit=4)
    assert (first.newer, first.older, first.ahead) == (None, 7, 0)
    second = reads.incidents(access.EVERYTHING, before=7, limit=4)
    assert [line.id for line in second.lines] == [6, 5, 4, 3]
    assert (second.newer, second.older, second.ahead) == (6, 3, 4)
    back = reads.incidents(access.EVERYTHING, after=6, limit=4)
    assert back.lines == first.lines
    assert (back.newer, back.older, back.ahead) == (None, 7, 0)
    assert reads.incidents(access.EVERYTHING, after=2, limit=4).newer == 6


def test_what_must_be_looked_at_is_looked_at_in_turns(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.reads.incidents.LOOKED_AT", 4)
    first = reads.incidents(access.EVERYTHING, (), "segmentation")
    assert (first.lines, first.older, first.further) == ((), 7, True)
    second = reads.incidents(access.EVERYTHING, (), "segmentation", first.older)
    assert (second.lines, second.older) == ((), 3)
    third = reads.incidents(access.EVERYTHING, (), "segmentation", second.older)
    assert ([line.id for line in third.lines], third.older, third.further) == ([1], None, False)
    assert [line.id for line in reads.every_incident(access.EVERYTHING, (), "segmentation")] == [1]


def test_of_very_many_it_is_said_that_there_are_more(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.reads.incidents.COUNTED", 5)
    tally = reads.tally(access.EVERYTHING)
    assert tally.counts[State.HEALED] == 1
    assert State.HEALED in tally.least
    assert tally.counts[State.AWAITING_APPROVAL] == 1  # an old one: what is under way is counted whole
    assert State.AWAITING_APPROVAL not in tally.least


def test_pages_follow_each_other_without_gap_or_overlap(reads: Reads) -> None:
    first = reads.incidents(access.EVERYTHING, limit=4)
    second = reads.incidents(access.EVERYTHING, before=first.older, limit=4)
    third = reads.incidents(access.EVERYTHING, before=second.older, limit=4)
    assert [[line.id for line in page.lines] for page in (first, second, third)] == [
        [10, 9, 8, 7],
        [6, 5, 4, 3],
        [2, 1],
    ]
    assert third.older is None


def test_a_last_page_that_is_full_has_no_next_one(reads: Reads) -> None:
    assert reads.incidents(access.EVERYTHING, limit=10).older is None


def test_counts_say_how_many_are_in_each_state(reads: Reads) -> None:
    counts = reads.counts(access.EVERYTHING)
    assert counts[State.HEALED] == 2
    assert counts[State.AWAITING_APPROVAL] == 1
    assert sum(counts.values()) == 10


def test_time_to_heal_counts_only_for_what_is_healed_now(reads: Reads, engine: Engine) -> None:
    heal_s = {line.id: line.heal_s for line in reads.incidents(access.EVERYTHING).lines}
    assert heal_s[3] == 252
    assert heal_s[1] is None
    change_state(engine, 3, State.REPAIRING)
    assert reads.incidents(access.EVERYTHING).lines[-3].heal_s is None


def test_an_incident_comes_with_its_finding_its_timeline_and_the_delivery(reads: Reads) -> None:
    detail = reads.incident(1)
    assert detail is not None
    assert detail.finding == finding("gpu_oom", detail.line.summary)
    assert [entry.kind for entry in detail.timeline] == [kind for kind, _ in EVERYTHING]
    assert [entry.guid for entry in detail.timeline[:2]] == [GUID, ""]
    assert detail.line.opened_at.tzinfo is not None
    assert not detail.earlier


def test_of_a_very_long_timeline_the_newest_entries_are_read(reads: Reads, engine: Engine) -> None:
    with writing(engine) as connection:
        for number in range(TIMELINE):
            note(connection, 3, "found", {"number": number})
    detail = reads.incident(3)
    assert detail is not None
    assert detail.earlier
    assert len(detail.timeline) == TIMELINE
    assert detail.timeline[-1].data == {"number": TIMELINE - 1}


def test_an_incident_that_is_not_there_is_none(reads: Reads) -> None:
    assert reads.incident(4711) is None


def test_the_latest_change_grows_with_every_note(reads: Reads, engine: Engine) -> None:
    before = reads.latest_change()
    change_state(engine, 9, State.VERIFYING)
    assert reads.latest_change() > before


def test_an_empty_database_reads_as_empty(engine: Engine) -> None:
    reads = Reads(engine)
    assert reads.latest_change() == 0
    assert reads.incidents(access.EVERYTHING).lines == ()
    assert reads.counts(access.EVERYTHING) == {}
    assert reads.deliveries(access.EVERYTHING).lines == ()


def test_deliveries_are_narrowed_and_paged(reads: Reads, engine: Engine) -> None:
    with writing(engine) as connection:
        for number in range(3):
            add_delivery(connection, f"guid-{number}", state="ignored")
    first = reads.deliveries(access.EVERYTHING, limit=2)
    assert [line.guid for line in first.lines] == ["guid-2", "guid-1"]
    assert [line.guid for line in reads.deliveries(access.EVERYTHING, before=first.older).lines] == ["guid-0", GUID]
    assert [line.guid for line in reads.deliveries(access.EVERYTHING, DeliveryState.DONE).lines] == [GUID]
    assert reads.deliveries(access.EVERYTHING, repository="acme/other").lines == ()


def test_a_delivery_is_found_by_its_guid(reads: Reads) -> None:
    delivery = reads.delivery(GUID)
    assert delivery is not None
    assert (delivery.event, delivery.action, delivery.state) == ("workflow_run", "completed", DeliveryState.DONE)
    assert not delivery.buried
    assert reads.delivery("unknown") is None


def test_the_number_of_queries_does_not_grow_with_the_rows(reads: Reads, engine: Engine) -> None:
    def queries() -> list[int]:
        counted = []
        for read in (
            lambda: reads.incidents(access.EVERYTHING),
            lambda: reads.counts(access.EVERYTHING),
            lambda: reads.incident(3),
            lambda: reads.deliveries(access.EVERYTHING),
            reads.latest_change,
        ):
            with counting(engine) as sent:
                read()
            counted.append(len(sent))
        return counted

    few = queries()
    with writing(engine) as connection:
        for number in range(100, 140):
            add_incident(connection, number, State.HEALED, "more", ago=timedelta(hours=1), heal_s=1, story=HEALED)
            note(connection, 3, "found", {})
    assert few == queries() == [1, 1, 2, 1, 1]
