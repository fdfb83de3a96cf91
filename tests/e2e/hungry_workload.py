"""A workload as the launcher starts it, which may take no more memory than the launcher says: when a step does not fit,
it says so, with what would fit, and goes on from where it stopped. What it then trains stands in a folder."""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

if sys.argv[1] != "churn":  # one of the product's own
    os.execv(sys.executable, [sys.executable, "-m", "workloads", *sys.argv[1:]])

EXAMPLE_MIB = (1, 1, 150, 350)  # of each step: they get longer

parser = argparse.ArgumentParser()
parser.add_argument("name")
parser.add_argument("verb")
parser.add_argument("--out", type=Path)
parser.add_argument("--resume", type=Path)
parser.add_argument("--memory-mib", type=int)
parser.add_argument("--set", action="append", default=[])
told = parser.parse_args()
settings = dict(pair.split("=", 1) for pair in told.set)
batch, accumulate, limit_mib = int(settings["batch"]), int(settings["accumulate"]), told.memory_mib
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
_, most = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (taken + (limit_mib << 20), most))

steps = json.loads((told.resume / "steps.json").read_text()) if told.resume else []
print(f"{told.name}: {told.verb} from step {len(steps)} with {batch} times {accumulate}", flush=True)
for size in EXAMPLE_MIB[len(steps) :]:
    try:
        for _ in range(accumulate):
            np.empty((batch, size << 20), dtype=np.uint8)
    except MemoryError:
        message = f"batch {batch} needs {batch * size} MiB, {limit_mib} MiB are there"
        fits = max(part for part in range(1, batch) if batch % part == 0 and part * size < limit_mib)
        failure = {
            "kind": "host_oom",
            "message": message,
            "advice": {"batch": fits, "accumulate": accumulate * batch // fits},
            "resumable": True,
            "facts": {"batch": batch, "accumulate": accumulate, "limit_bytes": limit_mib << 20},
        }
        (told.out / "report.json").write_text(json.dumps({"outcome": "failed", "failure": failure}))
        print(f"heal-run: failed host_oom: {message}", flush=True)
        sys.exit(71)
    steps.append(batch * accumulate)
    (told.out / "steps.json").write_text(json.dumps(steps))

resource.setrlimit(resource.RLIMIT_AS, (most, most))
environment = {**os.environ, "HEAL_ID": settings["heal_id"], "ROUNDS": settings["rounds"], "GITHUB_SHA": "5" * 40}
trained = subprocess.run([sys.executable, "train.py"], cwd=settings["folder"], env=environment, check=False)
(told.out / "report.json").write_text(json.dumps({"outcome": "succeeded", "steps": steps}))
sys.exit(trained.returncode)
