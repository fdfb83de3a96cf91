from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.finding import Finding, Remedy, Severity
from app.domain.policy import Decision, History, Limits, Mode, Policy, Switch, Verdict, decide, min_mode

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
EDIT = Remedy("edit_config")
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
        ("an action's mode asks", {"policy": replace(AUTO, actions={"edit_config": Mode.PROPOSE})}, "ask", []),
        ("an action can be off", {"policy": replace(AUTO, actions={"edit_config": Mode.OFF})}, "leave", ["mode"]),
        (
            "an action that is named has its own mode",
            {"policy": Policy(mode=Mode.OBSERVE, actions={"edit_config": Mode.AUTO})},
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
                    AUTO, detectors={"pipeline_failure": Mode.AUTO}, actions={"edit_config": Mode.APPROVE}
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
        ("a re-run opens no pull", {"history": History(open_pulls=9, pulls_today=9), "remedy": RERUN}, "act", []),
        ("an issue has no limit", {"history": History(9, 9, NOW, 9, 9, NOW, NOW), "remedy": ISSUE}, "act", []),
        ("re-runs are limited", {"history": History(reruns_of_run=2), "remedy": RERUN}, "leave", ["re-runs per run"]),
        ("re-runs do not limit edits", {"history": History(reruns_of_run=2)}, "act", []),
        (
            "attempts are limited",
            {"history": History(attempts_of_fingerprint=3)},
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
        history=History(open_pulls=9, pulls_today=9, attempts_of_fingerprint=9, switches=(APP_OFF, HERE_OFF)),
        stale="main has moved on",
        from_fork=True,
    )
    assert stopped_by(decision) == [
        "app switch", "pause", "stale", "fork", "mode", "protected branch", "open pulls", "pulls per day",
        "attempts per fingerprint",
    ]  # fmt: skip
    assert decision.reason == "Everything was paused by ada: incident at GitHub"


def test_a_limit_says_used_and_allowed_and_when_it_lets_go() -> None:
    decision = answer(history=History(pulls_today=5, oldest_pull_today_at=NOW - HOUR))
    (check,) = [check for check in decision.trace if not check.passed]
    assert check.detail == "5 of 5 fix pull requests were opened in 24 hours."
    assert check.resets_at == NOW + 23 * HOUR


def resets(decision: Decision) -> dict[str, datetime | None]:
    """What stopped it, and when each of these lets go."""
    return {check.rule: check.resets_at for check in decision.trace if not check.passed}


def test_each_limit_says_when_it_lets_go() -> None:
    history = History(
        pulls_today=5, oldest_pull_today_at=NOW - HOUR, attempts_of_fingerprint=3, oldest_attempt_at=NOW - 2 * HOUR
    )
    assert resets(answer(history=history)) == {
        "pulls per day": NOW + 23 * HOUR,
        "attempts per fingerprint": NOW + 22 * HOUR,
    }


def test_what_time_alone_does_not_lift_says_no_time() -> None:
    history = History(open_pulls=3, pulls_today=5, oldest_pull_today_at=NOW - HOUR)
    assert resets(answer(history=history)) == {"open pulls": None, "pulls per day": NOW + 23 * HOUR}


def test_a_limit_of_nothing_never_lets_go() -> None:
    policy = replace(AUTO, limits=Limits(pulls_per_day=0))
    decision = answer(policy=policy, history=History(oldest_pull_today_at=NOW - HOUR))
    assert resets(decision) == {"pulls per day": None}


def test_the_cooldown_runs_from_the_disproof() -> None:
    policy = replace(AUTO, limits=Limits(cooldown_s=3600))
    early = answer(policy=policy, history=History(disproven_at=NOW - HOUR / 2))
    assert resets(early) == {"cooldown": NOW + HOUR / 2}
    assert answer(policy=policy, history=History(disproven_at=NOW - HOUR)).verdict is Verdict.ACT


def test_the_mode_says_where_it_comes_from() -> None:
    policy = Policy(
        mode=Mode.AUTO, actions={"edit_config": Mode.PROPOSE}, origin={"actions.edit_config": ".github/heal.yml"}
    )
    assert "propose (actions.edit_config in .github/heal.yml)" in answer(policy=policy).trace[7].detail
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


modes = st.sampled_from(Mode)
moments = st.none() | st.integers(0, 48).map(lambda hours: NOW - hours * HOUR)
counts = st.integers(0, 6)
policies = st.builds(
    Policy,
    mode=modes,
    detectors=st.dictionaries(st.sampled_from(["pipeline_failure", "other"]), modes),
    actions=st.dictionaries(st.sampled_from(["edit_config", "rerun_failed_jobs", "open_issue"]), modes),
    limits=st.builds(Limits, counts, counts, counts, counts, st.sampled_from([0, 3600])),
    protected_branches=st.sampled_from([(), ("main",), ("release/*",)]),
    min_confidence=st.sampled_from([0.0, 0.7, 1.0]),
    paused=st.booleans(),
)
histories = st.builds(
    History, counts, counts, moments, counts, counts, moments, moments, st.sampled_from([(), (APP_OFF,), (HERE_OFF,)])
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
        replace(policy, actions={**policy.actions, "edit_config": min_mode(
            policy.actions.get("edit_config", policy.mode), mode)}),
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
