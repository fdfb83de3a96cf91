from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.finding import Finding, Severity
from app.domain.incident import ACTIVE, IllegalTransition, Incident, Signal, State, allows, step

LISTED = """
found:     open→open observed→open awaiting_approval→awaiting_approval repairing→repairing verifying→verifying
found:     healed→open recovered→open escalated→escalated dismissed→dismissed
left:      open→observed
asked:     open→awaiting_approval repairing→awaiting_approval
acted:     open→repairing awaiting_approval→repairing
retried:   observed→open awaiting_approval→open escalated→open dismissed→open
applied:   repairing→verifying
failed:    awaiting_approval→open repairing→open verifying→open
proven:    verifying→healed
continued: verifying→repairing
exhausted: open→escalated repairing→escalated verifying→escalated
rejected:  awaiting_approval→dismissed observed→dismissed escalated→dismissed repairing→dismissed
rejected:  verifying→dismissed healed→dismissed
relapsed:  healed→repairing
recovered: open→recovered observed→recovered awaiting_approval→recovered escalated→recovered dismissed→recovered
recovered: repairing→recovered
"""
TABLE = {
    (State(pair.partition("→")[0]), Signal(signal)): State(pair.partition("→")[2])
    for signal, _, pairs in (line.partition(":") for line in LISTED.strip().splitlines())
    for pair in pairs.split()
}
PAIRS = [(state, signal) for state in State for signal in Signal]


@pytest.mark.parametrize(("state", "signal"), PAIRS)
def test_every_pair_is_listed_or_refused(state: State, signal: Signal) -> None:
    if (state, signal) in TABLE:
        assert step(state, signal) is TABLE[state, signal]
        assert allows(state, signal)
    else:
        assert not allows(state, signal)
        with pytest.raises(IllegalTransition, match=f"{state}.*{signal}"):
            step(state, signal)


def walked(signals: list[Signal]) -> list[tuple[State, Signal, State]]:
    """The legal part of a walk from OPEN."""
    state, steps = State.OPEN, []
    for signal in signals:
        if allows(state, signal):
            after = step(state, signal)
            steps.append((state, signal, after))
            state = after
    return steps


walks = st.lists(st.sampled_from(Signal), max_size=60).map(walked)


@settings(deadline=None)
@given(walks)
def test_a_persons_no_is_lifted_only_by_a_person_or_by_the_world(steps: list[tuple[State, Signal, State]]) -> None:
    for before, signal, after in steps:
        if before is State.DISMISSED and after is not State.DISMISSED:
            assert signal in (Signal.RETRIED, Signal.RECOVERED)


@settings(deadline=None)
@given(walks)
def test_only_proof_of_an_applied_repair_heals(steps: list[tuple[State, Signal, State]]) -> None:
    for before, signal, after in steps:
        if after is State.HEALED:
            assert (before, signal) == (State.VERIFYING, Signal.PROVEN)


@settings(deadline=None)
@given(walks)
def test_a_repair_is_applied_only_after_somebody_or_the_policy_acted(steps: list[tuple[State, Signal, State]]) -> None:
    allowed = False
    for _, signal, after in steps:
        if signal in (Signal.ACTED, Signal.RELAPSED):
            allowed = True
        elif after is State.VERIFYING:
            assert allowed
        elif after not in (State.REPAIRING, State.VERIFYING):
            allowed = False


@settings(deadline=None)
@given(walks)
def test_an_escalated_incident_stays_until_a_person_or_the_world_moves_it(
    steps: list[tuple[State, Signal, State]],
) -> None:
    for before, signal, after in steps:
        if before is State.ESCALATED and after is not State.ESCALATED:
            assert signal in (Signal.RETRIED, Signal.REJECTED, Signal.RECOVERED)


@settings(deadline=None)
@given(walks)
def test_being_found_again_never_disturbs_what_is_under_way(steps: list[tuple[State, Signal, State]]) -> None:
    for before, signal, after in steps:
        if signal is Signal.FOUND and before in ACTIVE:
            assert after is before


@pytest.mark.parametrize("state", list(State))
def test_no_state_is_a_dead_end(state: State) -> None:
    assert any(step(state, signal) is not state for signal in Signal if allows(state, signal))


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_a_busy_incident_can_always_be_handed_to_a_person(state: State) -> None:
    if not allows(state, Signal.EXHAUSTED):
        state = step(state, Signal.FAILED)
    assert step(state, Signal.EXHAUSTED) is State.ESCALATED


def test_the_fix_branch_is_named_for_the_fingerprint() -> None:
    at = datetime(2026, 11, 21, tzinfo=UTC)
    finding = Finding("d", "k", "s", Severity.LOW, 1.0, "x", "f" * 16)
    incident = Incident(1, 2, "a/b", "main", "0123456789abcdef", finding, "sha", 3, 1, "ci.yml", at, at)
    assert incident.fix_branch == "heal/0123456789abcdef"
    assert replace(incident, branch="dev").fix_branch == incident.fix_branch
