"""How fast the speech separation is on one CPU thread, beside RTFS-Net-4 and IIANet.

    python -m benchmarks av --rtfs CHECKOUT --iianet CHECKOUT [--libraries DIR] [--blocks 8] [--seconds 2] [--json FILE]

The checkouts are of github.com/spkgyk/RTFS-Net and github.com/JusperLee/IIANet; DIR holds what they import beside torch
(`pip install --no-deps --target DIR sru einops`). All have random weights and take 2 s of 16 kHz audio. They run in one
process in turns (workloads.measure.interleaved: in a drawn order and then backwards), warmed up, and both the clock on
the wall and the CPU's time of the process are read. FLOPs are torch's own count of the same passes.

What is in a pass. Ours: everything from pixels of the mouths on, the lip encoder with it; once for one voice, and once
for both voices of a mixture, which is one pass. The peers: their separator alone, for one voice, with ready features
of a lip-reading network (512 for each video frame) that has some 11 million parameters more and is not counted; both
voices take two passes. So "one voice" is the same task less their lip network. The goals (15 and 30 times) are held
against the harder pair, both of our voices against one of theirs: ours does twice the work there.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MAX_JOBS", "1")  # of the compiler of sru's kernel

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import av_peers
from workloads.av_separation.model import MOUTH, SAMPLE_RATE, VIDEO_HOP, build, parameters
from workloads.measure import gate, interleaved, machine_class, signed_rank_interval, warm_up

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
GOALS = {"RTFS-Net-4": 15.0, "IIANet": 30.0}
OURS_ONE, OURS_BOTH = "small, one voice", "small, both voices"


class Timed:
    """A pass, and the CPU seconds of each of its calls."""

    def __init__(self, forward: Callable[[], object]) -> None:
        self._forward = forward
        self.cpu: list[float] = []

    def __call__(self) -> None:
        begin = time.process_time()
        self._forward()
        self.cpu.append(time.process_time() - begin)


def passes(seconds: float, models: dict[str, nn.Module]) -> dict[str, Callable[[], object]]:
    """By name; ours twice."""
    torch.manual_seed(0)
    samples = round(seconds * SAMPLE_RATE)
    frames = -(-samples // VIDEO_HOP)
    mixture = 0.1 * torch.randn(1, samples)
    features = torch.randn(1, av_peers.VISUAL, frames)
    found: dict[str, Callable[[], object]] = {}
    for name, model in models.items():
        if name == "small":
            for called, speakers in ((OURS_ONE, 1), (OURS_BOTH, 2)):
                mouths, seen = torch.rand(1, speakers, frames, MOUTH, MOUTH), torch.ones(1, speakers, frames)
                found[called] = lambda model=model, mouths=mouths, seen=seen: model(mixture, mouths, seen)
        else:
            found[name] = lambda model=model: model(mixture, features)
    return found


def flops(forward: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        forward()
    return int(counter.get_total_flops())


def ratios(peer: tuple[float, ...], ours: tuple[float, ...]) -> dict[str, float | None]:
    """How many times longer the peer takes: of the least, of the medians, and of the pairs with its interval."""
    logs = [np.log(np.asarray(each).reshape(-1, 2).mean(axis=1)) for each in (peer, ours)]
    low, middle, high = np.exp(signed_rank_interval(logs[0] - logs[1]))
    return {
        "least": round(min(peer) / min(ours), 2),
        "median": round(float(np.median(peer) / np.median(ours)), 2),
        "pairs": round(float(middle), 2),
        "pairs_low": round(float(low), 2) if low > 0 else None,  # fewer than six blocks have no interval
        "pairs_high": round(float(high), 2) if np.isfinite(high) else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rtfs", type=Path, help="a checkout of github.com/spkgyk/RTFS-Net")
    parser.add_argument("--iianet", type=Path, help="a checkout of github.com/JusperLee/IIANet")
    parser.add_argument("--libraries", type=Path, help="a folder with sru and einops")
    parser.add_argument("--blocks", type=int, default=8, help="each measures every model twice")
    parser.add_argument("--seconds", type=float, default=2.0, help="of audio")
    parser.add_argument("--json", type=Path, default=RESULTS / "av.json", help="where the figures go")
    told = parser.parse_args()
    if told.rtfs is None or told.iianet is None:
        parser.error("--rtfs and --iianet are needed: checkouts of the two peers, whose code is not kept here")
    if told.libraries:
        sys.path.insert(0, str(told.libraries))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models: dict[str, nn.Module] = {
        "small": build("small"),
        "RTFS-Net-4": av_peers.rtfs_net(told.rtfs),
        "IIANet": av_peers.iia_net(told.iianet),
    }
    for model in models.values():
        model.eval()
    calls = {name: Timed(each) for name, each in passes(told.seconds, models).items()}
    with torch.inference_mode():
        counted = {name: flops(each) for name, each in calls.items()}
        warmed = {name: warm_up(each, most=6) for name, each in calls.items()}
        for each in calls.values():
            each.cpu.clear()
        wall = interleaved(calls, told.blocks)
    print(json.dumps(_keep(told, models, counted, {n: w.stable for n, w in warmed.items()}, wall, calls), indent=1))


def _keep(
    told: argparse.Namespace,
    models: dict[str, nn.Module],
    counted: dict[str, int],
    warm: dict[str, bool],
    wall: dict[str, tuple[float, ...]],
    calls: dict[str, Timed],
) -> dict[str, Any]:
    rows = []
    for name, values in wall.items():
        model = models["small" if name in (OURS_ONE, OURS_BOTH) else name]
        rows.append(
            {
                "model": name,
                "parameters": parameters(model),
                "gmacs": round(counted[name] / 2e9, 2),
                "wall_s": _times(values),
                "cpu_s": _times(calls[name].cpu),
                "real_time_factor_least": round(min(values) / told.seconds, 4),
                "real_time_factor_median": round(float(np.median(values)) / told.seconds, 4),
                "warmed_up": warm[name],
            }
        )
    against = []
    for peer, goal in GOALS.items():
        for ours in (OURS_BOTH, OURS_ONE):
            slow, fast = wall[peer], wall[ours]
            # Passes where ours, taken `goal` times as long, is not slower than the peer.
            held = gate(slow, [goal * each for each in fast], 0.0)
            against.append(
                {
                    "peer": f"{peer}, one voice",
                    "ours": ours,
                    "wall": ratios(slow, fast),
                    "cpu": ratios(tuple(calls[peer].cpu), tuple(calls[ours].cpu)),
                    "flops": round(counted[peer] / counted[ours], 2),
                    "goal": goal,
                    "goal_held": {"pass": "yes", "regressed": "no", "inconclusive": "unknown"}[held.answer],
                }
            )
    kept = {
        "command": " ".join(("python -m", *sys.argv[:1], *_plain(sys.argv[1:]))),
        "machine": {
            "class": machine_class(),
            "cpus": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "load": [round(each, 1) for each in os.getloadavg()],
        },
        "torch": torch.__version__,
        "sru": importlib.metadata.version("sru"),
        "commit": _commit(ROOT),
        "peers": {"RTFS-Net": av_peers.commit_of(told.rtfs), "IIANet": av_peers.commit_of(told.iianet)},
        "seconds": told.seconds,
        "blocks": told.blocks,
        "models": rows,
        "against": against,
    }
    told.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return kept


def _times(values: tuple[float, ...] | list[float]) -> dict[str, Any]:
    return {
        "least": round(min(values), 4),
        "median": round(float(np.median(values)), 4),
        "all": [round(each, 4) for each in values],
    }


def _commit(folder: Path) -> str:
    asked = ("git", "rev-parse", "HEAD")
    return subprocess.run(asked, cwd=folder, text=True, capture_output=True, check=False).stdout.strip()


def _plain(arguments: list[str]) -> list[str]:
    """Without the paths of this machine."""
    return [Path(word).name if "/" in word else word for word in arguments]


if __name__ == "__main__":
    main()
