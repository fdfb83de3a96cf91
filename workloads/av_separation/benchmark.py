"""How fast a model separates, and what it takes: passes over noise, timed one by one.

What is separated does not matter for that: the model does the same work for any sound. It makes all the voices of a
mixture in one pass, its lip encoder with it; reading films and finding mouths are not in it.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from workloads import checkpoint
from workloads.av_separation.config import Benchmark
from workloads.av_separation.device import settle
from workloads.av_separation.model import (
    MOUTH,
    SAMPLE_RATE,
    VIDEO_HOP,
    Separator,
    build,
    find_weights,
    load,
    parameters,
)
from workloads.contract import Failure, Measured, Metric, Report, Run, RunFailed, Samples, Unavailable
from workloads.failures import classify
from workloads.measure import (
    LEAST_ENERGY_S,
    Answer,
    Baselines,
    EnergyMeter,
    Verdict,
    machine_class,
    peak_memory,
    seconds_of,
    summary,
    synchronizer,
    warm_up,
    without_collection,
)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def run_benchmark(config: Benchmark, run: Run) -> Report:
    """Raises RunFailed; of too little memory with a smaller `batch` as advice."""
    try:
        return _measured(config, run)
    except Exception as error:
        failed = classify(error)
        if failed and failed.kind in (Failure.CUDA_OOM, Failure.HOST_OOM) and config.batch > 1:
            advice = {**failed.advice, "batch": config.batch // 2}
            raise RunFailed(failed.kind, str(failed), advice=advice, facts=failed.facts) from error
        raise


def _measured(config: Benchmark, run: Run) -> Report:
    before = torch.get_num_threads()
    device = settle(config.device, config.threads).type
    try:
        model, weights = _model(config)
        model = model.to(device).eval()
        forward = _pass(model, config, device)
        wait = synchronizer(device)
        run.event("warming_up", passes=config.warmup)
        warmed = warm_up(forward, wait, least=config.warmup, most=config.warmup)
        seconds, peaks = _timed(forward, wait, device, config.repeats, run)
        energy = _energy(forward, wait, device, seconds)
        flops = _flops(forward)
    finally:
        threads = torch.get_num_threads()
        torch.set_num_threads(before)
    audio = config.seconds * config.batch
    samples = (
        Samples("latency_ms", "ms", "lower", tuple(1000 * each for each in seconds)),
        Samples("throughput", "s/s", "higher", tuple(audio / each for each in seconds)),
        Samples("peak_memory_mb", "MB", "lower", tuple(each / 1e6 for each in peaks)),
    )
    times = summary([1000 * each for each in seconds], "ms")
    metrics: dict[str, Metric] = {
        "latency_p50_ms": Measured(times.p50, "ms"),
        "latency_p95_ms": times.p95,
        "latency_p99_ms": times.p99,
        "latency_least_ms": Measured(times.least, "ms"),
        "latency_cv": Measured(times.cv),
        "real_time_factor": Measured(times.p50 / 1000 / audio),
        "throughput_s_per_s": Measured(audio / (times.p50 / 1000), "s/s"),
        "peak_memory_bytes": Measured(float(max(peaks)), "B"),
        "energy_j_per_audio_s": Measured(energy.value / audio, "J/s") if isinstance(energy, Measured) else energy,
        "parameters": Measured(float(parameters(model))),
        "flops_per_audio_s": Measured(flops / audio, "1/s"),
        "first_pass_ms": Measured(1000 * warmed.seconds[0], "ms") if warmed.seconds else Unavailable("no warm-up"),
    }
    notes = [
        weights,
        f"{config.batch} mixtures of {config.seconds:g} s, {config.speakers} voices each, on {device}, "
        f"{threads} threads, {config.precision}: the lip encoder is included, finding the mouths is not",
        "peak memory is that of tensors on the card" if device != "cpu" else "peak memory is the whole process's",
    ]
    if config.baseline:
        verdicts = _against_baseline(config, weights, device, threads, samples)
        notes += [f"{name}: {each.words}" for name, each in verdicts.items()]
        regressed = [each.answer is Answer.REGRESSED for each in verdicts.values()]
        metrics["regressed"] = Measured(float(any(regressed)))
        run.event("compared", **{name: each.answer.value for name, each in verdicts.items()})
    return Report(metrics=metrics, samples=samples, notes=tuple(notes))


def _model(config: Benchmark) -> tuple[Separator, str]:
    """And what its weights are."""
    if not config.checkpoint:
        return build(config.preset), f"preset {config.preset} with untrained weights: they take the same time"
    path = find_weights(Path(config.checkpoint))
    model = load(path)
    with (path / checkpoint.TENSORS if path.is_dir() else path).open("rb") as file:
        return model, f"weights {path.name}, SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


def _pass(model: Separator, config: Benchmark, device: str) -> Callable[[], object]:
    chance = torch.Generator().manual_seed(0)
    samples = round(config.seconds * SAMPLE_RATE)
    frames = -(-samples // VIDEO_HOP)
    mixture = 0.1 * torch.randn(config.batch, samples, generator=chance)
    mouths = torch.rand(config.batch, config.speakers, frames, MOUTH, MOUTH, generator=chance)
    inputs = [each.to(device) for each in (mixture, mouths, torch.ones(config.batch, config.speakers, frames))]
    mixed = config.precision != "fp32"

    def forward() -> Any:
        with (
            torch.inference_mode(),
            torch.autocast(device, dtype=PRECISIONS[config.precision]) if mixed else nullcontext(),
        ):
            return model(*inputs)

    return forward


def _timed(
    forward: Callable[[], object], wait: Callable[[], None], device: str, repeats: int, run: Run
) -> tuple[list[float], list[int]]:
    """Seconds and the most bytes of each pass."""
    seconds, peaks = [], []
    with without_collection():
        for place in range(repeats):
            with peak_memory(device) as peak:
                seconds.append(seconds_of(forward, wait))
                peaks.append(peak())
            run.progress(place + 1, repeats, "passes", latency_ms=1000 * seconds[-1])
            run.metric("latency_ms", 1000 * seconds[-1], place, "ms")
            run.check()
    return seconds, peaks


def _energy(forward: Callable[[], object], wait: Callable[[], None], device: str, seconds: list[float]) -> Metric:
    """Joules of one pass: of as many as fill the time that a card's counter needs, four times over."""
    if device == "cpu":
        return Unavailable("no NVIDIA GPU in use: a CPU's energy is not measured")
    passes = max(1, round(4 * LEAST_ENERGY_S / min(seconds)) + 1)
    wait()
    with EnergyMeter(device) as meter:
        for _ in range(passes):
            forward()
        wait()
    return Measured(meter.joules.value / passes, "J") if isinstance(meter.joules, Measured) else meter.joules


def _flops(forward: Callable[[], object]) -> int:
    """Of one pass, as torch counts them: two for each multiplication with its addition."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        forward()
    return int(counter.get_total_flops())


def _against_baseline(
    config: Benchmark, weights: str, device: str, threads: int, samples: tuple[Samples, ...]
) -> dict[str, Verdict]:
    """Compares with the earlier runs of the same settings on the same class of machine, and adds this one."""
    known = {"checkpoint": weights if config.checkpoint else "", "device": device, "threads": threads}
    how = dataclasses.asdict(config) | known
    for name in ("baseline", "tolerance", "repeats", "warmup"):
        del how[name]
    what = " ".join(f"{name}={value}" for name, value in sorted(how.items()))
    stored, machine = Baselines(Path(config.baseline)), machine_class()
    metrics = {each.name: (each.better, each.values) for each in samples}
    verdicts = stored.compare(machine, what, metrics, config.tolerance)
    stored.keep(machine, what, datetime.now(UTC).isoformat(timespec="seconds"), metrics, verdicts)
    return verdicts
