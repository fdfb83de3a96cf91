"""Finds what no ring announced: beside each Celery worker one process polls and sweeps.

It takes only rows that have been due for a while, so the rung workers come first; with the broker away it does all the
work. It stops when the worker that started it is gone.
"""

import os
import signal
import sys
import threading

from app.db.processes import WORKER, Heart
from app.healing.pump import Pump
from app.settings import Settings
from app.wiring import logs, wire


def main() -> int:
    settings = Settings()
    logs(settings)
    parent = os.getppid()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    wired, threads = wire(settings), max(1, settings.queue.threads)
    heart = Heart(wired.engine, WORKER, {"role": "poll", "threads": threads})
    pump = Pump(
        wired.kit,
        threads=threads,
        poll_s=settings.queue.poll_s,
        sweep_s=settings.queue.sweep_s,
        overdue_s=settings.queue.poll_s if settings.queue.doorbell else 0.0,
    )
    heart.start()
    pump.start()
    while not stopping.wait(0.5):
        if os.getppid() != parent or not pump.alive():
            break
    done = pump.stop()
    heart.stop()
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
