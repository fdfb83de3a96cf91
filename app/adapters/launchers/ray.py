"""Runs as jobs of a Ray cluster that is there already, over its Jobs REST API (version 4; Ray 2.10 and later).

Not through Ray's own client: that is half a gigabyte, and takes its address and its credentials from the process'
environment. https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html
"""

import hashlib
import ipaddress
import json
import math
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from app.adapters.launchers.common import (
    cancelled,
    failed,
    goes_on_from,
    last_lines,
    parse_object,
    read_object,
    settings_of,
    words,
)
from app.domain.errors import HealError, Permanent, Refused, Unreachable
from app.ports.launcher import ENDED, RunSpec, RunState, RunStatus

HANDLE = re.compile(r"heal-[0-9a-f]{32}")
COMMAND = ("python", "-m", "workloads")
REPORT = b"heal-report "
MOST_BYTES = 16 * 1024 * 1024  # of an answer that is no log
MOST_OF_A_LOG = 64 * 1024 * 1024
KEPT_OF_A_LOG = 512 * 1024  # its end; a report that is read from it must fit
LONGEST_MESSAGE = 300
_STATES = {
    "PENDING": RunState.PENDING,
    "RUNNING": RunState.RUNNING,
    "STOPPED": RunState.CANCELLED,
    "SUCCEEDED": RunState.SUCCEEDED,
    "FAILED": RunState.FAILED,
}
_LOST_ITS_PLACE = frozenset({"JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"})
_LOST = "the cluster knows nothing of it any more"


class Insecure(Permanent):
    """A token would cross a network in the clear."""


class RayLauncher:
    """`url` is the address of the cluster's dashboard; nothing else is ever asked, and redirections are not followed.
    `command` is the operator's, and must be there on the cluster.

    `directory` is where runs write, as the cluster sees it: one directory of each run. Its nodes must share it if runs
    go on from each other. If this process sees it at the same path, reports are read from there; if not, from the last
    line of the log. Bots that share a cluster have a directory each: what was started for another one is not ours.

    `cpus`, `gpus` and `memory_mib` are reserved for each run; Ray lets it wait until they are free. `environment` is
    given to each run, and whoever sees the dashboard can read it.
    """

    name = "ray"

    def __init__(
        self,
        url: str,
        directory: Path,
        *,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        token_file: Path | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        memory_mib: int = 0,
        keep_s: float = 14 * 24 * 3600.0,
        timeout_s: float = 15.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise Insecure(
                "HEAL_LAUNCHER__RAY_ADDRESS must be http://HOST:PORT or https://…, without credentials in it"
            )
        if token_file is not None and parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise Insecure("HEAL_LAUNCHER__RAY_ADDRESS must be https://… where a token is sent to it")
        self._url = url.rstrip("/")
        self._directory = directory
        self._command = tuple(command) or COMMAND
        self._environment = dict(environment or {})
        self._token_file = token_file
        self._cpus = cpus
        self._gpus = gpus
        self._memory_mib = memory_mib
        self._keep_s = keep_s
        self._timeout_s = timeout_s

    def start(self, spec: RunSpec) -> str:
        """Ray takes each submission id once: whoever starts it a second time is told so, also at the same moment."""
        handle = self.handle_of(spec.key)
        command = [*self._command, *words(spec), "--out", str(self._out(handle))]
        if spec.resume:
            command += ["--resume", str(self._out(_checked(spec.resume)))]
        if self._memory_mib:
            command += ["--memory-mib", str(self._memory_mib)]
        command += ["--time-limit-s", str(math.ceil(spec.timeout_s)), "--report-line", *settings_of(spec)]
        if self._job(handle) is not None:
            return handle
        if spec.resume:
            self._look_at_earlier(spec, handle)
        job: dict[str, Any] = {
            "entrypoint": shlex.join(command),
            "submission_id": handle,
            "metadata": {
                "heal_key": spec.key,
                "heal_directory": str(self._directory),
                "heal_resume": spec.resume,
            },
            "entrypoint_num_cpus": self._cpus,
            "entrypoint_num_gpus": self._gpus,
        }
        if self._memory_mib:
            job["entrypoint_memory"] = self._memory_mib * 2**20
        if self._environment:
            job["runtime_env"] = {"env_vars": self._environment}
        try:
            self._ask("POST", "/api/jobs/", json=job)
        except HealError:
            if self._job(handle) is None:  # or else somebody was faster, or it was taken and the answer was lost
                raise
        return handle

    def handle_of(self, key: str) -> str:
        digest = hashlib.sha256(f"{self._directory}\n{key}".encode()).hexdigest()
        return f"heal-{digest[:32]}"

    def status(self, handle: str) -> RunStatus:
        job = self._job(_checked(handle))
        if job is None:
            return RunStatus(RunState.LOST, report=self._failed(handle, b"", lost=_LOST) if self._left(handle) else {})
        state = _STATES.get(str(job.get("status")))
        if state is None:
            raise Unreachable("Ray answers with something else than the status of a job")
        if state is RunState.PENDING:
            return RunStatus(state, tail=_message(job))
        log, trouble = self._log(handle)
        shown = b"\n".join(line for line in log.split(b"\n") if not line.startswith(REPORT))
        tail = "\n".join(part for part in (last_lines(shown), trouble) if part)
        code = job.get("driver_exit_code")
        code = code if isinstance(code, int) else None
        if state not in ENDED:
            return RunStatus(state, tail)
        if state is not RunState.FAILED:
            report = self._report(handle, log)
            return RunStatus(state, tail, code, cancelled(report) if state is RunState.CANCELLED else report)
        if code is None:
            tail = f"{tail}\n({_message(job)})".lstrip()
        lost = _message(job) if str(job.get("error_type")) in _LOST_ITS_PLACE else ""
        return RunStatus(state, tail, code, self._failed(handle, log, code=code, lost=lost))

    def cancel(self, handle: str) -> None:
        self._ask("POST", f"/api/jobs/{_checked(handle)}/stop")

    def reap(self, keys: frozenset[str]) -> list[str]:
        """What is known of runs that nobody needs any more goes, too, some time after their end, and their directories
        if they are seen from here."""
        jobs = dict(self._ours())
        ended: list[str] = []
        wanted = {self.handle_of(key) for key in keys}
        needed = set(wanted)
        for handle, job in jobs.items():
            if handle in wanted or _STATES.get(str(job.get("status"))) not in ENDED:
                needed |= {handle, str(_told(job).get("heal_resume"))}
            if handle not in wanted and _STATES.get(str(job.get("status"))) not in ENDED:
                self.cancel(handle)
                ended.append(handle)
        for handle, job in jobs.items():
            at = job.get("end_time")
            if handle not in needed and isinstance(at, int | float) and time.time() - at / 1000 > self._keep_s:
                self._ask("DELETE", f"/api/jobs/{handle}")
        for where in self._directory.iterdir() if self._directory.is_dir() else ():
            known = where.name in needed or not HANDLE.fullmatch(where.name)
            if not known and time.time() - _ended_at(where) > self._keep_s:
                shutil.rmtree(where, ignore_errors=True)
        return ended

    # what runs leave

    def _out(self, handle: str) -> Path:
        return self._directory / handle / "out"

    def _left(self, handle: str) -> bool:
        return self._out(handle).is_dir()

    def _look_at_earlier(self, spec: RunSpec, handle: str) -> None:
        if spec.resume == handle:
            raise Refused("a run cannot go on from itself")
        earlier = self._job(spec.resume)
        if earlier is None and not self._left(spec.resume):
            raise Refused(f"the run {spec.resume} cannot be gone on from: what it left was removed")
        if earlier is not None and _STATES.get(str(earlier.get("status"))) not in ENDED:
            raise Unreachable(f"the run {spec.resume} has not ended yet, and cannot be gone on from")

    def _report(self, handle: str, log: bytes) -> Mapping[str, Any]:
        found = read_object(self._out(handle) / "report.json")
        if found is not None:
            return found
        lines = [line for line in log.split(b"\n") if line.startswith(REPORT)]
        return (parse_object(lines[-1].removeprefix(REPORT)) if lines else None) or {}

    def _failed(self, handle: str, log: bytes, code: int | None = None, lost: str = "") -> Mapping[str, Any]:
        report, resumable = self._report(handle, log), goes_on_from(self._out(handle))
        return failed(report, code=code, resumable=resumable, lost=lost)

    # how the cluster is asked

    def _job(self, handle: str) -> Mapping[str, Any] | None:
        """None: there is no such job."""
        answer = self._ask("GET", f"/api/jobs/{handle}")
        if answer is None:
            return None
        found = _json(answer)
        if not isinstance(found, dict):
            raise Unreachable("Ray answers with something else than a job")
        return found

    def _ours(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        found = _json(self._ask("GET", "/api/jobs/") or b"")
        for job in found if isinstance(found, list) else []:
            handle = job.get("submission_id") if isinstance(job, dict) else None
            if (
                isinstance(handle, str)
                and HANDLE.fullmatch(handle)
                and _told(job).get("heal_directory") == str(self._directory)
            ):
                yield handle, job

    def _log(self, handle: str) -> tuple[bytes, str]:
        """The end of its log, and why there is none: the node that it lay on may be gone, and then the run is over all
        the same."""
        try:
            return _end_of_log(self._ask("GET", f"/api/jobs/{handle}/logs", end=True) or b"{}"), ""
        except Unreachable as error:
            return b"", f"(its log cannot be read: {error})"

    def _ask(self, method: str, path: str, *, end: bool = False, **more: Any) -> bytes | None:
        """The answer, or its `end`. None: Ray says that there is no such job."""
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy and no .netrc that the environment names
                with session.request(
                    method,
                    f"{self._url}{path}",
                    headers=self._headers(),
                    timeout=self._timeout_s,
                    allow_redirects=False,
                    stream=True,
                    **more,
                ) as answer:
                    body = _body(answer, end=end)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"Ray does not answer: {type(error).__name__}") from error
        if answer.status_code == 200:
            return body
        if answer.status_code == 404 and b"does not exist" in body:  # of a proxy's 404 nothing follows
            return None
        raise _trouble(answer.status_code, body)

    def _headers(self) -> dict[str, str]:
        try:
            return (
                {"Authorization": f"Bearer {self._token_file.read_text('ascii').strip()}"} if self._token_file else {}
            )
        except (OSError, UnicodeError):
            raise Refused("HEAL_LAUNCHER__RAY_TOKEN_FILE cannot be read") from None


def _body(answer: requests.Response, *, end: bool) -> bytes:
    if answer.status_code != 200:
        return bytes(answer.raw.read(4_000, decode_content=True))
    if not end:
        body = bytes(answer.raw.read(MOST_BYTES + 1, decode_content=True))
        if len(body) > MOST_BYTES:
            raise Unreachable(f"Ray answers with more than {MOST_BYTES} bytes")
        return body
    found, size = b"", 0
    while some := answer.raw.read(65_536, decode_content=True):
        size += len(some)
        if size > MOST_OF_A_LOG:
            raise Unreachable(f"it is longer than {MOST_OF_A_LOG} bytes")
        found = (found + some)[-KEPT_OF_A_LOG:]
    return found


def _end_of_log(body: bytes) -> bytes:
    """Of the end of `{"logs": "…"}`: what was cut may begin in the middle of a character's escape."""
    text = body.decode("utf-8", "replace")
    if len(body) < KEPT_OF_A_LOG:
        found = _json(body)
        log = found.get("logs") if isinstance(found, dict) else None
        return (log if isinstance(log, str) else "").encode("utf-8", "replace")
    text = text.rstrip().removesuffix("}").rstrip()
    for skipped in range(12):
        try:
            return str(json.loads(f'"{text[skipped:]}')).encode("utf-8", "replace")
        except ValueError:
            continue
    return b""


def _ended_at(where: Path) -> float:
    """About when a run last wrote whole files into its directory, as it does at its end."""
    return max((found.stat().st_mtime for found in (where, where / "out") if found.is_dir()), default=time.time())


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreachable("Ray answers with something else") from error


def _trouble(status: int, body: bytes) -> HealError:
    if status in (401, 403):
        return Refused(f"Ray answers {status}: what HEAL_LAUNCHER__RAY_TOKEN_FILE says is refused")
    if 300 <= status < 400:
        return Refused("Ray's address redirects elsewhere; set HEAL_LAUNCHER__RAY_ADDRESS to where it really is")
    said = body.decode("utf-8", "replace").strip().splitlines()
    why = f"Ray answers {status}" + (f": {said[-1][:LONGEST_MESSAGE]}" if said else "")
    return Unreachable(why) if status in (404, 429) or status >= 500 else Refused(why)


def _checked(handle: str) -> str:
    if not HANDLE.fullmatch(handle):
        raise Refused(f"{handle[:100]!r} is no run of this launcher")
    return handle


def _told(job: Mapping[str, Any]) -> Mapping[str, Any]:
    found = job.get("metadata")
    return found if isinstance(found, dict) else {}


def _message(job: Mapping[str, Any]) -> str:
    return (str(job.get("message") or "").strip().splitlines() or [""])[0][:LONGEST_MESSAGE]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
