"""Runs one workload in a process of its own, watches it, ends it in time, and writes down what became of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from workloads import folder
from workloads.contract import EXIT_CODES, Failure, RunFailed, failure
from workloads.memory import kills, status

GRACE_S = 30.0  # between asking a run to end, so that it can keep a checkpoint, and killing it
POLL_S = 0.1
NEARLY = 0.7
"""Libraries crash where memory is refused to them. A crash with so much of the limit in use is put down to it."""
_CRASHES = frozenset({-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS})

Watch = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended; `record` is what stands in run.json."""

    exit_code: int
    record: Mapping[str, Any]


def supervise(out: Path, request: Mapping[str, Any], watch: Watch, *, grace_s: float = GRACE_S) -> Ended:
    """`request` has `workload`, `verb`, `settings`, and may have `resume` (a folder), `memory_mib`, `time_limit_s`,
    `heal_id`, and `config`, all settings in force. `watch` is given what the run says of its progress. Raises OSError
    where the folder cannot be written."""
    for name in (folder.RESULT, folder.STOP, folder.RECORD, folder.REPORT):
        (out / name).unlink(missing_ok=True)
    began, clock = time.time(), time.monotonic()
    killed_before = kills()
    child = _Child(out, watch)
    with child.listening():
        folder.write(out / folder.REQUEST, dict(request))
        child.start()
        code, why = child.wait(request.get("time_limit_s"), grace_s)
    limit = int(request.get("memory_mib") or 0) << 20
    result = folder.read(out / folder.RESULT) or _unsaid(
        code, why, kernel_killed=kills() > killed_before, most_private=child.most_private, limit=limit
    )
    if result["outcome"] == "failed":
        result["failure"]["facts"] = _batch(request) | result["failure"]["facts"]
    record = {
        "workload": request["workload"],
        "verb": request["verb"],
        "settings": request["settings"],
        "config": request.get("config") or {},
        "resumed_from": request.get("resume") or None,
        "heal_id": request.get("heal_id") or None,
        "began_at": round(began, 3),
        "took_s": round(time.monotonic() - clock, 3),
        **result,
    }
    failed = record.get("failure")
    exit_code = EXIT_CODES[Failure(failed["kind"])] if failed else 0
    folder.write(out / folder.RECORD, record)
    folder.write(out / folder.REPORT, reported(record))
    return Ended(exit_code, record)


def reported(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the bot reads: of a benchmark its samples, as it compares them; else outcome, metrics and failure."""
    if record["outcome"] == "succeeded" and record.get("samples"):
        from workloads.measure import machine_class  # it loads numpy, which only a benchmark has use for

        return {
            "machine": {"class": machine_class()},
            "metrics": [
                {"name": each["name"], "unit": each["unit"], "better": each["better"], "samples": each["values"]}
                for each in record["samples"]
            ],
        }
    names = ("workload", "verb", "outcome", "failure", "settings", "metrics", "artefacts", "notes", "drift", "took_s")
    return {name: record[name] for name in names if name in record}


class _Child:
    """The run's process, and the signals that are meant for it."""

    def __init__(self, out: Path, watch: Watch) -> None:
        self._out = out
        self._watch = watch
        self._why: Failure | None = None
        self.most_private = 0
        """Bytes of private memory, which the limit is of, as far as they were seen."""

    def start(self) -> None:
        heard, said = os.pipe()
        environment = {**os.environ, "WORKLOAD_PROGRESS_FD": str(said), "PYTHONUNBUFFERED": "1"}
        environment["WORKLOAD_PARENT"] = str(os.getpid())
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workloads.child", str(self._out)],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env=environment,
            pass_fds=(said,),
        )
        os.close(said)
        self._ear = threading.Thread(target=self._listen, args=(os.fdopen(heard, encoding="utf-8"),), daemon=True)
        self._ear.start()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts a signal to this process ends the run in good order."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        means = {signal.SIGTERM: Failure.PREEMPTED, signal.SIGINT: Failure.CANCELLED, signal.SIGHUP: Failure.CANCELLED}

        def stop(number: int, _frame: FrameType | None) -> None:
            self._why = self._why or means[signal.Signals(number)]

        # What is ignored stays so: `nohup`, and the background of a script.
        heard = [number for number in means if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, stop) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, limit_s: float | None, grace_s: float) -> tuple[int, Failure | None]:
        """Its exit code, and why it was ended, if it was."""
        deadline = time.monotonic() + limit_s if limit_s else float("inf")
        kill_at = float("inf")
        while (code := self._process.poll()) is None:
            now = time.monotonic()
            if self._why is None and now >= deadline:
                self._why = Failure.TIMED_OUT
            if self._why is not None and kill_at == float("inf"):
                kill_at = now + grace_s
                with contextlib.suppress(OSError):  # on a full disk it ends all the same, and keeps what it can
                    folder.write(self._out / folder.STOP, {"why": self._why.value})
                self._process.terminate()
            if now >= kill_at:
                self._process.kill()
            self.most_private = max(self.most_private, status(self._process.pid).get("VmData", 0))
            time.sleep(POLL_S)
        self._ear.join(timeout=5)
        return code, self._why

    def _listen(self, said: IO[str]) -> None:
        with said:
            for line in said:
                try:
                    told = json.loads(line)
                except ValueError:
                    continue
                self._watch(told)


def _unsaid(code: int, why: Failure | None, *, kernel_killed: bool, most_private: int, limit: int) -> dict[str, Any]:
    """What ended a run that could not say so itself."""
    if why is not None and code == -signal.SIGKILL:
        kind, message = why, "it did not end in time when it was asked to, and was killed"
    elif why is not None:
        kind, message = why, "it was asked to end, and could not say more"
    elif code == -signal.SIGKILL and kernel_killed:
        kind, message = Failure.HOST_OOM, "the kernel killed it: the machine or the container was out of memory"
    elif code in _CRASHES and limit and most_private > NEARLY * limit:
        kind = Failure.HOST_OOM
        message = f"it crashed holding {most_private >> 20} MiB of at most {limit >> 20}, where more was refused"
    elif code < 0:
        kind, message = Failure.KILLED, f"it was ended by {signal.Signals(-code).name}"
    else:
        kinds = {number: kind for kind, number in EXIT_CODES.items()}
        kind = kinds.get(code, Failure.BUG)
        message = f"it ended with {code} and could not say more"
    return {"outcome": "failed", "failure": failure(RunFailed(kind, message))}


def _batch(request: Mapping[str, Any]) -> dict[str, Any]:
    """How large it was: whoever repairs a run that could not advise anything itself goes by it."""
    config = request.get("config") or {}
    return {name: config[name] for name in ("batch", "accumulate", "learning_rate") if name in config}
