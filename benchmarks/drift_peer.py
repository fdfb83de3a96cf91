"""Evidently's verdicts on the tables of the drift benchmark; run by an interpreter that has it.

PYTHON -m benchmarks.drift_peer < cases.json
"""

import json
import sys
import time
import warnings
from typing import Any

import pandas as pd
from evidently.legacy.calculations.stattests import get_stattest

from benchmarks.drift_frames import pair


def flagged(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    """Columns that its default tests, chosen by its own rules, call drifted."""
    found = set()
    for name in a:
        kind = "num" if name.startswith("x") else "cat"
        ref, cur = pd.Series(a[name]).dropna(), pd.Series(b[name]).dropna()
        if get_stattest(ref, cur, kind, None)(ref, cur, kind, None).drifted:
            found.add(name)
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    results = []
    for case in json.load(sys.stdin):
        hits, begin = 0, time.process_time()
        for trial in range(case["trials"]):
            a, b, column = pair(case, trial)
            if case.get("speed"):
                begin = time.process_time()
            found = flagged(a, b)
            hits += column in found if column else bool(found)
        results.append({"rate": hits / case["trials"], "cpu_s": time.process_time() - begin})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
