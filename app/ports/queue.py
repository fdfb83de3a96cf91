"""The doorbell: tells a worker that a row is due. It may be lost, doubled or late without harm."""

from enum import StrEnum
from typing import Protocol


class Work(StrEnum):
    """The three kinds of rows that are claimed, leased and worked on."""

    DELIVERY = "delivery"
    REPAIR = "repair"
    EFFECT = "effect"


class Doorbell(Protocol):
    def ring(self, work: Work, row_id: int) -> None:
        """Say that this row is due. Never raises because a broker is away: the poll finds the row as well."""
        ...

    def reachable(self) -> bool:
        """Whether a ring would be heard now (for readiness)."""
        ...
