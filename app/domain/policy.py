"""What may be done to whom and when, and the answer to that question."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.domain.finding import Remedy


class Mode(StrEnum):
    """From the quietest to the boldest; the least of all that apply is in force."""

    OFF = "off"  # the detector does not run
    OBSERVE = "observe"  # report only
    PROPOSE = "propose"  # show the plan; wait for `/heal approve`
    APPROVE = "approve"  # ask with buttons
    AUTO = "auto"  # act


@dataclass(frozen=True, slots=True)
class Limits:
    open_pulls: int = 3
    pulls_per_day: int = 5
    reruns_per_run: int = 2
    attempts_per_fingerprint: int = 3  # repairs for one fingerprint in 24 hours
    cooldown_s: int = 0  # after a repair of this fingerprint was disproven


@dataclass(frozen=True, slots=True)
class Policy:
    """A repository's rules. `origin` says for each dotted key which file (or "default") its value came from."""

    mode: Mode = Mode.OBSERVE
    detectors: Mapping[str, Mode] = field(default_factory=dict)
    actions: Mapping[str, Mode] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    protected_branches: tuple[str, ...] = ()
    protected_paths: tuple[str, ...] = (".github/**", "**/CODEOWNERS", "CODEOWNERS")
    min_confidence: float = 0.7
    proof_deadline_s: int = 6 * 3600
    watch_s: int = 7 * 24 * 3600
    paused: bool = False
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Switch:
    """A kill switch that is on. `scope` is "app" or "repository:<id>"."""

    scope: str
    by: str
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """What the guards must know of the past. Times are aware UTC; `None` where nothing happened."""

    open_pulls: int = 0
    pulls_today: int = 0
    oldest_pull_today_at: datetime | None = None
    reruns_of_run: int = 0
    attempts_of_fingerprint: int = 0
    oldest_attempt_at: datetime | None = None
    disproven_at: datetime | None = None
    switches: tuple[Switch, ...] = ()


class Verdict(StrEnum):
    ACT = "act"
    ASK = "ask"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Check:
    """One rule that was looked at. `resets_at` is when a limit that stopped us will let go."""

    rule: str
    passed: bool
    detail: str
    resets_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, the reason in one sentence, and every rule that was looked at on the way."""

    verdict: Verdict
    reason: str
    mode: Mode
    remedy: Remedy | None = None
    trace: tuple[Check, ...] = ()
    retry_at: datetime | None = None
    exhausted: bool = False
