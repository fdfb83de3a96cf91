"""Answers whether requirements fit together, how little must change so that they do, and renews lockfiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Resolution:
    """`pins` maps distribution names to versions when it resolved; else `explanation` is the resolver's own proof."""

    resolved: bool
    pins: tuple[tuple[str, str], ...] = ()
    explanation: str = ""


class Locker(StrEnum):
    """Who writes a lockfile."""

    PIP_COMPILE = "pip-compile"  # requirements.txt from requirements.in or pyproject.toml, also by `uv pip compile`
    UV = "uv"
    POETRY = "poetry"
    NPM = "npm"


@dataclass(frozen=True, slots=True)
class Locking:
    """What a lockfile is renewed from.

    `files` is all that the tool may read, by its path in the repository: the manifests as they will be, what they
    include, and the lockfile as it is, which is kept to where nothing forces a change. `manifests` are the sources in
    the order of the command, `folder` is where the command is run, `options` are those of the compiling command,
    `upgrade` names what may move (`name` or `name==version`).
    """

    locker: Locker
    lockfile: str
    files: Mapping[str, str]
    manifests: tuple[str, ...]
    folder: str = ""
    options: tuple[str, ...] = ()
    upgrade: tuple[str, ...] = ()
    python: str | None = None


@dataclass(frozen=True, slots=True)
class Locked:
    """`text` is the renewed lockfile; where there is no solution, `explanation` is the tool's own proof."""

    resolved: bool
    text: str = ""
    explanation: str = ""


class Resolver(Protocol):
    def resolve(
        self, requirements: Sequence[str], *, python: str | None = None, constraints: Sequence[str] = ()
    ) -> Resolution:
        """Resolve requirement lines (PEP 508 only: no URLs, paths or options) without building or running anything.

        `constraints` limit what is chosen and ask for nothing. Raises Refused for a line it will not touch,
        Unreachable when the index does not answer.
        """
        ...

    def lock(self, locking: Locking) -> Locked:
        """The renewed lockfile, made by the real tool, without building or running anything of the repository.

        Raises Refused, in words that say what to do, for a tool that is not there or cannot do it safely and for
        what refers to other places than the configured index; Unreachable when the index does not answer.
        """
        ...
