"""Whether the data that a model sees have changed."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.domain.event import ModelObserved, Observable
from app.domain.evidence import Evidence, EvidenceBag, ModelWindow, Observed
from app.domain.finding import Clear, Finding, Severity, fingerprint
from detectors.claim import KEPT_DIGITS
from detectors.drift.compare import DriftReport, OtherGrid, Settings, Verdict, check
from detectors.drift.profile import Profile
from detectors.drift.windows import Persistence, is_over, lasting
from detectors.playbooks import ladder_of

FEATURES = 20
_MEDIUM, _HIGH = 0.2, 0.5


class DriftSettings(BaseModel):
    """What heal.yml may say at `detectors.data_drift.settings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    error_rate: float = Field(default=0.05, gt=0, le=0.2)
    """How often a quiet window may show any change, over all that is compared in it."""
    least_effect: float = Field(default=0.04, ge=0, le=2)
    """A change below it is not told, in standard deviations (Cohen's d; h for shares)."""
    least_rows: int = Field(default=50, ge=20)
    """Rows below which nothing is said."""
    independent_rows: bool = False
    """Neighbouring rows have nothing in common: do not allow for sessions."""
    windows_needed: int = Field(default=2, ge=1, le=30)
    """A change counts when so many of the last windows show it, …"""
    windows: int = Field(default=3, ge=1, le=30)
    """… of so many, the current one among them. One window is enough for what is overwhelming."""

    @property
    def strictness(self) -> Settings:
        return Settings(self.error_rate, self.least_effect, self.independent_rows, self.least_rows)


class DataDrift:
    """Claims drifted data and a changed schema. Drift alone does not say that the model is worse: a person is asked."""

    kind = "data_drift"
    reacts_to = frozenset({"model.observed"})
    Settings = DriftSettings
    needs: frozenset[type[Evidence]] = frozenset({ModelWindow})

    def detect(self, event: Observable, evidence: EvidenceBag) -> Iterator[Finding | Clear]:
        window = evidence.get(ModelWindow)
        if not isinstance(event, ModelObserved) or window is None:
            return
        reference = _profile(window.reference)
        current = _profile(window.current)
        if reference is None or current is None:
            return
        wanted = DriftSettings.model_validate(dict(evidence.settings(self.kind)))
        settings = wanted.strictness
        rule = Persistence(wanted.windows_needed, wanted.windows)
        report = _report(reference, current, settings, window.importance)
        if report is None:
            return
        profiles = [_profile(each) for each in window.earlier[: rule.of - 1]]
        looked = [_report(reference, each, settings, window.importance) for each in profiles if each is not None]
        earlier = [each for each in looked if each is not None]
        told = lasting(report, earlier, rule, window.closed)
        if told.schema_changed:
            yield self._schema_changed(window, told, wanted)
        elif current.rows:
            yield Clear(
                self.kind, window.model, frozenset({"schema_changed"}), "the columns are those of the reference"
            )
        if told.drifted:
            yield self._drifted(window, told, earlier, wanted)
        elif window.closed and is_over(report, earlier, rule):
            why = f"{report.rows[1]} rows look like the reference's {report.rows[0]} in {report.tested} columns"
            yield Clear(self.kind, window.model, frozenset({"data_drift"}), why)

    def _drifted(
        self, window: ModelWindow, report: DriftReport, earlier: list[DriftReport], wanted: DriftSettings
    ) -> Finding:
        found = [verdict for verdict in report.found if verdict.change != "schema"]
        strongest = found[0]
        others = len(report.columns) - 1
        more = f"; {others} more column{'s' if others > 1 else ''} changed" if others else ""
        windows = 1 + sum(strongest.column in each.columns for each in earlier)
        lasts = f", in {windows} of the last {1 + len(earlier)} windows" if earlier else ""
        return self._finding(
            "data_drift",
            window,
            _severity(strongest),
            min(0.99, 1 - strongest.p),
            f"The data of {window.model} have changed: {_said(strongest)}{lasts}{more}. "
            "Whether the model is worse is for its metrics to say.",
            report,
            found,
            wanted,
        )

    def _schema_changed(self, window: ModelWindow, report: DriftReport, wanted: DriftSettings) -> Finding:
        found = [verdict for verdict in report.found if verdict.change == "schema"]
        told = "; ".join(_said(verdict) for verdict in found[:3])
        more = f"; {len(found) - 3} more" if len(found) > 3 else ""
        lost = any(verdict.detail != "the column is new" for verdict in found)
        severity = Severity.HIGH if lost else Severity.LOW
        summary = f"The columns of {window.model} have changed: {told}{more}."
        return self._finding("schema_changed", window, severity, 0.99, summary, report, found, wanted)

    def _finding(
        self,
        kind: str,
        window: ModelWindow,
        severity: Severity,
        confidence: float,
        summary: str,
        report: DriftReport,
        found: list[Verdict],
        wanted: DriftSettings,
    ) -> Finding:
        facts: Mapping[str, Any] = {
            "model": window.model,
            "window": window.current.window,
            "window_closed": window.closed,
            "rows": {"reference": report.rows[0], "current": report.rows[1]},
            "season": report.season,
            "tested": report.tested,
            "settings": wanted.model_dump(),
            "importance": {name: window.importance[name] for name in report.columns if name in window.importance},
            "features": [verdict.to_json() for verdict in found[:FEATURES]],
        }
        return Finding(
            detector=self.kind,
            kind=kind,
            subject=window.model,
            severity=severity,
            confidence=confidence,
            summary=summary,
            # not the columns: they come and go while the same change goes on
            fingerprint=fingerprint(kind, window.model.translate(KEPT_DIGITS)),
            facts=facts,
            ladder=ladder_of(kind),
        )


def _profile(observed: Observed | None) -> Profile | None:
    return Profile.from_json(observed.profile) if observed and observed.profile else None


def _report(
    reference: Profile, current: Profile, settings: Settings, importance: Mapping[str, float]
) -> DriftReport | None:
    """None: the window was counted on the grids of another reference, which do not compare."""
    try:
        return check(reference, current, settings, importance)
    except OtherGrid:
        return None


def _severity(verdict: Verdict) -> Severity:
    if verdict.rank >= _HIGH:
        return Severity.HIGH
    return Severity.MEDIUM if verdict.rank >= _MEDIUM else Severity.LOW


def _said(verdict: Verdict) -> str:
    part = f" ({verdict.part})" if verdict.part else ""
    return f"{verdict.column}{part}: {verdict.detail}"
