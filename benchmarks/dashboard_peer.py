"""Flower with that many finished tasks in its memory. Runs where Flower is installed, not where we are.

python dashboard_peer.py PORT TASKS
"""

import sys
import time
import uuid

import celery
from flower import options as _options  # noqa: F401 - defines Flower's options
from flower.app import Flower
from flower.urls import settings
from tornado.ioloop import IOLoop
from tornado.options import options


def main(port: int, tasks: int) -> None:
    options.parse_command_line(
        ["flower", f"--port={port}", "--address=127.0.0.1", "--logging=error", f"--max_tasks={tasks}"]
    )
    app = Flower(capp=celery.Celery("peer", broker="memory://"), options=options, **settings)
    state, begun = app.events.state, time.time() - tasks
    for number in range(tasks):
        common = {"uuid": str(uuid.UUID(int=number)), "hostname": "worker@peer", "pid": 1, "utcoffset": 0}
        at = {"timestamp": begun + number, "local_received": begun + number}
        named = {"name": "healing.process", "args": f"({number},)", "kwargs": "{}", "retries": 0}
        for clock, (kind, more) in enumerate(
            (("received", named), ("started", {}), ("succeeded", {"result": "None", "runtime": 0.1}))
        ):
            state.event({"type": f"task-{kind}", "clock": 3 * number + clock, **common, **at, **more})
    app.start_http_server()
    print(len(state.tasks), flush=True)
    IOLoop.current().start()


main(int(sys.argv[1]), int(sys.argv[2]))
