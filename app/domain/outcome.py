"""How an attempt ended, in GitHub's check-run conclusions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Conclusion(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    TIMED_OUT = "timed_out"
    ACTION_REQUIRED = "action_required"
    STALE = "stale"


FAILED = frozenset({"failure", "timed_out", "startup_failure"})  # of a run or a job, in GitHub's words


@dataclass(frozen=True, slots=True)
class Outcome:
    """`data` holds what proof and undo need later: branch, head_sha, pull, run_id, attempt, issue."""

    conclusion: Conclusion
    title: str
    summary: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
