"""Runs as processes of their own, each with a directory, that outlive the bot."""

import errno
import fcntl
import hashlib
import json
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
from app.domain.errors import Refused, Unreachable
from app.ports.launcher import ENDED, RunSpec, RunState, RunStatus

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_*", "NVIDIA_*")
WORD = re.compile(r"[a-z][a-z0-9_-]{0,63}")
SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")
HANDLE = re.compile(r"[0-9a-f]{32}")
MOST_SETTINGS = 200
LONGEST_SETTING = 2_000
TAIL_BYTES = 16 * 1024
TAIL_LINES = 40
REPORT_BYTES = 1024 * 1024
LONGEST_S = 7 * 24 * 3600.0
_FOR_GOOD = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


class ProcessLauncher:
    """`directory` holds one directory of each run, named for a digest of its key; workers that share it follow and end
    each other's runs. `command` is the operator's; a repository only names a workload and its settings. A run gets
    nothing of the bot's environment but the variables named here (patterns)."""

    name = "process"

    def __init__(
        self,
        directory: Path,
        *,
        command: Sequence[str] = (),
        pass_on: Sequence[str] = (),
        keep_s: float = 14 * 24 * 3600.0,
        grace_s: float = keeper.GRACE_S,
    ) -> None:
        self._directory = directory.absolute()
        self._command = tuple(command) or (sys.executable, "-m", "workloads")
        self._pass_on = (*PASSED_ON, *pass_on)
        self._keep_s = keep_s
        self._grace_s = grace_s

    def start(self, spec: RunSpec) -> str:
        """The directory is there before the run is, and says what is to be run: whoever was stopped in between finds it
        and goes on. That the run begins only once is the keeper's to see to."""
        handle = self.handle_of(spec.key)
        where = self._directory / handle
        words = [*self._command, *_words(spec), "--out", str(where / "out")]
        if spec.resume:
            words += ["--resume", str(self._earlier(spec, where))]
        words += [word for name, value in sorted(spec.settings.items()) for word in ("--set", f"{name}={value}")]
        told = {
            "key": spec.key,
            "command": words,
            "timeout_s": spec.timeout_s,
            "grace_s": self._grace_s,
            "resume": spec.resume,
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
        ended = _object(where / "exit.json")
        if ended is None and not _is_kept(where):
            ended = _object(where / "exit.json")  # it may have ended just now
            if ended is None and (where / "begun.json").exists():
                return RunStatus(RunState.LOST, tail=_tail(where))
        if ended is None:
            state = RunState.RUNNING if (where / "begun.json").exists() else RunState.PENDING
            return RunStatus(state, tail=_tail(where))
        why, code = ended.get("why"), ended.get("code")
        state = RunState.SUCCEEDED if (why, code) == ("exited", 0) else RunState.FAILED
        tail = _tail(where)
        if why == "timed_out":
            limit = (_object(where / "spec.json") or {}).get("timeout_s")
            tail = f"{tail}\n(ended after its time limit of {limit:g} s)".lstrip() if limit else tail
        return RunStatus(
            RunState.CANCELLED if why == "cancelled" else state,
            tail=tail,
            exit_code=code if isinstance(code, int) else None,
            report=_object(where / "out" / "report.json") or {},
        )

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
        told = {where: _object(where / "spec.json") or {} for where in self._all()}
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


def _words(spec: RunSpec) -> list[str]:
    """Workload and verb. Raises Refused for what cannot be run; nothing of it ever reaches a shell."""
    for word in (spec.workload, spec.verb):
        if not WORD.fullmatch(word):
            raise Refused(f"{word[:100]!r} is no name of a workload or of what it does")
    if len(spec.settings) > MOST_SETTINGS:
        raise Refused(f"a run takes at most {MOST_SETTINGS} settings")
    for name, value in spec.settings.items():
        if not SETTING.fullmatch(name):
            raise Refused(f"{name[:100]!r} is no name of a setting")
        if len(value) > LONGEST_SETTING or not value.isprintable():
            raise Refused(f"the value of {name} is longer than {LONGEST_SETTING} characters, or not printable")
    if not 0 < spec.timeout_s <= LONGEST_S:
        raise Refused(f"a run may last at most {LONGEST_S:g} s")
    return [spec.workload, spec.verb]


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


def _is_kept(where: Path) -> bool:
    with _locked(where, fcntl.LOCK_SH) as free:
        return not free


def _object(path: Path) -> Mapping[str, Any] | None:
    """None where there is none that can be read: what a run wrote is data of a stranger."""
    try:
        with path.open("rb") as file:
            content = file.read(REPORT_BYTES + 1)
        found = json.loads(content) if len(content) <= REPORT_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


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
    return "\n".join(found.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])
