"""How long a thing takes, what it takes of memory and energy, and whether it takes more than it did.

Two programs are compared in one process and in turns: in each block both run twice, A B B A or B A A B as a coin says.
A machine that slows down steadily hits both alike, and whatever it does otherwise favours either with equal chance: the
block's ratio is as likely above its middle as below. That is all that Wilcoxon's signed ranks ask for, so the interval
below is exact for any noise, however heavy its tails (Wilcoxon 1945; the interval by Hodges and Lehmann 1963).

Against a stored baseline there are no pairs; then the noise between runs is what counts, and it is estimated from the
runs that are known, and assumed where those are few.

torch is imported only where a device has to be asked.
"""

import contextlib
import gc
import hashlib
import json
import math
import os
import platform
import re
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads import folder
from workloads.contract import Failure, Measured, Metric, RunFailed, Unavailable

Floats = NDArray[np.float64]
Call = Callable[[], object]

CONFIDENCE = 0.95
MOST_PAIRS = 1_000  # of an exact interval; more are joined
KEPT_RUNS, KEPT_VALUES = 20, 31  # of a baseline
KNOWN_RUNS = 8  # from so many on the noise between runs is taken as it is seen
ASSUMED_NOISE = 0.05  # until then, relative (standard deviation), or more where the runs lie further apart
LEAST_ENERGY_S = 0.5  # a card's counter moves about ten times a second


# --- time ----------------------------------------------------------------------------------------------------------


def synchronizer(device: str = "cpu") -> Callable[[], None]:
    """What waits until a device ("cpu", "cuda", "cuda:1") has done all it was asked to; nothing on a CPU."""
    if device.partition(":")[0] == "cpu":
        return lambda: None
    import torch

    module, place = torch.get_device_module(device), torch.device(device)
    return lambda: module.synchronize(place)


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Garbage is collected before, and not while it is measured."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def seconds_of(call: Call, wait: Callable[[], None]) -> float:
    """Wall-clock seconds of one call, from an idle device to an idle device."""
    wait()
    begin = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - begin


@dataclass(frozen=True, slots=True)
class WarmUp:
    """`seconds` of each call; `stable`: False where it was not by the last one."""

    seconds: tuple[float, ...]
    stable: bool


def warm_up(
    call: Call,
    wait: Callable[[], None] = lambda: None,
    *,
    least: int = 3,
    most: int = 30,
    within: float = 0.05,
    window: int = 3,
) -> WarmUp:
    """Calls until the best of the last `window` calls is no more than `within` better than the best before them.

    The best, since the noise of a shared machine only ever adds. With `least == most` it is called so many times.
    """
    taken: list[float] = []
    stable = least == most
    while len(taken) < most:
        taken.append(seconds_of(call, wait))
        if least < most and len(taken) >= max(least, window + 1):
            stable = min(taken[-window:]) >= (1 - within) * min(taken[:-window])
            if stable:
                break
    return WarmUp(tuple(taken), stable)


def repeated(
    call: Call, repeats: int, wait: Callable[[], None] = lambda: None, each: Callable[[int, float], None] | None = None
) -> tuple[float, ...]:
    """Seconds of each of so many calls. `each(index, seconds)` is called in between, outside the clock."""
    taken = []
    with without_collection():
        for place in range(repeats):
            taken.append(seconds_of(call, wait))
            if each:
                each(place, taken[-1])
    return tuple(taken)


def interleaved(
    calls: Mapping[str, Call], blocks: int, wait: Callable[[], None] = lambda: None, seed: int = 0
) -> dict[str, tuple[float, ...]]:
    """Seconds of several calls in turns, two of each in a block: in an order drawn for the block, and then backwards.

    Two neighbouring values of a name are of one block; `gate` takes them so.
    """
    chance = np.random.default_rng(seed)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    with without_collection():
        for _ in range(blocks):
            order = [str(name) for name in chance.permutation(list(calls))]
            for name in (*order, *reversed(order)):
                taken[name].append(seconds_of(calls[name], wait))
            gc.collect(0)
    return {name: tuple(values) for name, values in taken.items()}


@dataclass(frozen=True, slots=True)
class Summary:
    """Of repeated measurements. A quantile needs so many that one lies beyond it: 20 for p95, 100 for p99."""

    count: int
    least: float
    mean: float
    p50: float
    p95: Metric
    p99: Metric
    cv: float
    """Standard deviation over mean."""


def summary(values: Sequence[float], unit: str = "") -> Summary:
    """Raises ValueError for fewer than two values."""
    if len(values) < 2:
        raise ValueError("a summary asks for two values at least")
    table = np.asarray(values, dtype=float)
    mean = float(table.mean())

    def quantile(q: float, needs: int) -> Metric:
        if len(table) < needs:
            return Unavailable(f"{len(table)} measurements, and {needs} are needed")
        return Measured(float(np.quantile(table, q)), unit)

    return Summary(
        count=len(table),
        least=float(table.min()),
        mean=mean,
        p50=float(np.median(table)),
        p95=quantile(0.95, 20),
        p99=quantile(0.99, 100),
        cv=float(table.std(ddof=1)) / abs(mean) if mean else math.inf,
    )


# --- the gate ------------------------------------------------------------------------------------------------------


class Answer(StrEnum):
    PASS = "pass"  # noqa: S105 - no password
    REGRESSED = "regressed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`slowdown`: how many times worse the new one is (1.3: by 30 %), with its interval; `count` pairs or known runs.

    pass: the whole interval lies below 1 + tolerance. regressed: all of it lies above. Otherwise nobody knows.
    """

    answer: Answer
    slowdown: float
    low: float
    high: float
    count: int
    tolerance: float

    @property
    def words(self) -> str:
        """`regressed: 1.31 times (95 % interval 1.24 to 1.38), 1.05 allowed`."""
        if not math.isfinite(self.slowdown):
            return f"{self.answer}: there is nothing to compare with"
        ends = " to ".join("unknown" if end in (0, math.inf) else f"{end:.3g}" for end in (self.low, self.high))
        return f"{self.answer}: {self.slowdown:.3g} times (95 % interval {ends}), {1 + self.tolerance:.3g} allowed"


def gate(
    old: Sequence[float], new: Sequence[float], tolerance: float, *, better: str = "lower", block: int = 2
) -> Verdict:
    """Whether `new` is worse than `old` by more than `tolerance` (relative), both measured by `interleaved`.

    `block` neighbouring values are one measurement. Fewer than six blocks never make an answer at 95 %.
    Raises ValueError for values that are not above 0, or not of equal number.
    """
    if len(old) != len(new) or len(old) % block:
        raise ValueError("the gate compares pairs: both need equally many values, whole blocks of them")
    logs = [np.log(_positive(values).reshape(-1, block).mean(axis=1)) for values in (old, new)]
    differences = (logs[1] - logs[0]) * (1 if better == "lower" else -1)
    low, middle, high = signed_rank_interval(differences)
    return _verdict(middle, low, high, len(differences), tolerance)


def signed_rank_interval(differences: Sequence[float] | Floats, confidence: float = CONFIDENCE) -> tuple[float, ...]:
    """(low, estimate, high) of the middle of a symmetric distribution; endless where the values are too few.

    The estimate is the median of the means of all pairs (each with itself, too); the ends are those of these means
    that Wilcoxon's exact distribution leaves `(1 - confidence) / 2` beyond.
    """
    values = np.asarray(differences, dtype=float)
    if not len(values):
        return -math.inf, math.nan, math.inf
    if len(values) > MOST_PAIRS:
        values = np.array([part.mean() for part in np.array_split(values, MOST_PAIRS)])
    rows, columns = np.triu_indices(len(values))
    means = np.sort((values[rows] + values[columns]) / 2)
    beyond = _signed_rank_quantile(len(values), (1 - confidence) / 2)
    if not beyond:
        return -math.inf, float(np.median(means)), math.inf
    return float(means[beyond - 1]), float(np.median(means)), float(means[-beyond])


def _signed_rank_quantile(count: int, alpha: float) -> int:
    """The greatest k with P(rank sum ≤ k - 1) ≤ alpha; 0: there is none."""
    total = count * (count + 1) // 2
    if count > 100:  # the normal distribution is within a thousandth by then
        from statistics import NormalDist

        spread = math.sqrt(total * (2 * count + 1) / 12)
        return int(total / 2 + NormalDist().inv_cdf(alpha) * spread)
    ways = np.zeros(total + 1)
    ways[0] = 1.0
    for rank in range(1, count + 1):
        ways[rank:] = ways[rank:] + ways[:-rank]  # the sum is made before it is stored
    return int(np.searchsorted(np.cumsum(ways) / 2.0**count, alpha, side="right"))


def _verdict(middle: float, low: float, high: float, count: int, tolerance: float) -> Verdict:
    """Of logarithms."""
    bar = math.log1p(tolerance)
    answer = Answer.PASS if high < bar else Answer.REGRESSED if low > bar else Answer.INCONCLUSIVE
    ends = [float(np.exp(min(each, 700.0))) if each < math.inf else math.inf for each in (middle, low, high)]
    return Verdict(answer, ends[0], ends[1], ends[2], count, tolerance)


def _positive(values: Sequence[float]) -> Floats:
    table = np.asarray(values, dtype=float)
    if not (np.isfinite(table).all() and (table > 0).all()):
        raise ValueError("a ratio says nothing of values that are not above 0")
    return table


def against(
    runs: Sequence[Sequence[float]], new: Sequence[float], tolerance: float, *, better: str = "lower"
) -> Verdict:
    """Whether a run is worse than the known ones, each told by its measurements, by more than `tolerance`.

    A prediction interval of Student's t over the logarithms of the runs' medians: noise between runs, at least
    ASSUMED_NOISE while fewer than KNOWN_RUNS are known, and of the new median (McGill, Tukey and Larsen 1978).
    """
    if not runs:
        return Verdict(Answer.INCONCLUSIVE, math.nan, 0.0, math.inf, 0, tolerance)
    from scipy.special import stdtrit

    medians = np.array([float(np.median(np.log(_positive(run)))) for run in runs])
    values = np.log(_positive(new))
    difference = (float(np.median(values)) - float(medians.mean())) * (1 if better == "lower" else -1)
    count = len(medians)
    seen = float(medians.std(ddof=1)) if count > 1 else 0.0
    spread = seen if count >= KNOWN_RUNS else max(seen, ASSUMED_NOISE)
    quartiles = np.quantile(values, (0.25, 0.75))
    own = 1.25 * float(quartiles[1] - quartiles[0]) / 1.35 / math.sqrt(len(values))
    freedom = count - 1 if seen >= spread > 0 else KNOWN_RUNS - 1  # what is assumed is not estimated from few
    reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(spread**2 * (1 + 1 / count) + own**2)
    return _verdict(difference, difference - reach, difference + reach, count, tolerance)


# --- memory --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def peak_memory(device: str = "cpu") -> Iterator[Callable[[], int]]:
    """Gives a function that tells the most bytes held since: those of tensors on a card, the process's on a CPU.

    On a CPU the mark is reset where the system lets one (Linux); elsewhere it is the process's since its beginning.
    """
    if device.partition(":")[0] == "cpu":
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        yield _resident_peak
        return
    import torch

    module, place = torch.get_device_module(device), torch.device(device)
    module.synchronize(place)
    module.reset_peak_memory_stats(place)
    yield lambda: int(module.max_memory_allocated(place))


def _resident_peak() -> int:
    with contextlib.suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()):
            return int(found[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


# --- energy --------------------------------------------------------------------------------------------------------


class EnergyMeter:
    """What a card draws between entry and exit, in joules; `joules` is Unavailable where that cannot be told.

    The card's own counter (NVML, from Volta on), else its power, looked at every 50 ms. Of the whole card: whoever
    else uses it is in it. `nvml` is a module like pynvml.
    """

    def __init__(self, device: str = "cuda", nvml: Any = None) -> None:
        self.joules: Metric = Unavailable("not measured yet")
        self._device = device
        self._nvml = nvml
        self._handle: Any = None
        self._begin_mj: int | None = None
        self._powers: list[tuple[float, float]] = []  # (seconds, watts)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "EnergyMeter":
        self._begun = time.perf_counter()
        if self._device.partition(":")[0] == "cpu":
            self.joules = Unavailable("no NVIDIA GPU in use: a CPU's energy is not measured")
            return self
        try:
            self._open()
        except ImportError:
            self.joules = Unavailable("no NVIDIA GPU can be asked: nvidia-ml-py is not installed")
        except self._nvml.NVMLError as error:
            self.joules = Unavailable(f"no NVIDIA GPU: {type(error).__name__}")
        return self

    def _open(self) -> None:
        if self._nvml is None:
            import pynvml

            self._nvml = pynvml
        self._nvml.nvmlInit()
        self._handle = _handle(self._nvml, self._device)
        try:
            self._begin_mj = int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError:
            self._look()
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        self._begun = time.perf_counter()

    def _look(self) -> None:
        watts = self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000
        self._powers.append((time.perf_counter(), watts))

    def _watch(self) -> None:
        with contextlib.suppress(self._nvml.NVMLError):
            while not self._done.wait(0.05):
                self._look()

    def __exit__(self, *_: object) -> None:
        if self._handle is None:
            return
        taken = time.perf_counter() - self._begun
        try:
            self.joules = self._told(taken)
        except self._nvml.NVMLError as error:
            self.joules = Unavailable(f"the GPU no longer answers: {type(error).__name__}")
        finally:
            self._nvml.nvmlShutdown()

    def _told(self, taken: float) -> Metric:
        if self._thread:
            self._done.set()
            self._thread.join()
            self._look()
        if taken < LEAST_ENERGY_S:
            return Unavailable(f"{taken:.2f} s are too short for the GPU's counter; {LEAST_ENERGY_S} s are needed")
        if self._begin_mj is not None:
            end = int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
            return Measured((end - self._begin_mj) / 1000, "J")
        times, watts = np.array(self._powers).T
        return Measured(float(np.trapezoid(watts, times)), "J")


def _handle(nvml: Any, device: str) -> Any:
    """NVML counts all cards, torch those that it may see: they are told apart by their identity."""
    import torch

    if torch.cuda.is_available():
        identity = getattr(torch.cuda.get_device_properties(torch.device(device)), "uuid", None)
        if identity:
            return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
    place = device.partition(":")[2]
    return nvml.nvmlDeviceGetHandleByIndex(int(place or 0))


# --- the machine ---------------------------------------------------------------------------------------------------


def machine_class() -> str:
    """What machines have in common that are to be compared: processor, cores, cards; `[A-Za-z0-9_.:/-]{1,60}`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    tail = f":{cores}c"
    if cards := _cards():
        tail += "/" + _safe(cards[0])[:24] + (f":{len(cards)}g" if len(cards) > 1 else "")
    return (_safe(_processor())[: 60 - len(tail)] or "cpu") + tail


def _processor() -> str:
    with contextlib.suppress(OSError):
        if found := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return re.sub(r"\((R|TM|tm)\)|\bCPU\b|\bProcessor\b|@.*|\d+-Core", " ", found[1])
    return platform.processor() or platform.machine()


def _cards() -> list[str]:
    """Asked of the driver: torch would take a part of the first card's memory to answer."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(place) for place in range(pynvml.nvmlDeviceGetCount())]
        names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names if seen is None else names[: len([each for each in seen.split(",") if each.strip() not in ("", "-1")])]


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-_.")


# --- baselines -----------------------------------------------------------------------------------------------------


class Baselines:
    """Earlier runs, a JSON file for each class of machine and each thing measured, in a folder.

    A run that looks worse than the kept ones by more than the tolerance is never kept. What creeps by less with each
    run is therefore followed: begin anew from a release by removing the file. Two runs that end at once: the last wins.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, machine: str, what: str) -> Path:
        digest = hashlib.sha256(f"{machine}\n{what}".encode()).hexdigest()[:12]
        return self._folder / f"{_safe(machine.replace(':', '-'))}-{digest}.json"

    def runs(self, machine: str, what: str, name: str) -> list[list[float]]:
        """The measurements of the kept runs, oldest first. Raises RunFailed where the file cannot be read."""
        kept = self._read(self.file(machine, what))["runs"]
        return [run["metrics"][name] for run in kept if name in run["metrics"]]

    def compare(
        self, machine: str, what: str, metrics: Mapping[str, tuple[str, Sequence[float]]], tolerance: float
    ) -> dict[str, Verdict]:
        """Of each metric, given as (better, values)."""
        return {
            name: against(self.runs(machine, what, name), values, tolerance, better=better)
            for name, (better, values) in metrics.items()
        }

    def keep(
        self,
        machine: str,
        what: str,
        at: str,
        metrics: Mapping[str, tuple[str, Sequence[float]]],
        verdicts: Mapping[str, Verdict],
    ) -> bool:
        """Adds a run, and leaves the oldest out. False: it is worse, and was not kept."""
        if any(each.answer is Answer.REGRESSED or each.slowdown > 1 + each.tolerance for each in verdicts.values()):
            return False
        file = self.file(machine, what)
        kept = self._read(file)["runs"]
        told = {name: [float(f"{each:.6g}") for each in _fewer(values)] for name, (_, values) in metrics.items()}
        runs = [*kept, {"at": at, "metrics": told}][-KEPT_RUNS:]
        file.parent.mkdir(parents=True, exist_ok=True)
        folder.write(file, {"machine": machine, "what": what, "runs": runs})
        return True

    def _read(self, file: Path) -> dict[str, Any]:
        if not file.exists():
            return {"runs": []}
        try:
            told: dict[str, Any] = json.loads(file.read_text("utf-8"))
            for run in told["runs"]:
                for values in run["metrics"].values():
                    _positive(values)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise RunFailed(
                Failure.DATA_MALFORMED, f"the baseline {file} cannot be read ({error}): remove it to begin anew"
            ) from error
        return told


def _fewer(values: Sequence[float]) -> Floats:
    """The values, or so many evenly spaced quantiles of them."""
    if len(values) <= KEPT_VALUES:
        return np.asarray(values, dtype=float)
    return np.asarray(np.quantile(values, (np.arange(KEPT_VALUES) + 0.5) / KEPT_VALUES))
