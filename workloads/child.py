"""The process of one run: `python -m workloads.child FOLDER`, started by `supervise`. Standard output belongs to nobody
here; what a library prints goes where errors go."""

import ctypes
import json
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import IO, Any

from workloads import catalogue, folder, settings
from workloads.contract import EXIT_CODES, Failure, Report, RunFailed, failure
from workloads.failures import classify
from workloads.fingerprint import fingerprint
from workloads.tracking import NoTracker, Tracker, tracker

PROGRESS_EVERY_S = 1.0  # in events.jsonl; whoever watches is told each time
_PR_SET_PDEATHSIG = 1


class FolderRun:
    """A run that tells its folder, and whoever watches through `watcher`, an open pipe (None: nobody does)."""

    def __init__(self, out: Path, resume: Path | None, watcher: IO[str] | None) -> None:
        self.out, self.resume = out, resume
        self.tracked: Tracker = NoTracker()
        self.said: dict[str, dict[str, Any]] = {}
        self._watcher = watcher
        self._events = (out / folder.EVENTS).open("a", encoding="utf-8", buffering=1)
        self._stopped = False
        self._told_at = 0.0
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everybody; the one above decides

    def event(self, name: str, /, **fields: Any) -> None:
        self.said[name] = fields
        self._events.write(json.dumps({"at": round(time.time(), 3), "event": name, **fields}) + "\n")

    def progress(self, done: float, total: float, unit: str, **figures: float) -> None:
        told = {"done": done, "total": total, "unit": unit, **figures}
        if self._watcher is not None:
            try:
                self._watcher.write(json.dumps(told) + "\n")
                self._watcher.flush()
            except (OSError, ValueError):
                self._watcher = None  # nobody watches any more
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_EVERY_S or done >= total:
            self._told_at = now
            self.event("progress", **told)

    def metric(self, name: str, value: float, step: int, unit: str = "") -> None:
        self.event("metric", name=name, value=value, step=step, unit=unit)
        self.tracked.metric(name, value, step)

    def check(self) -> None:
        if not self._stopped:
            return
        told = folder.read(self.out / folder.STOP) or {}
        try:
            why = Failure(told.get("why", Failure.PREEMPTED))
        except ValueError:
            why = Failure.PREEMPTED
        raise RunFailed(why, _STOPPED.get(why, "it was told to end"))

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped = True


_STOPPED = {
    Failure.PREEMPTED: "the machine asked it to end",
    Failure.CANCELLED: "somebody cancelled it",
    Failure.TIMED_OUT: "it reached its time limit",
}


def main(out: Path) -> int:
    _end_with_parent()
    asked = folder.read(out / folder.REQUEST)
    assert asked is not None  # the one above has just written it
    _limit(asked.get("memory_mib"))
    resume = Path(asked["resume"]) if asked.get("resume") else None
    run = FolderRun(out, resume, _watcher())
    run.event("began", workload=asked["workload"], verb=asked["verb"], settings=asked["settings"], pid=os.getpid())
    try:
        workload = catalogue.find(asked["workload"])
        verb = catalogue.verb(workload, asked["verb"])
        config = settings.read(verb.Config, asked["settings"])
        run.tracked = tracker(asked, run.event)
        report = workload.run(asked["verb"], config, run)
        run.tracked.finish(report, out, config, str(run.said.get("data", {}).get("sha256", "")))
        result = {"outcome": "succeeded", **told(report)}
    except Exception as error:  # noqa: BLE001 - whatever ends a run is told in its folder
        failed = classify(error) or RunFailed(Failure.BUG, f"{type(error).__name__}: {error}"[:2_000])
        if failed.kind is Failure.BUG:
            traceback.print_exception(error)
        result = {"outcome": "failed", "failure": failure(failed)}
        run.tracked.fail(failed)
    result |= {"said": run.said, "environment": fingerprint(), "peak_memory_bytes": _peak()}
    try:
        folder.write(out / folder.RESULT, result)
    except OSError as error:  # then the exit code is all there is to say
        kind = (classify(error) or RunFailed(Failure.BUG, "")).kind
        return EXIT_CODES[kind if result["outcome"] == "succeeded" else Failure(result["failure"]["kind"])]
    return 0 if result["outcome"] == "succeeded" else EXIT_CODES[Failure(result["failure"]["kind"])]


def told(report: Report) -> dict[str, Any]:
    return {
        "metrics": {name: metric.as_json() for name, metric in report.metrics.items()},
        "artefacts": dict(report.artefacts),
        "samples": [{**asdict(each), "values": list(each.values)} for each in report.samples],
        "drift": dict(report.drift),
        "notes": list(report.notes),
    }


def _watcher() -> IO[str] | None:
    number = os.environ.pop("WORKLOAD_PROGRESS_FD", "")
    return os.fdopen(int(number), "w", encoding="utf-8") if number else None


def _limit(mib: int | None) -> None:
    """A limit of private memory: what is beyond it is refused to the program, and the machine goes on."""
    if mib:
        resource.setrlimit(resource.RLIMIT_DATA, (mib << 20, mib << 20))


def _peak() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _end_with_parent() -> None:
    """Linux only: a run that nobody supervises any more ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)  # threads of libraries shall not keep a run that is over
