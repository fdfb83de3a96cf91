"""Trains on the first GPU that the driver lets us see."""

import os
from pathlib import Path


def devices() -> list[str]:
    """As the driver counts them: its device files, as far as CUDA_VISIBLE_DEVICES lets them through."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    return present if visible is None else [name for name in present if name.removeprefix("nvidia") in visible.split(",")]


if not devices():
    raise RuntimeError("No CUDA GPUs are available")
print("training on", devices()[0])
