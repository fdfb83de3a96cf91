"""A workload as the launcher starts it: it trains in the folder that its settings name."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("name")
parser.add_argument("verb")
parser.add_argument("--out", type=Path)
parser.add_argument("--set", action="append", default=[])
told = parser.parse_args()
settings = dict(pair.split("=", 1) for pair in told.set)
print(f"{told.name}: {told.verb} in {settings['folder']}, to be registered as {settings['register_as']}", flush=True)
(told.out / "began").touch()
while not (told.out / "go").exists():  # until the test has killed the bot
    time.sleep(0.05)
environment = {**os.environ, "HEAL_ID": settings["heal_id"], "ROUNDS": settings["rounds"], "GITHUB_SHA": "5" * 40}
trained = subprocess.run([sys.executable, "train.py"], cwd=settings["folder"], env=environment, check=False)
(told.out / "report.json").write_text(json.dumps({"exit_code": trained.returncode}))
sys.exit(trained.returncode)
