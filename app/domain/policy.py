"""What may be done to whom and when, and the answer to that question."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from app.domain.budget import PERIOD_S, Amounts, Spent, Unit
from app.domain.finding import Finding, Remedy
from app.domain.freeze import Freeze, in_force
from app.domain.knowledge import Track, rung_of
from app.domain.model import ModelRules, Query
from app.domain.signature import TeamSignature

T = TypeVar("T")


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
    attempts_per_fingerprint: int = 6  # repairs for one fingerprint in 24 hours
    cooldown_s: int = 0  # after a repair of this fingerprint was disproven
    api_points_per_hour: int = 3000
    content_calls_per_hour: int = 200
    gpu_minutes_per_day: int = 240
    money_per_month: float = 0.0
    breaker_after: int = 3  # proofs of one action that failed in a row, anywhere in the repository; 0: no breaker
    breaker_rest_s: int = 3600  # doubled with each further failure
    closed_unmerged: int = 2  # fix pull requests for one cause that people closed without merging; 0: no matter
    approval_expires_days: int = 7  # how long a question stays asked

    def allowance(self, unit: Unit) -> float:
        return {
            Unit.API_POINTS: self.api_points_per_hour,
            Unit.CONTENT_CALLS: self.content_calls_per_hour,
            Unit.PULLS: self.pulls_per_day,
            Unit.RERUNS: float("inf"),  # they are limited by run
            Unit.GPU_MINUTES: self.gpu_minutes_per_day,
            Unit.MONEY: self.money_per_month,
        }[unit]


@dataclass(frozen=True, slots=True)
class Autonomy:
    """`suggest_at` is the chance of proven success (lower bound, 95 %) from which a bolder mode is suggested;
    `lower_after_revert` asks a person first once a proven repair was taken back, until two more were proven; `shadow`
    plans what is only observed, and compares it with what people do; `learn_order` climbs first what has worked."""

    suggest_at: float = 0.8
    lower_after_revert: bool = True
    shadow: bool = True
    learn_order: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """Where news go. `on` are the states of an incident that are told, from severity `least` on; in the `quiet` hours
    (UTC, first and last) only what is `urgent` or worse; `digest_s` gathers what happens within it into one message."""

    channel: str
    on: frozenset[str] = frozenset({"awaiting_approval", "escalated"})
    least: str = "low"
    quiet: tuple[int, int] | None = None
    urgent: str = "critical"
    digest_s: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """A repository's rules. `origin` says for each dotted key which file (or "default") its value came from;
    `confidence` is the least confidence of single detectors, in place of `min_confidence`; `settings` are those of
    single detectors, checked against their own; `models` are the team's; `queries` are asked of Prometheus, by the name
    of the series; `signatures` are how failures of the team's own show; `playbooks` are ladders in place of the usual
    ones, by cause; `language` is that of what is written on GitHub; `approvals` says how many people must say yes to an
    action, where that is more than one."""

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
    playbooks: Mapping[str, tuple[Remedy, ...]] = field(default_factory=dict)
    autonomy: Autonomy = field(default_factory=Autonomy)
    notify: tuple[Route, ...] = ()
    freeze: tuple[Freeze, ...] = ()
    language: str = "en"
    approvals: Mapping[str, int] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Switch:
    """A kill switch that is on. `scope` is "app", "repository:<id>" or, for a cause, "mute:<id>:<kind>"."""

    scope: str
    by: str
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """What the guards must know of the past. Times are aware UTC; `None` where nothing happened.

    `failures_in_row` are the newest proofs of this action in the repository that failed, `failed_at` the last of them;
    `closed_unmerged` are fix pull requests for this cause that people closed, since somebody last asked for a repair;
    `twin` is another incident with the same cause in the repository that is being repaired; `tracks` is what is known
    of each rung for this cause (domain.knowledge); `muted` is the word of a person that it is never repaired here.
    """

    open_pulls: int = 0
    spent: Mapping[Unit, Spent] = field(default_factory=dict)
    reruns_of_run: int = 0
    attempts_of_fingerprint: int = 0
    oldest_attempt_at: datetime | None = None
    disproven_at: datetime | None = None
    switches: tuple[Switch, ...] = ()
    failures_in_row: int = 0
    failed_at: datetime | None = None
    closed_unmerged: int = 0
    twin: int | None = None
    tracks: Mapping[str, Track] = field(default_factory=dict)
    muted: Switch | None = None


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
_NOTHING: Amounts = {}

CONFIG_PATH = ".github/heal.yml"
PAUSES = frozenset({"app switch", "pause"})  # the rules that are kill switches
RERUN = "rerun_failed_jobs"
REVERT = "revert_repair"  # the reverse of a repair, offered when its cause returned after the merge
ISSUE = "open_issue"
MUTE = "mute:"


def repository_scope(repository_id: int) -> str:
    """The scope of a repository's own kill switch."""
    return f"repository:{repository_id}"


def mute_scope(repository_id: int, kind: str) -> str:
    """The scope of the switch by which a cause is never repaired in a repository."""
    return f"{MUTE}{repository_id}:{kind}"


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


_NO_PULL = frozenset(
    {RERUN, ISSUE, "notify", "rotate_secret", "retrain_model", "benchmark_model", "promote_model", "roll_back_model"}
)
_WORKFLOWS = frozenset({"update_workflow", "free_disk", "clear_cache", "raise_timeout", "move_runner"})
_PEOPLE = frozenset({ISSUE, "notify"})  # telling a person is the way out when the limits are reached
_ALWAYS_ASKS = frozenset({"rotate_secret"})


def named(params: Mapping[str, T]) -> dict[str, T | None]:
    """What heal.yml may name under `actions`: these, and the reverse that is offered of each, which is no rung."""
    return {**params, REVERT: None}


def always_asks(policy: Policy, remedy: Remedy) -> bool:
    """Whether a person is asked whatever the general mode is."""
    return remedy.action in _ALWAYS_ASKS or not _workflow_files(policy, remedy).passed


def opens_pull(action: str) -> bool:
    """Whether the pull-request rules apply: to every action that is not known to open none."""
    return action not in _NO_PULL


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
    costs: Amounts = _NOTHING,
    asked: bool = False,
) -> Decision:
    """Whether `remedy`, the next rung for `finding`, may be carried out now.

    `stale` says why the event is out of date ("" if it is not); `costs` are what the remedy is likely to use, `asked`
    says that a person wants it. Every rule is looked at, and the verdict is the least that any of them allows.
    `exhausted` is set when the lack of a remedy is what stopped us: not where we would only have looked anyway.
    """
    key, mode = mode_of(policy, finding.detector, remedy.action if remedy else "")
    circumstances = [
        _app_switch(history),
        _repository_pause(policy, history),
        Check("stale", not stale, stale or "The event is about the newest attempt at the branch's head."),
        Check("fork", not from_fork, "The run comes from a fork." if from_fork else "The run is the repository's own."),
        _detector_mode(finding, policy),
        _never_here(finding, history),
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
    trace += _guards(remedy, policy, history, now, costs, asked)
    stopped_by = [check for check in trace if not check.passed]
    if stopped_by:
        return Decision(Verdict.LEAVE, stopped_by[0].detail, mode, remedy, tuple(trace))
    if mode is not Mode.AUTO:
        return Decision(Verdict.ASK, f"The mode is {mode}: a person decides.", mode, remedy, tuple(trace))
    consent = [
        _certainty(finding, remedy),
        _workflow_files(policy, remedy),
        _autonomy(policy, history, remedy),
        _several(policy, remedy),
        _freeze(policy, now, remedy, asked),
    ]
    doubtful = [check for check in consent if not check.passed]
    verdict = Verdict.ASK if doubtful else Verdict.ACT
    reason = doubtful[0].detail if doubtful else "Every rule allows it."
    return Decision(verdict, reason, mode, remedy, (*trace, *consent))


def _freeze(policy: Policy, now: datetime, remedy: Remedy, asked: bool) -> Check:
    """In times that heal.yml names a person is asked first."""
    found = None if asked or remedy.action in _PEOPLE else in_force(policy.freeze, now)
    if found is None:
        return Check("freeze", True, "No freeze is in force.")
    return Check("freeze", False, f"The freeze {found[0].name} is in force: a person decides.", found[1])


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


def _never_here(finding: Finding, history: History) -> Check:
    """A person's word that this cause is never repaired here. It stands until it is taken back, whoever asks."""
    if history.muted is None:
        return Check("never here", True, "Nobody has said never to repair this here.")
    told = f"{finding.kind} is never repaired here: {history.muted.by} said so on {history.muted.at:%Y-%m-%d}"
    return Check("never here", False, told + (f": {history.muted.reason}" if history.muted.reason else "."))


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
    if finding.actionable or remedy.action in _PEOPLE:
        return Check("certainty", True, f"{finding.kind} is certain enough to be acted on.")
    detail = f"{finding.kind} is not certain enough to be acted on without a person."
    return Check("certainty", False, detail)


def _workflow_files(policy: Policy, remedy: Remedy) -> Check:
    """A workflow file decides what is checked at all: changing one is asked for, unless the team named the action."""
    if remedy.action not in _WORKFLOWS or policy.actions.get(remedy.action) is Mode.AUTO:
        return Check("workflow files", True, f"{remedy.action} may go ahead by itself.")
    detail = (
        f"{remedy.action} changes workflow files: a person decides, unless heal.yml says actions.{remedy.action}: auto."
    )
    return Check("workflow files", False, detail)


def approvals_for(policy: Policy, action: str) -> int:
    """How many people must say yes where a person is asked."""
    return max(1, policy.approvals.get(action, 1))


def _several(policy: Policy, remedy: Remedy) -> Check:
    """What several people must say yes to is not done without any."""
    several = approvals_for(policy, remedy.action)
    if several == 1:
        return Check("approvals", True, f"{remedy.action} does not need several people.")
    where = _origin(policy, f"approvals.{remedy.action}")
    return Check("approvals", False, f"{remedy.action} needs the yes of {several} people by {where}.")


PROVEN_ANEW = 2  # after a repair was taken back, so many must be proven before a person is asked no more
_QUIETER = frozenset({Mode.OBSERVE, Mode.PROPOSE, Mode.APPROVE})


def lowered(policy: Policy, track: Track) -> bool:
    """Whether a person is asked first, because a proven repair of this kind was taken back."""
    return policy.autonomy.lower_after_revert and track.reverted_at is not None and track.since_revert < PROVEN_ANEW


def may_be_bolder(policy: Policy, mode: Mode, track: Track) -> bool:
    """Whether what was proven speaks for a bolder mode. The bot never takes it by itself."""
    return mode in _QUIETER and track.at_least() >= policy.autonomy.suggest_at


def _autonomy(policy: Policy, history: History, remedy: Remedy) -> Check:
    """What people took back is asked for, until it has shown again that it holds."""
    if remedy.action in _ALWAYS_ASKS:
        return Check("autonomy", False, f"{remedy.action} is never done without a person.")
    track = history.tracks.get(rung_of(remedy), Track())
    if not lowered(policy, track) or remedy.action in _PEOPLE:
        return Check("autonomy", True, "No proven repair of this kind was taken back here.")
    detail = (
        f"A proven {remedy.action} for this cause was taken back on {track.reverted_at:%Y-%m-%d}: a person decides."
    )
    return Check("autonomy", False, detail)


def _guards(
    remedy: Remedy, policy: Policy, history: History, now: datetime, costs: Amounts, asked: bool
) -> list[Check]:
    """What keeps repairs from getting in the way: of people, of each other, and of GitHub."""
    if remedy.action in _PEOPLE:
        return []
    limits = policy.limits
    return [
        _one_cause(history, remedy),
        _muted(limits, history, asked),
        _breaker(limits, history, now, remedy, asked),
        *(_budget(unit, cost, limits, history) for unit, cost in costs.items()),
    ]


def _one_cause(history: History, remedy: Remedy) -> Check:
    """One fix for one cause; a run is run again whatever happens to others."""
    if history.twin is None or not opens_pull(remedy.action):
        return Check("one cause", True, "No other incident with this cause is being repaired.")
    return Check("one cause", False, f"Incident {history.twin} has the same cause, and is being repaired.")


def _muted(limits: Limits, history: History, asked: bool) -> Check:
    closed, most = history.closed_unmerged, limits.closed_unmerged
    if asked or not most or closed < most:
        return Check("muted", True, f"{closed} fix pull requests for this cause were closed without a merge.")
    detail = f"Muted: {closed} fix pull requests for this cause were closed without a merge. `/heal retry` tries again."
    return Check("muted", False, detail)


def _breaker(limits: Limits, history: History, now: datetime, remedy: Remedy, asked: bool) -> Check:
    """Open after so many failed proofs in a row; after a rest one more is tried, and a failure doubles the rest."""
    failed, after = history.failures_in_row, limits.breaker_after
    if asked or not after or failed < after or history.failed_at is None:
        return Check("breaker", True, f"{failed} proofs of {remedy.action} failed in a row here.")
    rest = min(_DAY, timedelta(seconds=limits.breaker_rest_s) * 2 ** min(failed - after, 16))
    until = history.failed_at + rest
    if now >= until:
        return Check(
            "breaker", True, f"{failed} proofs of {remedy.action} failed in a row here; after a rest one is tried."
        )
    return Check("breaker", False, f"{failed} proofs of {remedy.action} failed in a row here; it rests.", until)


def _budget(unit: Unit, cost: float, limits: Limits, history: History) -> Check:
    spent, allowed = history.spent.get(unit, Spent()), limits.allowance(unit)
    name, period = unit.replace("_", " "), timedelta(seconds=PERIOD_S[unit])
    passed = spent.amount + cost <= allowed
    resets_at = spent.oldest_at + period if spent.oldest_at is not None and not passed and cost <= allowed else None
    return Check(
        f"budget: {name}",
        passed,
        f"{spent.amount:g} of {allowed:g} {name} are used, {cost:g} more are needed.",
        resets_at,
    )


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
    if remedy.action in _PEOPLE:
        return []
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
                int(history.spent.get(Unit.PULLS, Spent()).amount),
                limits.pulls_per_day,
                "fix pull requests were opened in 24 hours",
                history.spent.get(Unit.PULLS, Spent()).oldest_at,
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
