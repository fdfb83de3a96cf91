"""Runs as processes of their own, each with a directory, that outlive the bot."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from app.adapters.launchers import keeper
from app.adapters.launchers.common import (
    TAIL_BYTES,
    cancelled,
    failed,
    goes_on_from,
    last_lines,
    read_object,
    settings_of,
    words,
)
from app.domain.errors import Refused, Unreachable
from app.ports.launcher import ENDED, RunSpec, RunState, RunStatus

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_*", "NVIDIA_*")
HANDLE = re.compile(r"[0-9a-f]{32}")
_LOST = "it was lost sight of: the machine, or the process that watched it, ended"
_FOR_GOOD = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


class ProcessLauncher:
    """`directory` holds one directory of each run, named for a digest of its key; workers that share it follow and end
    each other's runs. `command` is the operator's; a repository only names a workload and its settings. A run gets
    nothing of the bot's environment but the variables named here (patterns).

    `at_once` runs at a time (0: any number); the others wait, and one of them begins when it is started again after
    another has ended. Each is given the `gpus` with the most free memory, unless CUDA_VISIBLE_DEVICES is set. With
    `memory_mib` it is told to stay below. `oom_counters` are files in which the kernel counts whom it killed."""

    name = "process"

    def __init__(
        self,
        directory: Path,
        *,
        command: Sequence[str] = (),
        pass_on: Sequence[str] = (),
        at_once: int = 0,
        gpus: int = 1,
        memory_mib: int = 0,
        keep_s: float = 14 * 24 * 3600.0,
        grace_s: float = keeper.GRACE_S,
        oom_counters: Sequence[Path] | None = None,
    ) -> None:
        self._directory = directory.absolute()
        self._command = tuple(command) or (sys.executable, "-m", "workloads")
        self._pass_on = (*PASSED_ON, *pass_on)
        self._at_once = at_once
        self._gpus = gpus
        self._memory_mib = memory_mib
        self._keep_s = keep_s
        self._grace_s = grace_s
        self._oom_counters = tuple(keeper.oom_counters() if oom_counters is None else oom_counters)

    def start(self, spec: RunSpec) -> str:
        """The directory is there before the run is, and says what is to be run: whoever was stopped in between finds it
        and goes on. That the run begins only once is the keeper's to see to."""
        handle = self.handle_of(spec.key)
        where = self._directory / handle
        command = [*self._command, *words(spec), "--out", str(where / "out")]
        if spec.resume:
            command += ["--resume", str(self._earlier(spec, where))]
        if self._memory_mib:
            command += ["--memory-mib", str(self._memory_mib)]
        command += settings_of(spec)
        told = {
            "key": spec.key,
            "command": command,
            "timeout_s": spec.timeout_s,
            "grace_s": self._grace_s,
            "resume": spec.resume,
            "slots": str(self._directory / "slots"),
            "at_once": self._at_once,
            "gpus": self._gpus,
            "oom_counters": [str(path) for path in self._oom_counters],
        }
        try:
            (where / "out").mkdir(parents=True, exist_ok=True)
            if not (where / "spec.json").exists():
                keeper.write(where / "spec.json", told)
            if not (where / "begun.json").exists() and self._may_begin(spec):
                self._keep(where)
        except (OSError, subprocess.SubprocessError) as error:
            if isinstance(error, OSError) and error.errno in _FOR_GOOD:
                raise Refused("no run can be started: HEAL_LAUNCHER__DIRECTORY cannot be written") from error
            raise Unreachable(f"the run cannot be started: {type(error).__name__}") from error
        return handle

    @staticmethod
    def handle_of(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def status(self, handle: str) -> RunStatus:
        where = self._where(handle)
        if not (where / "spec.json").exists():
            return RunStatus(RunState.LOST)
        ended = read_object(where / "exit.json")
        if ended is None and not _is_kept(where):
            ended = read_object(where / "exit.json")  # it may have ended just now
            if ended is None and (where / "begun.json").exists():
                return RunStatus(RunState.LOST, tail=_tail(where), report=_report(where, None, lost=_LOST))
            if ended is None and (where / "cancel").exists():
                self.cancel(handle)
                ended = read_object(where / "exit.json")
        if ended is None:
            state = RunState.RUNNING if (where / "begun.json").exists() else RunState.PENDING
            return RunStatus(state, tail=_tail(where))
        why, code = ended.get("why"), ended.get("code")
        code = code if isinstance(code, int) else None
        tail = _tail(where)
        if (why, code) == ("exited", 0):
            return RunStatus(RunState.SUCCEEDED, tail, code, read_object(where / "out" / "report.json") or {})
        if why == "cancelled":
            report = cancelled(read_object(where / "out" / "report.json") or {})
            return RunStatus(RunState.CANCELLED, tail, code, report)
        limit_s = None
        if why == "timed_out":
            limit_s = float((read_object(where / "spec.json") or {}).get("timeout_s") or 0.0)
            tail = f"{tail}\n(ended after its time limit of {limit_s:g} s)".lstrip()
        report = _report(where, code, limit_s=limit_s, out_of_memory=bool(ended.get("oom_kills")))
        return RunStatus(RunState.FAILED, tail, code, report)

    def cancel(self, handle: str) -> None:
        where = self._where(handle)
        if not (where / "spec.json").exists() or (where / "exit.json").exists():
            return
        (where / "cancel").touch()
        with _locked(where, fcntl.LOCK_EX) as free:
            if free and not (where / "begun.json").exists():  # it never began, and shall not any more
                keeper.write(where / "begun.json", {"at": time.time()})
                keeper.write(where / "exit.json", {"why": "cancelled", "code": None})

    def reap(self, keys: frozenset[str]) -> list[str]:
        """Directories of runs that nobody needs any more go, too, some time after their end; not of one that a run
        still goes on from."""
        ended: list[str] = []
        told = {where: read_object(where / "spec.json") or {} for where in self._all()}
        needed = {
            spec.get("resume")
            for where, spec in told.items()
            if spec.get("key") in keys or self.status(where.name).state not in ENDED
        }
        for where, spec in told.items():
            if spec.get("key") in keys:
                continue
            if self.status(where.name).state not in ENDED:
                self.cancel(where.name)
                ended.append(where.name)
            elif where.name not in needed and time.time() - where.stat().st_mtime > self._keep_s:
                shutil.rmtree(where, ignore_errors=True)
        return ended

    def _earlier(self, spec: RunSpec, where: Path) -> Path:
        """What the run that this one goes on from has left. Raises Refused where nothing is there any more."""
        earlier = self._where(spec.resume)
        if earlier == where:
            raise Refused("a run cannot go on from itself")
        if not (earlier / "out").is_dir() and not (where / "begun.json").exists():
            raise Refused(f"the run {spec.resume} cannot be gone on from: what it left was removed")
        return earlier / "out"

    def _may_begin(self, spec: RunSpec) -> bool:
        """Not while the run that it goes on from still writes."""
        return not spec.resume or self.status(spec.resume).state in ENDED

    def _all(self) -> Iterator[Path]:
        for where in sorted(self._directory.iterdir()) if self._directory.is_dir() else []:
            if HANDLE.fullmatch(where.name) and (where / "spec.json").exists():
                yield where

    def _where(self, handle: str) -> Path:
        if not HANDLE.fullmatch(handle):
            raise Refused(f"{handle[:100]!r} is no run of this launcher")
        return self._directory / handle

    def _keep(self, where: Path) -> None:
        """Start the keeper; it leaves this process at once, so that nobody has to wait for it."""
        allowed = {name: value for name, value in os.environ.items() if self._passes(name)}
        with (where / "keeper.log").open("ab") as log:
            subprocess.run(
                [sys.executable, "-I", keeper.__file__, str(where)],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=allowed,
                cwd=where,
                start_new_session=True,
                timeout=60,
            )

    def _passes(self, name: str) -> bool:
        return not name.upper().startswith("HEAL_") and any(fnmatchcase(name, each) for each in self._pass_on)


@contextmanager
def _locked(where: Path, how: int) -> Iterator[bool]:
    """Whether the keeper's lock is free; if it is, held meanwhile."""
    with (where / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _report(where: Path, code: int | None, **known: Any) -> Mapping[str, Any]:
    out = where / "out"
    return failed(read_object(out / "report.json") or {}, code=code, resumable=goes_on_from(out), **known)


def _is_kept(where: Path) -> bool:
    with _locked(where, fcntl.LOCK_SH) as free:
        return not free


def _tail(where: Path) -> str:
    """The last lines of the log."""
    found = b""
    for name in ("log.1", "log"):
        try:
            with (where / name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                found = (found + file.read(TAIL_BYTES))[-TAIL_BYTES:]
        except OSError:
            continue
    return last_lines(found)
