"""What may be done to whom and when, and the answer to that question."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from app.domain.finding import Finding, Remedy
from app.domain.model import ModelRules, Query
from app.domain.signature import TeamSignature


class Mode(StrEnum):
    """From the quietest to the boldest. `mode_of` says which one is in force."""

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
    """A repository's rules. `origin` says for each dotted key which file (or "default") its value came from;
    `confidence` is the least confidence of single detectors, in place of `min_confidence`; `settings` are those of
    single detectors, checked against their own; `models` are the team's; `queries` are asked of Prometheus, by the name
    of the series; `signatures` are how failures of the team's own show."""

    mode: Mode = Mode.OBSERVE
    detectors: Mapping[str, Mode] = field(default_factory=dict)
    actions: Mapping[str, Mode] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    protected_branches: tuple[str, ...] = ()
    protected_paths: tuple[str, ...] = (".github/**", "**/CODEOWNERS", "CODEOWNERS")
    min_confidence: float = 0.7
    confidence: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    proof_deadline_s: int = 6 * 3600
    watch_s: int = 7 * 24 * 3600
    paused: bool = False
    models: Mapping[str, ModelRules] = field(default_factory=dict)
    queries: Mapping[str, Query] = field(default_factory=dict)
    signatures: tuple[TeamSignature, ...] = ()
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
    exhausted: bool = False


_BOLDNESS = {mode: rank for rank, mode in enumerate(Mode)}
_DAY = timedelta(days=1)

CONFIG_PATH = ".github/heal.yml"
PAUSES = frozenset({"app switch", "pause"})  # the rules that are kill switches
RERUN = "rerun_failed_jobs"
ISSUE = "open_issue"


def min_mode(first: Mode, *others: Mode) -> Mode:
    """The quietest of the modes."""
    return min((first, *others), key=_BOLDNESS.__getitem__)


def mode_of(policy: Policy, detector: str, action: str) -> tuple[str, Mode]:
    """The mode in force for what `detector` found and `action` would do, with the key that it comes from.

    `mode` is for whatever is not named; of the detector and the action, where both are named, the quieter one counts.
    """
    named = [(f"detectors.{detector}", policy.detectors[detector])] if detector in policy.detectors else []
    named += [(f"actions.{action}", policy.actions[action])] if action in policy.actions else []
    return min(named or [("mode", policy.mode)], key=lambda found: _BOLDNESS[found[1]])


def opens_pull(action: str) -> bool:
    """Whether the pull-request rules apply: to every action that is not known to open none."""
    return action not in (RERUN, ISSUE)


def protects_branch(policy: Policy, branch: str) -> str:
    """The pattern that protects `branch`, or "". `*` also matches `/`."""
    return next((pattern for pattern in policy.protected_branches if fnmatchcase(branch, pattern)), "")


def decide(
    finding: Finding,
    remedy: Remedy | None,
    policy: Policy,
    history: History,
    now: datetime,
    *,
    branch: str,
    stale: str = "",
    from_fork: bool = False,
) -> Decision:
    """Whether `remedy`, the next rung for `finding`, may be carried out now.

    `stale` says why the event is out of date ("" if it is not). Every rule is looked at, and the verdict is the least
    that any of them allows. `exhausted` is set
    when the lack of a remedy is what stopped us: not where we would only have looked anyway.
    """
    key, mode = mode_of(policy, finding.detector, remedy.action if remedy else "")
    circumstances = [
        _app_switch(history),
        _repository_pause(policy, history),
        Check("stale", not stale, stale or "The event is about the newest attempt at the branch's head."),
        Check("fork", not from_fork, "The run comes from a fork." if from_fork else "The run is the repository's own."),
        _detector_mode(finding, policy),
    ]
    trace = [*circumstances, _confidence(finding, policy)]
    if remedy is None:
        spent = Check("remedy", False, "Every remedy was tried." if finding.ladder else "No remedy is known.")
        trace += [spent, _mode_in_force(key, mode, policy)]
        exhausted = all(check.passed for check in circumstances) and _BOLDNESS[mode] > _BOLDNESS[Mode.OBSERVE]
        why = spent if exhausted else next(check for check in trace if not check.passed and check is not spent)
        return Decision(Verdict.LEAVE, why.detail, mode, trace=tuple(trace), exhausted=exhausted)

    trace.append(Check("remedy", True, f"The next remedy is {remedy.action}."))
    trace.append(_mode_in_force(key, mode, policy))
    trace += _limits(remedy, policy, history, now, branch)
    stopped_by = [check for check in trace if not check.passed]
    if stopped_by:
        return Decision(Verdict.LEAVE, stopped_by[0].detail, mode, remedy, tuple(trace))
    if mode is not Mode.AUTO:
        return Decision(Verdict.ASK, f"The mode is {mode}: a person decides.", mode, remedy, tuple(trace))
    certain = _certainty(finding, remedy)
    verdict = Verdict.ACT if certain.passed else Verdict.ASK
    reason = "Every rule allows it." if certain.passed else certain.detail
    return Decision(verdict, reason, mode, remedy, (*trace, certain))


def _app_switch(history: History) -> Check:
    for switch in history.switches:
        if switch.scope == "app":
            return Check("app switch", False, _switched_off("Everything", switch))
    return Check("app switch", True, "The app's kill switch is off.")


def _repository_pause(policy: Policy, history: History) -> Check:
    for switch in history.switches:
        if switch.scope != "app":
            return Check("pause", False, _switched_off("This repository", switch))
    if policy.paused:
        return Check("pause", False, f"This repository is paused by {_origin(policy, 'paused')}.")
    return Check("pause", True, "The repository is not paused.")


def _switched_off(what: str, switch: Switch) -> str:
    return f"{what} was paused by {switch.by}" + (f": {switch.reason}" if switch.reason else ".")


def _detector_mode(finding: Finding, policy: Policy) -> Check:
    own = policy.detectors.get(finding.detector)
    if own is None:
        return Check("detector", True, f"{finding.detector} has no mode of its own.")
    where = _origin(policy, f"detectors.{finding.detector}")
    return Check("detector", own not in (Mode.OFF, Mode.OBSERVE), f"{finding.detector} is set to {own} in {where}.")


def _confidence(finding: Finding, policy: Policy) -> Check:
    least = policy.confidence.get(finding.detector, policy.min_confidence)
    enough = finding.confidence >= least
    return Check("confidence", enough, f"The confidence is {finding.confidence:.2f}; {least:.2f} or more is asked for.")


def _certainty(finding: Finding, remedy: Remedy) -> Check:
    """Whether a repair may go ahead without a person. Telling a person may always."""
    if finding.actionable or remedy.action == ISSUE:
        return Check("certainty", True, f"{finding.kind} is certain enough to be acted on.")
    detail = f"{finding.kind} is not certain enough to be acted on without a person."
    return Check("certainty", False, detail)


def _mode_in_force(key: str, mode: Mode, policy: Policy) -> Check:
    means = {
        Mode.OFF: "nothing is done",
        Mode.OBSERVE: "it is reported and left alone",
        Mode.PROPOSE: "the plan is shown and waits for a person",
        Mode.APPROVE: "a person is asked",
        Mode.AUTO: "it is done",
    }[mode]
    detail = f"The mode is {mode} ({key} in {_origin(policy, key)}): {means}."
    return Check("mode", mode not in (Mode.OFF, Mode.OBSERVE), detail)


def _origin(policy: Policy, key: str) -> str:
    origin = policy.origin.get(key, "default")
    return "the defaults" if origin == "default" else origin


def _limits(remedy: Remedy, policy: Policy, history: History, now: datetime, branch: str) -> list[Check]:
    if remedy.action == ISSUE:
        return []  # telling a person is the way out when the limits are reached
    limits = policy.limits
    checks = []
    if opens_pull(remedy.action):
        pattern = protects_branch(policy, branch)
        detail = f"{branch} is protected by {pattern}." if pattern else f"{branch} is not protected."
        checks.append(Check("protected branch", not pattern, detail))
        checks.append(_limit("open pulls", history.open_pulls, limits.open_pulls, "fix pull requests are open"))
        checks.append(
            _limit(
                "pulls per day",
                history.pulls_today,
                limits.pulls_per_day,
                "fix pull requests were opened in 24 hours",
                history.oldest_pull_today_at,
            )
        )
    if remedy.action == RERUN:
        checks.append(
            _limit("re-runs per run", history.reruns_of_run, limits.reruns_per_run, "re-runs of this run were made")
        )
    checks.append(
        _limit(
            "attempts per fingerprint",
            history.attempts_of_fingerprint,
            limits.attempts_per_fingerprint,
            "repairs of this failure were made in 24 hours",
            history.oldest_attempt_at,
        )
    )
    checks.append(_cooldown(limits, history, now))
    return checks


def _limit(rule: str, used: int, allowed: int, what: str, oldest_at: datetime | None = None) -> Check:
    # a limit of nothing never lets go, however long one waits
    resets_at = oldest_at + _DAY if oldest_at is not None and used >= allowed > 0 else None
    return Check(rule, used < allowed, f"{used} of {allowed} {what}.", resets_at)


def _cooldown(limits: Limits, history: History, now: datetime) -> Check:
    if history.disproven_at is None:
        return Check("cooldown", True, "No repair of this failure was disproven.")
    if not limits.cooldown_s:
        return Check("cooldown", True, "There is no cooldown after a disproven repair.")
    until = history.disproven_at + timedelta(seconds=limits.cooldown_s)
    if now >= until:
        return Check("cooldown", True, "The cooldown after the last disproven repair is over.")
    return Check("cooldown", False, f"A repair was disproven; the cooldown is {limits.cooldown_s} s.", until)
