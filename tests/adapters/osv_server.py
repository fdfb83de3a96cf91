"""A stand-in for OSV's API: /v1/querybatch and /v1/vulns/{id} as https://google.github.io/osv.dev/api/ describes them.

It matches by the enumerated versions of its records alone, so that it shares no code with what is tested.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


class OsvServer:
    """`records` are served by id; `away` answers 503; `pages` splits each answer in so many."""

    def __init__(self) -> None:
        self.records: dict[str, Json] = {}
        self.concerned: dict[tuple[str, str], list[str]] = {}
        self.asked: list[str] = []
        self.away = False
        self.raw: bytes | None = None
        self.pages = 1
        self.url = ""

    def add(self, record: Json, *versions: str) -> None:
        """The record, and the versions for which a query names it."""
        self.records[record["id"]] = record
        for name in {entry["package"]["name"] for entry in record["affected"]}:
            for version in versions:
                self.concerned.setdefault((name, version), []).append(record["id"])

    def answer(self, path: str, body: Json | None) -> Json | None:
        if path == "/v1/querybatch" and body is not None:
            return {"results": [self._one(query) for query in body["queries"]]}
        return self.records.get(path.removeprefix("/v1/vulns/"))

    def _one(self, query: Json) -> Json:
        ids = self.concerned.get((query["package"]["name"], query["version"]), [])
        page = int(query.get("page_token", "0"))
        mine = ids[page :: self.pages]
        if not mine and not ids:
            return {}
        told: Json = {"vulns": [{"id": one, "modified": self.records[one]["modified"]} for one in mine]}
        return told | ({"next_page_token": str(page + 1)} if page + 1 < self.pages else {})


@contextmanager
def served() -> Iterator[OsvServer]:
    osv = OsvServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: Json | None) -> None:
            osv.asked.append(self.path)
            found = None if osv.away else osv.answer(self.path, body)
            content = osv.raw if osv.raw is not None else json.dumps(found).encode()
            self.send_response(503 if osv.away else 404 if found is None else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """In silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    osv.url = f"http://127.0.0.1:{server.server_port}"
    yield osv
    server.shutdown()
    server.server_close()
    thread.join()
