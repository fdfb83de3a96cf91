"""How much memory a training step takes, told from two small ones, and which batch fits after one that did not.

What a step takes at its peak is a line in the batch for each of its two phases: forward and backward (weights,
gradients, optimiser states, and activations for each item), and the optimiser's step (its temporaries, and hardly
anything for each item). The higher one counts. Two probes give both lines. One line through the peaks of whole steps
would be too flat where small batches peak in the optimiser and large ones do not.

On the CPU it is the resident memory of this process that is told, with the interpreter and the libraries, as the kernel
sees it that would kill it. It is a line only where the C library's heap loses nothing to fragments: see `steady`. On a
GPU it is what the caching allocator holds. No torch is imported until something is measured: plans need only the
arithmetic.
"""

import contextlib
import ctypes
import gc
import math
import re
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
MARGIN = 0.05
_M_MMAP_THRESHOLD = -3  # malloc.h
_STATES: dict[str, int] = {"adamw": 2, "adam": 2, "sgd": 0, "sgd+momentum": 1}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A peak of `fixed_bytes` and `per_item_bytes` for each item of the batch, and no less than `floor_bytes` and
    `floor_per_item_bytes`; `basis` says what it rests on."""

    fixed_bytes: float
    per_item_bytes: float
    basis: str
    floor_bytes: float = 0.0
    floor_per_item_bytes: float = 0.0

    def peak_bytes(self, batch: int) -> int:
        return math.ceil(
            max(
                self.fixed_bytes + self.per_item_bytes * batch,
                self.floor_bytes + self.floor_per_item_bytes * batch,
            )
        )

    def largest_batch(self, limit_bytes: float, margin: float = MARGIN) -> int:
        """The largest batch whose peak leaves `margin` of the limit free; 0: not even one."""
        limit = limit_bytes * (1 - margin)
        fits = math.inf
        for fixed, slope in (
            (self.fixed_bytes, self.per_item_bytes),
            (self.floor_bytes, self.floor_per_item_bytes),
        ):
            if fixed + slope > limit:
                return 0
            fits = min(fits, (limit - fixed) / slope if slope > 0 else math.inf)
        return int(min(fits, 2**31))


@dataclass(frozen=True, slots=True)
class Limit:
    """What this process may take in all, and which of its limits says so."""

    bytes: int
    what: str


# --- arithmetic ----------------------------------------------------------------------------------------------------


def needs_of(
    parameters: int,
    optimiser: str = "adamw",
    *,
    per_item_bytes: float = 0.0,
    base_bytes: float = 0.0,
    bytes_each: int = 4,
) -> Estimate:
    """Before anything runs: weights, gradients and optimiser states (two for each weight with AdamW, one for SGD with
    momentum), all of `bytes_each`: mixed precision keeps these in fp32. Activations and the runtime are not known from
    the parameters; tell them as `per_item_bytes` and `base_bytes`."""
    copies = 2 + _STATES[optimiser]
    basis = f"{parameters} parameters × {copies} copies ({optimiser}) × {bytes_each} bytes"
    if per_item_bytes:
        basis += f", and {per_item_bytes / 1e6:.3g} MB of activations an item"
    return Estimate(base_bytes + parameters * copies * bytes_each, per_item_bytes, basis)


def batch_after_oom(
    *, batch: int, accumulate: int, limit_bytes: int | None, estimate: Estimate | None, failures: int = 0
) -> tuple[int, int] | None:
    """Batch and accumulation for the next start, their product unchanged: the largest smaller batch that fits by the
    estimate. Without an estimate or a limit, at most half; and so, too, where an estimate has been wrong before
    (`failures` starts with a batch of its choice). None: nothing smaller fits."""
    whole = batch * accumulate
    most = batch - 1 if estimate and limit_bytes is not None and not failures else batch // 2
    if estimate and limit_bytes is not None:
        most = min(most, estimate.largest_batch(limit_bytes))
    fits = [each for each in _divisors(whole) if each <= most]
    return (max(fits), whole // max(fits)) if fits else None


def _divisors(whole: int) -> Iterator[int]:
    for each in range(1, math.isqrt(whole) + 1):
        if whole % each == 0:
            yield each
            yield whole // each


# --- probes --------------------------------------------------------------------------------------------------------


def probe(step: Callable[[int], None], batches: Sequence[int] = (1, 3), device: str = "cpu") -> Estimate | None:
    """Run `step` (a whole training step with a batch of that size: forward, backward, optimiser) once to warm up and
    once for each of two batches, in this process, and measure. None where this system does not let peaks be measured.
    On the CPU the process is made `steady` first, and the estimate is one for processes that are.

    The steps are real: whoever wants the weights as they were keeps them before. Choose batches near those that are
    asked for, after an OOM an eighth and a quarter of what failed. Gradients grow while activations shrink, so a very
    small batch peaks late in the backward pass and a large one early: from there it tells too little.
    """
    meter: _Gpu | _Process
    if device.startswith("cuda"):
        meter = _Gpu(device)
    else:
        steady()
        meter = _Process()
    if not meter.reset():
        return None
    small, large = sorted(batches)
    step(small)
    peaks = [_phases(step, batch, meter) for batch in (small, large)]
    lines = []
    for low, high in zip(*peaks, strict=True):
        slope = max(0.0, (high - low) / (large - small))
        lines.append((high - slope * large, slope))
    passes, optimiser = lines
    what = "memory on the GPU" if device.startswith("cuda") else "resident memory"
    return Estimate(*passes, f"{what}, measured at batches of {small} and {large}", *optimiser)


def steady() -> bool:
    """Have glibc map every piece of memory of 1 MiB or more by itself, from now on, and give it back when it is freed.

    Left alone it moves this threshold up to 32 MiB as it goes, and its heap then keeps holes: a training step takes 10
    to 40 % more than its tensors need, and how much cannot be told from smaller batches. The price is time in the
    kernel, which clears the pages. False where the C library is another one.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1024 * 1024))
    except (OSError, AttributeError):
        return False


def _phases(step: Callable[[int], None], batch: int, meter: "_Gpu | _Process") -> tuple[int, int]:
    """Peaks of one step: outside the optimiser, and in it."""
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    outside, inside, depth = 0, 0, 0

    def before(*_: Any) -> None:
        nonlocal outside, depth
        depth += 1
        if depth == 1:  # an optimiser may call the step of the one that it is made of, which has its hooks, too
            outside = max(outside, meter.peak())
            meter.reset()

    def after(*_: Any) -> None:
        nonlocal inside, depth
        depth -= 1
        if depth == 0:
            inside = max(inside, meter.peak())
            meter.reset()

    hooks = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
    try:
        meter.tidy()
        meter.reset()
        step(batch)
        outside = max(outside, meter.peak())
    finally:
        for hook in hooks:
            hook.remove()
    return outside, inside


class _Process:
    """The resident memory of this process; its high-water mark can be reset (proc(5), clear_refs)."""

    def reset(self) -> bool:
        try:
            (PROC / "self/clear_refs").write_text("5")
        except OSError:
            return False
        return "VmHWM" in status()

    def peak(self) -> int:
        return status()["VmHWM"]

    def tidy(self) -> None:
        """Give back what the heap holds without need, so that it does not hide what a step asks for."""
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


class _Gpu:
    """What the caching allocator of a device holds at the peak: what is asked for, and what is lost to rounding and
    fragments."""

    def __init__(self, device: str) -> None:
        import torch

        self._cuda, self._device = torch.cuda, torch.device(device)

    def reset(self) -> bool:
        self._cuda.synchronize(self._device)
        self._cuda.reset_peak_memory_stats(self._device)
        return True

    def peak(self) -> int:
        self._cuda.synchronize(self._device)
        return int(self._cuda.max_memory_reserved(self._device))

    def tidy(self) -> None:
        gc.collect()
        self._cuda.empty_cache()


# --- limits --------------------------------------------------------------------------------------------------------


def limit_of(device: str = "cpu") -> Limit | None:
    """What this process may take on `device`, in the terms that `probe` measures in: what it has now, and what it can
    get. The tightest of several limits; None where there is none to be read."""
    if device.startswith("cuda"):
        return _limit_of_gpu(device)
    now = status()
    if "VmRSS" not in now:
        return None
    rooms: list[tuple[int, str]] = []
    for name, number, has in (
        ("RLIMIT_DATA", resource.RLIMIT_DATA, now.get("VmData", 0)),
        ("RLIMIT_AS", resource.RLIMIT_AS, now.get("VmSize", 0)),
    ):
        soft = resource.getrlimit(number)[0]
        if soft != resource.RLIM_INFINITY:
            rooms.append((soft - has, name))
    rooms += _rooms_of_cgroups()
    if (free := _fields(PROC / "meminfo").get("MemAvailable")) is not None:
        rooms.append((free, "MemAvailable"))
    if not rooms:
        return None
    room, what = min(rooms)
    return Limit(now["VmRSS"] + max(0, room), what)


def _limit_of_gpu(device: str) -> Limit:
    """A process takes what is free and what its allocator holds already, unless it was given a share of the whole."""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    limits = [(free + torch.cuda.memory_reserved(device), "free GPU memory")]
    share = getattr(torch.cuda, "get_per_process_memory_fraction", None)
    if share is not None and (fraction := share(device)) < 1:
        limits.append((int(total * fraction), "the process's share of the GPU"))
    return Limit(*min(limits))


def kills() -> int:
    """How often the kernel has killed a process of this control group for want of memory; 0 where it does not tell."""
    for root, at, version in _cgroups():
        told = _fields(root / at / ("memory.events" if version == 2 else "memory.oom_control"))
        if "oom_kill" in told:
            return told["oom_kill"]
    return 0


def _rooms_of_cgroups() -> Iterator[tuple[int, str]]:
    """Of this process's group and all above it: its limit less what it uses, page cache that can be dropped not
    counted."""
    for root, at, version in _cgroups():
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        for group in (at, *at.parents):
            limit, usage = (_number(root / group / name) for name in names)
            if limit is None or usage is None or limit > 2**60:  # version 1 says "none" by a huge number
                continue
            yield limit - usage + _fields(root / group / "memory.stat").get("inactive_file", 0), f"cgroup {names[0]}"


def _cgroups() -> Iterator[tuple[Path, Path, int]]:
    """The control groups that this process's memory is in: the folder of all, this one below it, and the version."""
    try:
        lines = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        at = Path(path.lstrip("/"))
        if controllers == "":
            yield CGROUPS, at, 2
        elif "memory" in controllers.split(","):
            yield CGROUPS / "memory", at, 1


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max"
        return None


def status(process: int | str = "self") -> dict[str, int]:
    """What the kernel says of a process's memory, in bytes: VmRSS, VmData, … (proc(5)); empty where it says nothing."""
    return _fields(PROC / f"{process}/status")


def _fields(path: Path) -> dict[str, int]:
    """Names and bytes, of the forms "VmRSS:  12 kB" and "inactive_file 12"."""
    try:
        text = path.read_text()
    except OSError:
        return {}
    found = re.findall(r"^(\w+):?[ \t]+(\d+)( kB)?$", text, re.MULTILINE)
    return {name: int(number) * (1024 if unit else 1) for name, number, unit in found}
