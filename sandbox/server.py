"""The sandbox as one server: GitHub's API, git over HTTP, pages, a package index, and the threads behind them.

It keeps real git repositories and really runs their workflows, so it executes code: only that which the demo or a test
put there. It listens on 127.0.0.1 and nowhere else.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from granian.constants import Interfaces
from granian.server.embed import Server
from starlette.applications import Starlette

from sandbox import deliver, githttp, index, manifest, oauth, pages, web
from sandbox.state import App, Hook, State

HOST = "127.0.0.1"
WAIT_S = 10.0
LINGER_S = 0.05


class Sandbox:
    """GitHub in a box, in this process. `start` answers its base URL, `stop` ends everything it started."""

    def __init__(
        self,
        root: Path,
        *,
        webhook_url: str | None,
        webhook_secret: str,
        app_id: int,
        app_public_key_pem: bytes | str,
        owner: str = "acme",
        app_slug: str = "self-healing-mlops-bot",
        packages: Iterable[index.Package] = (),
    ) -> None:
        pem = app_public_key_pem.encode() if isinstance(app_public_key_pem, str) else app_public_key_pem
        (root / "scratch").mkdir(parents=True, exist_ok=True)
        app = App(app_id, app_slug, app_slug.replace("-", " ").title(), pem)
        self.state = State(root.absolute(), owner=owner, app=app, hook=Hook(webhook_url, webhook_secret))
        self.state.admin_token = secrets.token_urlsafe(24)
        routes = [
            *index.routes(packages),
            *web.routes(self.state),
            *githttp.routes(self.state),
            *manifest.routes(self.state),
            *oauth.routes(self.state),
            *pages.routes(self.state),
        ]
        self._app = Starlette(routes=routes)
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Server | None = None

    @property
    def admin_token(self) -> str:
        """The password with which git may push to any repository."""
        return self.state.admin_token

    def start(self, port: int = 0) -> str:
        """Serve on `port` (0: a free one). Raises TimeoutError if the server does not come up."""
        port = port or _free_port()
        self.state.base_url = f"http://{HOST}:{port}"
        self._loop = asyncio.new_event_loop()
        self._server = Server(
            self._app, address=HOST, port=port, interface=Interfaces.ASGI, log_enabled=False, websockets=False
        )
        for name, target in (
            ("sandbox-http", self._serve),
            ("sandbox-deliver", lambda: deliver.work(self.state)),
        ):
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._wait_until_up()
        return self.state.base_url

    def _serve(self) -> None:
        assert self._server is not None
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._server.serve())
        self._loop.close()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.state.base_url}/_sandbox/idle", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise TimeoutError("the sandbox did not start")

    def stop(self) -> None:
        """Stop serving, cancel what runs, end the threads. What waits for delivery is dropped."""
        self.state.closing.set()
        self.state.outbox.put(None)
        if self._server is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._server.stop)
        for thread in self._threads:
            thread.join(timeout=WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while self.state.busy_runs and time.monotonic() < deadline:
            for run in list(self.state.runs.values()):
                run.cancelled.set()
            time.sleep(0.01)
        self.state.pool.shutdown(wait=True)
        # The server's native threads let go of Python a few milliseconds after it says that it has ended; an
        # interpreter that exits before that aborts.
        time.sleep(LINGER_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
