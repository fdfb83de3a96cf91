"""The bot, dying by SIGKILL at a named step when told to, and coming back at once.

`python -m tests.e2e.killable serve ORDER` is `heal serve`; with `work` it is what runs beside a Celery worker. Whoever
writes `kill STEP` (or `freeze STEP`) into the file ORDER has the process killed (or stopped) when that step is passed
next, once: the file is gone then, or holds the orders of its further lines. The parent imports everything before it
forks, so that a restart costs next to nothing.

The process ids of those that were killed stand in ORDER with the suffix .dead, one a line.

Beside the product's own steps these are passed while an action is applied: `write 2 of KIND` right after its second
write to the world, `write pulls of KIND` right after one to that part of GitHub, `applied KIND` at its end.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from app.adapters.github.client import Client
from app.healing.pump import Pump
from app.ports.plugins import Action
from app.settings import Settings
from app.web.app import create
from app.web.serve import _run_here
from app.wiring import Wired, logs, wire

PR_SET_PDEATHSIG = 1


Passing = Callable[[str], None]


def killer(order: Path) -> Passing:
    def passing(step: str) -> None:
        try:
            first, _, rest = order.read_text().partition("\n")
            what, _, where = first.partition(" ")
            if where == step:
                if rest:
                    draft = order.with_suffix(".rest")
                    draft.write_text(rest)
                    os.replace(draft, order)
                else:
                    order.unlink()
                os.kill(os.getpid(), {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}[what])
        except FileNotFoundError:
            return

    return passing


@dataclass
class Applying(threading.local):
    """What this thread applies, and how often it has written meanwhile."""

    kind: str = ""
    writes: int = 0

    def wrote(self, passing: Passing, where: str) -> None:
        if self.kind:
            self.writes += 1
            passing(f"write {self.writes} of {self.kind}")
            passing(f"write {where} of {self.kind}")


def watch_writes(wired: Wired, passing: Passing) -> None:
    """Have the steps inside of `apply` passed."""
    now = Applying()

    def applies(action: Action) -> None:
        apply = action.apply

        def watched(*args: Any, **named: Any) -> Any:
            now.kind, now.writes = action.kind, 0
            try:
                outcome = apply(*args, **named)
                passing(f"applied {action.kind}")
                return outcome
            finally:
                now.kind = ""

        setattr(action, "apply", watched)  # noqa: B010 - mypy allows no plain assignment to a method

    for action in wired.kit.actions.values():
        applies(action)
    _after(Client, "requestJson", lambda verb, url, *_: verb != "GET" and now.wrote(passing, _part(url)))
    kit = wired.kit
    for owner, name in [(kit.registry, "point"), (kit.registry, "tag"), (kit.notifier, "send")]:
        _after(type(owner), name, lambda *_, name=name: now.wrote(passing, name))
    for launcher in {type(each) for each in kit.launchers.values()}:
        _after(launcher, "start", lambda *_: now.wrote(passing, "start"))


def _after(owner: type, name: str, then: Callable[..., object]) -> None:
    method = getattr(owner, name)

    @wraps(method)
    def both(self: Any, *args: Any, **named: Any) -> Any:
        answer = method(self, *args, **named)
        then(*args)
        return answer

    setattr(owner, name, both)


def _part(url: str) -> str:
    """The part of GitHub's API that is written to: `refs` of …/git/refs, `pulls` of …/pulls and …/pulls/3."""
    words = [word for word in url.partition("?")[0].split("/") if not word.isdigit()]
    return words[-1]


def run_serve(order: Path) -> None:
    settings = Settings()
    logs(settings)
    passing = killer(order)
    wired = wire(settings, passing=passing)
    watch_writes(wired, passing)
    _run_here(lambda: create(wired), settings.web, wired.engine.dispose)


def run_work(order: Path) -> None:
    settings = Settings()
    logs(settings)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    passing = killer(order)
    wired = wire(settings, passing=passing)
    watch_writes(wired, passing)
    kit = wired.kit
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
        with order.with_suffix(".dead").open("a") as dead:
            dead.write(f"{child}\n")


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
