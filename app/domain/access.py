"""Who may send what that is not a webhook of GitHub's."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.tenant import Repository


class Scope(StrEnum):
    OBSERVATIONS = "observations"  # rows of what a model predicted
    SIGNALS = "signals"  # alerts, samples, events of monitoring systems and registries


class TokenKind(StrEnum):
    BEARER = "bearer"  # is sent with each request
    MLFLOW = "mlflow"  # signs what MLflow sends, and is never sent


@dataclass(frozen=True, slots=True)
class Token:
    """The right to send to one repository. The token itself is not kept, only its hash; `name` is for people.

    `last_used_at` is exact to five minutes.
    """

    id: int
    kind: TokenKind
    repository: Repository
    scopes: Collection[Scope]
    name: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes
