"""Versions in the order of their ecosystem."""

import functools
import re
from typing import Any

from packaging.version import InvalidVersion, Version

MAX_DIGITS = 20

# https://semver.org, its own expression, with bounds
_SEMVER = re.compile(
    r"[v=]?(\d{1,20})\.(\d{1,20})\.(\d{1,20})(?:-([0-9A-Za-z-]{1,50}(?:\.[0-9A-Za-z-]{1,50}){0,20}))?(?:\+[0-9A-Za-z.-]{0,200})?"
)


@functools.total_ordering
class SemVer:
    """Precedence as https://semver.org/#spec-item-11 has it. Raises ValueError."""

    def __init__(self, text: str) -> None:
        match = _SEMVER.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text[:50]!r} is no semantic version")
        release = tuple(int(part) for part in match.group(1, 2, 3))
        labels = tuple(_label(part) for part in match[4].split(".")) if match[4] else ()
        self._key = (release, not labels, labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SemVer) and self._key == other._key

    def __lt__(self, other: "SemVer") -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _label(part: str) -> tuple[bool, int, str]:
    """Numbers before words, and by value."""
    return (False, int(part), "") if part.isdecimal() else (True, 0, part)


def parsed(ecosystem: str, version: str) -> Any:
    """Something that compares as the ecosystem does. Raises ValueError."""
    if ecosystem == "npm":
        return SemVer(version)
    if len(version) > 200:
        raise ValueError("a version of more than 200 characters")
    try:
        return Version(version)
    except InvalidVersion as error:
        raise ValueError(str(error)) from error
