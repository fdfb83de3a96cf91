"""How sure a diagnosis is: the chance that its first cause is right, measured on labelled logs.

The figures are data, `calibration.toml`, and come from `python -m benchmarks diagnosis --corpus PATH --calibrate`.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

MOST_ODDS = 50.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """`weights` of the features of a diagnosis (`bias` for none) in its log-odds; for each kind of cause the confidence
    from which it may be acted on, `otherwise` for a kind without."""

    weights: Mapping[str, float]
    thresholds: Mapping[str, float]
    otherwise: float
    lowest: float
    highest: float

    def confidence(self, features: Mapping[str, float]) -> float:
        """0…1."""
        odds = self.weights["bias"] + sum(self.weights[name] * value for name, value in features.items())
        return min(self.highest, max(self.lowest, 1 / (1 + math.exp(min(MOST_ODDS, -odds)))))

    def is_actionable(self, kind: str, confidence: float, features: Mapping[str, float]) -> bool:
        """Sure enough for a repair, and no other kind of cause is as likely."""
        return not features.get("contested") and confidence >= self.thresholds.get(kind, self.otherwise)


def parse_calibration(text: str) -> Calibration:
    return Calibration(**tomllib.loads(text))


CALIBRATION = parse_calibration((files(__package__) / "calibration.toml").read_text("utf-8"))
