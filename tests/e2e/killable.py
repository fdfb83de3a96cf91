"""The bot, dying by SIGKILL at a named step when told to, and coming back at once.

`python -m tests.e2e.killable serve ORDER` is `heal serve`; with `work` it is what runs beside a Celery worker. Whoever
writes `kill STEP` (or `freeze STEP`) into the file ORDER has the process killed (or stopped) when that step is passed
next, once: the file is gone then. The parent imports everything before it forks, so that a restart costs next to
nothing.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from app.healing.pump import Pump
from app.settings import Settings
from app.web.serve import serve
from app.wiring import logs, wire

PR_SET_PDEATHSIG = 1


def killer(order: Path) -> Callable[[str], None]:
    def passing(step: str) -> None:
        try:
            what, _, where = order.read_text().partition(" ")
            if where == step:
                order.unlink()
                os.kill(os.getpid(), {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}[what])
        except FileNotFoundError:
            return

    return passing


def run_serve(order: Path) -> None:
    settings = Settings()
    logs(settings)
    serve(wire(settings, passing=killer(order)))


def run_work(order: Path) -> None:
    settings = Settings()
    logs(settings)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    kit = wire(settings, passing=killer(order)).kit
    queue = settings.queue
    pump = Pump(kit, threads=queue.threads, poll_s=queue.poll_s, sweep_s=queue.sweep_s)
    pump.start()
    stopping.wait()
    pump.stop()


def main(kind: str, order: Path) -> int:
    run = {"serve": run_serve, "work": run_work}[kind]
    _end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the group gets it, and the child obeys
    while True:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _end_with_parent()
            run(order)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != -signal.SIGKILL:
            return code


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
