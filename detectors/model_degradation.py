"""Whether a model still does what it did: by its labels, by its own sureness, by its training and by its service."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain.event import ModelObserved, Observable, SamplesReported
from app.domain.evidence import Evidence, EvidenceBag, ModelWindow, Observed, Samples
from app.domain.finding import Clear, Facts, Finding, Severity, fingerprint
from app.domain.signal import Series
from detectors.claim import KEPT_DIGITS
from detectors.degradation import curves, slo, stream
from detectors.degradation.estimate import BLIND_SPOT, calibration, estimate
from detectors.degradation.metrics import (
    ABSOLUTE,
    LEVEL,
    UNITS,
    Change,
    Figure,
    SegmentChange,
    compare,
    compare_segments,
    figures,
    macro_f1,
    matured_share,
)
from detectors.playbooks import ladder_of

SHOWN_SEGMENTS = 5
STRICTER_WHILE_OPEN = 10
"""A window that still grows is looked at again and again, so it must be so many times surer."""
LARGE = 3
"""So many times the least change is a large one."""
REQUESTS, FAILED, LATENCY = "requests_total", "requests_failed_total", "request_latency_ms"
TRAINING = frozenset({"training_diverged", "training_overfit", "training_plateau"})


class _Setting(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ErrorObjective(_Setting):
    """How many requests may fail."""

    target: float = Field(gt=0, lt=1)
    """The share of requests that must not fail, over thirty days."""


class LatencyObjective(_Setting):
    """How many requests may be slow."""

    target: float = Field(gt=0, lt=1)
    """The share of requests that must be answered in time, over thirty days."""
    threshold_ms: float = Field(default=10_000, gt=0)
    """What in time means."""


class Objectives(_Setting):
    """Service levels."""

    errors: ErrorObjective | None = None
    """Of failed requests."""
    latency: LatencyObjective | None = None
    """Of slow requests."""


class DegradationSettings(_Setting):
    """What heal.yml may say at `detectors.model_degradation.settings`."""

    least_change: float = Field(default=0.02, ge=0, le=1)
    """A worsening below it is not told: points of accuracy, precision, recall, F1, AUC, ECE or R²."""
    least_rise: float = Field(default=0.1, ge=0)
    """The same of log loss, Brier score, MAE and RMSE, as a share of the reference."""
    error_rate: float = Field(default=0.01, gt=0, le=0.2)
    """How often a healthy window may be called degraded, over all that is compared in it."""
    least_labels: int = Field(default=200, ge=50)
    """Labelled rows below which labels are not judged."""
    matured_share: float = Field(default=0.8, gt=0, le=1)
    """The share of labels that have come, from which a verdict by labels is final."""
    worse_by: float = Field(default=0.4, gt=0, le=10)
    """The rise of errors that the stream is tuned to find soonest, as a share of the reference's."""
    idle_share: float = Field(default=0.6, ge=0.2, lt=1)
    """The share of a training run without gain from which it is a plateau."""
    objectives: Objectives = Objectives()
    """Service levels of models that name none."""


class ModelDegradation:
    """Claims a degraded model, a training that went wrong, a service level that burns; says what is well."""

    kind = "model_degradation"
    reacts_to = frozenset({"model.observed", "samples"})
    Settings = DegradationSettings
    needs: frozenset[type[Evidence]] = frozenset({ModelWindow, Samples})

    def detect(self, event: Observable, evidence: EvidenceBag) -> Iterator[Finding | Clear]:
        settings = DegradationSettings.model_validate(dict(evidence.settings(self.kind)))
        window, samples = evidence.get(ModelWindow), evidence.get(Samples)
        if isinstance(event, ModelObserved) and window:
            yield from self._predictions(window, settings)
            yield from self._training(window, settings)
            service: dict[str, list[Any]] = {}
            for observed in (*reversed(window.earlier), window.current):
                for start, counts in (observed.summary or {}).get("service", {}).items():
                    service.setdefault(start, []).append(counts)
            objectives = _objectives(window.objectives) or settings.objectives
            yield from self._service(window.model, service_buckets(service, objectives), objectives)
        if isinstance(event, SamplesReported) and samples:
            for model, series in _by_model(samples.series).items():
                buckets = sampled_buckets(series, settings.objectives)
                yield from self._service(model, buckets, settings.objectives)

    def _predictions(self, window: ModelWindow, settings: DegradationSettings) -> Iterator[Finding | Clear]:
        current, reference = window.current.summary, window.reference.summary if window.reference else None
        if not current or not reference or not _alike(current, reference):
            return
        rate = settings.error_rate / (1 if window.closed else STRICTER_WHILE_OPEN)
        labelled = current["labelled"] >= settings.least_labels
        known, now = figures(reference), figures(current) if labelled else {}
        changes = compare(known, now)
        worse = [change for change in changes if _is_worse(change, settings, rate / 2)]
        segments = compare_segments(reference, current) if labelled else []
        bad_segments = [segment for segment in segments if _is_worse(segment.change, settings, rate / 2)]
        alarm = _alarm(window, reference, settings)
        if worse or bad_segments or alarm:
            yield self._degraded(window, settings, changes, worse, bad_segments, alarm)
            return
        if matured_share(current) >= settings.matured_share and changes:
            if _is_well(_first(changes), settings):
                kinds = {"model_degraded", "model_degradation_estimated"}
                yield self._clear(window.model, kinds, _told(_first(changes), current["labelled"]))
            return
        fitted = calibration(reference)
        guess = estimate(fitted, current) if fitted else None
        if guess is None:
            return
        expected = compare(known, guess.metrics)
        worse = [change for change in expected if _is_worse(change, settings, rate)]
        if worse:
            yield self._estimated(window, guess.rows, expected, worse)
        elif expected and _is_well(_first(expected), settings):
            why = f"estimated {_told(_first(expected), guess.rows)}. {BLIND_SPOT}"
            yield self._clear(window.model, {"model_degradation_estimated"}, why)

    def _degraded(
        self,
        window: ModelWindow,
        settings: DegradationSettings,
        changes: Sequence[Change],
        worse: Sequence[Change],
        segments: Sequence[SegmentChange],
        alarm: stream.Alarm | None,
    ) -> Finding:
        current = window.current.summary or {}
        share = matured_share(current)
        facts: dict[str, Any] = {
            **_about(window),
            "labelled_rows": current["labelled"],
            "matured_ratio": round(share, 4),
            "worse": [change.metric for change in worse],
            "metrics": [_metric(change) for change in changes],
            "segments": [_segment(segment) for segment in segments[:SHOWN_SEGMENTS]],
        }
        average = macro_f1(current) if current["task"] == "multiclass" else None
        if average is not None:
            facts["macro_f1_ratio"] = round(average, 6)
        if alarm:
            facts["stream"] = {
                "rows_until_seen": alarm.row - alarm.since_row,
                "mean_loss": _rounded(alarm.mean),
                "reference_mean_loss": _rounded(_mean_loss(window.reference)),
            }
        if worse:
            summary = f"{window.model} is worse than its reference: {_said(_first(worse))}"
        elif alarm:
            summary = (
                f"The errors of {window.model} have risen: {_rounded(alarm.mean):.4g} a row over"
                f" {alarm.row - alarm.since_row} rows, {_rounded(_mean_loss(window.reference)):.4g} in the reference"
            )
        else:
            one = segments[0]
            summary = f"{window.model} is worse where {one.column} is {one.value}: {_said(one.change)}"
        large = max((change.worse / _least(change, DegradationSettings()) for change in worse), default=0.0)
        severity = (
            Severity.HIGH if large >= 3 or (worse and alarm) else Severity.MEDIUM if worse or alarm else Severity.LOW
        )
        confidence = 0.95 if worse else 0.85 if alarm else 0.8
        if share < settings.matured_share:
            summary += f"; only {share:.0%} of the labels have come, and those that come early may not be like the rest"
            severity = min(severity, Severity.MEDIUM, key=list(Severity).index)
            confidence = min(confidence, 0.6)
        return self._finding("model_degraded", window.model, severity, confidence, summary, facts)

    def _estimated(
        self, window: ModelWindow, rows: int, expected: Sequence[Change], worse: Sequence[Change]
    ) -> Finding:
        facts = {
            **_about(window),
            "estimated_rows": rows,
            "worse": [change.metric for change in worse],
            "metrics": [_metric(change) for change in expected],
            "blind_spot": BLIND_SPOT,
        }
        summary = (
            f"{window.model} is probably worse than its reference, estimated without labels (blind to concept drift):"
            f" {_said(_first(worse))}"
        )
        return self._finding("model_degradation_estimated", window.model, Severity.MEDIUM, 0.5, summary, facts)

    def _training(self, window: ModelWindow, settings: DegradationSettings) -> Iterator[Finding | Clear]:
        found: set[str] = set()
        diverged = curves.diverged(window.curves)
        if diverged:
            found.add("training_diverged")
            first = min(diverged, key=lambda one: one.step)
            how = {"not_finite": "is no number any more", "exploded": "has exploded", "fell_back": "has fallen back"}
            summary = (
                f"The training of {window.model} diverged: {first.metric} {how[first.how]} since step {first.step:g}"
            )
            facts = {
                "model": window.model,
                "curves": [
                    {"metric": one.metric, "how": one.how, "step": one.step, **_values(best=one.best, last=one.last)}
                    for one in diverged
                ],
            }
            yield self._finding("training_diverged", window.model, Severity.HIGH, 0.95, summary, facts)
        overfit = curves.overfit(window.curves)
        if overfit:
            found.add("training_overfit")
            one = overfit[0]
            summary = (
                f"{window.model} is overfitting: {one.metric} was best at step {one.step:g} ({one.best:.4g}) and is"
                f" {one.last:.4g} now, while {one.trained} still improves"
            )
            facts = {
                "model": window.model,
                "curves": [
                    {"metric": one.metric, "trained": one.trained, "step": one.step, "best": one.best, "last": one.last}
                    for one in overfit
                ],
            }
            yield self._finding("training_overfit", window.model, Severity.MEDIUM, 0.85, summary, facts)
        plateaus = [] if found else curves.plateau(window.curves, settings.idle_share)
        if plateaus:
            found.add("training_plateau")
            flat = plateaus[0]
            gained = "nothing was gained" if flat.learned else "nothing was ever learned"
            summary = f"The training of {window.model} stands still: {gained} in {flat.metric} since step {flat.step:g}"
            facts = {
                "model": window.model,
                "curves": [
                    {
                        "metric": one.metric,
                        "step": one.step,
                        "idle_ratio": round(one.idle, 4),
                        "learned": one.learned,
                        "best": one.best,
                    }
                    for one in plateaus
                ],
            }
            severity = Severity.LOW if flat.learned else Severity.MEDIUM
            yield self._finding("training_plateau", window.model, severity, 0.8, summary, facts)
        if window.curves and found != TRAINING:
            count = len(window.curves)
            yield self._clear(window.model, TRAINING - found, f"{count} training curves without such a trend")

    def _service(
        self, model: str, buckets: Mapping[str, Sequence[slo.Bucket]], objectives: Objectives
    ) -> Iterator[Finding | Clear]:
        for name, counts in buckets.items():
            objective: ErrorObjective | LatencyObjective | None = getattr(objectives, name)
            if objective is None or not any(requests for _, requests, _ in counts):
                continue
            subject = f"{model} / {name}"
            burns = slo.burning(counts, objective.target)
            if burns is None:
                yield self._clear(subject, {"slo_burning"}, f"the budget of {objective.target:.4%} burns slowly enough")
                continue
            late = objective.threshold_ms if isinstance(objective, LatencyObjective) else None
            bad = "failed" if late is None else f"took longer than {late:g} ms"
            summary = (
                f"{model} burns its error budget {burns.long:.3g} times too fast: {burns.bad:.0f} of"
                f" {burns.requests:.0f} requests in {burns.window.name} {bad}, and it goes on"
            )
            facts = {
                "model": model,
                "objective": name,
                "target_ratio": objective.target,
                "long_window_seconds": burns.window.long_s,
                "short_window_seconds": burns.window.short_s,
                "long_burn_rate": round(burns.long, 4),
                "short_burn_rate": round(burns.short, 4),
                "burn_rate_threshold": burns.window.burn_rate,
                "requests": round(burns.requests),
                "bad_requests": round(burns.bad),
                "days_until_spent": round(30 / burns.long, 2),
            }
            if late is not None:
                facts["threshold_ms"] = late
            yield self._finding("slo_burning", subject, burns.window.severity, 0.95, summary, facts)

    def _finding(
        self, kind: str, subject: str, severity: Severity, confidence: float, summary: str, facts: Facts
    ) -> Finding:
        key = fingerprint(kind, subject.translate(KEPT_DIGITS))
        ladder = () if kind in ("model_degradation_estimated", "training_plateau") else ladder_of(kind)
        return Finding(self.kind, kind, subject, severity, confidence, summary, key, facts, ladder=ladder)

    def _clear(self, subject: str, kinds: set[str] | frozenset[str], why: str) -> Clear:
        return Clear(self.kind, subject, frozenset(kinds), why)


def service_buckets(service: Mapping[str, Sequence[Any]], objectives: Objectives) -> dict[str, list[slo.Bucket]]:
    """Objective → its buckets, from the counts of several windows: start → [requests, failed, latencies] of each."""
    threshold = objectives.latency.threshold_ms if objectives.latency else 1.0
    found: dict[str, dict[float, slo.Bucket]] = {"errors": {}, "latency": {}}
    for start, several in service.items():
        for counts in several:
            for name, own in (
                ("errors", slo.failures({start: counts})),
                ("latency", slo.slow({start: counts}, threshold)),
            ):
                at, requests, bad = own[0]
                _, before, before_bad = found[name].get(at, (at, 0.0, 0.0))
                found[name][at] = (at, before + requests, before_bad + bad)
    return {name: [buckets[start] for start in sorted(buckets)] for name, buckets in found.items()}


def sampled_buckets(series: Sequence[Series], objectives: Objectives) -> dict[str, list[slo.Bucket]]:
    """Objective → its buckets, from the counters and samples of one model."""
    replicas: dict[frozenset[tuple[str, str]], dict[str, Series]] = {}
    for one in series:
        replicas.setdefault(frozenset(one.labels.items()), {})[one.name] = one
    found: dict[str, list[slo.Bucket]] = {}
    for named in replicas.values():
        if REQUESTS in named and FAILED in named:
            found.setdefault("errors", []).extend(slo.from_counters(named[REQUESTS].points, named[FAILED].points))
        if LATENCY in named and objectives.latency:
            late = slo.from_samples(named[LATENCY].points, objectives.latency.threshold_ms)
            found.setdefault("latency", []).extend(late)
    return {name: _added(buckets) for name, buckets in found.items()}


def _added(buckets: Sequence[slo.Bucket]) -> list[slo.Bucket]:
    """One bucket for each start, the oldest first."""
    sums: dict[float, slo.Bucket] = {}
    for at, requests, bad in buckets:
        _, before, before_bad = sums.get(at, (at, 0.0, 0.0))
        sums[at] = (at, before + requests, before_bad + bad)
    return [sums[at] for at in sorted(sums)]


def _by_model(series: Sequence[Series]) -> dict[str, list[Series]]:
    found: dict[str, list[Series]] = {}
    for one in series:
        if one.name in (REQUESTS, FAILED, LATENCY) and one.labels.get("model"):
            found.setdefault(one.labels["model"], []).append(one)
    return found


def _objectives(told: Mapping[str, Any]) -> Objectives | None:
    """None where the team has set none that can be read."""
    try:
        return Objectives.model_validate(dict(told)) if told else None
    except ValidationError:
        return None


def _alike(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    return all(one.get(name) == two.get(name) for name in ("version", "task", "positive"))


def _alarm(window: ModelWindow, reference: Mapping[str, Any], settings: DegradationSettings) -> stream.Alarm | None:
    """The newest alarm of the stream that the current window raised."""
    chart = stream.chart([*reference["blocks"], reference["block"]], settings.worse_by)
    if chart is None:
        return None
    state = stream.State()
    for observed in reversed(window.earlier):
        if observed.summary and _alike(observed.summary, reference):
            state = stream.follow(chart, [*observed.summary["blocks"], observed.summary["block"]], state)
    current = window.current.summary or {}
    state = stream.follow(chart, [*current["blocks"], current["block"]], replace(state, alarms=()))
    return state.alarms[-1] if state.alarms else None


def _mean_loss(observed: Observed | None) -> float:
    sums = (observed.summary or {}).get("sums", [0, 0]) if observed else [0, 0]
    return float(sums[1] / sums[0]) if sums[0] else 0.0


def _least(change: Change, settings: DegradationSettings) -> float:
    return settings.least_change if change.metric in ABSOLUTE else settings.least_rise


def _is_worse(change: Change, settings: DegradationSettings, rate: float) -> bool:
    return change.p_value <= rate and change.worse >= _least(change, settings)


def _is_well(change: Change, settings: DegradationSettings) -> bool:
    """Not only is nothing seen: twice the least change would have been seen."""
    error = math.hypot(change.reference.error, change.current.error)
    if change.metric not in ABSOLUTE:
        error /= abs(change.reference.value) or 1.0
    return change.worse + 2 * error <= 2 * _least(change, settings)


def _first(changes: Sequence[Change]) -> Change:
    """The metric that people look at first."""
    order = ("accuracy", "mae", "auc")
    return min(changes, key=lambda change: order.index(change.metric) if change.metric in order else len(order))


def _said(change: Change) -> str:
    now = change.current
    return (
        f"{change.metric.replace('_', ' ')} {now.value:.4g} ({now.low:.4g} to {now.high:.4g})"
        f" against {change.reference.value:.4g}"
    )


def _told(change: Change, rows: int) -> str:
    return f"{_said(change)} in {rows} rows"


def _about(window: ModelWindow) -> dict[str, Any]:
    return {
        "model": window.model,
        "window": window.current.window,
        "window_closed": window.closed,
        "rows": window.current.rows,
        "interval_level": LEVEL,
    }


def _metric(change: Change) -> dict[str, Any]:
    return {
        "metric": change.metric,
        "unit": UNITS.get(change.metric, "ratio"),
        **_interval("reference", change.reference),
        **_interval("current", change.current),
        "worse_by": _rounded(change.worse),
        "worse_unit": "points" if change.metric in ABSOLUTE else "share of the reference",
        "p_value": float(f"{change.p_value:.3g}"),
    }


def _interval(name: str, figure: Figure) -> dict[str, float]:
    return {
        name: _rounded(figure.value),
        f"{name}_low": _rounded(figure.low),
        f"{name}_high": _rounded(figure.high),
    }


def _segment(segment: SegmentChange) -> dict[str, Any]:
    return {"column": segment.column, "value": segment.value, "rows": segment.rows, **_metric(segment.change)}


def _values(**values: float) -> dict[str, Any]:
    """JSON has no NaN."""
    return {name: value if math.isfinite(value) else str(value) for name, value in values.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else 0.0
