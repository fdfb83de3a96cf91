"""`python -m sandbox serve`: the sandbox as a process of its own.

It executes the workflows of the repositories that are put into it. Put nothing there that you would not run yourself.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from sandbox.catalogue import PACKAGES
from sandbox.server import Sandbox

BANNER = "sandbox: runs the workflows of the repositories put into it, with your rights; listens on 127.0.0.1 only\n"


def main(arguments: list[str] | None = None) -> NoReturn:
    """Serve until SIGTERM, SIGINT or, with --exit-with-parent, the end of standard input."""
    options = _parser().parse_args(arguments)
    sandbox = Sandbox(
        options.root,
        webhook_url=options.webhook_url,
        webhook_secret=options.webhook_secret_file.read_text().strip(),
        app_id=options.app_id,
        app_public_key_pem=options.app_public_key_file.read_bytes(),
        owner=options.owner,
        packages=PACKAGES,
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    url = sandbox.start(options.port)
    sys.stderr.write(BANNER)
    ready = {"url": url, "api": f"{url}/api/v3", "pid": os.getpid(), "admin_token": sandbox.admin_token}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    if options.exit_with_parent:
        threading.Thread(target=_watch_stdin, args=(ended,), daemon=True).start()
    ended.wait()
    sandbox.stop()
    sys.stdout.flush()
    # Not sys.exit: on a busy machine the server's native threads may outlive even the pause that stop() makes, and
    # would abort an interpreter that is being torn down.
    os._exit(0)


def _watch_stdin(ended: threading.Event) -> None:
    # Unbuffered: a thread that sits in a buffered read makes the interpreter abort when it ends.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    ended.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m sandbox", description=__doc__)
    serve = parser.add_subparsers(required=True).add_parser("serve", description=main.__doc__)
    serve.add_argument("--root", type=Path, required=True, help="folder for the repositories and scratch files")
    serve.add_argument("--port", type=int, default=0, help="0: a free one")
    serve.add_argument("--webhook-url", default=None, help="where the App's events go")
    serve.add_argument("--webhook-secret-file", type=Path, required=True)
    serve.add_argument("--app-id", type=int, required=True)
    serve.add_argument("--app-public-key-file", type=Path, required=True, help="PEM")
    serve.add_argument("--owner", default="acme", help="the organisation that owns the repositories")
    serve.add_argument("--exit-with-parent", action="store_true", help="end when standard input does")
    return parser


if __name__ == "__main__":
    main()
