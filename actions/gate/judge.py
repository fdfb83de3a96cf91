"""The gate: what a challenger must show, on the rows that the champion was judged by, before it is promoted.

A gate that lacks something to be judged by is closed, and says what is missing. Formulas and their sources:
docs/explanation/gate.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from actions.gate.bootstrap import Pair, Sample, sample
from actions.gate.metrics import METRICS, Floats, Metric, metric_named
from actions.gate.rows import Evaluation, Joined, all_spelt, join, numbers
from app.domain.errors import Refused
from app.domain.interval import GATE, signed
from app.domain.model import GateRules
from app.domain.multiplicity import holm
from app.ports.registry import Version

LEAST_GROUPS = 30  # below it, intervals from groups are too narrow (Cameron, Gelbach and Miller 2008)
MOST_VALUES = 50  # of one segment's column; the rarer ones are judged together
SHOWN = 40  # segments in a report, the worst first
REST = "(the others)"
_TARGETS = {"classes": "classes", "binary": "a positive class", "numbers": "numbers"}


@dataclass(frozen=True, slots=True)
class Interval:
    """A gain (positive: the challenger is better) with its interval, and the bound that it was held against."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    bound: float
    passed: bool
    rows: int


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that was asked. `says` is what was seen; `missing` what there was nothing to judge by for."""

    name: str
    passed: bool
    says: str
    missing: str = ""


@dataclass(frozen=True, slots=True)
class GateReport:
    """What was asked and what was seen. `value` are the metric's on all rows, None where it has none."""

    model: str
    metric: str
    champion: int
    challenger: int
    confidence: float
    gates: tuple[Gate, ...]
    intervals: tuple[Interval, ...] = ()
    rows: int = 0
    rows_needed: int | None = None
    champion_value: float | None = None
    challenger_value: float | None = None

    @property
    def open(self) -> bool:
        return bool(self.gates) and all(gate.passed for gate in self.gates)

    @property
    def closed(self) -> tuple[Gate, ...]:
        return tuple(gate for gate in self.gates if not gate.passed)

    def to_json(self) -> dict[str, Any]:
        lists = {name: [asdict(each) for each in getattr(self, name)] for name in ("gates", "intervals")}
        return {"kind": GATE, "open": self.open, **asdict(self), **lists}


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be judged. An evaluation that is a text is one that could not be read, and why.

    `positive` is the positive class; `task` how predictions are judged ("": told from the metric). `grouped` says that
    rows come in sessions, so that the groups must be told. `promoted_at` is when a champion was made last.
    """

    model: str
    rules: GateRules
    champion: Version
    challenger: Version
    before: Evaluation | str
    after: Evaluation | str
    now: datetime
    promoted_at: datetime | None = None
    positive: str = "1"
    task: str = ""
    segments: Sequence[str] = ()
    grouped: bool = False


def judge(case: Case) -> GateReport:
    """Every gate is looked at, also when an earlier one is closed. Refused: rules that make no sense."""
    rules = case.rules
    metric = metric_named(rules.metric)
    _check(rules)
    gates = [_lineage(case), _cooldown(case)]
    report = GateReport(case.model, metric.name, case.champion.number, case.challenger.number, rules.confidence, ())
    unread = [
        f"the evaluation of version {version.number} {told}"
        for version, told in ((case.champion, case.before), (case.challenger, case.after))
        if isinstance(told, str)
    ]
    if isinstance(case.before, str) or isinstance(case.after, str):
        gates.append(Gate("rows", False, "There is nothing to compare.", "; ".join(unread)))
        return _with(report, gates)
    joined = join(case.before, case.after, numeric=metric.kind == "numbers")
    trouble = _trouble(case, metric, case.before, case.after, joined)
    if trouble:
        gates.append(Gate("rows", False, "The rows cannot be compared.", trouble))
        return _with(report, gates)
    work = _Work(case, metric, case.before, case.after, joined)
    found = work.whole()
    needed = rows_needed(found, rules)
    gates += [_rows(work, found, needed), _gain(metric, found, rules)]
    low, high = found.interval(rules.confidence)
    intervals = [_interval("all rows", found, low, high, rules.margin, passed=gates[-1].passed)]
    segments, of_segments = _segments(work, found)
    calibration, of_calibration = _calibration(work)
    return _with(
        report,
        [*gates, segments, calibration],
        intervals=(*intervals, *of_segments, *of_calibration),
        rows=found.rows,
        rows_needed=needed,
        champion_value=_finite(found.champion),
        challenger_value=_finite(found.challenger),
    )


def rows_needed(found: Sample, rules: GateRules) -> int | None:
    """The rows with which a true gain of `effect` passes with `power`: n · (s · (z₁ + z₂) / (effect - margin))².

    s is the standard error on the n rows at hand, widened by one more row that is as bad as a row can be, so that few
    rows that agree do not pass for many; z₁ belongs to the interval, z₂ to the power. None: not to be told.
    """
    if not found.told:
        return None
    normal = -ndtri((1 - rules.confidence) / 2) + ndtri(rules.power)
    return _ceil(_variance(found) * (normal / (rules.effect - rules.margin)) ** 2)


def _variance(found: Sample) -> float:
    """What one row contributes, in the metric's units squared; rows of a group that resemble each other weigh more."""
    return found.rows * (found.error**2 + (found.reach / found.units) ** 2)


def rows_to_see(found: Sample, margin: float, level: float, power: float) -> int:
    """The rows with which a part that is worse by twice the margin is called worse (p below `level`, and by more than
    the margin) with `power`. The variance is that of all rows, and what such a loss adds at most: a share of the rows
    (of whole groups) that are as bad as a row can be."""
    loss = 2 * margin
    added = loss * max(0.0, found.reach - loss) * found.rows / found.units
    seen = ((-ndtri(level) + ndtri(power)) / loss) ** 2
    beyond = (ndtri(power) / margin) ** 2
    return _ceil((_variance(found) + added) * max(seen, beyond))


def _ceil(rows: float) -> int:
    return math.ceil(min(rows, 1e12) - 1e-9)


def _check(rules: GateRules) -> None:
    if not rules.effect > rules.margin:
        raise Refused(f"gate.effect ({rules.effect}) must be more than gate.margin ({rules.margin})")
    if not (0.5 <= rules.confidence < 1 and 0.5 <= rules.power < 1 and 0 < rules.coverage <= 1):
        raise Refused(
            "gate.confidence and gate.power are 0.5 or more and below 1, gate.coverage is above 0 and at most 1"
        )
    if not (rules.segment_margin > 0 and rules.calibration_margin > 0 and rules.margin >= 0):
        raise Refused("gate.segment_margin and gate.calibration_margin must be above 0, gate.margin not below 0")


def _with(report: GateReport, gates: Sequence[Gate], **more: Any) -> GateReport:
    return replace(report, gates=tuple(gates), **more)


def _lineage(case: Case) -> Gate:
    told = {
        "the commit it was trained at": case.challenger.code_sha,
        "its data's version": case.challenger.data_version,
    }
    missing = [name for name, value in told.items() if not value]
    if missing:
        return Gate(
            "lineage", False, "Where it comes from is not known.", f"the registry lacks {' and '.join(missing)}"
        )
    says = f"Trained at {case.challenger.code_sha[:12]} on data {case.challenger.data_version[:40]}."
    return Gate("lineage", True, says)


def _cooldown(case: Case) -> Gate:
    if case.promoted_at is None:
        return Gate("cooldown", True, "No promotion is known that it would have to wait after.")
    until = case.promoted_at + timedelta(seconds=case.rules.cooldown_s)
    if case.now < until:
        return Gate("cooldown", False, f"The last promotion was at {case.promoted_at:%Y-%m-%d %H:%M} UTC; "
                    f"the next may be at {until:%Y-%m-%d %H:%M} UTC.")  # fmt: skip
    return Gate("cooldown", True, f"The last promotion was at {case.promoted_at:%Y-%m-%d %H:%M} UTC.")


def _trouble(case: Case, metric: Metric, before: Evaluation, after: Evaluation, joined: Joined) -> str:
    """Why the rows of the two cannot be compared; "" if they can."""
    for version, rows in ((case.champion, before), (case.challenger, after)):
        where = f"the evaluation of version {version.number}"
        for column in ("label", metric.told):
            if getattr(rows, column) is None:
                return f"{where} has no column {column}, which {metric.name} is told from"
        for name in case.segments:
            if name not in rows.segments:
                return f"{where} has no column {name}, which heal.yml names as a segment"
        if case.grouped and rows.group is None:
            return f"{where} has no column group or session, though heal.yml says that rows come in sessions"
    if not joined.places:
        return "no row is in both evaluations with a label"
    if joined.unlike:
        return f"{joined.unlike} rows have one label for the champion and another for the challenger"
    for version, rows, side in ((case.champion, before, 0), (case.challenger, after, 1)):
        told = getattr(rows, metric.told)
        gone = _lacking([told[place[side]] for place in joined.places], metric)
        if gone:
            what = "a probability" if _probabilities(metric) else f"a {metric.told}"
            return f"version {version.number} does not have {what} for {gone} of {len(joined.places)} labelled rows"
    if metric.kind == "binary":
        return _two_classes(case, metric, before, joined)
    return ""


def _probabilities(metric: Metric) -> bool:
    return metric.name in ("log_loss", "brier", "ece")


def _lacking(values: Sequence[Any], metric: Metric) -> int:
    """How many of them the metric cannot be told from."""
    if metric.told == "prediction" and metric.kind != "numbers":
        return sum(name is None for name in all_spelt(values))
    found = numbers(values)
    usable = (found >= 0) & (found <= 1) if _probabilities(metric) else np.isfinite(found)
    return int((~usable).sum())


def _two_classes(case: Case, metric: Metric, before: Evaluation, joined: Joined) -> str:
    labels = set(all_spelt([(before.label or [])[mine] for mine, _ in joined.places]))
    names = ", ".join(sorted(str(label)[:40] for label in labels)[:5])
    if case.positive not in labels:
        return f"no row has the positive class {case.positive[:40]!r}; there are: {names}"
    if len(labels) != 2 and metric.told == "score":
        return f"{metric.name} needs two classes; there are {len(labels)}: {names}"
    return ""


@dataclass(slots=True)
class _Work:
    """The labelled rows of one case, in columns (n)."""

    case: Case
    metric: Metric
    before: Evaluation
    after: Evaluation
    joined: Joined
    group: NDArray[np.intp] | None = field(init=False)

    def __post_init__(self) -> None:
        self.group = self._groups()

    def chance(self, number: int) -> np.random.Generator:
        """The same for the same two versions, whoever asks and when."""
        return np.random.default_rng([self.case.champion.number, self.case.challenger.number, number])

    def column(self, of: Evaluation, name: str) -> list[Any]:
        side = 0 if of is self.before else 1
        values = getattr(of, name)
        return [values[place[side]] for place in self.joined.places]

    def whole(self) -> Sample:
        return sample(self.metric, self.pair(), self.chance(0))

    def pair(self) -> Pair:
        label = self.column(self.before, "label")
        mine, theirs = (self.column(of, self.metric.told) for of in (self.before, self.after))
        if self.metric.kind == "numbers":
            return Pair(numbers(label), numbers(mine), numbers(theirs), self.group)
        if self.metric.kind == "binary":
            truth = self.hits(label)
            if self.metric.told == "score":
                return Pair(truth, numbers(mine), numbers(theirs), self.group)
            return Pair(truth, self.hits(mine), self.hits(theirs), self.group)
        names: dict[str | None, float] = {}

        def coded(values: Sequence[Any]) -> Floats:
            return np.array([names.setdefault(name, float(len(names))) for name in all_spelt(values)])

        return Pair(coded(label), coded(mine), coded(theirs), self.group)

    def hits(self, values: Sequence[Any]) -> Floats:
        return np.array([float(name == self.case.positive) for name in all_spelt(values)])

    def scores(self) -> Pair | str | None:
        """The probabilities of both with what they were of; a text: why there are none to compare; None: neither says
        how sure it is, or it is no classification."""
        if self.metric.kind == "numbers" or self.case.task == "regression":
            return None
        have = {}
        for version, of in ((self.case.champion, self.before), (self.case.challenger, self.after)):
            found = numbers(self.column(of, "score")) if of.score is not None else np.empty(0)
            usable = len(found) == len(self.joined.places) and bool(((found >= 0) & (found <= 1)).all())
            have[version.number] = found if usable else None
        lacking = [str(name) for name, found in have.items() if found is None]
        if len(lacking) == 2:
            return None if self.metric.told == "prediction" else "neither version has probabilities from 0 to 1"
        if lacking:
            return f"version {lacking[0]} has no probabilities from 0 to 1 for all rows, the other has"
        mine, theirs = (found for found in have.values() if found is not None)
        label = self.column(self.before, "label")
        truth = all_spelt(label)
        classes = set(truth)
        if self.case.task != "multiclass" and len(classes) <= 2:
            return Pair(self.hits(label), mine, theirs, self.group)
        if self.before.prediction is None or self.after.prediction is None:
            return "there is no column prediction, which a score of several classes is the probability of"
        right = [
            np.array([float(a == b) for a, b in zip(all_spelt(self.column(of, "prediction")), truth, strict=True)])
            for of in (self.before, self.after)
        ]
        return Pair(right[0], mine, theirs, self.group, right[1])

    def _groups(self) -> NDArray[np.intp] | None:
        """Rows without a group are one of their own."""
        of = self.before if self.before.group is not None else self.after
        if of.group is None:
            return None
        names: dict[object, int] = {}
        found = []
        for place, name in enumerate(all_spelt(self.column(of, "group"))):
            found.append(names.setdefault(("row", place) if name is None else name, len(names)))
        return np.array(found, dtype=np.intp)


def _rows(work: _Work, found: Sample, needed: int | None) -> Gate:
    joined, rules = work.joined, work.case.rules
    share = max(rules.coverage, min(1.0, (needed or 0) / joined.rows))
    seen = f"{found.rows} of {joined.rows} rows are in both evaluations with a label ({joined.coverage:.1%})"
    if work.group is not None:
        seen += f", in {found.units} groups"
    if needed is None:
        return Gate("rows", False, f"{seen}.", f"{work.metric.name} has no value on them, so they cannot be enough")
    wanted = f"for a gain of {rules.effect:g} to be seen with a chance of {rules.power:.0%}, {needed} are needed"
    missing = []
    if found.rows < needed:
        missing.append(f"{needed - found.rows} more labelled rows")
    if joined.coverage < share:
        missing.append(
            f"labels: {share:.1%} of the rows must have one in both ({joined.apart} rows are only in one evaluation, "
            f"{joined.unlabelled} have no label)"
        )
    if work.group is not None and found.units < LEAST_GROUPS:
        missing.append(f"{LEAST_GROUPS - found.units} more groups: {LEAST_GROUPS} are the least that can be told from")
    return Gate("rows", not missing, f"{seen}; {wanted}.", "; ".join(missing))


def _gain(metric: Metric, found: Sample, rules: GateRules) -> Gate:
    if not found.told:
        return Gate("metric", False, f"{metric.name} cannot be told.", "rows on which it has a value in every resample")
    low, high = found.interval(rules.confidence)
    says = (
        f"{metric.name} {found.champion:.4g} → {found.challenger:.4g}: a gain of {signed(found.gain)}, "
        f"{rules.confidence:.0%} interval {signed(low)} to {signed(high)}; "
        f"its lower end must lie above {rules.margin:g}."
    )
    return Gate("metric", low > rules.margin, says)


def _interval(label: str, found: Sample, low: float, high: float, bound: float, *, passed: bool) -> Interval:
    return Interval(label, _finite(found.gain), _finite(low), _finite(high), bound, passed, found.rows)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _segments(work: _Work, whole: Sample) -> tuple[Gate, list[Interval]]:
    """None is worse: not surely (Holm 1979, over all that were judged) by an observed loss beyond the margin."""
    rules, case = work.case.rules, work.case
    if not case.segments:
        return Gate("segments", True, "heal.yml names no segments of this model."), []
    if not whole.told:
        return Gate("segments", False, "They cannot be judged.", f"{work.metric.name} has no value"), []
    masks = _masks(work)
    level = 1 - rules.confidence
    least = rows_to_see(whole, rules.segment_margin, level / max(1, len(masks)), rules.power)
    large, small = _enough(masks, least)
    pair = work.pair()
    judged: dict[str, Sample] = {}
    for place, (name, mask) in enumerate(large.items(), start=1):
        found = sample(work.metric, pair.of(mask), work.chance(place))
        if found.told:
            judged[name] = found
        else:
            small[name] = mask
    worse = {
        name
        for name in holm({name: found.p_worse() for name, found in judged.items()}, level)
        if -judged[name].gain > rules.segment_margin
    }
    intervals = [
        _interval(name, found, *found.interval(rules.confidence), -rules.segment_margin, passed=name not in worse)
        for name, found in judged.items()
    ]
    intervals.sort(key=lambda each: (each.passed, each.value))
    unseen = np.zeros(len(pair.label), dtype=bool)
    for mask in small.values():
        unseen |= mask
    share = float(unseen.mean())
    missing = ""
    if share > 1 - rules.coverage:
        names = ", ".join(list(small)[:5])
        missing = f"{share:.1%} of the rows lie in segments too small to judge ({names}); each needs {least} rows"
    says = f"{len(judged)} of {len(masks)} segments have {least} rows or more and were judged; "
    says += f"none may lose more than {rules.segment_margin:g}."
    if worse:
        losses = ", ".join(f"{name} ({signed(judged[name].gain)})" for name in sorted(worse)[:5])
        says = f"Worse by more than {rules.segment_margin:g}: {losses}."
    return Gate("segments", not worse and not missing, says, missing), intervals[:SHOWN]


def _masks(work: _Work) -> dict[str, NDArray[np.bool_]]:
    """Name of the segment → its rows. Of a column with many values the rarer ones are one segment."""
    found = {}
    for column in dict.fromkeys(work.case.segments):
        told = work.before.segments[column]
        values = np.array([name or "(missing)" for name in all_spelt([told[place] for place, _ in work.joined.places])])
        names, places, counts = np.unique(values, return_inverse=True, return_counts=True)
        often = np.argsort(-counts, kind="stable")[:MOST_VALUES]
        for kind in often:
            found[f"{column} = {str(names[kind])[:60]}"] = places == kind
        if len(names) > MOST_VALUES:
            found[f"{column} = {REST}"] = ~np.isin(places, often)
    return found


def _enough(
    masks: Mapping[str, NDArray[np.bool_]], least: int
) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.bool_]]]:
    """Those with rows enough, and those without. The small ones of a column are judged together where that helps."""
    large = {name: mask for name, mask in masks.items() if mask.sum() >= least}
    small = {name: mask for name, mask in masks.items() if name not in large}
    for column in dict.fromkeys(name.partition(" = ")[0] for name in small):
        names = [name for name in small if name.partition(" = ")[0] == column]
        together = np.any([small[name] for name in names], axis=0)
        if together.sum() >= least:
            large[f"{column} = {REST}"] = together
            small = {name: mask for name, mask in small.items() if name not in names}
    return large, small


def _calibration(work: _Work) -> tuple[Gate, list[Interval]]:
    """Neither Brier score nor expected calibration error is worse: as for segments."""
    rules = work.case.rules
    pair = work.scores()
    if pair is None:
        return Gate("calibration", True, "Neither version says how sure it is: there is nothing to be calibrated."), []
    if isinstance(pair, str):
        return Gate("calibration", False, "It cannot be judged.", pair), []
    level = 1 - rules.confidence
    found = {
        name: sample(METRICS[name], pair, work.chance(1_000_000 + place)) for place, name in enumerate(("brier", "ece"))
    }
    if not all(each.told for each in found.values()):
        return Gate("calibration", False, "It cannot be judged.", "rows on which Brier score and ECE have a value"), []
    least = max(rows_to_see(each, rules.calibration_margin, level / 2, rules.power) for each in found.values())
    worse = {
        name
        for name in holm({name: each.p_worse() for name, each in found.items()}, level)
        if -found[name].gain > rules.calibration_margin
    }
    told = "; ".join(f"{name} {each.champion:.4g} → {each.challenger:.4g}" for name, each in found.items())
    says = f"{told}; neither may lose more than {rules.calibration_margin:g}."
    rows = len(pair.label)
    missing = f"{least - rows} more labelled rows: it takes {least} to see a loss" if rows < least else ""
    intervals = [
        _interval(
            f"calibration ({name})",
            each,
            *each.interval(rules.confidence),
            -rules.calibration_margin,
            passed=name not in worse,
        )
        for name, each in found.items()
    ]
    return Gate("calibration", not worse and not missing, says, missing), intervals
