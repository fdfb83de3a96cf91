"""What is drawn of a model: its metrics, kept samples, training curves, benchmarks, and the distributions of a window
beside those of the reference."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.db.reads.models import Observations
from app.domain.evidence import Observed
from app.domain.model import ModelRules
from app.domain.policy import Policy
from app.domain.signal import Series
from app.ports.models import Model, Window
from app.web.dashboard.plots import Curve, Limit, Plot, lines
from app.web.guard import Visit
from app.web.words import Words
from detectors.data_drift import DriftSettings
from detectors.degradation import slo
from detectors.degradation.metrics import ABSOLUTE, HIGHER_IS_BETTER, UNITS, figures
from detectors.drift.compare import DriftReport, OtherGrid, Verdict, check
from detectors.drift.page import Section, sections
from detectors.drift.profile import Profile
from detectors.model_degradation import DegradationSettings, Objectives

SHOWN = 24  # features on a page; the others are found by their names
_FIRST = ("accuracy", "auc", "f1", "macro_f1", "mae", "rmse", "r2")  # what people look at first
_ROLES = re.compile(
    r"^(?:train|training|valid|validation|val|eval|evaluation|test)[_./ -]|[_./ -](?:train|val|valid|test)$"
)


@dataclass(frozen=True, slots=True)
class Chart:
    """`id` is unique on the page. `unit` is as the detectors have it, "" for none."""

    id: str
    name: str
    plot: Plot
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Drift:
    """A window beside the reference. `why` says why nothing could be compared: no_reference, no_inputs, other_grid."""

    window: Window
    report: DriftReport | None = None
    verdicts: Sequence[Verdict] = ()
    changed: Sequence[Section] = ()
    quiet: Sequence[Section] = ()
    left_out: int = 0
    why: str = ""


def metrics(kept: Observations, policy: Policy | None, visit: Visit) -> tuple[Chart, ...]:
    """Each metric over the windows, with the reference's value, and the value from which a worsening is told."""
    judged = [
        (window.observed.window, figures(window.observed.summary or {})) for window in kept.windows if _labelled(window)
    ]
    reference = figures(kept.reference.observed.summary or {}) if kept.reference and _labelled(kept.reference) else {}
    names = sorted({name for _, found in judged for name in found}, key=_order)
    settings = _settings(DegradationSettings, policy, "model_degradation")
    found: list[Chart] = []
    for name in names:
        here = [(float(at), figure) for at, (_, told) in enumerate(judged) if (figure := told.get(name)) is not None]
        curve = Curve(
            name.replace("_", " "),
            [(at, figure.value) for at, figure in here],
            {at: (figure.low, figure.high) for at, figure in here},
        )
        limits = []
        if name in reference:
            value = reference[name].value
            limits = [
                Limit(visit.t("Reference"), value, usual=True),
                Limit(visit.t("Told as worse from here"), _bound(name, value, settings)),
            ]
        plot = lines([curve], visit.words, limits=limits, names=[window for window, _ in judged])
        if plot is not None:
            found.append(Chart(f"metric-{len(found) + 1}", curve.name, plot, UNITS.get(name, "")))
    return tuple(found)


def service(kept: Observations, rules: ModelRules | None, policy: Policy | None, visit: Visit) -> tuple[Chart, ...]:
    """The shares of requests that failed, and that were slow, by window, with what the objectives allow."""
    settings = _settings(DegradationSettings, policy, "model_degradation")
    goals = _objectives(rules) or settings.objectives
    told = [
        (visit.t("Failed requests"), slo.failures, goals.errors),
        (
            visit.t("Slow requests"),
            lambda counts: slo.slow(counts, goals.latency.threshold_ms) if goals.latency else [],
            goals.latency,
        ),
    ]
    names = [window.observed.window for window in kept.windows]
    found: list[Chart] = []
    for name, buckets, goal in told:
        shares = [_share(buckets((window.observed.summary or {}).get("service", {}))) for window in kept.windows]
        limits = [Limit(visit.t("Allowed by the objective"), 1 - goal.target)] if goal else []
        plot = lines([Curve(name, list(enumerate(shares)))], visit.words, limits=limits, names=names)
        if plot is not None:
            found.append(Chart(f"service-{len(found) + 1}", name, plot))
    return tuple(found)


def _objectives(rules: ModelRules | None) -> Objectives | None:
    """None where the team has set none that can be read."""
    try:
        return Objectives.model_validate(dict(rules.objectives)) if rules and rules.objectives else None
    except ValidationError:
        return None


def _share(buckets: Sequence[slo.Bucket]) -> float | None:
    requests = sum(bucket[1] for bucket in buckets)
    return sum(bucket[2] for bucket in buckets) / requests if requests else None


def _labelled(window: Window) -> bool:
    return bool((window.observed.summary or {}).get("labelled"))


def _order(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)


def _bound(name: str, value: float, settings: DegradationSettings) -> float:
    worse = settings.least_change if name in ABSOLUTE else settings.least_rise * abs(value)
    return value - worse if name in HIGHER_IS_BETTER else value + worse


def samples(series: Sequence[Series], words: Words) -> tuple[Chart, ...]:
    """The kept samples, each with its limit."""
    found: list[Chart] = []
    for each in series:
        others = ", ".join(f"{key}={value}" for key, value in sorted(each.labels.items()) if key != "model")
        limits = [] if each.limit is None else [Limit(each.name, each.limit)]
        plot = lines([Curve(each.name, each.points)], words, limits=limits, times=True)
        if plot is not None:
            found.append(Chart(f"series-{len(found) + 1}", each.name, plot, others))
    return tuple(found)


def curves(model: Model, words: Words) -> tuple[Chart, ...]:
    """The training curves of the newest run; those of training and validation together."""
    groups: dict[str, list[Curve]] = {}
    for name, points in sorted(model.curves.items()):
        groups.setdefault(_ROLES.sub("", name), []).append(Curve(name, points))
    drawn = ((name, lines(group, words)) for name, group in groups.items())
    return tuple(Chart(f"curve-{at}", name, plot) for at, (name, plot) in enumerate(drawn, start=1) if plot is not None)


def benchmarks(shelves: Mapping[str, Mapping[str, Any]], words: Words) -> tuple[Chart, ...]:
    """The medians of each metric over the runs of its baseline, with the middle half of the samples."""
    found: list[Chart] = []
    for title, kept in shelves.items():
        told: dict[str, tuple[str, Curve]] = {}
        for run in kept.get("runs", ()):
            at = datetime.fromisoformat(str(run["at"])).timestamp()
            for name, metric in run["metrics"].items():
                low, middle, high = statistics.quantiles(metric["samples"], n=4, method="inclusive")
                unit, curve = told.get(name, (metric["unit"], Curve(name, [], {})))
                told[name] = (unit, Curve(name, [*curve.points, (at, middle)], {**curve.spans, at: (low, high)}))
        for unit, curve in told.values():
            plot = lines([curve], words, times=True)
            if plot is not None:
                found.append(Chart(f"benchmark-{len(found) + 1}", f"{title}: {curve.name}", plot, unit))
    return tuple(found)


def drift(
    kept: Observations, wanted: str, feature: str, rules: ModelRules | None, policy: Policy | None
) -> Drift | None:
    """Of the window of that name, or the newest with inputs; only columns whose names hold `feature`. None: there is no
    window."""
    windows = [window for window in reversed(kept.windows) if window.observed.profile] or list(reversed(kept.windows))
    window = next((each for each in kept.windows if each.observed.window == wanted), next(iter(windows), None))
    if window is None:
        return None
    reference = kept.reference.observed if kept.reference else None
    if reference is None:
        return Drift(window, why="no_reference")
    if not reference.profile or not window.observed.profile:
        return Drift(window, why="no_inputs")
    return _compared(window, reference, feature, rules, policy)


def _compared(
    window: Window, reference: Observed, feature: str, rules: ModelRules | None, policy: Policy | None
) -> Drift:
    settings = _settings(DriftSettings, policy, "data_drift")
    try:
        before, now = Profile.from_json(reference.profile or {}), Profile.from_json(window.observed.profile or {})
        report = check(before, now, settings.strictness, rules.importance if rules else {})
    except OtherGrid:
        return Drift(window, why="other_grid")
    changed, quiet = sections(report, before, now)
    changed, quiet = ([each for each in group if feature.lower() in each.name.lower()] for group in (changed, quiet))
    verdicts = [each for each in report.found if feature.lower() in each.column.lower()]
    left_out = max(0, len(changed) - SHOWN) + max(0, len(quiet) - SHOWN)
    return Drift(window, report, verdicts[: 2 * SHOWN], changed[:SHOWN], quiet[:SHOWN], left_out)


S = TypeVar("S", bound=BaseModel)


def _settings(kind: type[S], policy: Policy | None, detector: str) -> S:
    """What heal.yml says; the defaults where it is not known, or cannot be read."""
    try:
        return kind.model_validate(dict(policy.settings.get(detector, {})) if policy else {})
    except ValidationError:
        return kind()
