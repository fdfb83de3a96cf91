"""What lips are worth after some minutes of training on one thread: SI-SNRi with true, wrong and no lips.

    python -m benchmarks av_lips [--minutes 12] [--clock cpu] [--data pack] [--mixtures 100] [--out DIR]

Trains the preset `tiny` by `python -m workloads av_separation train` on one thread, then evaluates its best weights by
`python -m workloads av_separation evaluate` on the test part, whose voices are not in the training. `--clock cpu` is
the processor time of the training's process, so that other work on the machine does not count; `wall` the clock on the
wall. Goals: SI-SNRi with true lips at least 2 dB; 3 dB less with wrong ones; the same 3 dB where both voices are one,
so that nothing but lips tells them apart.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "av_lips.json"
GOALS = {"si_snri_db": 2.0, "lips_gap_db": 3.0, "lips_gap_same_voice_db": 3.0}
TRAIN = {
    "preset": "tiny",
    "batch": 4,
    "seconds": 2.0,
    "learning_rate": 2e-3,
    "warmup": 50,
    "same_voice": 0.25,
    "lips_missing": 0.05,
    "steps": 100_000,
    "validate_every": 200,
    "valid_mixtures": 24,
    "patience": 0,
    "checkpoint_every": 200,
}


def ran(verb: str, out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The run's record; a run that fails ends the benchmark."""
    told = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "workloads", "av_separation", verb, "--out", str(out), *told]
    subprocess.run(command, check=True, env=environment)
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    return record


def value(record: dict[str, Any], name: str) -> float | None:
    return record["metrics"].get(name, {}).get("value")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    parser.add_argument("--data", default="pack")
    parser.add_argument("--mixtures", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep the runs here; the weights are DIR/train/model.safetensors")
    parser.add_argument("--results", type=Path, default=RESULTS)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        out = told.out or Path(passing)
        here = {"data": told.data, "device": "cpu", "threads": 1}
        limit = {"minutes": told.minutes, "clock": told.clock, "seed": told.seed}
        train = ran("train", out / "train", {**TRAIN, **here, **limit})
        weights = out / "train" / "model.safetensors"
        evaluate = ran(
            "evaluate", out / "evaluate", {**here, "checkpoint": weights, "mixtures": told.mixtures, "seconds": 2.0}
        )
    found = {
        "trained": {"minutes": told.minutes, "clock": told.clock, "settings": TRAIN, "data": told.data},
        "train": train["metrics"],
        "evaluate": evaluate["metrics"],
        "environment": train.get("environment"),
        "goals": {name: {"goal": goal, "measured": value(evaluate, name)} for name, goal in GOALS.items()},
    }
    told.results.write_text(json.dumps(found, indent=1) + "\n")
    for name, each in found["goals"].items():
        print(f"{name:<24} {each['measured']:.2f} dB, goal {each['goal']:.0f} dB")
    for name in ("sdri_db", "pesq_mos", "stoi", "si_snri_db_no_lips", "si_snri_db_same_voice"):
        if (measured := value(evaluate, name)) is not None:
            print(f"{name:<24} {measured:.3f}")
    return 0 if all(each["measured"] >= each["goal"] for each in found["goals"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
