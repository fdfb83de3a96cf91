"""A webhook as received."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

GITHUB = "github"  # the sources of deliveries that are told apart by more than what reads them
OBSERVATIONS = "observations"
RUNS = "runs"  # that repairs have started on a launcher; the bot makes them itself


class DeliveryState(StrEnum):
    READY = "ready"
    DONE = "done"
    IGNORED = "ignored"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook, kept once by its GUID. `body` is the raw request body, exactly as signed."""

    guid: str
    source: str
    event: str
    action: str
    body: bytes
    installation_id: int | None = None
    repository_id: int | None = None
    repository: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    received_at: datetime | None = None
    id: int = 0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a delivery that was handed to the store. `fresh` is False for one already kept."""

    id: int
    guid: str
    fresh: bool
