"""OSV's records (https://ossf.github.io/osv-schema/): what they say of a version. Pure, and lenient in reading."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.adapters.osv.versions import parsed
from app.domain.advisory import Advisory
from app.security.lockfiles import pypi_name

ECOSYSTEMS = frozenset(("PyPI", "npm"))
MAX_EVENTS = 2_000
MAX_TEXT = 300

Json = Mapping[str, Any]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


def id_of(record: Json) -> str:
    """Empty for a record that cannot be used."""
    value = record.get("id")
    return value if isinstance(value, str) and _ID.fullmatch(value) else ""


def names_in(record: Json) -> set[tuple[str, str]]:
    """The packages (ecosystem, name) that it is about, of the ecosystems that are looked at."""
    return {(ecosystem, name) for ecosystem, name, _ in _affected(record)}


def affects(record: Json, ecosystem: str, name: str, version: str) -> tuple[str, ...] | None:
    """None if that version is not concerned, else the fixed versions that are newer, oldest first.

    By OSV's rules: a version is affected if it is enumerated, or lies in one of the ranges. Withdrawn records are void.
    """
    if record.get("withdrawn"):
        return None
    try:
        mine = parsed(ecosystem, version)
    except ValueError:
        mine = None
    concerned = False
    fixed: list[Any] = []
    for where, what, entry in _affected(record):
        if (where, what) != (ecosystem, name):
            continue
        enumerated = _list(entry.get("versions"))
        concerned = (
            concerned or version in enumerated or (mine is not None and _equals_one(mine, ecosystem, enumerated))
        )
        for each in _list(entry.get("ranges")):
            if mine is None or not isinstance(each, dict) or each.get("type") not in ("ECOSYSTEM", "SEMVER"):
                continue
            events = _events(ecosystem, each)
            concerned = concerned or _in_range(mine, events)
            fixed += [(at, text) for at, kind, text in events if kind == "fixed" and at is not None and at > mine]
    if not concerned:
        return None
    return tuple(dict.fromkeys(text for _, text in sorted(fixed, key=lambda pair: pair[0])))


def _affected(record: Json) -> Iterator[tuple[str, str, Json]]:
    for entry in _list(record.get("affected")):
        package = entry.get("package") if isinstance(entry, dict) else None
        if isinstance(package, dict):
            ecosystem, name = package.get("ecosystem"), package.get("name")
            if isinstance(ecosystem, str) and isinstance(name, str):
                ecosystem = ecosystem.partition(":")[0]
                if ecosystem in ECOSYSTEMS:
                    yield ecosystem, pypi_name(name) if ecosystem == "PyPI" else name, entry


def _equals_one(mine: Any, ecosystem: str, versions: Sequence[Any]) -> bool:
    """1.0 is 1.0.0 in PyPI's eyes."""
    for version in versions[:MAX_EVENTS]:
        try:
            if isinstance(version, str) and parsed(ecosystem, version) == mine:
                return True
        except ValueError:
            continue
    return False


def _events(ecosystem: str, given: Json) -> list[tuple[Any, str, str]]:
    """(version, kind, text) in the order of versions; the version None is before all others."""
    found: list[tuple[Any, str, str]] = []
    for event in _list(given.get("events"))[:MAX_EVENTS]:
        for kind, text in event.items() if isinstance(event, dict) else ():
            if not isinstance(text, str) or kind not in ("introduced", "fixed", "last_affected"):
                continue
            try:
                found.append((None if text == "0" else parsed(ecosystem, text), kind, text))
            except ValueError:
                return []  # an end that cannot be read would leave the range open
    beginning = [event for event in found if event[0] is None]
    return beginning + sorted((event for event in found if event[0] is not None), key=lambda event: event[0])


def _in_range(mine: Any, events: Iterable[tuple[Any, str, str]]) -> bool:
    inside = False
    for at, kind, _ in events:
        if kind == "introduced" and (at is None or mine >= at):
            inside = True
        elif at is not None and ((kind == "fixed" and mine >= at) or (kind == "last_affected" and mine > at)):
            inside = False
    return inside


def advisory(record: Json, fixed: tuple[str, ...] = ()) -> Advisory:
    """What a person is told of it."""
    own = record.get("database_specific")
    word = own.get("severity") if isinstance(own, dict) else None
    name = id_of(record)
    summary = record.get("summary") or record.get("details") or ""
    first_line = summary.strip().split("\n", 1)[0][:MAX_TEXT] if isinstance(summary, str) else ""
    return Advisory(
        id=name,
        aliases=tuple(
            alias for alias in _list(record.get("aliases")) if isinstance(alias, str) and _ID.fullmatch(alias)
        ),
        summary=first_line,
        score=_score(record),
        severity=_WORDS.get(word.upper(), "") if isinstance(word, str) else "critical" if _is_malware(name) else "",
        fixed=fixed,
        url=f"https://osv.dev/vulnerability/{name}",
    )


def _is_malware(name: str) -> bool:
    return name.startswith("MAL-")


_WORDS = {"LOW": "low", "MODERATE": "medium", "MEDIUM": "medium", "HIGH": "high", "CRITICAL": "critical"}


def merged(advisories: Iterable[Advisory]) -> tuple[Advisory, ...]:
    """One for each vulnerability: records that share a name or an alias are one. GitHub's leads where there is one."""
    groups: list[list[Advisory]] = []
    for each in advisories:
        same = [group for group in groups if any(each.names & other.names for other in group)]
        groups = [group for group in groups if group not in same]
        groups.append([each, *(one for group in same for one in group)])
    return tuple(sorted((_one(group) for group in groups), key=lambda one: one.id))


def _one(group: Sequence[Advisory]) -> Advisory:
    first, *others = sorted(group, key=lambda one: (not one.id.startswith("GHSA-"), one.id))
    names = frozenset().union(*(one.names for one in group)) - {first.id}
    scores = [one.score for one in (first, *others) if one.score is not None]
    return Advisory(
        id=first.id,
        aliases=tuple(sorted(names)),
        summary=first.summary or next((one.summary for one in others if one.summary), ""),
        score=scores[0] if scores else None,
        severity=first.severity or next((one.severity for one in others if one.severity), ""),
        fixed=first.fixed or next((one.fixed for one in others if one.fixed), ()),
        url=first.url,
    )


# CVSS 3.x base score: https://www.first.org/cvss/v3-1/specification-document, section 7.1
_METRICS: Mapping[str, Mapping[str, float]] = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES = {"U": {"N": 0.85, "L": 0.62, "H": 0.27}, "C": {"N": 0.85, "L": 0.68, "H": 0.5}}


def _score(record: Json) -> float | None:
    for severity in _list(record.get("severity")):
        if isinstance(severity, dict) and severity.get("type") == "CVSS_V3" and isinstance(severity.get("score"), str):
            return cvss3(severity["score"])
    return None


def cvss3(vector: str) -> float | None:
    """The base score of a CVSS 3.0 or 3.1 vector; None if it is none."""
    if not vector.startswith("CVSS:3.") or len(vector) > 200:
        return None
    given = dict(part.split(":", 1) for part in vector.split("/")[1:] if ":" in part)
    try:
        av, ac, ui, c, i, a = (weights[given[metric]] for metric, weights in _METRICS.items())
        changed = given["S"] == "C"
        pr = _PRIVILEGES[given["S"]][given["PR"]]
    except KeyError:
        return None
    iss = 1 - (1 - c) * (1 - i) * (1 - a)
    impact = 7.52 * (iss - 0.029) - 3.25 * (iss - 0.02) ** 15 if changed else 6.42 * iss
    if impact <= 0:
        return 0.0
    total = impact + 8.22 * av * ac * pr * ui
    return _round_up(min(1.08 * total if changed else total, 10.0))


def _round_up(value: float) -> float:
    """To one decimal, upwards, without being led astray by binary fractions (appendix A)."""
    whole = round(value * 100_000)
    return whole / 100_000 if whole % 10_000 == 0 else (math.floor(whole / 10_000) + 1) / 10


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
