"""GitHub's security alerts, read from their webhooks: Dependabot's, code scanning's and secret scanning's.

Only named members are taken over, so that a secret which GitHub might send along goes no further.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]

MAX_TEXT = 300

_ECOSYSTEMS = {"pip": "PyPI", "npm": "npm"}
_ADVISORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
# what ends an alert, where it carries no state of its own (code scanning's is null for some)
_OVER = frozenset(("fixed", "dismissed", "auto_dismissed", "closed_by_user", "resolved", "revoked"))


@dataclass(frozen=True)
class AlertFacts:
    """What an alert's `SecurityAlertChanged` says. `branch` "" where the alert is not about one."""

    rule: str
    open: bool
    severity: str = ""
    summary: str = ""
    branch: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def read_alert(source: str, action: str, content: Json) -> AlertFacts | None:
    """None where it does not say what it is about."""
    return _READERS[source](_dict(content.get("alert")), action, content)


def _dependabot(alert: Json, action: str, _: Json) -> AlertFacts | None:
    advisory = _dict(alert.get("security_advisory"))
    vulnerability = _dict(alert.get("security_vulnerability"))
    dependency = _dict(alert.get("dependency"))
    package = _dict(dependency.get("package")) or _dict(vulnerability.get("package"))
    rule, name, path = _text(advisory, "ghsa_id"), _text(package, "name"), _text(dependency, "manifest_path")
    if not (rule and name and path):
        return None
    score = _dict(advisory.get("cvss")).get("score")
    epss = advisory.get("epss")
    chance = _dict(epss[0] if isinstance(epss, list) and epss else epss).get("percentage")
    ecosystem = _text(package, "ecosystem")
    names = (_text(_dict(one), "value") for one in _list(advisory.get("identifiers")))
    return AlertFacts(
        rule=rule,
        open=_is_open(alert, action),
        severity=_text(advisory, "severity") or _text(vulnerability, "severity"),
        summary=_text(advisory, "summary"),
        details={
            "package": name,
            "ecosystem": _ECOSYSTEMS.get(ecosystem, ecosystem),
            "path": path.removeprefix("/"),
            "scope": _text(dependency, "scope"),
            "aliases": [other for other in names if other != rule and _ADVISORY.fullmatch(other)][:10],
            "affected": _text(vulnerability, "vulnerable_version_range"),
            "fixed": _text(_dict(vulnerability.get("first_patched_version")), "identifier"),
            "score": _number(score, 10.0) or None,  # GitHub sends 0 for "not scored"
            "exploited": _number(chance, 1.0),
        },
    )


def _code_scanning(alert: Json, action: str, content: Json) -> AlertFacts | None:
    rule, newest = _dict(alert.get("rule")), _dict(alert.get("most_recent_instance"))
    if not newest:
        newest = next((one for one in _list(alert.get("instances")) if isinstance(one, dict)), {})
    name = _text(rule, "id") or _text(rule, "name")
    if not name:
        return None
    location = _dict(newest.get("location"))
    line = location.get("start_line")
    ref = _text(content, "ref") or _text(newest, "ref")
    return AlertFacts(
        rule=name,
        open=_is_open(alert, action),
        severity=_text(rule, "security_severity_level") or _text(rule, "severity"),
        summary=_text(rule, "description"),
        branch=ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else ref,
        details={
            "tool": _text(_dict(alert.get("tool")), "name"),
            "path": _text(location, "path"),
            "line": line if type(line) is int and 0 < line < 10_000_000 else 0,
            "message": _text(_dict(newest.get("message")), "text"),
            "scored": bool(_text(rule, "security_severity_level")),
        },
    )


def _secret_scanning(alert: Json, action: str, _: Json) -> AlertFacts | None:
    kind = _text(alert, "secret_type")
    if not kind:
        return None
    return AlertFacts(
        rule=kind,
        open=action not in _OVER and not _text(alert, "resolution"),
        summary=_text(alert, "secret_type_display_name"),
        details={
            "validity": _text(alert, "validity"),
            "publicly_leaked": alert.get("publicly_leaked") is True,
            "resolution": _text(alert, "resolution"),
        },
    )


_READERS = {"dependabot": _dependabot, "code_scanning": _code_scanning, "secret_scanning": _secret_scanning}


def _is_open(alert: Json, action: str) -> bool:
    state = _text(alert, "state")
    return state == "open" if state else action not in _OVER


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(content: Json, member: str) -> str:
    """Short and on one line; empty for anything else, and for one with a NUL."""
    value = content.get(member)
    return " ".join(value.split())[:MAX_TEXT] if isinstance(value, str) and "\0" not in value else ""


def _number(value: object, most: float) -> float | None:
    """Also where it is written as text, which GitHub does for EPSS."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None
    return number if number is not None and 0 <= number <= most else None
