"""A stand-in for Prometheus: answers `query_range` as Prometheus does, from what the test puts in."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs


@dataclass
class StandIn:
    """`answers` by query: the list of series, a status with a body, or raw bytes."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def stand_in() -> Iterator[StandIn]:
    state = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            form = {name: values[-1] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
            state.asked.append({"path": self.path, **form})
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            found = state.answers.get(form["query"], [])
            if isinstance(found, list):
                found = (200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": found}}))
            status, body = found
            raw = body if isinstance(body, bytes) else body.encode()
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("location", f"{state.url}/elsewhere")
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
