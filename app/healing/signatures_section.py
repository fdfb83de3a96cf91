"""The section of heal.yml about a team's own failures."""

from collections.abc import Collection, Iterator, Mapping
from string import Formatter
from typing import Annotated, Any, Literal

import re2
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.domain.finding import Severity
from app.domain.signature import KINDS, TEAM, TeamSignature

MOST = 30
PROGRAM_SIZE = 2_000
"""Of a compiled pattern: the bot's own have at most some 1,200."""

_SILENT = re2.Options()
_SILENT.log_errors = False

Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=r"^[^\n]*$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,49}$")]
Kind = Annotated[str, StringConstraints(pattern=r"^(?:team:[a-z][a-z0-9_-]{0,49}|[a-z][a-z0-9_]{1,49})$")]


class SignatureSection(BaseModel):
    """How a failure of the team's own shows in a log."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    name: Name
    """Tells it from the others."""
    kind: Kind | None = None
    """One of the bot's kinds of causes, or one of the team's own, `team:…`; without it `team:` and the name."""
    title: Text
    """What broke, in a few words."""
    summary: Text | None = None
    """The same with what the patterns captured, in braces: `{host} does not answer`."""
    patterns: Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=5)]
    """RE2; each matches one line."""
    facts: Annotated[tuple[Pattern, ...], Field(max_length=5)] = ()
    """RE2 with named groups, looked for near the line that matched."""
    examples: Annotated[tuple[Line, ...], Field(min_length=1, max_length=10)]
    """Lines that must match."""
    not_this: Annotated[tuple[Line, ...], Field(min_length=1, max_length=10)]
    """Lines that look alike and must not match."""
    severity: Severity = Severity.MEDIUM
    """low, medium, high or critical."""
    transient: bool = False
    """Whether it goes away by itself, so that it is the same cause in whichever job."""
    ladder: Annotated[tuple[Literal["rerun_failed_jobs", "open_issue"], ...], Field(max_length=3)] = ("open_issue",)
    """What to do, from the gentlest on."""

    def signature(self) -> TeamSignature:
        given = self.model_dump(exclude={"kind", "summary"})
        return TeamSignature(**given, kind=self.kind or f"{TEAM}{self.name}", summary=self.summary or "")


def mistakes(rows: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with rows whose form the model judges: the place in the section, and a sentence."""
    names: set[str] = set()
    for index, row in enumerate(rows if isinstance(rows, list) else ()):
        if not isinstance(row, dict):
            continue
        yield from (((index, *place), why) for place, why in _of_one(row))
        name = row.get("name")
        if isinstance(name, str):
            if name in names:
                yield (index, "name"), f"two signatures are called {name!r}"
            names.add(name)


def _of_one(row: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    kind = row.get("kind")
    if isinstance(kind, str) and not kind.startswith(TEAM) and kind not in KINDS:
        yield ("kind",), f"the bot knows no kind {kind!r}; a kind of your own begins with {TEAM!r}"
    compiled: dict[str, list[Any]] = {"patterns": [], "facts": []}
    broken = False
    for field, found in compiled.items():
        for at, text in _texts(row, field):
            try:
                found.append(re2.compile(text, _SILENT))
            except re2.error as reason:
                told = reason.args[0] if reason.args else ""
                why = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
                broken = True
                yield (field, at), f"{text!r} is no pattern of RE2: {why}"
                continue
            if found[-1].programsize > PROGRAM_SIZE:
                broken = True
                yield (field, at), f"{text[:60]!r} is too complicated: repeat less"
    if broken:
        return
    for at, text in _texts(row, "examples"):
        if not any(pattern.search(text) for pattern in compiled["patterns"]):
            yield ("examples", at), f"no pattern matches the example {text!r}"
    for at, text in _texts(row, "not_this"):
        if any(pattern.search(text) for pattern in compiled["patterns"]):
            yield ("not_this", at), f"a pattern matches {text!r}, which is not this"
    known = {group for found in compiled.values() for pattern in found for group in pattern.groupindex}
    yield from ((("summary",), why) for why in _wrong_summary(row.get("summary"), known))


def _texts(row: Mapping[str, Any], field: str) -> Iterator[tuple[int, str]]:
    given = row.get(field)
    for at, text in enumerate(given if isinstance(given, list) else ()):
        if isinstance(text, str):
            yield at, text


def _wrong_summary(summary: object, known: Collection[str]) -> Iterator[str]:
    if not isinstance(summary, str):
        return
    try:
        parts = list(Formatter().parse(summary))
    except ValueError as reason:
        yield f"the braces do not fit: {reason}"
        return
    for _, fact, spec, conversion in parts:
        if fact is not None and (fact not in known or spec or conversion):
            yield f"no pattern captures {fact!r}; write (?P<{fact or 'name'}>…) in one"
