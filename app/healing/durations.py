"""How heal.yml writes lengths of time: `45s`, `30m`, `2h`, `7d`."""

import json
import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_WRITTEN = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_SCHEMA = {"type": "string", "pattern": "^[0-9]{1,6}[smhd]$", "examples": ["30m", "2h", "7d"]}


def _seconds(value: object) -> object:
    match = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        text = json.dumps(value)
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise ValueError(f"{shown} is not a duration; write a number and a unit, such as 45s, 30m, 2h or 7d")
    return int(match[1]) * SECONDS[match[2]]


Duration = Annotated[int, BeforeValidator(_seconds), WithJsonSchema(_SCHEMA)]


def spoken(seconds: int) -> str:
    """The duration as one would write it in the file."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % SECONDS[unit] == 0:
            return f"{seconds // SECONDS[unit]}{unit}"
    return f"{seconds}s"
