"""The resolver of `uv`, as a subprocess that builds nothing, runs nothing and sees only the configured index."""

import os
import posixpath
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import uv
from packaging.requirements import InvalidRequirement, Requirement

from app.adapters import locking as given
from app.domain.errors import Refused, Unreachable
from app.ports.resolver import Locked, Locker, Locking, Resolution

Jail = Literal["auto", "require", "off"]

_MAX_LINES = 2_000
_MAX_LINE = 2_000
_MAX_EXPLANATION = 8_000
_PYTHON = re.compile(r"3\.\d{1,2}(?:\.\d{1,3})?")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)", re.MULTILINE)
_BUILDS = re.compile(r"building (?:from source|source distributions)(?: for \S+)? is disabled", re.IGNORECASE)
_COMPILED = ("--no-header", "--only-binary", ":all:")
_BY_HAND = {
    Locker.POETRY: "{} must be renewed with `poetry lock`, which builds packages to read them; nothing is built here",
    Locker.NPM: "{} must be renewed with `npm install --package-lock-only`, which is not done here",
}
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # of an index behind a certificate authority of one's own
_NO_ANSWER = re.compile(
    r"failed to fetch|error sending request|error decoding response|request failed|connection|timed out|dns error"
    r"|status (?:client|server) error",
    re.IGNORECASE,
)

# Limits are set by a process of its own, because code between fork and exec is unsafe in a program with threads.
_LIMITED = """
import os, resource, sys
for name, limit in (("CPU", int(sys.argv[1])), ("AS", 8 << 30), ("FSIZE", 1 << 29), ("NOFILE", 1024), ("CORE", 0)):
    kind = getattr(resource, "RLIMIT_" + name)
    hard = resource.getrlimit(kind)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""


class UvResolver:
    """Implements `app.ports.resolver.Resolver`.

    `jail` "auto" uses bubblewrap where it works, "require" refuses to resolve without it, "off" never uses it. Inside
    the jail the system's libraries, uv and the interpreter can be read, and nothing else; the network stays reachable.
    """

    def __init__(self, index_url: str, *, timeout_s: float = 60.0, jail: Jail = "auto") -> None:
        self._index_url = index_url
        self._timeout_s = timeout_s
        self._jail = jail
        self._bwrap: str | None = None
        self._probed = False
        self._cache = tempfile.TemporaryDirectory(prefix="heal-resolver-cache-")

    def resolve(
        self, requirements: Sequence[str], *, python: str | None = None, constraints: Sequence[str] = ()
    ) -> Resolution:
        lines, limits = _checked(requirements), _checked(constraints)
        with tempfile.TemporaryDirectory(prefix="heal-resolver-") as folder:
            home = Path(folder)
            (home / "requirements.in").write_text("\n".join(lines) + "\n", encoding="utf-8")
            command = [*_uv("pip", "compile"), "requirements.in", *_COMPILED, "--no-annotate"]
            if limits:
                (home / "constraints.in").write_text("\n".join(limits) + "\n", encoding="utf-8")
                command += ["--constraints", "constraints.in"]
            code, out, err = self._run(home, command + _for_python(python))
        if code == 0:
            return Resolution(True, tuple(_PIN.findall(out)))
        return Resolution(False, explanation=_no_solution(err, folder))

    def lock(self, locking: Locking) -> Locked:
        if locking.locker in (Locker.POETRY, Locker.NPM):
            raise Refused(_BY_HAND[locking.locker].format(locking.lockfile))
        files = given.files_for(locking, self._index_url)
        _for_python(locking.python)
        command = [*_uv("lock"), "--no-build"]
        if locking.locker is Locker.PIP_COMPILE:
            command = [*_uv("pip", "compile"), *given.compiling(locking), *_COMPILED]
        else:
            command += [word for name in locking.upgrade for word in ("--upgrade-package", name)]
        with tempfile.TemporaryDirectory(prefix="heal-resolver-") as folder:
            home = Path(folder)
            for path, text in files.items():
                (home / path).parent.mkdir(parents=True, exist_ok=True)
                (home / path).write_text(text, encoding="utf-8", newline="")
            code, _, err = self._run(home, command, where=posixpath.normpath(locking.folder or "."))
            if code:
                return Locked(False, explanation=_no_solution(err, folder))
            renewed = (home / locking.lockfile).read_text(encoding="utf-8")
        if locking.locker is Locker.UV:
            return Locked(True, given.without_open_version(renewed))
        return Locked(True, given.with_head(renewed, locking.files[locking.lockfile]))

    def _run(self, home: Path, command: list[str], where: str = ".") -> tuple[int, str, str]:
        bwrap = self._find_bwrap()
        if bwrap:
            command = [bwrap, *_walls(home, Path(self._cache.name), home / where), *command]
        limited = [sys.executable, "-I", "-S", "-c", _LIMITED, str(int(self._timeout_s) + 1), *command]
        # The index may carry a password in its URL: it goes by environment, where other users cannot read it.
        environment = {
            "PATH": os.defpath,
            "HOME": str(home),
            "UV_CACHE_DIR": self._cache.name,
            "UV_DEFAULT_INDEX": self._index_url,
            "UV_HTTP_RETRIES": "1",  # whoever asked comes back later by itself
            **{name: os.environ[name] for name in _CERTIFICATES if name in os.environ},
        }
        process = subprocess.Popen(
            limited,
            cwd=home / where,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            raise Unreachable(f"resolving took longer than {self._timeout_s:g} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return process.returncode, out, err

    def _find_bwrap(self) -> str | None:
        if self._jail == "off":
            return None
        if not self._probed:
            found = shutil.which("bwrap")
            self._bwrap = found if found and _works(found) else None
            self._probed = True
        if self._bwrap is None and self._jail == "require":
            raise Refused("install bubblewrap and allow user namespaces, or set HEAL_RESOLVER__JAIL=auto")
        return self._bwrap


def _uv(*command: str) -> list[str]:
    quiet = ["--quiet", "--no-config", "--no-progress", "--color", "never", "--no-python-downloads"]
    return [uv.find_uv_bin(), *command, *quiet, "--python", sys.executable]


def _for_python(python: str | None) -> list[str]:
    if python is None:
        return []
    if not _PYTHON.fullmatch(python):
        raise Refused(f"{python[:40]!r} is not a Python version such as 3.11")
    return ["--python-version", python]


def _no_solution(err: str, folder: str) -> str:
    """uv's proof that there is none. Raises Refused or Unreachable where it could not be asked."""
    if _BUILDS.search(err):
        raise Refused("some of it is published as source only, and nothing is built here to look into it")
    if "No solution found" in err:
        return _tidy(err, folder)
    if _NO_ANSWER.search(err):
        raise Unreachable("the package index did not answer; look at HEAL_RESOLVER__INDEX_URL")
    raise Refused(f"uv could not resolve this: {_tidy(err, folder)[:500]}")


def _checked(requirements: Sequence[str]) -> list[str]:
    if len(requirements) > _MAX_LINES:
        raise Refused(f"{len(requirements)} requirements are more than {_MAX_LINES}")
    lines = []
    for line in requirements:
        text = line.strip()
        if len(text) > _MAX_LINE or not text.isprintable():
            raise Refused(f"not a requirement: {text[:80]!r}")
        if text.startswith("-"):
            raise Refused(f"options are not followed: {text[:80]!r}")
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise Refused(f"not a plain requirement such as name==1.0: {text[:80]!r}") from None
        if requirement.url:
            raise Refused(f"direct references are not followed: {requirement.name} @ …")
        lines.append(str(requirement))
    return lines


def _works(bwrap: str) -> bool:
    """Containers often have the program without the right to make the namespaces that it needs."""
    probe = [bwrap, *_walls(Path(tempfile.gettempdir()), Path(tempfile.gettempdir())), "/bin/true"]
    try:
        return subprocess.run(probe, capture_output=True, timeout=10, check=False, env={}).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _walls(home: Path, cache: Path, where: Path | None = None) -> list[str]:
    walls = ["--unshare-all", "--share-net", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    walls += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 - a fresh one inside the jail
    system = ["/usr", "/bin", "/lib", "/lib64", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl"]
    readable = [*system, sys.prefix, sys.base_prefix, str(Path(uv.find_uv_bin()).resolve().parent)]
    for path in dict.fromkeys(readable):
        walls += ["--ro-bind-try", path, path]
    for path in dict.fromkeys([str(home), str(cache)]):
        walls += ["--bind", path, path]
    return [*walls, "--chdir", str(where or home), "--"]


def _tidy(text: str, folder: str) -> str:
    """uv's explanation without our folder's name and the marks in its margin."""
    lines = (re.sub(r"^[\s×╰─▶│]+", "", line) for line in text.replace(folder, "").splitlines())
    return " ".join(line for line in lines if line)[:_MAX_EXPLANATION]
