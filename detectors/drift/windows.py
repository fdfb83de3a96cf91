"""Drift over several windows: what lasts, and what one window alone may say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from detectors.drift.compare import DriftReport, Verdict

OVERWHELMING_P, OVERWHELMING_EFFECT = 1e-6, 0.2


@dataclass(frozen=True, slots=True)
class Persistence:
    """A change counts when `need` of the last `of` windows, the current one among them, show it."""

    need: int = 2
    of: int = 3


def lasting(
    current: DriftReport, earlier: Sequence[DriftReport], rule: Persistence, closed: bool = True
) -> DriftReport:
    """The current report with what has lasted, or is overwhelming. `earlier`: newest first.

    A window that is not closed is looked at again with each batch, so it may speak of what is overwhelming alone.
    A changed schema is no matter of chance and counts at once.
    """
    before = [{_key(verdict) for verdict in report.found} for report in earlier[: rule.of - 1]]

    def counts(verdict: Verdict) -> bool:
        if verdict.change == "schema" or is_overwhelming(verdict):
            return True
        return closed and 1 + sum(_key(verdict) in seen for seen in before) >= rule.need

    return replace(current, found=tuple(verdict for verdict in current.found if counts(verdict)))


def is_over(current: DriftReport, earlier: Sequence[DriftReport], rule: Persistence) -> bool:
    """Nothing has drifted in the current window, and in too few of those before for it to count as lasting still."""
    recent = sum(report.drifted for report in earlier[: rule.of - 1])
    return not current.drifted and bool(current.tested) and recent < rule.need


def is_overwhelming(verdict: Verdict) -> bool:
    return verdict.p <= OVERWHELMING_P and verdict.effect >= OVERWHELMING_EFFECT


def _key(verdict: Verdict) -> tuple[str, str]:
    return verdict.column, verdict.part
