"""An incident's life, as a pure function."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.errors import HealError
from app.domain.finding import Finding


class State(StrEnum):
    OPEN = "open"  # found; a decision is due
    OBSERVED = "observed"  # reported, and left alone
    AWAITING_APPROVAL = "awaiting_approval"
    REPAIRING = "repairing"  # a repair is planned or being applied
    VERIFYING = "verifying"  # applied; the world has not answered yet
    HEALED = "healed"  # the world confirmed it
    RECOVERED = "recovered"  # went green without us
    ESCALATED = "escalated"  # a person must look
    DISMISSED = "dismissed"  # a person said no


class Signal(StrEnum):
    FOUND = "found"  # a detector claims it (again)
    LEFT = "left"  # the decision was to leave it
    ASKED = "asked"  # the decision was to ask
    ACTED = "acted"  # the decision was to act, or a person approved
    APPLIED = "applied"  # the repair stands; proof is awaited
    FAILED = "failed"  # refused, impossible, disproven or out of time: the next rung is due
    PROVEN = "proven"
    CONTINUED = "continued"  # a rung is proven, and another follows it
    EXHAUSTED = "exhausted"  # no rung is left
    RETRIED = "retried"  # a person wants the ladder climbed again
    REJECTED = "rejected"  # a person rejected the repair, or closed its pull request
    RECOVERED = "recovered"  # the same job passed without a repair of ours
    RELAPSED = "relapsed"  # the fingerprint returned after the repair was merged


class IllegalTransition(HealError):
    """The incident's state does not allow this signal."""


FIX_BRANCHES = "heal/"
ONBOARDING_BRANCH = f"{FIX_BRANCHES}onboarding"  # people change the heal.yml that is offered there
ACTIVE = frozenset({State.OPEN, State.AWAITING_APPROVAL, State.REPAIRING, State.VERIFYING})

_NEXT: dict[tuple[State, Signal], State] = {
    # found again: a closed or quiet incident opens anew, a busy one stays busy, a person's "no" is respected
    (State.OPEN, Signal.FOUND): State.OPEN,
    (State.OBSERVED, Signal.FOUND): State.OPEN,
    (State.AWAITING_APPROVAL, Signal.FOUND): State.AWAITING_APPROVAL,
    (State.REPAIRING, Signal.FOUND): State.REPAIRING,
    (State.VERIFYING, Signal.FOUND): State.VERIFYING,
    (State.HEALED, Signal.FOUND): State.OPEN,
    (State.RECOVERED, Signal.FOUND): State.OPEN,
    (State.ESCALATED, Signal.FOUND): State.ESCALATED,
    (State.DISMISSED, Signal.FOUND): State.DISMISSED,
    # decisions
    (State.OPEN, Signal.LEFT): State.OBSERVED,
    (State.OPEN, Signal.ASKED): State.AWAITING_APPROVAL,
    (State.OPEN, Signal.ACTED): State.REPAIRING,
    (State.OPEN, Signal.EXHAUSTED): State.ESCALATED,
    # a person decides, also on what was left, escalated or dismissed before
    (State.AWAITING_APPROVAL, Signal.ACTED): State.REPAIRING,
    (State.AWAITING_APPROVAL, Signal.REJECTED): State.DISMISSED,
    (State.AWAITING_APPROVAL, Signal.FAILED): State.OPEN,
    (State.OBSERVED, Signal.REJECTED): State.DISMISSED,
    (State.ESCALATED, Signal.REJECTED): State.DISMISSED,
    (State.REPAIRING, Signal.REJECTED): State.DISMISSED,
    (State.VERIFYING, Signal.REJECTED): State.DISMISSED,
    (State.HEALED, Signal.REJECTED): State.DISMISSED,
    (State.OBSERVED, Signal.RETRIED): State.OPEN,
    (State.AWAITING_APPROVAL, Signal.RETRIED): State.OPEN,
    (State.ESCALATED, Signal.RETRIED): State.OPEN,
    (State.DISMISSED, Signal.RETRIED): State.OPEN,
    # a repair's course
    (State.REPAIRING, Signal.ASKED): State.AWAITING_APPROVAL,
    (State.REPAIRING, Signal.APPLIED): State.VERIFYING,
    (State.REPAIRING, Signal.FAILED): State.OPEN,
    (State.REPAIRING, Signal.EXHAUSTED): State.ESCALATED,
    (State.VERIFYING, Signal.PROVEN): State.HEALED,
    (State.VERIFYING, Signal.FAILED): State.OPEN,
    (State.VERIFYING, Signal.CONTINUED): State.REPAIRING,
    (State.VERIFYING, Signal.EXHAUSTED): State.ESCALATED,
    # after the merge
    (State.HEALED, Signal.RELAPSED): State.REPAIRING,
    # the world mends itself
    (State.OPEN, Signal.RECOVERED): State.RECOVERED,
    (State.OBSERVED, Signal.RECOVERED): State.RECOVERED,
    (State.REPAIRING, Signal.RECOVERED): State.RECOVERED,  # only of what has no run, before anything was begun
    (State.AWAITING_APPROVAL, Signal.RECOVERED): State.RECOVERED,
    (State.ESCALATED, Signal.RECOVERED): State.RECOVERED,
    (State.DISMISSED, Signal.RECOVERED): State.RECOVERED,
}


def step(state: State, signal: Signal) -> State:
    """The state after `signal`. Raises IllegalTransition for a pair that has no meaning."""
    try:
        return _NEXT[state, signal]
    except KeyError:
        raise IllegalTransition(f"an incident that is {state} cannot be {signal}") from None


def allows(state: State, signal: Signal) -> bool:
    return (state, signal) in _NEXT


@dataclass(frozen=True, slots=True)
class Past:
    """How often a cause was seen before, counted in runs, and by which action it was healed last."""

    runs: int = 0
    healed_by: str = ""
    pull: int | None = None
    healed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """Findings of one fingerprint, on one branch of one repository, over time.

    `fingerprint` joins the finding's with repository and branch; `finding` is the latest. `head_sha`, `run_id` and
    `attempt` say where it was seen last; `rung` is the next index into the ladder.
    """

    repository_id: int
    installation_id: int
    repository: str
    branch: str
    fingerprint: str
    finding: Finding
    head_sha: str
    run_id: int
    attempt: int
    workflow_path: str
    opened_at: datetime
    updated_at: datetime
    id: int = 0
    state: State = State.OPEN
    rung: int = 0
    pull_number: int | None = None
    issue_number: int | None = None
    healed_at: datetime | None = None
    merged_at: datetime | None = None
    watch_until: datetime | None = None
    run_url: str = ""

    @property
    def fix_branch(self) -> str:
        return f"{FIX_BRANCHES}{self.fingerprint}"
