"""What goes into the model, batch by batch: rows for the bot's drift detector, which compares them with a reference.

The file is what `POST /api/v1/models/av_separation/observations` takes as JSON, or what a workflow uploads as an
artefact `heal-observations…`: the training's rows are the reference, those of an evaluation or of a separation are what
is served.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL = "av_separation"
COLUMNS = (
    "input_snr_db",  # the loudest voice over all the rest of the mixture
    "level_dbfs",  # root mean square of the mixture
    "peak_dbfs",
    "clipped_share",  # samples at full scale
    "quiet_share",  # 20 ms frames below -60 dBFS
    "lips_missing_rate",  # video frames without a mouth
    "speakers",
    "seconds",
)
MOST_ROWS = 20_000
"""Of one file; of more, every second is dropped, again and again."""
_RATE = 16_000
_FRAME = 320
_LEAST_POWER = 1e-10  # -100 dBFS stands for silence

Row = dict[str, float | None]
Floats = NDArray[np.floating[Any]]


def row(mixture: Floats, seen: Floats, voices: Floats | None = None) -> Row:
    """The statistics of one batch, means over its mixtures.

    mixture: (batch, samples); seen: (batch, speakers, frames); voices: (batch, speakers, samples), the clean ones where
    they are known, else what the model made of them; without, there is no input SNR.
    """
    frames = mixture[:, : mixture.shape[1] // _FRAME * _FRAME].reshape(len(mixture), -1, _FRAME)
    quiet = np.square(frames).mean(-1) < 1e-6 if frames.size else np.ones(1)
    return {
        "input_snr_db": None if voices is None else _input_snr(mixture, voices),
        "level_dbfs": _rounded(_decibels(np.square(mixture).mean(1)).mean()),
        "peak_dbfs": _rounded(_decibels(np.square(np.abs(mixture).max(1))).mean()),
        "clipped_share": _rounded((np.abs(mixture) >= 0.9995).mean(), 6),
        "quiet_share": _rounded(quiet.mean(), 6),
        "lips_missing_rate": _rounded(1 - seen.mean(), 6),
        "speakers": float(seen.shape[1]),
        "seconds": _rounded(mixture.shape[1] / _RATE),
    }


class Observations:
    """Rows of a run, thinned out evenly where there are very many."""

    def __init__(self, role: str) -> None:
        """`role`: "reference" or "current"."""
        self._role = role
        self._rows: list[Row] = []
        self._every, self._seen = 1, 0

    def add(self, mixture: Floats, seen: Floats, voices: Floats | None = None) -> None:
        if self._seen % self._every == 0:
            self._rows.append(row(mixture, seen, voices))
            if len(self._rows) >= MOST_ROWS:
                self._rows, self._every = self._rows[::2], self._every * 2
        self._seen += 1

    def write(self, out: Path) -> tuple[str, dict[str, Any]]:
        """Write the file below `out`; its path there, and the report's `drift`."""
        name = (
            f"heal-observations/{MODEL}.reference.json"
            if self._role == "reference"
            else f"heal-observations/{MODEL}.json"
        )
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps({"role": self._role, "rows": self._rows}, allow_nan=False))
        os.replace(draft, path)
        return name, {"model": MODEL, "role": self._role, "rows": name, "batches": self._seen, "means": self.means()}

    def means(self) -> Mapping[str, float]:
        """Of each column that has a value."""
        found = {name: [told for each in self._rows if (told := each[name]) is not None] for name in COLUMNS}
        return {name: round(float(np.mean(values)), 4) for name, values in found.items() if values}


def _input_snr(mixture: Floats, voices: Floats) -> float | None:
    """Mean over the mixtures that hold a voice and something beside it."""
    own = np.square(voices).mean(-1)
    rest = np.square(mixture[:, None] - voices).mean(-1)
    there = (own > _LEAST_POWER) & (rest > _LEAST_POWER)
    levels = np.where(there, 10 * np.log10(np.maximum(own, 1e-20) / np.maximum(rest, 1e-20)), -np.inf).max(1)
    return _rounded(levels[np.isfinite(levels)].mean()) if np.isfinite(levels).any() else None


def _decibels(power: Floats) -> Floats:
    decibels: Floats = 10 * np.log10(np.maximum(power, _LEAST_POWER))
    return decibels


def _rounded(value: Any, digits: int = 3) -> float:
    return round(float(value), digits)
