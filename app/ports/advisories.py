"""What is known of vulnerable packages."""

from collections.abc import Sequence
from typing import Protocol

from app.domain.advisory import Known, LockedPackage


class Advisories(Protocol):
    """A database of advisories. It answers from what it has when its source is out of reach, and says how old that is;
    it never raises for that."""

    def affecting(self, packages: Sequence[LockedPackage]) -> Known: ...


class NoAdvisories:
    """Where no database is configured: nothing is known."""

    def affecting(self, packages: Sequence[LockedPackage]) -> Known:  # noqa: ARG002
        return Known()
