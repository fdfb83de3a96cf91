"""What people type into the search of the incidents: words, and qualifiers such as `repo:acme/vision`."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

from app.domain.incident import State

MOST_TERMS, MOST_VALUES = 12, 20


class Qualifier(StrEnum):
    REPO = "repo"
    DETECTOR = "detector"
    KIND = "kind"
    STATUS = "status"
    ACTION = "action"  # of any repair of the incident
    ACTOR = "actor"  # who approved, rejected, retried or closed
    SINCE = "since"  # opened since


class Trouble(StrEnum):
    """Why a search cannot be understood."""

    UNKNOWN = "unknown"  # there is no such qualifier
    EMPTY = "empty"  # a qualifier without a value
    STATUS = "status"  # there is no such status
    SINCE = "since"  # neither a time span nor a day
    QUOTE = "quote"  # a quotation mark that is never closed
    MANY = "many"  # more terms or values than are looked for


@dataclass(frozen=True, slots=True)
class Problem:
    """`text` is what could not be understood, as it was typed."""

    trouble: Trouble
    text: str


@dataclass(frozen=True, slots=True)
class Term:
    """One of `values` must be so (none, if negated). Without a qualifier it is one value: text that must occur.

    `*` stands for any text in the value of a qualifier.
    """

    qualifier: Qualifier | None
    values: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """All terms must hold. One with problems finds nothing: a term that is left out would find too much.

    `since` is a time, or how long ago.
    """

    terms: tuple[Term, ...] = ()
    problems: tuple[Problem, ...] = ()
    since: datetime | timedelta | None = None


_NAME = re.compile(r"([A-Za-z_]+):")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_VALUE = re.compile(r'[^\s,"]+')
_WORD = re.compile(r'[^\s"]+')
_SPAN = re.compile(r"([1-9][0-9]{0,3})([mhdw])", re.ASCII)
_DAY = re.compile(r"(?:19[7-9]|2[0-9]{2})[0-9]-[0-9]{2}-[0-9]{2}", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_STATUS = {"waiting": State.AWAITING_APPROVAL, "needs_approval": State.AWAITING_APPROVAL}


def parse(text: str, zone: tzinfo = UTC) -> Search:
    """The search that was typed; days begin in `zone`."""
    terms: list[Term] = []
    problems: list[Problem] = []
    since: datetime | timedelta | None = None
    at = 0
    while (at := _past_space(text, at)) < len(text):
        begun = at
        negated = text[at] == "-" and at + 1 < len(text) and not text[at + 1].isspace()
        at += negated
        named = _NAME.match(text, at)
        if named is None:
            value, at = _one(text, at, _WORD)
            if value is None:
                problems.append(Problem(Trouble.QUOTE, text[begun:]))
                break
            if value:
                terms.append(Term(None, (value,), negated))
            continue
        values, at = _several(text, named.end())
        if values is None:
            problems.append(Problem(Trouble.QUOTE, text[begun:]))
            break
        try:
            qualifier = Qualifier(named[1].lower())
        except ValueError:
            problems.append(Problem(Trouble.UNKNOWN, named[0]))
            continue
        term = Term(qualifier, values, negated)
        trouble = _trouble(term, taken=since is not None)
        if trouble is not None:
            problems.append(Problem(trouble, text[begun:at]))
            continue
        if qualifier is Qualifier.SINCE:
            since = _since(values[0], zone)
        terms.append(term)
    if len(terms) > MOST_TERMS:
        problems.append(Problem(Trouble.MANY, text))
    return Search(tuple(terms), tuple(problems), since)


def spell(search: Search) -> str:
    """Its terms as text that is parsed to the same."""
    return " ".join(_spelled(term) for term in search.terms)


def status(value: str) -> State | None:
    """`needs-approval`, `awaiting_approval`, `waiting`, …"""
    name = value.lower().replace("-", "_").replace(" ", "_")
    return _STATUS.get(name) or next((state for state in State if state.value == name), None)


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _one(text: str, at: int, bare: re.Pattern[str]) -> tuple[str | None, int]:
    """The value that begins there, and where it ends; None for a quotation mark that is never closed."""
    if text.startswith('"', at):
        quoted = _QUOTED.match(text, at)
        return (re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), quoted.end()) if quoted else (None, len(text))
    found = bare.match(text, at)
    return (found[0], found.end()) if found else ("", at)


def _several(text: str, at: int) -> tuple[tuple[str, ...] | None, int]:
    """Values with commas between them."""
    values = []
    while True:
        value, at = _one(text, at, _VALUE)
        if value is None:
            return None, at
        if value:
            values.append(value)
        if not text.startswith(",", at):
            return tuple(values), at
        at += 1


def _trouble(term: Term, *, taken: bool) -> Trouble | None:
    if not term.values:
        return Trouble.EMPTY
    if len(term.values) > MOST_VALUES:
        return Trouble.MANY
    if term.qualifier is Qualifier.STATUS and any(status(value) is None for value in term.values):
        return Trouble.STATUS
    if term.qualifier is Qualifier.SINCE:
        known = len(term.values) == 1 and not term.negated and _since(term.values[0], UTC) is not None
        return None if known and not taken else Trouble.SINCE
    return None


def _since(value: str, zone: tzinfo) -> datetime | timedelta | None:
    if span := _SPAN.fullmatch(value.lower()):
        return timedelta(**{_UNITS[span[2]]: int(span[1])})
    if not _DAY.fullmatch(value):
        return None
    try:
        return datetime.combine(date.fromisoformat(value), time(), zone).astimezone(UTC)
    except ValueError:
        return None


def _spelled(term: Term) -> str:
    values = ",".join(_quoted(value) for value in term.values)
    return ("-" if term.negated else "") + (f"{term.qualifier}:" if term.qualifier else "") + values


def _quoted(value: str) -> str:
    if re.fullmatch(r'[^\s,"\\:-][^\s,"\\:]*', value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
