"""What a model makes of held-out mixtures, a row for each voice: by it two versions of the model are compared."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from workloads.av_separation import metrics
from workloads.av_separation.data import Example, Source

EVALUATION = "evaluation.parquet"
Separate = Callable[[Example], NDArray[np.float32]]


def write(folder: Path, source: Source, mixtures: int, separate: Separate, *, free: bool) -> str:
    """`id`, `group` (the mixture), `label`, `prediction` of each voice that can be measured; the file's name.

    The prediction is what is left of the rest, as a part of the voice's amplitude: 10^(-SI-SNR / 20). The label is 0,
    a voice without any rest, so that the mean absolute error is the mean of what is left. `free`: in the best order.
    """
    rows: list[dict[str, Any]] = []
    for index in range(mixtures):
        example = source.example(index)
        estimates = separate(example)
        order = metrics.best_order(estimates, example.clean) if free else range(len(estimates))
        for voice, at in enumerate(order):
            try:
                left = 10 ** (-metrics.si_snr(estimates[at], example.clean[voice]) / 20)
            except metrics.Undefined:
                continue
            if math.isfinite(left):
                rows.append({"id": f"{index}-{voice}", "group": str(index), "label": 0.0, "prediction": left})
    kinds = {"id": pa.string(), "group": pa.string(), "label": pa.float64(), "prediction": pa.float64()}
    parquet.write_table(pa.Table.from_pylist(rows, schema=pa.schema(kinds.items())), folder / EVALUATION)
    return EVALUATION
