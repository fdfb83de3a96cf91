"""The process of one run: `python -m workloads.child FOLDER`, started by `supervise`. Standard output belongs to nobody
here; what a library prints goes where errors go. It tells its progress through the pipe WORKLOAD_PROGRESS_FD."""

import contextlib
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from workloads import catalogue, folder, settings
from workloads.contract import EXIT_CODES, Failure, Report, RunFailed, failure
from workloads.failures import classify
from workloads.fingerprint import fingerprint
from workloads.parent import end_with_parent
from workloads.tracking import NoTracker, Tracker, masked, tracker

PROGRESS_EVERY_S = 1.0  # in events.jsonl; whoever watches is told each time
_LONGEST = 4096  # bytes of a line in the pipe: it goes through whole, or not at all (pipe(7), PIPE_BUF)


class FolderRun:
    """A run that tells its folder, and whoever watches through `watcher`: the end of a pipe that does not block (None:
    nobody does)."""

    def __init__(self, out: Path, resume: Path | None, watcher: int | None) -> None:
        self.out, self.resume = out, resume
        self.tracked: Tracker = NoTracker()
        self.said: dict[str, dict[str, Any]] = {}
        self._watcher = watcher
        self._stopped = False
        self._told_at = 0.0
        signal.signal(signal.SIGTERM, self._stop)
        for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to everybody; the one above decides
            signal.signal(number, signal.SIG_IGN)
        self._events = (out / folder.EVENTS).open("a", encoding="utf-8", buffering=1)

    def event(self, name: str, /, **fields: Any) -> None:
        told = self.said[name] = folder.plain(fields)
        self._events.write(json.dumps({"at": round(time.time(), 3), "event": name, **told}) + "\n")

    def progress(self, done: float, total: float, unit: str, **figures: float) -> None:
        told = {"done": done, "total": total, "unit": unit, **figures}
        line = f"{json.dumps(folder.plain(told))}\n".encode()
        if self._watcher is not None and len(line) <= _LONGEST:
            try:
                os.write(self._watcher, line)
            except BlockingIOError:
                pass  # whoever watches is busy; a run does not wait for that
            except OSError:
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
    resume = Path(asked["resume"]) if asked.get("resume") else None
    run = FolderRun(out, resume, _watcher())
    result: dict[str, Any] = {}
    failed: RunFailed | None = None
    try:
        run.event("began", workload=asked["workload"], verb=asked["verb"], settings=asked["settings"], pid=os.getpid())
        _limit(asked.get("memory_mib"))
        workload = catalogue.find(asked["workload"])
        verb = catalogue.verb(workload, asked["verb"])
        config = settings.read(verb.Config, asked["settings"])
        run.tracked = tracker(asked, run.event)
        report = workload.run(asked["verb"], config, run)
        result = told(report)
        run.tracked.finish(report, out, config, str(run.said.get("data", {}).get("sha256", "")))
    except Exception as error:  # noqa: BLE001 - whatever ends a run is told in its folder
        failed = classify(error) or RunFailed(Failure.BUG, masked(f"{type(error).__name__}: {error}"))
        if failed.kind is Failure.BUG:
            sys.stderr.write(masked("".join(traceback.format_exception(error))))
    outcome = {"outcome": "failed", "failure": folder.plain(failure(failed))} if failed else {"outcome": "succeeded"}
    result |= {**outcome, "said": run.said, "environment": _environment(), "peak_memory_bytes": _peak()}
    try:
        folder.write(out / folder.RESULT, result)
    except OSError as error:  # then the exit code is all there is to say
        failed = failed or classify(error) or RunFailed(Failure.BUG, "")
    if failed is not None:
        with contextlib.suppress(OSError):  # of the folder; the server may be slow, and what ended it is told by now
            run.tracked.fail(failed)
    return EXIT_CODES[failed.kind] if failed else 0


def told(report: Report) -> dict[str, Any]:
    """As it stands in the record. Raises RunFailed where a benchmark measured what is no number."""
    for each in report.samples:
        if wrong := [value for value in each.values if not math.isfinite(value)]:
            raise RunFailed(Failure.BUG, f"{each.name}: a measurement came out as {wrong[0]}")
    return {
        "metrics": {name: metric.as_json() for name, metric in report.metrics.items()},
        "artefacts": dict(report.artefacts),
        "samples": [{**asdict(each), "values": [float(value) for value in each.values]} for each in report.samples],
        "drift": folder.plain(report.drift),
        "notes": list(report.notes),
    }


def _watcher() -> int | None:
    told = os.environ.pop("WORKLOAD_PROGRESS_FD", "")
    if not told:
        return None
    os.set_blocking(int(told), False)
    os.set_inheritable(int(told), False)
    return int(told)


def _environment() -> dict[str, Any]:
    try:
        return fingerprint()
    except Exception as error:  # noqa: BLE001 - a card that has failed, or no memory: that is not what ended the run
        return {"unavailable": f"{type(error).__name__}: {error}"[:500]}


def _limit(mib: int | None) -> None:
    """A limit of private memory: what is beyond it is refused to the program, and the machine goes on."""
    if mib:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = mib << 20 if hard == resource.RLIM_INFINITY else min(mib << 20, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _peak() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _end_with_parent() -> None:
    """Linux only: a run that nobody supervises any more ends."""
    end_with_parent()
    if sys.platform == "linux" and os.environ.pop("WORKLOAD_PARENT", str(os.getppid())) != str(os.getppid()):
        os._exit(EXIT_CODES[Failure.KILLED])  # it has ended already


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)  # threads of libraries shall not keep a run that is over
