"""Times in which nothing is done without a person."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.budget import Spent, Unit
from app.domain.finding import Finding, Remedy, Severity
from app.domain.freeze import Freeze, in_force
from app.domain.policy import Decision, History, Mode, Policy, Verdict, decide
from app.healing.configuration import OWNER, REPOSITORY, Configured, explain, resolve

NIGHTS = Freeze("nights", hours=(18 * 60, 6 * 60))
WEEKEND = Freeze("weekend", frozenset({5, 6}))
YEAR_END = Freeze("end of the year", first=date(2026, 12, 20), last=date(2027, 1, 2), zone="Europe/Berlin")
SATURDAY = datetime(2026, 11, 21, 12, tzinfo=UTC)
FINDING = Finding("pipeline_failure", "host_oom", "train", Severity.HIGH, 0.9, "out of memory", "f" * 16)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("freeze", "now", "until"),
    [
        (NIGHTS, "2026-11-18T17:59", None),
        (NIGHTS, "2026-11-18T18:00", "2026-11-19T06:00"),
        (NIGHTS, "2026-11-19T05:59", "2026-11-19T06:00"),
        (NIGHTS, "2026-11-19T06:00", None),
        (WEEKEND, "2026-11-20T23:59", None),
        (WEEKEND, "2026-11-21T00:00", "2026-11-23T00:00"),
        (WEEKEND, "2026-11-23T00:00", None),
        (YEAR_END, "2026-12-19T22:59", None),
        (YEAR_END, "2026-12-19T23:00", "2027-01-02T23:00"),
        (YEAR_END, "2027-01-02T23:00", None),
        (Freeze("fri", frozenset({4}), (22 * 60, 4 * 60)), "2026-11-21T03:00", "2026-11-21T04:00"),
        (Freeze("sat", frozenset({5}), (22 * 60, 4 * 60)), "2026-11-21T03:00", None),
        (Freeze("evening", hours=(20 * 60, 24 * 60)), "2026-11-21T21:00", "2026-11-22T00:00"),
    ],
)
def test_a_freeze_is_in_force_from_its_begin_to_its_end(freeze: Freeze, now: str, until: str | None) -> None:
    assert freeze.until(at(now)) == (at(until) if until else None)


def test_hours_are_those_of_the_clock_also_where_it_is_changed() -> None:
    nights = Freeze("nights", hours=(18 * 60, 6 * 60), zone="Europe/Berlin")
    assert nights.until(at("2026-10-24T20:00")) == at("2026-10-25T05:00")  # until 6 o'clock in winter time
    assert nights.until(at("2026-03-28T20:00")) == at("2026-03-29T04:00")


def test_of_several_the_one_that_ends_last_counts() -> None:
    found = in_force((NIGHTS, WEEKEND), at("2026-11-21T20:00"))
    assert found == (WEEKEND, at("2026-11-23T00:00"))
    assert in_force((NIGHTS, WEEKEND), at("2026-11-18T12:00")) is None


@given(
    st.builds(
        Freeze,
        st.just("x"),
        st.frozensets(st.integers(0, 6), max_size=6),
        st.tuples(st.integers(0, 1439), st.integers(0, 1440)),
        st.none() | st.just(date(2026, 3, 1)),
        st.none() | st.just(date(2026, 11, 30)),
        st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"]),
    ),
    st.integers(0, 365 * 24 * 60).map(lambda minutes: at("2026-01-01") + timedelta(minutes=minutes)),
)
def test_what_is_over_is_over(freeze: Freeze, now: datetime) -> None:
    until = freeze.until(now)
    assert until is None or until > now
    if until is not None and until - now < timedelta(days=399):
        assert freeze.until(until) is None


# the rule


def decided(
    policy: Policy, remedy: str = "rerun_failed_jobs", *, asked: bool = False, now: datetime = SATURDAY
) -> Decision:
    return decide(FINDING, Remedy(remedy), policy, History(), now, branch="main", asked=asked)


FROZEN = Policy(mode=Mode.AUTO, freeze=(WEEKEND,))


def test_in_a_freeze_a_person_is_asked_and_told_until_when() -> None:
    decision = decided(FROZEN)
    assert decision.verdict is Verdict.ASK
    assert decision.reason == "The freeze weekend is in force: a person decides."
    (check,) = [check for check in decision.trace if check.rule == "freeze"]
    assert (check.passed, check.resets_at) == (False, at("2026-11-23T00:00"))


def test_outside_of_it_and_for_people_who_ask_all_is_as_ever() -> None:
    assert decided(FROZEN, now=at("2026-11-23T00:00")).verdict is Verdict.ACT
    assert decided(FROZEN, asked=True).verdict is Verdict.ACT
    assert decided(FROZEN, "open_issue").verdict is Verdict.ACT


def test_a_freeze_lets_nothing_through_that_was_stopped_before() -> None:
    spent = History(spent={Unit.PULLS: Spent(9, SATURDAY)})
    for policy in (FROZEN, Policy(mode=Mode.AUTO)):
        decision = decide(FINDING, Remedy("pin_dependency"), policy, spent, SATURDAY, branch="main")
        assert decision.verdict is Verdict.LEAVE
    assert decided(Policy(mode=Mode.OBSERVE, freeze=(WEEKEND,))).verdict is Verdict.LEAVE


# heal.yml


def read(repository: str | None, owner: str | None = None) -> Configured:
    return resolve(repository, owner, known_detectors={}, known_actions={})


def test_a_freeze_is_read_with_days_hours_dates_and_zone() -> None:
    configured = read(
        'version: 1\nfreeze:\n  - {name: nights, days: [fri], hours: "18:00-24:00", zone: Europe/Berlin}\n'
        "  - {name: end of the year, from: 2026-12-20, until: 2027-01-02}\n"
    )
    assert configured.problems == ()
    assert configured.policy.freeze == (
        Freeze("nights", frozenset({4}), (18 * 60, 24 * 60), zone="Europe/Berlin"),
        Freeze("end of the year", first=date(2026, 12, 20), last=date(2027, 1, 2)),
    )
    rows = [(key, value) for key, value, _ in explain(configured) if key == "freeze"]
    assert rows == [
        ("freeze", "nights: fri 18:00-24:00, Europe/Berlin"),
        ("freeze", "end of the year: 2026-12-20 to 2027-01-02, UTC"),
    ]


def test_a_repository_takes_none_of_the_owners_freezes_away() -> None:
    configured = read(
        "version: 1\nfreeze: [{name: mine, days: [mon]}]", "version: 1\nfreeze: [{name: ours, days: [tue]}]"
    )
    assert [freeze.name for freeze in configured.policy.freeze] == ["ours", "mine"]
    assert configured.policy.origin["freeze"] == REPOSITORY
    assert [
        f.name
        for f in read("{version: 1, freeze: []}", "{version: 1, freeze: [{name: ours, days: [tue]}]}").policy.freeze
    ] == ["ours"]
    assert read(None, "{version: 1, freeze: [{name: ours, days: [tue]}]}").policy.origin["freeze"] == OWNER


@pytest.mark.parametrize(
    ("freeze", "said"),
    [
        ("{name: x}", "needs days, hours, or dates"),
        ("{name: x, days: [monday]}", "monday"),
        ('{name: x, hours: "6-18"}', "hours"),
        ('{name: x, hours: "18:00-25:00"}', "hours"),
        ("{name: x, days: [mon], zone: Mars/Olympus}", "no time zone"),
        ("{name: x, days: [mon], zone: ../../etc/passwd}", "no time zone"),
        ("{name: x, from: 2027-01-01, until: 2026-01-01}", "ends before it begins"),
        ("{name: x, from: tomorrow}", "from"),
        ("{name: x, days: [mon], untill: 2026-01-01}", "did you mean 'until'"),
        ("{days: [mon]}", "name"),
    ],
)
def test_a_mistake_in_a_freeze_is_told_and_the_file_observes(freeze: str, said: str) -> None:
    configured = read(f"version: 1\nmode: auto\nfreeze: [{freeze}]")
    (problem,) = configured.problems
    assert said in problem.message or said in problem.path
    assert problem.path.startswith("freeze.0")
    assert configured.policy.mode is Mode.OBSERVE
