"""A stand-in for a Ray cluster: its Jobs REST API as Ray 2.60 answers it. Entrypoints really run, as processes here.

tests/adapters/test_ray.py does the same with a real cluster.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class StandIn:
    """`answers` replaces what is answered, by method and path: a status and a body."""

    logs: Path
    url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def submit(self, told: dict[str, Any]) -> tuple[int, str]:
        name = told["submission_id"]
        with self.lock:
            if name in self.jobs:
                return 500, f"Traceback …\nValueError: Job with submission_id {name} already exists. Please use …\n."
            self.jobs[name] = {
                "type": "SUBMISSION",
                "job_id": None,
                "submission_id": name,
                "status": "RUNNING",
                "entrypoint": told["entrypoint"],
                "message": "Job is currently running.",
                "error_type": None,
                "start_time": int(time.time() * 1000),
                "end_time": None,
                "metadata": told.get("metadata"),
                "runtime_env": told.get("runtime_env"),
                "driver_exit_code": None,
            }
            with (self.logs / name).open("ab") as log:
                log.write(f"Running entrypoint for job {name}: {told['entrypoint']}\n".encode())
                log.flush()
                self.running[name] = subprocess.Popen(
                    f"{told['entrypoint']}; exit $?",  # a shell waits for it, as Ray's does: killed, it ends with 137
                    shell=True,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env={**os.environ, **(told.get("runtime_env") or {}).get("env_vars", {})},
                )
        return 200, json.dumps({"job_id": name, "submission_id": name})

    def look(self) -> None:
        with self.lock:
            for name, process in list(self.running.items()):
                if (code := process.poll()) is not None and self.jobs[name]["status"] == "RUNNING":
                    ended = {"end_time": int(time.time() * 1000), "driver_exit_code": code}
                    failed = {"status": "FAILED", "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR"}
                    failed["message"] = f"Job entrypoint command failed with exit code {code}, last available logs …"
                    succeeded = {"status": "SUCCEEDED", "message": "Job finished successfully."}
                    self.jobs[name] |= ended | (failed if code else succeeded)

    def _wait(self, name: str) -> None:
        """For all that it has started, not only for the shell."""
        self.running[name].wait(0.2)
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            os.killpg(self.running[name].pid, 0)
            time.sleep(0.01)

    def stop(self, name: str) -> bool:
        with self.lock:
            self.look()
            if self.jobs[name]["status"] != "RUNNING":
                return False
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(self.running[name].pid, number)
                    self._wait(name)
            stopped = {"status": "STOPPED", "message": "Job was intentionally stopped."}
            self.jobs[name] |= {**stopped, "end_time": int(time.time() * 1000)}
            return True

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if found := self.answers.get(f"{method} {path}"):
            return found
        self.look()
        with self.lock:
            if path == "/api/jobs/":
                if method == "POST":
                    status, text = self.submit(json.loads(body))
                    return status, text.encode()
                return 200, json.dumps(list(self.jobs.values())).encode()
            name, _, what = path.removeprefix("/api/jobs/").partition("/")
            if name not in self.jobs:
                return 404, f"Job {name} does not exist".encode()
            if method == "DELETE":
                del self.jobs[name], self.running[name]  # only of one that has ended
                return 200, json.dumps({"deleted": True}).encode()
            if what == "stop":
                return 200, json.dumps({"stopped": self.stop(name)}).encode()
            if what == "logs":
                return 200, json.dumps({"logs": (self.logs / name).read_text(errors="replace")}).encode()
            return 200, json.dumps(self.jobs[name]).encode()


@contextmanager
def stand_in(logs: Path) -> Iterator[StandIn]:
    logs.mkdir(parents=True, exist_ok=True)
    state = StandIn(logs)

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.asked.append({"method": self.command, "path": self.path, "headers": headers, "body": body})
            status, raw = state.answer(self.command, self.path, body)
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("location", f"{state.url}/elsewhere")
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_DELETE = _any

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        for name in list(state.running):
            state.stop(name)
        server.shutdown()
        server.server_close()
        thread.join()
