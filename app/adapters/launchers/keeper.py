"""Runs one program to its end, beside the bot and not below it: a kill of the bot does not reach it.

Started as `python -I keeper.py DIRECTORY`, with what to run in `spec.json`; the standard library only, because it does
not stand on the bot's own packages. What it leaves in the directory is all that anybody knows of the run:

    lock        held as long as this process lives; its end, however it comes, is seen by that
    begun.json  it was started, once, and with which GPUs
    log, log.1  what the program wrote, the newest megabytes of it
    cancel      put there by the bot: end it
    exit.json   how it ended: {"why": "exited" | "cancelled" | "timed_out" | "not_started", "code": …, "oom_kills": …}

Beside the directories of the runs, in `slots`, lie files that are held, too, while a run lasts: one for each that may
run at a time, and one for each GPU that a run was given.
"""

import ctypes
import fcntl
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO

LOG_BYTES = 8 * 1024 * 1024
POLL_S = 0.1
GRACE_S = 10.0  # between asking a run to stop and killing it
GPU = re.compile(r"GPU-[0-9a-f-]{8,64}")
_PR_SET_PDEATHSIG = 1


def main(directory: Path) -> int:
    with (directory / "lock").open("ab") as lock:
        if not hold(lock):
            return 0  # another keeper has it
        if (directory / "begun.json").exists():
            return 0
        spec = json.loads((directory / "spec.json").read_text())
        with ExitStack() as held:
            if (directory / "cancel").exists() or turn(spec, held):
                gpus = choose_gpus(spec, held)
                write(directory / "begun.json", {"pid": os.getpid(), "at": time.time(), "gpus": gpus})
                write(directory / "exit.json", keep(directory, spec, gpus))
    return 0


def turn(spec: dict[str, Any], held: ExitStack) -> bool:
    """Whether one more may run now. If not it goes on waiting: somebody starts it again."""
    return not spec["at_once"] or any(take(spec, f"{number}.lock", held) for number in range(spec["at_once"]))


def take(spec: dict[str, Any], name: str, held: ExitStack) -> bool:
    Path(spec["slots"]).mkdir(exist_ok=True)
    lock = (Path(spec["slots"]) / name).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return False
    held.enter_context(lock)
    return True


def choose_gpus(spec: dict[str, Any], held: ExitStack) -> list[str]:
    """Those with the most free memory that no other run was given; shared ones only if there are not enough others.
    None where there are none, or where the operator has said which (CUDA_VISIBLE_DEVICES)."""
    if not spec["gpus"] or "CUDA_VISIBLE_DEVICES" in os.environ:
        return []
    known = gpus_by_free_memory()
    ours: list[str] = []
    for name in known:
        if len(ours) < spec["gpus"] and take(spec, f"{name}.lock", held):
            ours.append(name)
    return ours + [name for name in known if name not in ours][: spec["gpus"] - len(ours)]


def gpus_by_free_memory() -> list[str]:
    """Their UUIDs: numbers mean other devices to CUDA than to nvidia-smi. Memory that is not told counts as none."""
    found = []
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits"],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    for line in asked.stdout.splitlines():
        name, _, free = (part.strip() for part in line.partition(","))
        if GPU.fullmatch(name):
            found.append((int(free) if free.isdecimal() else 0, name))
    return [name for _, name in sorted(found, key=lambda each: -each[0])]


def oom_counters() -> list[Path]:
    """Where the kernel counts whom it killed for want of memory in this process' control group, version 2 or 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        for below in (path.strip("/"), ""):
            if number == "0" and not controllers:
                found.append(Path("/sys/fs/cgroup", below, "memory.events"))
            elif "memory" in controllers.split(","):
                found.append(Path("/sys/fs/cgroup/memory", below, "memory.oom_control"))
    return found


def oom_kills(counters: Sequence[str]) -> int:
    """What the first of them that can be read says; 0 where none can."""
    for path in counters:
        try:
            told = dict(line.split() for line in Path(path).read_text().splitlines())
            return int(told["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return 0


def hold(lock: BinaryIO) -> bool:
    """Tried for a while: the bot holds the lock for a moment when it looks."""
    for _ in range(50):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(POLL_S)
        else:
            return True
    return False


def keep(directory: Path, spec: dict[str, Any], gpus: Sequence[str]) -> dict[str, Any]:
    if (directory / "cancel").exists():
        return {"why": "cancelled", "code": None}
    log = Log(directory)
    killed_before = oom_kills(spec["oom_counters"])
    chosen = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    try:
        running = subprocess.Popen(
            spec["command"],
            cwd=directory / "out",
            env={**os.environ, **chosen},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_me,  # this process has one thread
        )
    except OSError as error:
        log.write(f"{spec['command'][0]} cannot be started: {error.strerror}\n".encode())
        return {"why": "not_started", "code": None}
    assert running.stdout is not None
    os.set_blocking(running.stdout.fileno(), False)
    ended = watch(directory, running, running.stdout, log, time.monotonic() + spec["timeout_s"], spec["grace_s"])
    return {**ended, "oom_kills": max(0, oom_kills(spec["oom_counters"]) - killed_before)}


def watch(
    directory: Path,
    running: "subprocess.Popen[bytes]",
    output: IO[bytes],
    log: "Log",
    deadline: float,
    grace_s: float,
) -> dict[str, Any]:
    why, kill_at = "exited", float("inf")
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        closed = False
        while running.poll() is None:
            now = time.monotonic()
            if why == "exited" and (now >= deadline or (directory / "cancel").exists()):
                why = "timed_out" if now >= deadline else "cancelled"
                kill_at = now + grace_s
                send(running.pid, signal.SIGTERM)
            if now >= kill_at:
                send(running.pid, signal.SIGKILL)
            if closed:
                time.sleep(POLL_S)
            elif selector.select(POLL_S):
                closed = not log.take(output)
                if closed:
                    selector.unregister(output)
    send(running.pid, signal.SIGKILL)  # what it has started and left behind
    if not closed:
        log.take(output)
    return {"why": why, "code": running.returncode}


class Log:
    """What the program writes: the newest of it, in two files that take turns."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._size = 0

    def take(self, output: IO[bytes]) -> bool:
        """What is there to read now. False: nobody writes any more."""
        for _ in range(LOG_BYTES // 65_536):
            try:
                some = os.read(output.fileno(), 65_536)
            except BlockingIOError:
                return True
            if not some:
                return False
            self.write(some)
        return True

    def write(self, some: bytes) -> None:
        if self._size + len(some) > LOG_BYTES:
            os.replace(self._directory / "log", self._directory / "log.1")
            self._size = 0
        with (self._directory / "log").open("ab") as file:
            file.write(some)
        self._size += len(some)


def send(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def write(path: Path, value: Any) -> None:
    """Whole or not at all, also when the machine stops."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.draft")
    with draft.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _end_with_me() -> None:
    """The program is killed if this process is: nothing runs that nobody watches. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def detach() -> None:
    """Away from whoever started it, so that nobody has to wait for it."""
    if os.fork():
        os._exit(0)
    os.setsid()


if __name__ == "__main__":
    where = Path(sys.argv[1])
    detach()
    sys.exit(main(where))
