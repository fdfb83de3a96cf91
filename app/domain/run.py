"""How a run on a launcher ended, in its own words: data of a stranger, of which only so much is taken."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.errors import Malformed

LONGEST_MESSAGE = 500
LONGEST_VALUE = 200
LONGEST_TAIL = 16_000
MOST_MEMBERS = 40
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,59}")
_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why it failed. `advice` are settings with which it is likely to get through when it goes on, `facts` numbers and
    names that explain it, units in their names; `resumable` says that it has kept what a later run can go on from."""

    kind: str
    message: str = ""
    advice: Mapping[str, str] = field(default_factory=dict)
    resumable: bool = False
    facts: Mapping[str, float | str | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that a repair has started and that has said how it ended; without a `failure` it succeeded.

    `about` is what it was for ("model speech"), `model` that model's name in heal.yml, where it was for one. `first` is
    the handle of the run that it goes on from, by way of others, or its own; `restarts` counts how many lie between.
    `tail` are the last lines of its log.
    """

    launcher: str
    handle: str
    workload: str
    verb: str
    about: str = ""
    model: str = ""
    first: str = ""
    restarts: int = 0
    failure: Failure | None = None
    tail: str = ""


def run_note(launcher: str, handle: str) -> str:
    """Where it stands what is known of a run that a repair has started: `resumed_as`, once another one goes on from
    it."""
    return f"runs/{launcher}/{handle}"


def failure_of(report: Mapping[str, Any]) -> Failure | None:
    """What a report tells of a failure. None: it tells of none that can be read."""
    told = report.get("failure")
    if report.get("outcome") != "failed" or not isinstance(told, Mapping):
        return None
    kind = told.get("kind")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        return None
    advice = _members(told.get("advice"))
    return Failure(
        kind,
        _line(told.get("message"), LONGEST_MESSAGE),
        {name: spelt(value) for name, value in advice.items()},
        told.get("resumable") is True,
        _members(told.get("facts")),
    )


def _members(told: object) -> dict[str, float | str | bool]:
    """Names with plain values; the rest is left out."""
    found: dict[str, float | str | bool] = {}
    for name, value in told.items() if isinstance(told, Mapping) else ():
        if len(found) == MOST_MEMBERS:
            break
        if not isinstance(name, str) or not _WORD.fullmatch(name):
            continue
        if isinstance(value, str):
            found[name] = _line(value, LONGEST_VALUE)
        elif isinstance(value, bool) or (isinstance(value, int | float) and _plain(value)):
            found[name] = value
    return found


def _plain(value: float) -> bool:
    return abs(value) < 2**63 and math.isfinite(value)


def _line(told: object, longest: int) -> str:
    """Printable text of one line."""
    words = " ".join(told[: 4 * longest].split()) if isinstance(told, str) else ""
    return "".join(each for each in words if each.isprintable())[:longest]


def spelt(value: float | str | bool) -> str:
    """A value as settings have it."""
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else f"{value:.12g}"


def run_to_json(run: EndedRun) -> dict[str, Any]:
    told: dict[str, Any] = {name: getattr(run, name) for name in (*_TEXTS, "restarts", "tail")}
    if run.failure is not None:
        failure = {name: getattr(run.failure, name) for name in ("kind", "message", "resumable")}
        failure |= {"advice": dict(run.failure.advice), "facts": dict(run.failure.facts)}
        told["failure"] = failure
    return told


_TEXTS = ("launcher", "handle", "workload", "verb", "about", "model", "first")


def run_from_json(told: Mapping[str, Any]) -> EndedRun:
    """Raises Malformed."""
    texts = {name: _line(told.get(name), LONGEST_VALUE) for name in _TEXTS}
    if not all(texts[name] for name in ("launcher", "handle", "workload", "verb")):
        raise Malformed("an ended run has a launcher, a handle, a workload and a verb")
    failure = failure_of({"outcome": "failed", **told}) if "failure" in told else None
    if "failure" in told and failure is None:
        raise Malformed("the failure of an ended run has a kind")
    restarts, tail = told.get("restarts"), told.get("tail")
    return EndedRun(
        **texts,
        restarts=restarts if isinstance(restarts, int) and 0 <= restarts < 1_000 else 0,
        failure=failure,
        tail=tail[-LONGEST_TAIL:] if isinstance(tail, str) else "",
    )
