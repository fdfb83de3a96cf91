"""The files of a run's folder, and how they are written.

request.json   what is to be run
events.jsonl   what happened, a line each
stop.json      why it shall end: {"why": …}
result.json    what the workload answered, or how it failed
run.json       the whole record: request, outcome, metrics, environment, times
report.json    what the bot reads of it
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REQUEST, EVENTS, STOP, RESULT, RECORD, REPORT = (
    "request.json",
    "events.jsonl",
    "stop.json",
    "result.json",
    "run.json",
    "report.json",
)
MOST_BYTES = 16 * 1024 * 1024


def write(path: Path, value: Any) -> None:
    """Whole or not at all, also when the machine stops. Raises OSError."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """What JSON can hold: a number that is none becomes its name ("nan"), and what is unknown its text."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, str | int):
        return value
    return str(value)


def read(path: Path) -> dict[str, Any] | None:
    """None: it is not there, or is no JSON object."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
