"""How long 50 MB of log take to read and to diagnose, and how much memory, for logs of several shapes.

    python -m benchmarks log_reader [--megabytes 50] [--shape NAME] [--json] [--results FILE]

Each shape runs in a process of its own that makes the log on disk first, so that its peak of resident memory is that of
reading. Beside it stand, in the same process: going through the lines with Python alone, and `wc -l`. The cause stands
in the middle of the log (and once more at the failing exit only where the shape says so); `found` says whether the
diagnosis names its line.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STAMP = "2026-11-21T09:00:00.1234567Z "
CAUSE = "ModuleNotFoundError: No module named 'tabular'"
END = (f"{STAMP}##[error]Process completed with exit code 1.", f"{STAMP}Cleaning up orphan processes")
RESULTS = Path(__file__).parent / "results" / "log_reader.json"


def ordinary(number: int) -> str:
    return f"{STAMP}step {number} loss 0.{number % 997:03} lr 0.001 images/s {number % 313} eta 00:{number % 60:02}:11"


def progress(number: int) -> str:
    return STAMP + "\r".join(
        f"{part:3}%|{'#' * part}| {number + part}/100000 [00:12, 3.2it/s]" for part in range(0, 60, 3)
    )


def coloured(number: int) -> str:
    return STAMP + "".join(f"\x1b[3{part % 8}mword{number + part}\x1b[0m " for part in range(12))


def errors_alike(number: int) -> str:
    return f"{STAMP}ERROR worker {number}: could not read sample {number * 7919 % 100_003}, error code 5, retrying"


def errors_different(number: int) -> str:
    words = ("alpha", "gamma", "kilo", "lima", "mike", "november", "oscar", "papa", "quick", "romeo", "sierra", "tango")
    names = "_".join(words[number // 12**power % 12] for power in range(6))
    return f"{STAMP}WARNING {names}: request failed with an error, trying again in {number % 50} ms"


def giant(number: int) -> str:
    return "x" * 1_000_000 if number else STAMP


SHAPES: dict[str, Callable[[int], str]] = {
    "ordinary lines": ordinary,
    "progress bars": progress,
    "colours": coloured,
    "errors alike": errors_alike,
    "errors different": errors_different,
    "one line": giant,
}


def make(shape: str, size: int, path: Path) -> int:
    """Write the log; the number of the line with the cause."""
    line_of = SHAPES[shape]
    separator = "" if shape == "one line" else "\n"
    written = number = line = cause = 0
    with path.open("w", newline="") as log:
        log.write(f"{STAMP}##[group]Run python train.py\n{STAMP}##[endgroup]\n")
        line = 2
        while written < size:
            if not cause and written > size / 2 and separator:
                log.write(f"{STAMP}{CAUSE}\n")
                line += 1
                cause = line
            text = line_of(number) + separator
            log.write(text)
            written += len(text)
            number += 1
            line += len(separator)
        if not separator:
            log.write(f"\n{STAMP}{CAUSE}\n")
            cause = line + 2
        log.write("\n".join(END) + "\n")
    return cause


def measure(shape: str, size: int, folder: Path) -> dict[str, Any]:
    from app.adapters.logfile import job_logs
    from app.commands.diagnose import causes_of

    path = folder / "job.log"
    cause = make(shape, size, path)
    idle_mb = _peak_mb()
    counted = _timed(lambda: subprocess.run(["wc", "-l", str(path)], check=True, capture_output=True))

    def walk() -> int:
        with path.open("rb") as log:
            return sum(1 for _ in log)

    walked = _timed(walk) if shape != "one line" else None  # it would take the line whole
    idle_mb = max(idle_mb, _peak_mb())

    def read() -> None:
        with path.open("rb") as log:
            list(job_logs(log))

    found: list[Any] = []

    def diagnose() -> None:
        with path.open("rb") as log:
            found.extend(causes_of(log))

    reading = _timed(read)
    whole = _timed(diagnose)
    return {
        "shape": shape,
        "megabytes": round(path.stat().st_size / 2**20, 1),
        "wc_s": round(counted, 3),
        "python_lines_s": round(walked, 3) if walked is not None else None,
        "read_s": round(reading, 2),
        "read_and_diagnose_s": round(whole, 2),
        "times_wc": round(whole / counted),
        "peak_mb": round(_peak_mb()),
        "idle_mb": round(idle_mb),
        "found": bool(found) and cause in [line.number for line in found[0].cause.ranked[:5]],
    }


def _timed(work: Callable[[], Any]) -> float:
    """Seconds of CPU of this process and its children: other work on the machine does not count."""
    begin = _cpu_s()
    work()
    return max(_cpu_s() - begin, 1e-6)


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def each(shapes: list[str], megabytes: int) -> Iterator[dict[str, Any]]:
    for shape in shapes:
        command = [sys.executable, "-m", "benchmarks.bench_log_reader", "--one", shape, "--megabytes", str(megabytes)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        yield json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--one", choices=SHAPES, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--results", type=Path, help=f"write the figures there, for instance {RESULTS.name}")
    given = parser.parse_args()
    if given.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(given.one, given.megabytes * 2**20, Path(folder))))
        return
    rows = list(each([given.shape] if given.shape else list(SHAPES), given.megabytes))
    if given.results:
        given.results.write_text(json.dumps(rows, indent=2) + "\n")
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
