"""What is written down of what people do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Act:
    """Something that somebody did. `what` and `number` name the thing; `data` holds no secret."""

    actor: str
    via: str
    verb: str
    what: str = ""
    number: str = ""
    actor_id: int | None = None
    installation_id: int | None = None
    repository_id: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
