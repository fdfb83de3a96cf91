"""What a run of the speech separation would need. No torch: it answers at once, on any machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workloads.contract import Measured, Needs, Unavailable
from workloads.memory import needs_of


@dataclass(frozen=True, slots=True)
class Size:
    """`parameters` of a preset, and what a second of one voice takes of memory while it is learnt from, in bytes."""

    parameters: int
    activations: float


# Activations: the slope between two training steps on a CPU, 2 s of two voices (benchmarks/LOG.md, 2026-11-21).
SIZES: Mapping[str, Size] = {
    "tiny": Size(1_135_116, 14.5e6),
    "small": Size(7_565_044, 28.5e6),
    "base-122m": Size(121_574_724, 138e6),
}
BASE_BYTES = 380e6
"""The process with its libraries on a CPU, before a model is built."""
CONTEXT_BYTES = 500e6
"""What CUDA keeps on a card beside the tensors."""


def needs(verb: str, settings: Any) -> Needs:
    """Memory by the parameters and what was measured of activations. How long it takes depends on the machine."""
    on_cpu = getattr(settings, "device", "cpu") == "cpu"
    gpu = "none" if on_cpu else "optional"
    if verb != "train":
        return Needs(gpu, basis="memory and time are estimated of trainings; `benchmark` measures a pass")
    size = SIZES[settings.preset]
    each = size.activations * settings.seconds * settings.speakers
    estimate = needs_of(size.parameters, per_item_bytes=each)
    needed = estimate.peak_bytes(settings.batch)
    return Needs(
        gpu=gpu,
        memory_bytes=Measured(BASE_BYTES + needed, "B"),
        vram_bytes=Unavailable("it runs on the CPU") if on_cpu else Measured(CONTEXT_BYTES + needed, "B"),
        time_s=Measured(60 * settings.minutes, "s")
        if settings.minutes
        else Unavailable("it depends on the machine; the first steps tell"),
        basis=estimate.basis,
    )
