"""A Celery worker and the poll beside it, as one: if either ends, the other is ended, and whoever supervises us starts
both anew."""

import signal
import subprocess
import sys
import threading
import time

import structlog

from app.settings import Settings
from app.wiring import Unregistered, wire

log = structlog.get_logger()

_GRACE_S = 40.0
_LOOK_EVERY_S = 5.0


def wait_until_set_up(settings: Settings, *, every_s: float = _LOOK_EVERY_S) -> bool:
    """As long as `heal serve` or `heal setup` is still to register the App. False: told to stop meanwhile. Raises
    Unconfigured, Unreachable."""
    stopping = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: stopping.set())
    told = False
    try:
        while not stopping.is_set():
            try:
                wire(settings).engine.dispose()
            except Unregistered as error:
                if not told:
                    log.warning("waiting_for_setup", reason=str(error))
                    told = True
            else:
                return True
            stopping.wait(every_s)
        return False
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(concurrency: int) -> int:
    """Until SIGTERM or SIGINT (0), or until one of the two ends by itself (1)."""
    options = ("--pool=prefork", f"--concurrency={concurrency}", "--loglevel=WARNING")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    commands = (
        [sys.executable, "-m", "celery", "-A", "workers.tasks:celery", "worker", *options, *quiet],
        [sys.executable, "-m", "workers.poll"],
    )
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    processes = [subprocess.Popen(command) for command in commands]
    while not stopping and all(process.poll() is None for process in processes):
        time.sleep(0.2)
    if not stopping:
        log.error("worker_process_ended", codes=[process.returncode for process in processes])
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE_S
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return 0 if stopping else 1
