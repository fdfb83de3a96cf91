from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.budget import Spent, Unit
from app.domain.finding import Finding, Remedy, Severity
from app.domain.knowledge import Track
from app.domain.policy import (
    Autonomy,
    Check,
    Decision,
    History,
    Limits,
    Mode,
    Policy,
    Switch,
    Verdict,
    decide,
    min_mode,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
EDIT = Remedy("lower_batch_size")
RERUN = Remedy("rerun_failed_jobs")
ISSUE = Remedy("open_issue")
FINDING = Finding(
    "pipeline_failure", "host_oom", "train", Severity.HIGH, 0.9, "out of memory", "f" * 16, ladder=(RERUN, EDIT, ISSUE)
)
UNCERTAIN = replace(FINDING, actionable=False)
AUTO = Policy(mode=Mode.AUTO)
APP_OFF = Switch("app", "ada", NOW, "incident at GitHub")
HERE_OFF = Switch("repository:7", "bob", NOW)
BOLDNESS = {Verdict.LEAVE: 0, Verdict.ASK: 1, Verdict.ACT: 2}


def answer(
    remedy: Remedy | None = EDIT,
    policy: Policy = AUTO,
    history: History | None = None,
    finding: Finding = FINDING,
    **circumstances: Any,
) -> Decision:
    return decide(finding, remedy, policy, history or History(), NOW, **{"branch": "main", **circumstances})


def pulls(count: int) -> dict[Unit, Spent]:
    """As many in the last 24 hours, the first of them an hour ago."""
    return {Unit.PULLS: Spent(count, NOW - HOUR)}


WORN = History(
    *(9, {Unit.PULLS: Spent(9, NOW), Unit.API_POINTS: Spent(9e9, NOW)}, 9, 9, NOW, NOW),
    *((), 9, NOW, 9, 4711),
)


def stopped_by(decision: Decision) -> list[str]:
    return [check.rule for check in decision.trace if not check.passed]


@pytest.mark.parametrize(
    ("sentence", "given_", "verdict", "rules"),
    [
        ("with everything allowed, it acts", {}, "act", []),
        ("without a file, it only looks", {"policy": Policy()}, "leave", ["mode"]),
        ("propose asks", {"policy": Policy(mode=Mode.PROPOSE)}, "ask", []),
        ("approve asks", {"policy": Policy(mode=Mode.APPROVE)}, "ask", []),
        ("what is not certain is asked about", {"finding": UNCERTAIN}, "ask", ["certainty"]),
        ("of what is not certain a person is told", {"finding": UNCERTAIN, "remedy": ISSUE}, "act", []),
        (
            "what is not certain is asked about once, in whichever mode",
            {"finding": UNCERTAIN, "policy": Policy(mode=Mode.APPROVE)},
            "ask",
            [],
        ),
        ("off does nothing", {"policy": Policy(mode=Mode.OFF)}, "leave", ["mode"]),
        ("the app's switch stops all", {"history": History(switches=(APP_OFF,))}, "leave", ["app switch"]),
        ("a repository's switch stops it", {"history": History(switches=(HERE_OFF,))}, "leave", ["pause"]),
        ("paused in the file stops it", {"policy": replace(AUTO, paused=True)}, "leave", ["pause"]),
        ("a stale event is left", {"stale": "main has moved on"}, "leave", ["stale"]),
        ("a fork's run is left", {"from_fork": True}, "leave", ["fork"]),
        (
            "a detector that only observes stops it",
            {"policy": replace(AUTO, detectors={"pipeline_failure": Mode.OBSERVE})},
            "leave",
            ["detector", "mode"],
        ),
        (
            "a detector's mode asks",
            {"policy": replace(AUTO, detectors={"pipeline_failure": Mode.APPROVE})},
            "ask",
            [],
        ),
        (
            "another detector's mode does not matter",
            {"policy": replace(AUTO, detectors={"dependency_conflict": Mode.OFF})},
            "act",
            [],
        ),
        ("an action's mode asks", {"policy": replace(AUTO, actions={"lower_batch_size": Mode.PROPOSE})}, "ask", []),
        ("an action can be off", {"policy": replace(AUTO, actions={"lower_batch_size": Mode.OFF})}, "leave", ["mode"]),
        (
            "an action that is named has its own mode",
            {"policy": Policy(mode=Mode.OBSERVE, actions={"lower_batch_size": Mode.AUTO})},
            "act",
            [],
        ),
        (
            "an action that is not named has the general mode",
            {"policy": Policy(mode=Mode.OBSERVE, actions={"rerun_failed_jobs": Mode.AUTO})},
            "leave",
            ["mode"],
        ),
        (
            "of a detector and an action the quieter mode counts",
            {
                "policy": replace(
                    AUTO, detectors={"pipeline_failure": Mode.AUTO}, actions={"lower_batch_size": Mode.APPROVE}
                )
            },
            "ask",
            [],
        ),
        ("too little confidence is left", {"policy": replace(AUTO, min_confidence=0.91)}, "leave", ["confidence"]),
        ("just enough confidence acts", {"policy": replace(AUTO, min_confidence=0.9)}, "act", []),
        (
            "a detector's own confidence counts",
            {"policy": replace(AUTO, min_confidence=1.0, confidence={"pipeline_failure": 0.5})},
            "act",
            [],
        ),
        ("no remedy is left", {"remedy": None}, "leave", ["remedy"]),
        (
            "no fix targets a protected branch",
            {"policy": replace(AUTO, protected_branches=("release/*",)), "branch": "release/1.2"},
            "leave",
            ["protected branch"],
        ),
        (
            "a protected branch may be re-run",
            {"policy": replace(AUTO, protected_branches=("main",)), "remedy": RERUN},
            "act",
            [],
        ),
        ("open pulls are limited", {"history": History(open_pulls=3)}, "leave", ["open pulls"]),
        ("one more open pull is allowed", {"history": History(open_pulls=2)}, "act", []),
        ("a re-run opens no pull", {"history": History(open_pulls=9, spent=pulls(9)), "remedy": RERUN}, "act", []),
        ("an issue has no limit", {"history": WORN, "remedy": ISSUE}, "act", []),
        ("re-runs are limited", {"history": History(reruns_of_run=2), "remedy": RERUN}, "leave", ["re-runs per run"]),
        ("re-runs do not limit edits", {"history": History(reruns_of_run=2)}, "act", []),
        (
            "attempts are limited",
            {"history": History(attempts_of_fingerprint=6)},
            "leave",
            ["attempts per fingerprint"],
        ),
    ],
)  # fmt: skip
def test_the_rules(sentence: str, given_: Mapping[str, Any], verdict: str, rules: list[str]) -> None:
    decision = answer(**given_)
    assert (decision.verdict, stopped_by(decision)) == (verdict, rules), sentence
    assert decision.reason


def test_everything_that_stops_is_shown_and_the_first_is_the_reason() -> None:
    decision = answer(
        policy=Policy(paused=True, protected_branches=("*",)),
        history=History(open_pulls=9, spent=pulls(9), attempts_of_fingerprint=9, switches=(APP_OFF, HERE_OFF)),
        stale="main has moved on",
        from_fork=True,
    )
    assert stopped_by(decision) == [
        "app switch", "pause", "stale", "fork", "mode", "protected branch", "open pulls", "pulls per day",
        "attempts per fingerprint",
    ]  # fmt: skip
    assert decision.reason == "Everything was paused by ada: incident at GitHub"


def test_a_limit_says_used_and_allowed_and_when_it_lets_go() -> None:
    decision = answer(history=History(spent=pulls(5)))
    (check,) = [check for check in decision.trace if not check.passed]
    assert check.detail == "5 of 5 fix pull requests were opened in 24 hours."
    assert check.resets_at == NOW + 23 * HOUR


def resets(decision: Decision) -> dict[str, datetime | None]:
    """What stopped it, and when each of these lets go."""
    return {check.rule: check.resets_at for check in decision.trace if not check.passed}


def test_each_limit_says_when_it_lets_go() -> None:
    history = History(spent=pulls(5), attempts_of_fingerprint=6, oldest_attempt_at=NOW - 2 * HOUR)
    assert resets(answer(history=history)) == {
        "pulls per day": NOW + 23 * HOUR,
        "attempts per fingerprint": NOW + 22 * HOUR,
    }


def test_what_time_alone_does_not_lift_says_no_time() -> None:
    history = History(open_pulls=3, spent=pulls(5))
    assert resets(answer(history=history)) == {"open pulls": None, "pulls per day": NOW + 23 * HOUR}


def test_a_limit_of_nothing_never_lets_go() -> None:
    policy = replace(AUTO, limits=Limits(pulls_per_day=0))
    decision = answer(policy=policy, history=History(spent=pulls(0)))
    assert resets(decision) == {"pulls per day": None}


def test_the_cooldown_runs_from_the_disproof() -> None:
    policy = replace(AUTO, limits=Limits(cooldown_s=3600))
    early = answer(policy=policy, history=History(disproven_at=NOW - HOUR / 2))
    assert resets(early) == {"cooldown": NOW + HOUR / 2}
    assert answer(policy=policy, history=History(disproven_at=NOW - HOUR)).verdict is Verdict.ACT


def test_the_mode_says_where_it_comes_from() -> None:
    policy = Policy(
        mode=Mode.AUTO,
        actions={"lower_batch_size": Mode.PROPOSE},
        origin={"actions.lower_batch_size": ".github/heal.yml"},
    )
    mode = next(check for check in answer(policy=policy).trace if check.rule == "mode")
    assert "propose (actions.lower_batch_size in .github/heal.yml)" in mode.detail
    assert "observe (mode in the defaults)" in answer(policy=Policy()).reason


def test_without_a_remedy_it_is_exhausted_whatever_the_confidence() -> None:
    tried = answer(remedy=None, finding=replace(FINDING, confidence=0.1))
    assert (tried.exhausted, tried.reason) == (True, "Every remedy was tried.")
    assert answer(remedy=None, finding=replace(FINDING, ladder=())).reason == "No remedy is known."


@pytest.mark.parametrize(
    "circumstances",
    [
        {"policy": Policy()},
        {"policy": replace(AUTO, paused=True)},
        {"policy": replace(AUTO, detectors={"pipeline_failure": Mode.OFF})},
        {"stale": "main has moved on"},
        {"from_fork": True},
        {"history": History(switches=(APP_OFF,))},
    ],
)
def test_nobody_is_called_where_we_would_only_have_looked(circumstances: Mapping[str, Any]) -> None:
    decision = answer(remedy=None, **circumstances)
    assert not decision.exhausted
    assert decision.verdict is Verdict.LEAVE
    assert decision.reason not in ("Every remedy was tried.", "No remedy is known.")


def told(decision: Decision, rule: str) -> Check:
    return next(check for check in decision.trace if check.rule == rule)


def test_a_breaker_opens_after_failed_proofs_and_closes_by_itself() -> None:
    twice, thrice = History(failures_in_row=2, failed_at=NOW), History(failures_in_row=3, failed_at=NOW)
    assert answer(history=twice).verdict is Verdict.ACT
    assert (answer(history=thrice).verdict, told(answer(history=thrice), "breaker").resets_at) == ("leave", NOW + HOUR)
    assert answer(history=replace(thrice, failed_at=NOW - HOUR)).verdict is Verdict.ACT
    again = replace(thrice, failures_in_row=5, failed_at=NOW - HOUR)
    assert told(answer(history=again), "breaker").resets_at == NOW + 3 * HOUR
    assert answer(history=thrice, asked=True).verdict is Verdict.ACT
    assert answer(ISSUE, history=thrice).verdict is Verdict.ACT
    never = replace(AUTO, limits=Limits(breaker_after=0))
    assert answer(policy=never, history=thrice).verdict is Verdict.ACT


def test_what_people_closed_twice_is_left_until_somebody_asks() -> None:
    closed = History(closed_unmerged=2)
    assert stopped_by(answer(history=closed)) == ["muted"]
    assert "/heal retry" in answer(history=closed).reason
    assert answer(history=closed, asked=True).verdict is Verdict.ACT
    assert answer(history=History(closed_unmerged=1)).verdict is Verdict.ACT


def test_what_a_person_said_never_to_repair_is_left_whoever_asks() -> None:
    muted = History(muted=Switch("mute:7:host_oom", "ada", NOW, "it is expected"))
    for remedy in (RERUN, EDIT, ISSUE, None):
        left = answer(remedy, history=muted, asked=True)
        assert (left.verdict, left.exhausted) == (Verdict.LEAVE, False)
        detail = "host_oom is never repaired here: ada said so on 2026-11-21: it is expected"
        assert told(left, "never here").detail == detail


def test_what_two_people_must_agree_to_is_asked_for_in_every_mode() -> None:
    two = replace(AUTO, approvals={"lower_batch_size": 2}, origin={"approvals.lower_batch_size": "heal.yml"})
    assert answer(policy=two).verdict is Verdict.ASK
    assert told(answer(policy=two), "approvals").detail == "lower_batch_size needs the yes of 2 people by heal.yml."
    assert answer(RERUN, policy=two).verdict is Verdict.ACT


def test_one_cause_is_repaired_in_one_place() -> None:
    assert stopped_by(answer(history=History(twin=12))) == ["one cause"]
    assert "Incident 12" in answer(history=History(twin=12)).reason
    assert answer(RERUN, history=History(twin=12)).verdict is Verdict.ACT


def test_a_budget_is_not_overdrawn() -> None:
    costs = {Unit.GPU_MINUTES: 60.0}
    spent = History(spent={Unit.GPU_MINUTES: Spent(200.0, NOW - HOUR)})
    tight = answer(history=spent, costs=costs)
    assert stopped_by(tight) == ["budget: gpu minutes"]
    assert told(tight, "budget: gpu minutes").resets_at == NOW + 23 * HOUR
    assert answer(history=spent, costs={Unit.GPU_MINUTES: 40.0}).verdict is Verdict.ACT
    assert told(answer(history=spent, costs={Unit.GPU_MINUTES: 999.0}), "budget: gpu minutes").resets_at is None
    assert answer(ISSUE, history=spent, costs=costs).verdict is Verdict.ACT


def test_workflow_files_are_changed_by_themselves_only_where_the_action_is_named() -> None:
    update = Remedy("update_workflow")
    assert (answer(update).verdict, stopped_by(answer(update))) == ("ask", ["workflow files"])
    assert answer(update, replace(AUTO, actions={"update_workflow": Mode.AUTO})).verdict is Verdict.ACT


def test_a_repair_that_was_taken_back_is_asked_for_until_it_has_held_twice() -> None:
    reverted = Track(proven=5, failed=1, reverted_at=NOW - HOUR)
    assert stopped_by(answer(history=History(tracks={"lower_batch_size": reverted}))) == ["autonomy"]
    assert answer(RERUN, history=History(tracks={"lower_batch_size": reverted})).verdict is Verdict.ACT
    held = replace(reverted, since_revert=2)
    assert answer(history=History(tracks={"lower_batch_size": held})).verdict is Verdict.ACT
    bold = replace(AUTO, autonomy=Autonomy(lower_after_revert=False))
    assert answer(policy=bold, history=History(tracks={"lower_batch_size": reverted})).verdict is Verdict.ACT


def test_a_secret_is_never_rotated_without_a_person() -> None:
    assert answer(Remedy("rotate_secret"), replace(AUTO, actions={"rotate_secret": Mode.AUTO})).verdict is Verdict.ASK


modes = st.sampled_from(Mode)
moments = st.none() | st.integers(0, 48).map(lambda hours: NOW - hours * HOUR)
counts = st.integers(0, 6)
policies = st.builds(
    Policy,
    mode=modes,
    detectors=st.dictionaries(st.sampled_from(["pipeline_failure", "other"]), modes),
    actions=st.dictionaries(st.sampled_from(["lower_batch_size", "rerun_failed_jobs", "open_issue"]), modes),
    limits=st.builds(Limits, counts, counts, counts, counts, st.sampled_from([0, 3600])),
    protected_branches=st.sampled_from([(), ("main",), ("release/*",)]),
    min_confidence=st.sampled_from([0.0, 0.7, 1.0]),
    paused=st.booleans(),
)
tracks = st.builds(Track, counts, counts, moments, counts, counts, counts)
histories = st.builds(
    History,
    open_pulls=counts,
    spent=st.dictionaries(st.sampled_from(Unit), st.builds(Spent, st.floats(0, 1e5), moments)),
    reruns_of_run=counts,
    attempts_of_fingerprint=counts,
    oldest_attempt_at=moments,
    disproven_at=moments,
    switches=st.sampled_from([(), (APP_OFF,), (HERE_OFF,)]),
    failures_in_row=counts,
    failed_at=moments,
    closed_unmerged=counts,
    twin=st.none() | st.just(3),
    tracks=st.dictionaries(st.sampled_from(["lower_batch_size", "rerun_failed_jobs"]), tracks),
)
remedies = st.sampled_from([None, EDIT, RERUN, ISSUE])
branches = st.sampled_from(["main", "release/1", "feature"])
reasons = st.sampled_from(["", "main has moved on"])


@settings(deadline=None)
@given(remedies, policies, histories, branches, reasons, st.booleans(), modes)
def test_a_stricter_mode_is_never_bolder(
    remedy: Remedy | None, policy: Policy, history: History, branch: str, stale: str, fork: bool, mode: Mode
) -> None:
    before = answer(remedy, policy, history, branch=branch, stale=stale, from_fork=fork)
    for stricter in (
        replace(policy, mode=min_mode(policy.mode, mode)),
        replace(policy, detectors={**policy.detectors, "pipeline_failure": min_mode(
            policy.detectors.get("pipeline_failure", policy.mode), mode)}),
        replace(policy, actions={**policy.actions, "lower_batch_size": min_mode(
            policy.actions.get("lower_batch_size", policy.mode), mode)}),
    ):  # fmt: skip
        after = answer(remedy, stricter, history, branch=branch, stale=stale, from_fork=fork)
        assert BOLDNESS[after.verdict] <= BOLDNESS[before.verdict]


@settings(deadline=None)
@given(remedies, policies, histories, branches)
def test_nothing_is_done_while_paused_stale_or_from_a_fork(
    remedy: Remedy | None, policy: Policy, history: History, branch: str
) -> None:
    for decision in (
        answer(remedy, replace(policy, paused=True), history, branch=branch),
        answer(remedy, policy, replace(history, switches=(APP_OFF,)), branch=branch),
        answer(remedy, policy, history, branch=branch, stale="main has moved on"),
        answer(remedy, policy, history, branch=branch, from_fork=True),
    ):
        assert decision.verdict is Verdict.LEAVE


@settings(deadline=None)
@given(remedies, policies, histories, branches, reasons, st.booleans())
def test_the_verdict_follows_from_the_trace(
    remedy: Remedy | None, policy: Policy, history: History, branch: str, stale: str, fork: bool
) -> None:
    decision = answer(remedy, policy, history, branch=branch, stale=stale, from_fork=fork)
    assert decision == answer(remedy, policy, history, branch=branch, stale=stale, from_fork=fork)
    assert (decision.verdict is Verdict.LEAVE) == bool(stopped_by(decision))
    assert (decision.verdict is Verdict.ACT) <= (decision.mode is Mode.AUTO)
    assert not (decision.exhausted and remedy)
