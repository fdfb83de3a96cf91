"""Looks for keys in jobs that GitHub does not know."""

import sys
from pathlib import Path

from ruamel.yaml import YAML

JOB = {"name", "needs", "if", "runs-on", "env", "permissions", "steps", "timeout-minutes", "strategy", "outputs"}

found = 0
for file in sorted(Path(".github/workflows").glob("*.yml")):
    workflow = YAML().load(file)
    for job in workflow["jobs"].values():
        for key in job:
            if key not in JOB:
                line, column = job.lc.key(key)
                print(f'{file}:{line + 1}:{column + 1}: unexpected key "{key}" for "job" section [syntax-check]')
                found += 1
sys.exit(1 if found else 0)
