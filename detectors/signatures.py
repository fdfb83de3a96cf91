"""Loads what is known of failures: signatures of causes, and lines that are never the cause.

The knowledge is data: one TOML file a cause in `signatures/`, and `red_herrings.toml`. A mistake in a file refuses to
start with the file's name. Patterns are RE2 (linear time whatever the log holds) and match one line.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from string import Formatter
from typing import Any

import re2

from app.domain.finding import Remedy, Severity

DETECTORS = ("pipeline_failure", "dependency_conflict")
ACTIONS = ("rerun_failed_jobs", "edit_config", "pin_dependency", "open_issue")


class KnowledgeInvalid(ValueError):
    """A file of signatures is wrong; the message names the file and the field."""


@dataclass(frozen=True, slots=True)
class Signature:
    """How one cause shows in a log.

    `confidence` (0…1) is that of a single matching line; `facts` are patterns searched near it. A group named `…_bytes`
    becomes a number of bytes; `_2`, `_3` at the end of a group's name mean the same fact. `summary` is told where all
    its facts are known, `title` otherwise.
    """

    name: str
    kind: str
    detector: str
    severity: Severity
    confidence: float
    transient: bool
    title: str
    patterns: tuple[str, ...]
    ladder: tuple[Remedy, ...]
    examples: tuple[str, ...]
    not_this: tuple[str, ...]
    summary: str = ""
    facts: tuple[str, ...] = ()


_FIELDS: Mapping[str, type] = {
    "kind": str,
    "detector": str,
    "severity": str,
    "confidence": float,
    "transient": bool,
    "title": str,
    "patterns": list,
    "ladder": list,
    "examples": list,
    "not_this": list,
    "summary": str,
    "facts": list,
}
_OPTIONAL = ("summary", "facts")


def parse_signature(name: str, text: str) -> Signature:
    """Raises KnowledgeInvalid."""
    data = _table(name, text, _FIELDS, _OPTIONAL)
    for field in ("patterns", "examples", "not_this", "facts"):
        if not all(isinstance(item, str) and item for item in data.get(field, [])):
            raise KnowledgeInvalid(f"{name}: {field} must be a list of texts")
    if data["detector"] not in DETECTORS:
        raise KnowledgeInvalid(f"{name}: detector must be one of {', '.join(DETECTORS)}")
    if data["severity"] not in list(Severity):
        raise KnowledgeInvalid(f"{name}: severity must be one of {', '.join(Severity)}")
    if not 0 < data["confidence"] < 1:
        raise KnowledgeInvalid(f"{name}: confidence must lie between 0 and 1")
    if not data["patterns"] or not data["examples"] or not data["not_this"]:
        raise KnowledgeInvalid(f"{name}: patterns, examples and not_this need at least one entry each")
    compiled = [_compile(name, pattern) for pattern in (*data["patterns"], *data.get("facts", []))]
    known = {fact_name(group) for pattern in compiled for group in pattern.groupindex}
    for _, fact, spec, conversion in Formatter().parse(data.get("summary", "")):
        if fact is not None and (fact not in known or spec or conversion):
            raise KnowledgeInvalid(f"{name}: summary names {fact!r}, which no pattern captures")
    return Signature(
        name=name,
        kind=data["kind"],
        detector=data["detector"],
        severity=Severity(data["severity"]),
        confidence=data["confidence"],
        transient=data["transient"],
        title=data["title"],
        patterns=tuple(data["patterns"]),
        ladder=tuple(_remedy(name, rung) for rung in data["ladder"]),
        examples=tuple(data["examples"]),
        not_this=tuple(data["not_this"]),
        summary=data.get("summary", ""),
        facts=tuple(data.get("facts", [])),
    )


def fact_name(group: str) -> str:
    """The fact that a group tells: `http_status_2` is `http_status`."""
    stem, _, last = group.rpartition("_")
    return stem if last.isdecimal() else group


def _remedy(name: str, rung: Any) -> Remedy:
    if not isinstance(rung, dict) or not set(rung) <= {"action", "params"} or rung.get("action") not in ACTIONS:
        raise KnowledgeInvalid(f"{name}: a rung of the ladder has an action ({', '.join(ACTIONS)}) and params")
    return Remedy(rung["action"], rung.get("params", {}))


def _table(name: str, text: str, fields: Mapping[str, type], optional: Iterable[str] = ()) -> dict[str, Any]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as reason:
        raise KnowledgeInvalid(f"{name}: {reason}") from reason
    for field in data.keys() - fields.keys():
        raise KnowledgeInvalid(f"{name}: unknown field {field!r}")
    for field in fields.keys() - data.keys() - set(optional):
        raise KnowledgeInvalid(f"{name}: the field {field!r} is missing")
    for field, value in data.items():
        if not isinstance(value, fields[field]):
            raise KnowledgeInvalid(f"{name}: {field} must be a {fields[field].__name__}")
    return data


def _compile(name: str, pattern: str) -> Any:
    try:
        return re2.compile(pattern)
    except re2.error as reason:
        raise KnowledgeInvalid(f"{name}: {pattern!r} is not a pattern: {reason}") from reason


class Matcher:
    """All patterns at once over one line, in time linear in the line."""

    def __init__(self, patterns: Iterable[tuple[str, Any]]) -> None:
        """`patterns` are pairs of a pattern and what it stands for."""
        self._set = re2.Set.SearchSet()
        self._meanings = []
        for pattern, meaning in patterns:
            self._set.Add(pattern)
            self._meanings.append((re2.compile(pattern), meaning))
        self._set.Compile()

    def __call__(self, line: str) -> list[tuple[Any, Any]]:
        """Compiled pattern and meaning of each that is found in the line, in their order."""
        return [self._meanings[index] for index in sorted(self._set.Match(line) or ())]


def _signatures() -> tuple[Signature, ...]:
    folder: Traversable = files(__package__) / "signatures"
    found = [item for item in folder.iterdir() if item.name.endswith(".toml")]
    return tuple(
        parse_signature(item.name.removesuffix(".toml"), item.read_text("utf-8"))
        for item in sorted(found, key=lambda item: item.name)
    )


@dataclass(frozen=True, slots=True)
class RedHerring:
    """Lines that match `pattern` and not `unless` are alarming and never the cause."""

    pattern: str
    example: str
    unless: str = ""


def parse_red_herrings(text: str) -> tuple[RedHerring, ...]:
    """Raises KnowledgeInvalid."""
    name = "red_herrings"
    found = []
    for row in _table(name, text, {"line": list})["line"]:
        if not isinstance(row, dict) or not {"pattern", "example"} <= set(row) <= {"pattern", "example", "unless"}:
            raise KnowledgeInvalid(f"{name}: a line has a pattern, an example and possibly unless")
        for pattern in (row["pattern"], row.get("unless", "")):
            _compile(name, pattern)
        found.append(RedHerring(**row))
    return tuple(found)


SIGNATURES = _signatures()
RED_HERRINGS = parse_red_herrings((files(__package__) / "red_herrings.toml").read_text("utf-8"))
