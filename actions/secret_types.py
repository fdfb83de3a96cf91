"""What to do about a leaked secret, by who has issued it. See secret_types.toml."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files

_USED = re.compile(r"\bsecrets(?:\.|\[['\"])([A-Za-z_][A-Za-z0-9_]{0,99})")
_AUTOMATIC = "GITHUB_TOKEN"  # made for each job; nobody stores it
_LONGEST_TYPE = 100


@dataclass(frozen=True, slots=True)
class Issuer:
    """`manage` "": on a server of one's own."""

    name: str
    types: tuple[str, ...]
    names: tuple[str, ...]
    manage: str
    steps: tuple[str, ...]
    check: tuple[str, ...]
    source: str


def _load() -> tuple[Issuer, ...]:
    told = tomllib.loads((files(__package__) / "secret_types.toml").read_text("utf-8"))["issuer"]
    return tuple(
        Issuer(
            each["name"],
            tuple(each["types"]),
            tuple(each["names"]),
            each["manage"],
            tuple(each["steps"]),
            tuple(each["check"]),
            each["source"],
        )
        for each in told
    )


ISSUERS = _load()


def issuer_of(kind: str) -> Issuer:
    """By what the detectors or GitHub call the type; the last entry is for whatever nobody knows."""
    wanted = kind.lower()[:_LONGEST_TYPE]
    return next(each for each in ISSUERS if any(fnmatchcase(wanted, pattern) for pattern in each.types))


def names_in(workflow: str) -> frozenset[str]:
    """The names of the secrets that a workflow reads, its own token left out."""
    return frozenset(name.upper() for name in _USED.findall(workflow)) - {_AUTOMATIC}


def fitting(issuer: Issuer, names: Iterable[str]) -> list[str]:
    """Those that may be of this issuer, by their names alone."""
    return sorted(name for name in names if any(fnmatchcase(name, pattern) for pattern in issuer.names))
