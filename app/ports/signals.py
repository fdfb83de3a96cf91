"""Monitoring that can be asked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from app.domain.model import Query
from app.domain.signal import Series
from app.domain.tenant import Repository


class Signals(Protocol):
    def lets(self, repository: Repository) -> bool:
        """Whether the operator lets this repository ask."""
        ...

    def ask(self, queries: Mapping[str, Query], *, until: datetime) -> list[Series]:
        """Series of the name that each query stands under, over the last hours. A query that is refused gives none.

        Raises Unreachable.
        """
        ...
