"""The page of a drifted window: its distributions beside the reference's."""

from app.domain.evidence import Observed
from app.domain.finding import Finding
from detectors.data_drift import DriftSettings
from detectors.drift.compare import OtherGrid, check
from detectors.drift.page import drift_page
from detectors.drift.profile import Profile

DRAWN = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
}
"""The page brings its own style, and may do nothing else."""


def drift_of(finding: Finding, reference: Observed, current: Observed) -> str | None:
    """As the finding judged them; None where no inputs were kept, or the two do not compare any more."""
    if not reference.profile or not current.profile:
        return None
    before, now = Profile.from_json(reference.profile), Profile.from_json(current.profile)
    try:
        settings = DriftSettings.model_validate(finding.facts.get("settings", {}))
        report = check(before, now, settings.strictness, finding.facts.get("importance", {}))
        return drift_page(report, before, now, f"{finding.subject}, {current.window}")
    except OtherGrid:
        return None
