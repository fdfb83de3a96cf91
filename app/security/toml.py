"""TOML of others. The parser's time grows with the square of a key's parts, so keys of many parts are refused."""

import re
import tomllib
from typing import Any

MAX_PARTS = 50

# strings and comments, within which nothing counts, then what ends a key
_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.?|"(?!""))*+(?:"{3,5})?'
    r"|'''(?:[^']|'(?!''))*+(?:'{3,5})?"
    r'|"(?:[^"\\\n]|\\.?)*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+"
    r"|[.=,\[\]{}\n]",
    re.DOTALL,
)


def load_toml(text: str) -> dict[str, Any]:
    """Raises ValueError for what is no TOML, is nested too deep, or has a key of more than 50 dotted parts."""
    dots = 0
    for match in _TOKEN.finditer(text):
        word = match[0]
        if word == ".":
            dots += 1
            if dots >= MAX_PARTS:
                raise ValueError(f"a key has more than {MAX_PARTS} parts")
        elif word in "=,[]{}\n":
            dots = 0
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
