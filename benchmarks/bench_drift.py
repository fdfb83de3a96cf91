"""How often drift is called where there is none, how often it is found, and what a check costs.

    python -m benchmarks drift [--trials 300] [--large 60] [--jobs 2] [--peers PYTHON]
                               [--only false-alarms,power,speed,day,classifier] [--rows 200,1000,10000,100000,1000000]

Tables of 20 columns (15 of numbers, 5 of categories), reference rows = current rows = n. `--trials` pairs of tables for
false alarms at n up to 10,000 and powers at 1,000; a third of them for powers at 10,000 and false alarms at 100,000; a
sixth for powers at 100,000; `--large` for false alarms at 1,000,000. Beside us: scipy's Kolmogorov-Smirnov and
chi-square tests at p < 0.05 with and without Bonferroni's correction, and with `--peers` Evidently's default tests
(PYTHON has Evidently 0.7: `pip install .[peers]`), both with `--peer-trials`. Times are CPU seconds of one thread.

Each row is written when it is done and replaces the one of the same case, so parts can be run one after the other.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from benchmarks.drift_frames import CHANGES, Frame, frame, pair
from detectors.drift.classifier import separation
from detectors.drift.compare import check
from detectors.drift.profile import Profile, profile
from detectors.drift.windows import Persistence, lasting

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
Case = dict[str, Any]
SPEED_ROWS = 1_000_000


def false_alarm_cases(trials: int, large: int) -> Iterator[Case]:
    for n in (200, 1_000, 10_000, 100_000, 1_000_000):
        count = large if n == 1_000_000 else trials // 3 if n == 100_000 else trials
        yield {"n": n, "trials": count}
        if n <= 100_000:
            yield {"n": n, "table": "heavy", "trials": count}
    yield {"n": 1_000, "table": "missing", "trials": trials}
    yield {"n": 1_000, "session": 50, "trials": trials}
    yield {"n": 10_000, "session": 50, "trials": trials // 3}
    for n in (200, 1_000, 10_000):
        yield {"n": n, "table": "correlated", "trials": trials}


def power_cases(trials: int) -> Iterator[Case]:
    for n in (1_000, 10_000):
        for change in CHANGES:
            yield {"n": n, "change": change, "trials": trials if n == 1_000 else max(1, trials // 3)}
        for table in ("correlated", "one_pair"):
            yield {"n": n, "table": table, "change": "0.35", "trials": trials if n == 1_000 else max(1, trials // 3)}
    for change in ("mean 0.02 sd", "mean 0.05 sd", "mean 0.1 sd", "1 % of normal values × 10"):
        yield {"n": 100_000, "change": change, "trials": max(1, trials // 6)}


def ours(case: Case, trial: int) -> dict[str, bool]:
    a, b, column = pair(case, trial)
    report = check(profile(a), b)
    hit = any(column in (verdict.column, verdict.change) for verdict in report.found) if column else bool(report.found)
    found = {"ours": hit}
    if case["n"] <= 10_000 and trial < case.get("scipy", 0) and case.get("table") not in ("correlated", "one_pair"):
        p = scipy_loop(a, b)
        for name, limit in (("scipy p<.05", 0.05), ("scipy Bonferroni", 0.05 / len(p))):
            flagged = {key for key, value in p.items() if value < limit}
            found[name] = column in flagged if column else bool(flagged)
    return found


def scipy_loop(a: Frame, b: Frame) -> dict[str, float]:
    """p of each column, as one would write it."""
    found = {}
    for name, before in a.items():
        after = b[name]
        if name.startswith("x"):
            found[name] = stats.ks_2samp(before[~np.isnan(before)], after[~np.isnan(after)]).pvalue
        else:
            counts = [dict(zip(*np.unique(v[v != None], return_counts=True), strict=True)) for v in (before, after)]  # noqa: E711
            names = sorted({*counts[0], *counts[1]})
            found[name] = stats.chi2_contingency([[c.get(key, 0) for key in names] for c in counts]).pvalue
    return found


def _trials(work: tuple[Case, int, int]) -> dict[str, list[int]]:
    case, start, stop = work
    sums: dict[str, list[int]] = {}
    for trial in range(start, stop):
        for name, hit in ours(case, trial).items():
            each = sums.setdefault(name, [0, 0])
            each[0] += hit
            each[1] += 1
    return sums


def rates(case: Case, pool: ProcessPoolExecutor, jobs: int) -> dict[str, Any]:
    """The row of a case: of each way of deciding, its rate over how many trials."""
    step = max(1, -(-case["trials"] // (4 * jobs)))
    parts = [(case, start, min(start + step, case["trials"])) for start in range(0, case["trials"], step)]
    sums: dict[str, list[int]] = {}
    for part in pool.map(_trials, parts):
        for name, (hits, count) in part.items():
            before = sums.get(name, [0, 0])
            sums[name] = [before[0] + hits, before[1] + count]
    told = {name: {"rate": round(hits / count, 4), "trials": count} for name, (hits, count) in sums.items()}
    return _named(case) | told


def _named(case: Case) -> Case:
    return {key: case[key] for key in ("n", "table", "change", "session") if key in case}


def evidently(cases: Sequence[Case], python: str) -> list[dict[str, Any]]:
    """`rate` and `cpu_s` of each case, by Evidently's default tests."""
    done = subprocess.run(
        (python, "-m", "benchmarks.drift_peer"),
        cwd=ROOT,
        input=json.dumps(cases),
        text=True,
        capture_output=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def a_day(trials: int) -> dict[str, Any]:
    """Days of 24 quiet windows of 1,000 rows against one reference of 10,000: how many days bring an alarm."""
    alone = held = 0
    for trial in range(trials):
        r = np.random.default_rng([trial, 24])
        reference = profile(frame(r, 10_000))
        reports = [check(reference, frame(r, 1_000)) for _ in range(24)]
        alone += any(report.found for report in reports)
        rule = Persistence()
        held += any(lasting(report, reports[max(0, i - 2) : i][::-1], rule).found for i, report in enumerate(reports))
    return {"trials": trials, "any window": alone / trials, "2 of 3 windows": held / trials}


def speed(rows: int, repeat: int = 3) -> dict[str, Any]:
    """CPU seconds (least of `repeat`) for profile and check of 20 columns, 14 of them moved, and what else is asked."""
    r = np.random.default_rng(1)
    a, b = frame(r, rows), frame(r, rows)
    for place in range(14):
        b[f"x{place}"] = b[f"x{place}"] * 1.1
    tables = {
        "strings": [pa.table(t) for t in (a, b)],
        "dictionaries": [
            pa.table({k: pa.array(v).dictionary_encode() if k[0] == "c" else v for k, v in t.items()}) for t in (a, b)
        ],
    }
    found: dict[str, Any] = {"rows": rows}
    for name, (before, after) in tables.items():
        fit, checked = [], []
        for _ in range(repeat):
            begin = time.process_time()
            reference = profile(before)
            middle = time.process_time()
            check(reference, after)
            fit.append(middle - begin)
            checked.append(time.process_time() - middle)
        found[name] = {"profile_s": round(min(fit), 3), "check_s": round(min(checked), 3)}
    kept = json.dumps(reference.to_json(), separators=(",", ":"))
    Profile.from_json(json.loads(kept))
    found["profile_bytes"] = len(kept)
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    for name in a:
        if name.startswith("x"):
            stats.ks_2samp(a[name], b[name])
        else:
            counts = [
                dict(zip(*(each.to_pylist() for each in pc.value_counts(t[name]).flatten()), strict=True))
                for t in tables["strings"]
            ]
            stats.chi2_contingency([[c.get(key, 0) for key in counts[0]] for c in counts])
    found["scipy_s"] = round(time.process_time() - begin, 3)
    found["peak_mb_with_tables"] = size // 1024
    return found


def extra_memory(rows: int) -> float:
    """MB by which the peak grows over the loaded tables when a profile is made and checked, in a process of its own."""
    code = (
        "import resource, numpy as np, pyarrow as pa\n"
        "from benchmarks.drift_frames import frame\n"
        "from detectors.drift.profile import profile\n"
        "from detectors.drift.compare import check\n"
        "r = np.random.default_rng(1)\n"
        "check(profile(frame(r, 2000)), frame(r, 2000))\n"
        f"a, b = (pa.table(frame(r, {rows})) for _ in range(2))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "import re\n"
        "hwm = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = hwm()\n"
        "check(profile(a), b)\n"
        "print((hwm() - before) / 1024)\n"
    )
    done = subprocess.run((sys.executable, "-c", code), cwd=ROOT, text=True, capture_output=True, check=True)
    return round(float(done.stdout), 1)


def _separations(trials: int) -> list[dict[str, Any]]:
    rows = []
    for name, case in (
        ("no drift, 20 columns", {"n": 1_000}),
        ("no drift, 7 normals", {"n": 1_000, "table": "correlated"}),
        ("correlation 0.5 → 0.35", {"n": 1_000, "table": "correlated", "change": "0.35"}),
    ):
        hits = sum(separation(*pair(case, trial)[:2]).p < 0.05 for trial in range(trials))
        rows.append({"table": name, "rate": hits / trials, "trials": trials})
    return rows


class Results:
    """The file of figures: a list of rows under each title."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
        self._about = _about()

    def keep(self, title: str, row: dict[str, Any]) -> None:
        rows = [each for each in self._kept.get(title, []) if _named(each) != _named(row)]
        self._kept |= self._about | {title: [*rows, row | {"commit": _commit()}]}
        self._file.write_text(json.dumps(self._kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(json.dumps(row, ensure_ascii=False), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--large", type=int, default=60, help="trials at 1,000,000 rows")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--peers", default="", help="a Python that has Evidently")
    parser.add_argument("--peer-trials", type=int, default=30)
    parser.add_argument("--only", default="false-alarms,power,speed,day,classifier")
    parser.add_argument("--rows", default="", help="these n alone")
    parser.add_argument("--json", type=Path, default=RESULTS / "drift.json", help="where the figures go")
    arguments = parser.parse_args()
    results = Results(arguments.json)
    only = arguments.only.split(",")
    if "speed" in only:
        row = speed(SPEED_ROWS) | {"extra_mb": extra_memory(SPEED_ROWS)}
        if arguments.peers:
            (found,) = evidently([{"n": SPEED_ROWS, "trials": 1, "speed": True}], arguments.peers)
            row["evidently_s"] = round(found["cpu_s"], 1)
        results.keep("speed", row)
    wanted = [int(n) for n in arguments.rows.split(",") if n]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for title, cases in (
            ("false-alarms", false_alarm_cases(arguments.trials, arguments.large)),
            ("power", power_cases(arguments.trials)),
        ):
            for case in cases if title in only else ():
                if not wanted or case["n"] in wanted:
                    row = rates(case | {"scipy": arguments.peer_trials}, pool, arguments.jobs)
                    results.keep(title, row | _evidently(case, arguments.peers, arguments.peer_trials))
    if "day" in only:
        results.keep("day", a_day(max(1, arguments.trials // 5)))
    if "classifier" in only:
        for row in _separations(max(1, arguments.trials // 10)):
            results.keep("classifier", row)


def _evidently(case: Case, python: str, trials: int) -> dict[str, Any]:
    if not python or not trials or case["n"] > 10_000 or case.get("table") in ("correlated", "one_pair"):
        return {}
    count = min(trials, case["trials"])
    (found,) = evidently([case | {"trials": count}], python)
    return {"evidently": {"rate": round(found["rate"], 4), "trials": count}}


def _commit() -> str:
    asked = ("git", "rev-parse", "HEAD")
    return subprocess.run(asked, cwd=ROOT, text=True, capture_output=True, check=False).stdout.strip()


def _about() -> dict[str, Any]:
    return {
        "command": " ".join(("python -m", *sys.argv[:1], *_plain(sys.argv[1:]))),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
    }


def _plain(arguments: Sequence[str]) -> list[str]:
    """Without the paths of this machine."""
    return [Path(word).name if "/" in word else word for word in arguments]


if __name__ == "__main__":
    from benchmarks import bench_drift  # by its name, so that other processes find its functions

    bench_drift.main()
