"""Starts runs that last: trainings and benchmarks, outside the process of the bot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class RunState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"  # it was started, and nothing is known of it any more


ENDED = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.LOST})


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What is to be run. `key` names it: started twice with one key, it runs once.

    `settings` are the workload's own; `timeout_s` ends it. `resume` is the handle of an earlier run of this launcher
    that this one goes on from, "" for none.
    """

    key: str
    workload: str
    verb: str
    settings: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 3600.0
    resume: str = ""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """`tail` are the last lines of its log; `exit_code` None while it runs, or where nobody knows.

    `report` is what the run tells of itself once it has ended: data of a stranger, of a bounded size, empty where there
    is none. A workload says `{"outcome": "succeeded" | "failed", …}`, and when it failed `"failure": {"kind",
    "message", "advice": {setting: value}, "resumable", "facts": {…}}`. Of a run that ended without a word the launcher
    tells the failure itself: "timed_out", "killed" or "host_oom".
    """

    state: RunState
    tail: str = ""
    exit_code: int | None = None
    report: Mapping[str, object] = field(default_factory=dict)


class Launcher(Protocol):
    """Raises Refused for what it cannot run, Unreachable when what it starts on does not answer."""

    name: str

    def start(self, spec: RunSpec) -> str:
        """The run's handle. The same key again: the same handle, and nothing is started; a run that still waits for its
        turn (PENDING) may begin then."""
        ...

    def status(self, handle: str) -> RunStatus: ...
    def cancel(self, handle: str) -> None:
        """Ended soon, if it was not already."""
        ...

    def reap(self, keys: frozenset[str]) -> list[str]:
        """End the runs that were started here and whose key is not among these; their handles."""
        ...
