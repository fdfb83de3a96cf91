"""How well peak training memory is predicted from two small steps, and how many starts an OOM costs.

    python -m benchmarks memory [--models mlp,conv,transformer,tiny] [--only peaks,restarts]

Predicted: two probes at batches of 1 and 3, and of an eighth and a quarter of the largest, in one process. Measured:
the high-water mark of the resident memory of another process that runs three steps, one for each batch. Restarts: a
child with a limit on its data (RLIMIT_DATA) trains with a batch that is far too large; ours probes after the failure
and starts again with what is told, beside accelerate's `find_executable_batch_size`: 0.9 of the batch each time.
"""

import argparse
import json
import os
import platform
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch._dynamo  # the optimiser imports it in its first step: not a part of what is measured
from torch import nn

from workloads import memory
from workloads.av_separation.model import build

RESULTS = Path(__file__).parent / "results"
LARGEST = {"mlp": 64, "conv": 32, "transformer": 32, "tiny": 16}


def make(name: str) -> Callable[[int], None]:
    """A training step, to be called with a batch."""
    model: nn.Module
    if name == "mlp":
        model = nn.Sequential(nn.Linear(1024, 2048), nn.GELU(), nn.Linear(2048, 2048), nn.GELU(), nn.Linear(2048, 512))
        inputs = lambda n: (torch.randn(n * 256, 1024),)  # noqa: E731
    elif name == "conv":
        model = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
        )
        inputs = lambda n: (torch.randn(n, 3, 96, 96),)  # noqa: E731
    elif name == "transformer":
        layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
        model = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        inputs = lambda n: (torch.randn(n, 192, 256),)  # noqa: E731
    else:
        model = build(name)
        inputs = lambda n: (torch.randn(n, 32_000), torch.rand(n, 2, 50, 48, 48), torch.ones(n, 2, 50))  # noqa: E731
    optimizer = torch.optim.AdamW(model.parameters())

    def step(batch: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        model(*inputs(batch)).square().mean().backward()
        optimizer.step()

    return step


def child(work: Callable[[], Any]) -> Any:
    """What `work` answers in a process of its own, forked off: nothing is imported again."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told = answer.read()
    os.waitpid(pid, 0)
    return json.loads(told)


def measured(name: str, batch: int, steady: bool) -> int:
    def work() -> int:
        if steady:
            memory.steady()
        meter = memory._Process()
        meter.reset()
        step = make(name)
        for _ in range(3):
            step(batch)
        return meter.peak()

    return int(child(work))


def peaks(name: str) -> list[dict[str, Any]]:
    largest = LARGEST[name]
    batches = [largest // 4, largest // 2, largest]
    truths = {batch: (measured(name, batch, True), measured(name, batch, False)) for batch in batches}
    base = int(child(lambda: memory.status()["VmRSS"]))
    rows = []
    for probes in ((1, 3), (largest // 8, largest // 4)):

        def predicted(probes: tuple[int, int] = probes) -> dict[int, int]:
            estimate = memory.probe(make(name), probes)
            if estimate is None:
                raise SystemExit("peaks cannot be measured here")
            return {batch: estimate.peak_bytes(batch) for batch in batches}

        told = child(predicted)
        for batch in batches:
            if batch > probes[1]:
                real, plain = truths[batch]
                guess = told[str(batch)]
                row = {
                    "model": name,
                    "probes": probes,
                    "batch": batch,
                    "predicted_bytes": guess,
                    "measured_bytes": real,
                    "error": round(guess / real - 1, 4),
                    "error_without_runtime": round((guess - real) / (real - base), 4),
                    "measured_bytes_not_steady": plain,
                }
                rows.append(row)
                print(
                    f"{name:<12} probes {probes!s:<8} batch {batch:>3}: {guess / 2**20:7.0f} MiB predicted, "
                    f"{real / 2**20:7.0f} measured, {row['error']:+.1%} "
                    f"({row['error_without_runtime']:+.1%} without the runtime); not steady {plain / 2**20:.0f}",
                    flush=True,
                )
    return rows


# --- restarts ------------------------------------------------------------------------------------------------------


def limited(room_bytes: int) -> None:
    has = memory.status()["VmData"]
    resource.setrlimit(resource.RLIMIT_DATA, (has + room_bytes, resource.RLIM_INFINITY))


def ours(name: str, batch: int, room_bytes: int) -> dict[str, Any]:
    """Every start is a process of its own, as the runner's are."""
    starts, accumulate = [], 1
    while True:

        def start(batch: int = batch, accumulate: int = accumulate, failures: int = len(starts)) -> Any:
            limited(room_bytes)
            memory.steady()
            step = make(name)
            try:
                for _ in range(3):
                    step(batch)
            except (RuntimeError, MemoryError) as error:
                if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
                    raise
            else:
                return "fits"
            limit = memory.limit_of()
            found = memory.probe(step, (max(1, batch // 64), max(2, batch // 16)))
            return memory.batch_after_oom(
                batch=batch,
                accumulate=accumulate,
                limit_bytes=limit.bytes if limit else None,
                estimate=found,
                failures=failures,
            )

        told = child(start)
        starts.append(batch)
        if told == "fits" or told is None:
            return {
                "starts": starts,
                "restarts": len(starts) - 1,
                "batch": batch if told else None,
                "whole": batch * accumulate,
            }
        batch, accumulate = told


def accelerates(name: str, batch: int, room_bytes: int) -> dict[str, Any]:
    from accelerate.utils import find_executable_batch_size

    def work() -> dict[str, Any]:
        limited(room_bytes)
        starts = []

        @find_executable_batch_size(starting_batch_size=batch)
        def train(size: int) -> int:
            starts.append(size)
            step = make(name)
            for _ in range(3):
                step(size)
            return size

        found = train()
        return {"starts": starts, "restarts": len(starts) - 1, "batch": found}

    return dict(child(work))


def restarts() -> dict[str, Any]:
    case = {"model": "transformer", "batch": 128, "room_bytes": 420 * 2**20}
    found = {"ours": ours(case["model"], case["batch"], case["room_bytes"])}
    print("ours      ", found["ours"], flush=True)
    found["accelerate"] = accelerates(case["model"], case["batch"], case["room_bytes"])
    print("accelerate", found["accelerate"], flush=True)
    return case | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(LARGEST))
    parser.add_argument("--only", default="peaks,restarts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if "restarts" in args.only:
        keep("restarts", restarts())
    for name in args.models.split(",") if "peaks" in args.only else ():
        keep(f"peaks {name}", peaks(name))


def keep(name: str, found: Any) -> None:
    """Beside what earlier calls have found."""
    path = RESULTS / "memory.json"
    told = json.loads(path.read_text()) if path.exists() else {}
    told["machine"] = {"python": platform.python_version(), "torch": torch.__version__, "libc": platform.libc_ver()}
    path.write_text(json.dumps(told | {name: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
