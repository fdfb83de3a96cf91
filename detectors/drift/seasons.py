"""Like with like: a Sunday night is compared with Sunday nights."""

from __future__ import annotations

from typing import Any

import numpy as np

_DAY_S, _PART_S = 86_400, 21_600
PARTS = ("00-06", "06-12", "12-18", "18-24")


def season_names(at: Any) -> Any:
    """The season of each time (seconds since the epoch, UTC): weekday or weekend, and the quarter of the day."""
    seconds = np.floor(np.asarray(at, dtype=float))
    with np.errstate(invalid="ignore"):
        day = np.where(np.isfinite(seconds), seconds // _DAY_S, 0).astype(np.int64)
        part = np.where(np.isfinite(seconds), seconds % _DAY_S // _PART_S, 0).astype(np.int64)
    weekend = (day + 3) % 7 >= 5  # the epoch was a Thursday
    table = np.array([f"{kind} {hours}" for kind in ("weekday", "weekend") for hours in PARTS])
    return np.where(np.isfinite(seconds), table[weekend * len(PARTS) + part], "")
