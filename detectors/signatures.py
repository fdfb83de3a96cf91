"""Loads what is known of failures: signatures of causes, and lines that are never the cause.

The knowledge is data: one TOML file a cause in `signatures/`, and `red_herrings.toml`. A mistake in a file refuses to
start with the file's name. Patterns are RE2 (linear time whatever the log holds) and match one line.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from string import Formatter
from typing import Any

import re2

from app.domain.finding import Remedy, Severity
from detectors.playbooks import ladder_of

DETECTORS = ("pipeline_failure", "dependency_conflict", "resource_constraint")


class KnowledgeInvalid(ValueError):
    """A file of signatures is wrong; the message names the file and the field."""


@dataclass(frozen=True, slots=True)
class Signature:
    """How one cause shows in a log.

    `confidence` (0…1) is that of a single matching line; `facts` are patterns searched near it, and `tells` are those
    that stand for facts which the line does not spell. A group named `…_bytes` becomes a number of bytes; `_2`, `_3` at
    the end of a group's name mean the same fact, `a__b` is the part b of the fact a. `summary` is told where all its
    facts are known, `title` otherwise.
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
    tells: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_FIELDS: Mapping[str, type] = {
    "kind": str,
    "detector": str,
    "severity": str,
    "confidence": float,
    "transient": bool,
    "title": str,
    "patterns": list,
    "examples": list,
    "not_this": list,
    "summary": str,
    "facts": list,
    "tells": list,
}
_OPTIONAL = ("summary", "facts", "tells")


def parse_signature(name: str, text: str) -> Signature:
    """Raises KnowledgeInvalid."""
    data = _table(name, text, _FIELDS, _OPTIONAL)
    for key in ("patterns", "examples", "not_this", "facts"):
        if not all(isinstance(item, str) and item for item in data.get(key, [])):
            raise KnowledgeInvalid(f"{name}: {key} must be a list of texts")
    if data["detector"] not in DETECTORS:
        raise KnowledgeInvalid(f"{name}: detector must be one of {', '.join(DETECTORS)}")
    if data["severity"] not in list(Severity):
        raise KnowledgeInvalid(f"{name}: severity must be one of {', '.join(Severity)}")
    if not 0 < data["confidence"] < 1:
        raise KnowledgeInvalid(f"{name}: confidence must lie between 0 and 1")
    if not data["patterns"] or not data["examples"] or not data["not_this"]:
        raise KnowledgeInvalid(f"{name}: patterns, examples and not_this need at least one entry each")
    compiled = [_compile(name, pattern) for pattern in (*data["patterns"], *data.get("facts", []))]
    tells = dict(_telling(name, row) for row in data.get("tells", []))
    known = {fact_name(group).partition("__")[0] for pattern in compiled for group in pattern.groupindex}
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
        patterns=tuple(_START.sub(lambda _: _PREFIX, pattern) for pattern in data["patterns"]),
        ladder=ladder_of(data["kind"]),
        examples=tuple(data["examples"]),
        not_this=tuple(data["not_this"]),
        summary=data.get("summary", ""),
        facts=tuple(data.get("facts", [])),
        tells=tells,
    )


def fact_name(group: str) -> str:
    """The fact that a group tells: `http_status_2` is `http_status`."""
    stem, _, last = group.rpartition("_")
    return stem if last.isdecimal() else group


_START = re.compile(r"(?<![\\[])\^")
_PREFIX = (
    r"^(?:#\d+ [\d.]+ |\d+\.\d+ |\[\d{4}-\d\d-\d\dT[\d:.]+Z?\] |\d\d:\d\d:\d\d +|[A-Za-z][\w.-]*\s+\| |\[\w+ ?\d+\]:? "
    r"|##\[error\]|std(?:err|out): |\(\w+ pid=\d+[^)]*\) )?"
)
"""What builders, compositions, ranks and servers put before a line; `^` in a signature stands behind it."""


def _telling(name: str, row: Any) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(row, dict) or not isinstance(row.get("when"), str) or len(row) < 2:
        raise KnowledgeInvalid(f"{name}: a row of tells has when, a pattern, and the facts that it stands for")
    if not all(isinstance(value, (str, int, float)) for value in row.values()):
        raise KnowledgeInvalid(f"{name}: tells has facts of one value only")
    _compile(name, row["when"])
    return row["when"], {fact: value for fact, value in row.items() if fact != "when"}


def _table(name: str, text: str, fields: Mapping[str, type], optional: Iterable[str] = ()) -> dict[str, Any]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as reason:
        raise KnowledgeInvalid(f"{name}: {reason}") from reason
    for key in data.keys() - fields.keys():
        raise KnowledgeInvalid(f"{name}: unknown field {key!r}")
    for key in fields.keys() - data.keys() - set(optional):
        raise KnowledgeInvalid(f"{name}: the field {key!r} is missing")
    for key, value in data.items():
        if not isinstance(value, fields[key]):
            raise KnowledgeInvalid(f"{name}: {key} must be a {fields[key].__name__}")
    return data


def _compile(name: str, pattern: str) -> Any:
    try:
        return re2.compile(pattern)
    except re2.error as reason:
        raise KnowledgeInvalid(f"{name}: {pattern!r} is not a pattern: {reason}") from reason


WILDCARDS_AT_ONCE = 20


class Matcher:
    """All patterns at once over one line, in time linear in the line.

    Patterns with `.*` are matched a few at a time: an automaton of many of them has too many states to be kept.
    """

    def __init__(self, patterns: Iterable[tuple[str, Any]]) -> None:
        """`patterns` are pairs of a pattern and what it stands for."""
        given = list(patterns)
        self._meanings = [(re2.compile(pattern), meaning) for pattern, meaning in given]
        wild = [index for index, (pattern, _) in enumerate(given) if ".*" in pattern or ".{" in pattern]
        plain = sorted(set(range(len(given))) - set(wild))
        groups = [plain, *(wild[at : at + WILDCARDS_AT_ONCE] for at in range(0, len(wild), WILDCARDS_AT_ONCE))]
        self._sets = [(_set(given[index][0] for index in group), group) for group in groups if group]

    def __call__(self, line: str) -> list[tuple[Any, Any]]:
        """Compiled pattern and meaning of each that is found in the line, in their order."""
        found = [group[place] for matched, group in self._sets for place in matched.Match(line) or ()]
        return [self._meanings[index] for index in sorted(found)]


def _set(patterns: Iterable[str]) -> Any:
    patterns_at_once = re2.Set.SearchSet()
    for pattern in patterns:
        patterns_at_once.Add(pattern)
    patterns_at_once.Compile()
    return patterns_at_once


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


class Knowledge:
    """What is known of failures, ready to be asked."""

    def __init__(self, signatures: Iterable[Signature], red_herrings: Iterable[RedHerring]) -> None:
        self.signatures = tuple(signatures)
        self.red_herrings = tuple(red_herrings)
        self.causes = Matcher((pattern, signature) for signature in self.signatures for pattern in signature.patterns)
        self._harmless = Matcher((herring.pattern, herring) for herring in self.red_herrings)
        self._unless = {herring: re2.compile(herring.unless) for herring in self.red_herrings if herring.unless}
        self._facts = {
            signature.name: Matcher(
                (pattern, signature.tells.get(pattern, {})) for pattern in (*signature.tells, *signature.facts)
            )
            for signature in self.signatures
        }

    def extended(self, signatures: Iterable[Signature]) -> "Knowledge":
        """This knowledge with more signatures: those of a team. One with a name that is known takes its place."""
        added = tuple(signatures)
        names = {signature.name for signature in added}
        kept = (signature for signature in self.signatures if signature.name not in names)
        return Knowledge((*kept, *added), self.red_herrings)

    def is_red_herring(self, line: str) -> bool:
        """Alarming, and never the cause."""
        return any(
            herring not in self._unless or not self._unless[herring].search(line) for _, herring in self._harmless(line)
        )

    def facts_in(self, signature: Signature, line: str) -> list[tuple[Any, Mapping[str, Any]]]:
        """The compiled patterns of the signature's facts that are found in the line, and the facts each stands for."""
        return self._facts[signature.name](line)


BUILTIN = Knowledge(_signatures(), parse_red_herrings((files(__package__) / "red_herrings.toml").read_text("utf-8")))
SIGNATURES = BUILTIN.signatures
RED_HERRINGS = BUILTIN.red_herrings
