"""What the speech separation learns in ten minutes on one GPU, beside RTFS-Net-4 on the same mixtures for as long.

    python -m benchmarks.gpu.av_separation --data CORPUS --rtfs CHECKOUT --libraries DIR [--minutes 10] [--batch 16]
    python -m benchmarks.gpu.av_separation --device cpu --minutes 0.2 --preset tiny --batch 2 --workers 0 --test 6

Three trainings, one after the other, with the same loss, optimiser, schedule, batches and order of mixtures:
1. ours, for so many minutes;
2. RTFS-Net-4, for as many minutes (`--rtfs`; without it, ours alone);
3. ours once more, for as many steps as RTFS-Net-4 came to, with a schedule of that length: equal data.
Then SI-SNR improvement on mixtures of voices that none of them has heard (the corpus's test part), the same mixtures
for all, with the interval of the difference. Both outcomes are written down, win or lose.

RTFS-Net-4 gets ready lip features in its paper. Here it gets the same mouths as ours, through a lip encoder like ours
that learns with it; `--rnn LSTM` puts cuDNN's LSTM in the place of SRU where its kernels cannot be compiled, and the
file says so. Then the model as it stands is timed, and its memory is measured beside what is predicted.
"""

import argparse
import dataclasses
import functools
import gc
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks import av_peers
from workloads.av_separation.data import Batch, Source, batch_at, fingerprint_of, open_source
from workloads.av_separation.losses import target_loss
from workloads.av_separation.metrics import improvement, interval, si_snr
from workloads.av_separation.model import LipEncoder, build, parameters, shape_of
from workloads.contract import Unavailable
from workloads.measure import EnergyMeter, machine_class, peak_memory, repeated, summary, synchronizer, warm_up
from workloads.memory import Estimate, batch_after_oom, limit_of, probe

ROOT = Path(__file__).parents[2]
WARM_STEPS = 100
CLIP = 5.0
# Each as its own training has it.
WEIGHT_DECAY = {"ours": 0.01, "RTFS-Net-4": 0.1}


class WithLips(nn.Module):
    """A peer that takes one voice's lip features, as a model that takes the mouths of all."""

    def __init__(self, peer: nn.Module, preset: str) -> None:
        super().__init__()
        shape = shape_of(preset)
        self.lips = LipEncoder(shape)
        self.wider = nn.Linear(shape.lip_width, av_peers.VISUAL)
        self.peer = peer

    def forward(self, mixture: Tensor, mouths: Tensor, seen: Tensor) -> Tensor:
        """The shapes of Separator.forward."""
        batch, speakers, _ = seen.shape
        streams = (mouths * seen[..., None, None]).flatten(0, 1)
        moved = torch.cat([torch.zeros_like(streams[:, :1]), streams[:, 1:] - streams[:, :-1]], dim=1)
        features = self.wider(self.lips(streams, moved)).transpose(1, 2)  # (streams, 512, frames)
        voices: Tensor = self.peer(mixture.repeat_interleave(speakers, dim=0), features)
        return voices.view(batch, speakers, -1)


@dataclasses.dataclass
class Trained:
    """A model, and what its training came to."""

    model: nn.Module
    steps: int
    seconds: float
    waited_s: float
    last_loss_db: float
    peak_bytes: int
    joules: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {
            "parameters": parameters(self.model),
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "waited_for_mixtures_s": round(self.waited_s, 1),
            "last_loss_db": round(self.last_loss_db, 3),
            "peak_memory_bytes": self.peak_bytes,
            "energy": self.joules,
        }


class Mixed(Dataset[tuple[Tensor, ...]]):
    """The n-th batch of a source: (mixture, mouths, seen, clean). Shared with the processes that make them."""

    def __init__(self, source: Source, batch: int) -> None:
        self._source, self._batch = source, batch

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, place: int) -> tuple[Tensor, ...]:
        return _tensors(batch_at(self._source, place * self._batch, self._batch))


def stream_of(told: argparse.Namespace) -> Iterator[tuple[Tensor, ...]]:
    """The same batches in the same order for whoever trains."""
    source = open_source(told.data, split="train", seconds=told.seconds, seed=told.seed)
    loader = DataLoader(
        Mixed(source, told.batch),
        batch_size=None,
        sampler=range(2**31),
        num_workers=told.workers,
        prefetch_factor=4 if told.workers else None,
        multiprocessing_context="spawn" if told.workers else None,  # a process that uses CUDA is not to be forked
    )
    return iter(loader)


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    parts = (batch.mixture, batch.mouths, batch.seen, batch.clean)
    return tuple(torch.from_numpy(np.ascontiguousarray(each)) for each in parts)


def _on(batch: Batch | tuple[Tensor, ...], device: str) -> tuple[Tensor, ...]:
    parts = _tensors(batch) if isinstance(batch, Batch) else batch
    return tuple(each.to(device, non_blocking=True) for each in parts)


def train(name: str, model: nn.Module, told: argparse.Namespace, seconds: float, steps: int | None = None) -> Trained:
    """For so many seconds, or for `steps`; the learning rate falls to nothing on the way by a cosine."""
    device = told.device
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=told.learning_rate, weight_decay=WEIGHT_DECAY[name], fused=device == "cuda"
    )
    stream = stream_of(told)
    ready = next(stream)  # processes have started, and the mixtures flow
    wait, done, waited, loss = synchronizer(device), 0, 0.0, torch.tensor(math.nan)
    with peak_memory(device) as peak, EnergyMeter(device) as energy:
        begin = time.perf_counter()
        while True:
            taken = time.perf_counter() - begin
            part = done / steps if steps is not None else taken / seconds
            if part >= 1:
                break
            rate = min(1.0, (done + 1) / WARM_STEPS) * 0.5 * (1 + math.cos(math.pi * part))
            for group in optimizer.param_groups:
                group["lr"] = told.learning_rate * rate
            loss = _loss(model, _on(ready, device), told)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            if torch.isfinite(norm):
                optimizer.step()
            done += 1
            before = time.perf_counter()
            ready = next(stream)
            waited += time.perf_counter() - before
            if done % 100 == 0:
                print(
                    f"{name}: step {done}, {taken:.0f} s, loss {float(loss.detach()):.2f} dB",
                    file=sys.stderr,
                    flush=True,
                )
        wait()
        took, most = time.perf_counter() - begin, peak()
    del stream  # and its processes
    return Trained(model.eval(), done, took, waited, float(loss.detach()), most, energy.joules.as_json())


def _loss(model: nn.Module, batch: tuple[Tensor, ...], told: argparse.Namespace) -> Tensor:
    mixture, mouths, seen, clean = batch
    with torch.autocast(told.device, torch.bfloat16, enabled=told.precision == "bf16"):
        voices = model(mixture, mouths, seen)
    return target_loss(voices, clean, mixture)


def judge(model: nn.Module, told: argparse.Namespace, seen: str = "true") -> list[float]:
    """SI-SNR improvement of each test mixture, dB, the mean of its voices. `seen`: "true" lips, "wrong" ones (the other
    speaker's) or "none"."""
    source = open_source(told.data, split="test", seconds=told.seconds, seed=told.seed + 1)
    found = []
    with torch.inference_mode():
        for first in range(0, told.test, 2):
            batch = batch_at(source, first, 2)
            mixture, mouths, shown, _ = _on(batch, told.device)
            if seen == "wrong":
                mouths, shown = mouths.flip(1), shown.flip(1)
            elif seen == "none":
                mouths, shown = torch.zeros_like(mouths), torch.zeros_like(shown)
            voices = model(mixture, mouths, shown).float().cpu().numpy()
            for row in range(len(voices)):
                gains = [
                    improvement(si_snr, voices[row, k], batch.clean[row, k], batch.mixture[row])
                    for k in range(voices.shape[1])
                ]
                found.append(float(np.mean(gains)))  # the two of a mixture are alike
    return found


def judged(values: list[float]) -> dict[str, Any]:
    low, high = interval(values)
    return {"si_snri_db": round(float(np.mean(values)), 3), "low": round(low, 3), "high": round(high, 3)}


def timing(preset: str, told: argparse.Namespace) -> dict[str, Any]:
    """One mixture of 2 s, and as many as a batch has."""
    wait, found = synchronizer(told.device), {}
    model = build(preset).to(told.device).eval()
    for batch in (1, told.batch):
        frames = round(told.seconds * 25)
        inputs = (
            torch.randn(batch, frames * 640, device=told.device),
            torch.rand(batch, 2, frames, 48, 48, device=told.device),
            torch.ones(batch, 2, frames, device=told.device),
        )
        with torch.inference_mode():
            forward = functools.partial(model, *inputs)
            warm_up(forward, wait, most=10)
            times = summary([1000 * each for each in repeated(forward, 30, wait)], "ms")
        found[f"batch {batch}"] = {
            "latency_p50_ms": round(times.p50, 3),
            "latency_cv": round(times.cv, 4),
            "real_time_factor": round(times.p50 / 1000 / told.seconds / batch, 6),
        }
    return found


def memory(told: argparse.Namespace) -> dict[str, Any]:
    """Peaks of training steps beside what two small ones let one expect; and, on a card of which only so much may be
    used, how many starts it takes to find a batch that fits, the product with the accumulation unchanged."""
    source = open_source(told.data, split="train", seconds=told.seconds, seed=told.seed)
    torch.manual_seed(told.seed)
    model = build(told.preset).to(told.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step(size: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        _loss(model, _on(batch_at(source, 0, size), told.device), told).backward()
        optimizer.step()

    batch = max(told.batch, 4)
    near = (max(1, batch // 8), max(2, batch // 4))
    estimate = probe(step, near, told.device)
    if estimate is None:
        return Unavailable("this system does not let peaks be measured").as_json()
    found: dict[str, Any] = {"from": near, "basis": estimate.basis, "peaks": []}
    for size in (batch // 2, batch):
        _tidy(told.device)
        with peak_memory(told.device) as peak:
            step(size)
            most = torch.cuda.max_memory_reserved() if told.device == "cuda" else peak()
        row = {"batch": size, "predicted_bytes": estimate.peak_bytes(size), "measured_bytes": most}
        found["peaks"].append(row | {"off": round(row["predicted_bytes"] / most - 1, 4)})
    if told.device == "cuda":
        found["repair"] = _repair(step, estimate, batch)
    return found


def _repair(step: Callable[[int], None], estimate: Estimate, batch: int) -> dict[str, Any]:
    """With 60 % of what the batch asks for: starts until one fits."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.6 * estimate.peak_bytes(batch) / total)
    size, accumulate, tried = batch, 1, []
    try:
        while True:
            _tidy("cuda")
            tried.append({"batch": size, "accumulate": accumulate, "fits": _fits(step, size)})
            if tried[-1]["fits"]:
                break
            limit = limit_of("cuda")
            smaller = batch_after_oom(
                batch=size,
                accumulate=accumulate,
                limit_bytes=limit.bytes if limit else None,
                estimate=estimate,
                failures=len(tried) - 1,
            )
            if smaller is None:
                break
            size, accumulate = smaller
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return {"starts": tried, "restarts": len(tried) - 1, "repaired": tried[-1]["fits"]}


def _fits(step: Callable[[int], None], size: int) -> bool:
    try:
        step(size)
        torch.cuda.synchronize()
    except torch.OutOfMemoryError:
        return False
    return True


def _tidy(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--data", default="pack", help="a corpus of workloads.av_separation.speech; pack: far too small"
    )
    parser.add_argument("--rtfs", type=Path, help="a checkout of github.com/spkgyk/RTFS-Net")
    parser.add_argument("--libraries", type=Path, help="a folder with sru and einops")
    parser.add_argument("--rnn", default="SRU", choices=("SRU", "LSTM"), help="of RTFS-Net-4")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=10.0, help="of each training")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a mixture")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="fp32: with TF32 on a card")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="that make mixtures")
    parser.add_argument("--test", type=int, default=300, help="mixtures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the file; default: here, by date")
    told = parser.parse_args()
    if told.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu proves the way, not the figures")
    if told.libraries:
        sys.path.insert(0, str(told.libraries))
    torch.set_float32_matmul_precision("high")  # as RTFS-Net's own training has it
    if told.device == "cpu":
        torch.set_num_threads(1)
    kept = measured(told)
    file = told.out or Path(__file__).with_name(f"{datetime.now(UTC):%Y-%m-%d}-av_separation.json")
    file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps(kept, indent=1, ensure_ascii=False))


def measured(told: argparse.Namespace) -> dict[str, Any]:
    seconds = 60 * told.minutes
    kept: dict[str, Any] = about(told) | {"memory": memory(told), "timing": timing(told.preset, told)}
    torch.manual_seed(told.seed)
    ours = train("ours", build(told.preset), told, seconds)
    values = {"ours": judge(ours.model, told)}
    kept["ours"] = ours.as_json() | judged(values["ours"])
    kept["ours"]["lips"] = {how: judged(judge(ours.model, told, how)) for how in ("wrong", "none")}
    if told.rtfs is None:
        kept["RTFS-Net-4"] = Unavailable("no checkout was given").as_json()
        return kept
    torch.manual_seed(told.seed)
    peer = train("RTFS-Net-4", WithLips(av_peers.rtfs_net(told.rtfs, told.rnn), told.preset), told, seconds)
    values["peer"] = judge(peer.model, told)
    kept["RTFS-Net-4"] = peer.as_json() | judged(values["peer"]) | {"rnn": told.rnn}
    torch.manual_seed(told.seed)
    equal = train("ours", build(told.preset), told, math.inf, steps=max(1, peer.steps))
    values["equal"] = judge(equal.model, told)
    kept["ours, equal steps"] = equal.as_json() | judged(values["equal"])
    kept["difference_db"] = {
        "equal time": judged([a - b for a, b in zip(values["ours"], values["peer"], strict=True)]),
        "equal steps": judged([a - b for a, b in zip(values["equal"], values["peer"], strict=True)]),
    }
    return kept


def about(told: argparse.Namespace) -> dict[str, Any]:
    asked = ("git", "rev-parse", "HEAD")
    commit = subprocess.run(asked, cwd=ROOT, text=True, capture_output=True, check=False).stdout.strip()
    arguments = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    card = torch.cuda.get_device_name() if told.device == "cuda" else Unavailable("no GPU was used").as_json()
    return {
        "command": " ".join(("python -m benchmarks.gpu.av_separation", *arguments)),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": card,
        "machine": machine_class(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda},
        "commit": commit,
        "data": {"sha256": fingerprint_of(told.data), "test_mixtures": told.test, "seconds": told.seconds},
        "peer": {"commit": av_peers.commit_of(told.rtfs) if told.rtfs else "", "rnn": told.rnn},
    }


if __name__ == "__main__":
    main()
