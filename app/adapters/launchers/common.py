"""What all launchers hold to: what may be run at all, and what is told of a run that ended without a word."""

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.domain.errors import Refused
from app.ports.launcher import RunSpec

WORD = re.compile(r"[a-z][a-z0-9_-]{0,63}")
SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")
MOST_SETTINGS = 200
LONGEST_SETTING = 2_000
LONGEST_S = 7 * 24 * 3600.0
TAIL_BYTES = 16 * 1024
TAIL_LINES = 40
REPORT_BYTES = 1024 * 1024
LAST_SIGNAL = 64
_NOT_ITS_OWN = frozenset({"cancelled", "preempted", "killed"})  # how a run takes it that it is asked to end


def words(spec: RunSpec) -> list[str]:
    """Workload and verb. Raises Refused for what cannot be run; nothing of it ever reaches a shell unquoted."""
    for word in (spec.workload, spec.verb):
        if not WORD.fullmatch(word):
            raise Refused(f"{word[:100]!r} is no name of a workload or of what it does")
    if len(spec.settings) > MOST_SETTINGS:
        raise Refused(f"a run takes at most {MOST_SETTINGS} settings")
    for name, value in spec.settings.items():
        if not SETTING.fullmatch(name):
            raise Refused(f"{name[:100]!r} is no name of a setting")
        if len(value) > LONGEST_SETTING or not value.isprintable():
            raise Refused(f"the value of {name} is longer than {LONGEST_SETTING} characters, or not printable")
    if not 0 < spec.timeout_s <= LONGEST_S:
        raise Refused(f"a run may last at most {LONGEST_S:g} s")
    return [spec.workload, spec.verb]


def settings_of(spec: RunSpec) -> list[str]:
    return [word for name, value in sorted(spec.settings.items()) for word in ("--set", f"{name}={value}")]


def read_object(path: Path) -> Mapping[str, Any] | None:
    """None where there is none that can be read: what a run wrote is data of a stranger. A link to elsewhere is none,
    nor is a pipe, which would be waited for."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(REPORT_BYTES + 1) if regular else b""
    except OSError:
        return None
    return parse_object(content)


def parse_object(content: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(content) if len(content) <= REPORT_BYTES else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def last_lines(log: bytes) -> str:
    return "\n".join(log[-TAIL_BYTES:].decode("utf-8", "replace").splitlines()[-TAIL_LINES:])


def goes_on_from(out: Path) -> bool:
    """Whether it has kept a checkpoint."""
    try:
        return any((out / "checkpoints").glob("step-*"))
    except OSError:
        return False


def failed(
    report: Mapping[str, Any],
    *,
    code: int | None,
    resumable: bool,
    limit_s: float | None = None,
    out_of_memory: bool = False,
    lost: str = "",
) -> Mapping[str, Any]:
    """The report of a run that failed. What the run says of it itself goes before, except where we know better:
    `limit_s` is set where it was ended for its time, `out_of_memory` where the kernel has killed something for want of
    memory meanwhile, and `lost` says how it was lost sight of. A failure of which neither side knows anything is not
    made up."""
    told = report.get("failure")
    said = _said(report)
    signal = _signal(code)
    if limit_s is not None and (said is None or said in _NOT_ITS_OWN):
        kind, why = "timed_out", f"it was ended after its time limit of {limit_s:g} s"
    elif out_of_memory and (said == "killed" or (said is None and signal == 9)):
        kind, why = "host_oom", "the kernel killed it because the machine, or its share of it, was out of memory"
    elif said is None and (signal or lost):
        kind, why = "killed", lost or f"it was ended by signal {signal}"
    else:
        return report
    more = told if isinstance(told, dict) else {"advice": {}, "resumable": resumable, "facts": {}}
    return {**report, "outcome": "failed", "failure": {**more, "kind": kind, "message": why}}


def cancelled(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The report of a run that was cancelled: that is why it ended, however it took it."""
    if _said(report) not in _NOT_ITS_OWN:
        return report
    return {**report, "failure": {**report["failure"], "kind": "cancelled", "message": "it was cancelled"}}


def _said(report: Mapping[str, Any]) -> str | None:
    """What kind of failure the run names. None: it names none."""
    told = report.get("failure")
    said = told.get("kind") if isinstance(told, dict) else None
    return said if isinstance(said, str) else None


def _signal(code: int | None) -> int:
    """What ended it; 0: no signal. A shell tells a signal as 128 and its number."""
    if code is None:
        return 0
    return -code if code < 0 else code - 128 if 128 < code <= 128 + LAST_SIGNAL else 0
