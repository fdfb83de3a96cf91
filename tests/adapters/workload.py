"""A workload as a launcher starts it: NAME VERB --out DIR [--resume DIR] [--memory-mib N] [--time-limit-s S]
[--report-line] --set key=value …; the verb says how it behaves."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

name, verb, *rest = sys.argv[1:]
out = Path(rest[rest.index("--out") + 1])
settings = dict(word.split("=", 1) for before, word in itertools.pairwise(rest) if before == "--set")
out.mkdir(parents=True, exist_ok=True)


def told(option: str) -> str:
    return rest[rest.index(option) + 1] if option in rest else ""


def report(found: dict[str, object]) -> None:
    (out / "report.json").write_text(json.dumps(found))
    if "--report-line" in rest:
        print(f"heal-report {json.dumps(found)}", flush=True)


if time_limit := told("--time-limit-s"):
    signal.signal(signal.SIGALRM, lambda *_: (report(failure("timed_out")), os._exit(80)))
    signal.setitimer(signal.ITIMER_REAL, float(time_limit))


def failure(kind: str) -> dict[str, object]:
    advice = {"batch": "4", "accumulate": "16"}
    told = {"kind": kind, "message": "told by itself", "advice": advice, "resumable": True, "facts": {"peak_mib": 7}}
    return {"outcome": "failed", "failure": told}


with (out / "started").open("a") as marks:
    marks.write(f"{os.getpid()}\n")
print(f"{name} {verb} began", flush=True)
if verb == "train":
    resumed = told("--resume")
    went_on_from = resumed and (Path(resumed) / "started").read_text()
    memory_mib = told("--memory-mib")
    print("trained", flush=True)
    report({"accuracy": 0.5, "settings": settings, "went_on_from": went_on_from, "memory_mib": memory_mib})
elif verb == "environment":
    report(dict(os.environ))
elif verb == "fail":
    sys.stderr.buffer.write(b"ValueError: no rows \xff\n")
    sys.exit(3)
elif verb in ("killed", "kept", "out_of_memory"):
    if verb != "killed":
        (out / "checkpoints" / "step-000000120").mkdir(parents=True)
    if verb == "out_of_memory":
        Path(settings["counter"]).write_text("low 0\noom_kill 4\n")
    os.kill(os.getpid(), signal.SIGKILL)
elif verb == "tells":
    report(failure(settings["kind"]))
    os.kill(os.getpid(), signal.SIGKILL)
elif verb == "chatter":
    for number in range(int(settings["lines"])):
        print(f"{number} " + "x" * 1000)
elif verb == "gives_way":
    signal.signal(signal.SIGTERM, lambda *_: (report(failure("preempted")), sys.exit(78)))
    (out / "ready").touch()
    time.sleep(600)
elif verb in ("wait", "stubborn", "family"):
    if verb == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if verb == "family":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (out / "child").write_text(str(child.pid))
    (out / "ready").touch()
    time.sleep(600)
