"""Answers whether requirements fit together, and how little must change so that they do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Resolution:
    """`pins` maps distribution names to versions when it resolved; else `explanation` is the resolver's own proof."""

    resolved: bool
    pins: tuple[tuple[str, str], ...] = ()
    explanation: str = ""


class Resolver(Protocol):
    def resolve(self, requirements: Sequence[str], *, python: str | None = None) -> Resolution:
        """Resolve requirement lines (PEP 508 only: no URLs, paths or options) without building or running anything.

        Raises Refused for a line it will not touch, Unreachable when the index does not answer.
        """
        ...
