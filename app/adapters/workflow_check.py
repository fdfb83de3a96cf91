"""Judges workflow files with `check-jsonschema` (the published schema) and `zizmor` (what attackers use).

Both run as processes of their own, offline, in an empty folder, with an environment that holds nothing of ours.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app.domain.errors import Refused, Unreachable
from app.ports.workflows import Fault

SYNTAX = "yaml"
SCHEMA = "schema"
UNREAD = "scanner/unread"

MOST_BYTES = 512 * 1024
_MOST_FAULTS = 200
_MOST_KNOWN = 64
_MOST_TEXT = 300
_SCANNED = frozenset({0, 11, 12, 13, 14})  # zizmor's codes for nothing found, and for what it found by severity
_UNREADABLE = 3
_OF_MEMORY, _OF_OUTPUT = 768 << 20, 8 << 20  # a file of a few aliases may mean billions of values

# Limits are set by a process of its own, because code between fork and exec is unsafe in a program with threads.
_LIMITED = """
import os, resource, sys
for name, limit in (("CPU", int(sys.argv[1])), ("AS", int(sys.argv[2])), ("FSIZE", int(sys.argv[3])), ("CORE", 0)):
    kind = getattr(resource, "RLIMIT_" + name)
    hard = resource.getrlimit(kind)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, limit))
os.execv(sys.argv[4], sys.argv[4:])
"""
_NAME = re.compile(r"[a-z0-9-]{1,60}")


class WorkflowJudges:
    """Implements `app.ports.workflows.WorkflowCheck`."""

    def __init__(self, *, timeout_s: float = 30.0) -> None:
        self._timeout_s = timeout_s
        self._known: OrderedDict[str, tuple[Fault, ...]] = OrderedDict()  # a plan asks about one text several times

    def faults(self, path: str, text: str) -> list[Fault]:
        """By rule: `yaml`, `schema`, `scanner/<audit>`; `scanner/unread` where the scanner could not read the file.

        Raises Refused for a file that is no workflow or too large, Unreachable when a judge does not answer.
        """
        if not path.endswith((".yml", ".yaml")):
            raise Refused(f"{path} is no workflow file")
        if len(text.encode(errors="replace")) > MOST_BYTES:
            raise Refused(f"{path} is larger than {MOST_BYTES} bytes")
        key = hashlib.sha256(text.encode(errors="replace")).hexdigest()
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = tuple(self._judged(text)[:_MOST_FAULTS])
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return list(found)

    def _judged(self, text: str) -> list[Fault]:
        with tempfile.TemporaryDirectory(prefix="heal-workflow-") as folder:
            home = Path(folder)
            file = home / ".github" / "workflows" / "workflow.yml"
            file.parent.mkdir(parents=True)
            file.write_text(text, encoding="utf-8", errors="replace", newline="")
            return [*self._by_schema(home, file), *self._scanned(home, file)]

    def _by_schema(self, home: Path, file: Path) -> Iterator[Fault]:
        command = [sys.executable, "-I", "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
        code, out = self._run([*command, "--output-format", "json", "--color", "never", str(file)], home)
        if (code == 1 and not out) or len(out) >= _OF_OUTPUT:
            yield Fault(SYNTAX, "the judge of the schema breaks on this file")  # one that contains itself, say
            return
        answer = _parsed(out, "check-jsonschema")
        if not isinstance(answer, dict) or answer.get("status") not in ("ok", "fail"):
            raise Unreachable("check-jsonschema gave no verdict")
        for _ in answer.get("parse_errors", ()):
            yield Fault(SYNTAX, "the file is not YAML")
        for error in answer.get("errors", ()):
            told = error.get("best_deep_match") or error
            yield Fault(SCHEMA, f"{told.get('path', '$')}: {told.get('message', '')}"[:_MOST_TEXT])

    def _scanned(self, home: Path, file: Path) -> Iterator[Fault]:
        program = shutil.which("zizmor", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
        if program is None:
            raise Unreachable("zizmor is not installed beside the interpreter")
        # The team's own exceptions (`# zizmor: ignore`) count; a configuration file in the folder cannot be there.
        command = [program, "--offline", "--no-progress", "--no-config", "--format", "json", "--color", "never"]
        code, out = self._run([*command, str(file)], home)
        if code == _UNREADABLE:
            yield Fault(UNREAD, "the scanner cannot read this file")
            return
        if code not in _SCANNED or len(out) >= _OF_OUTPUT:
            raise Unreachable(f"zizmor ended with exit code {code}")
        for finding in _parsed(out, "zizmor"):
            name = str(finding.get("ident", ""))
            if finding.get("ignored") or not _NAME.fullmatch(name):
                continue
            yield Fault(f"scanner/{name}", str(finding.get("desc", ""))[:_MOST_TEXT], _line(finding))

    def _run(self, command: Sequence[str], home: Path) -> tuple[int, str]:
        environment = {"PATH": os.defpath, "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}
        limits = (str(int(self._timeout_s) + 1), str(_OF_MEMORY), str(_OF_OUTPUT))
        limited = [sys.executable, "-I", "-S", "-c", _LIMITED, *limits, *command]
        with tempfile.TemporaryFile() as told:
            process = subprocess.Popen(
                limited,
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                process.wait(timeout=self._timeout_s)
            except subprocess.TimeoutExpired:
                raise Unreachable(f"judging a workflow took longer than {self._timeout_s:g} s") from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            told.seek(0)
            return process.returncode, told.read(_OF_OUTPUT).decode("utf-8", "replace")


def _parsed(out: str, judge: str) -> Any:
    try:
        return json.loads(out)
    except ValueError:
        raise Unreachable(f"{judge} gave no answer that can be read") from None


def _line(finding: Any) -> int:
    """Of the place that the finding is about, from 1; 0 where it names none."""
    for location in finding.get("locations", ()):
        if location.get("symbolic", {}).get("kind") == "Primary":
            return int(location["concrete"]["location"]["start_point"]["row"]) + 1
    return 0
