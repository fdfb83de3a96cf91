"""A workload as a launcher starts it: NAME VERB --out DIR --set key=value …; the verb says how it behaves."""

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
with (out / "started").open("a") as marks:
    marks.write(f"{os.getpid()}\n")
print(f"{name} {verb} began", flush=True)
if verb == "train":
    resumed = rest[rest.index("--resume") + 1] if "--resume" in rest else ""
    told = {"accuracy": 0.5, "settings": settings, "went_on_from": resumed and (Path(resumed) / "started").read_text()}
    (out / "report.json").write_text(json.dumps(told))
    print("trained", flush=True)
elif verb == "environment":
    (out / "report.json").write_text(json.dumps(dict(os.environ)))
elif verb == "fail":
    sys.stderr.buffer.write(b"ValueError: no rows \xff\n")
    sys.exit(3)
elif verb == "chatter":
    for number in range(int(settings["lines"])):
        print(f"{number} " + "x" * 1000)
elif verb in ("wait", "stubborn", "family"):
    if verb == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if verb == "family":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (out / "child").write_text(str(child.pid))
    (out / "ready").touch()
    time.sleep(600)
