"""Who may see what, do what, and send what."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.tenant import Repository

LOCAL = 0
"""The account of whoever holds this machine: signed in by a link that it printed, and known to no forge."""


class Role(StrEnum):
    """What a person may do, from the least to the most: look; decide on repairs; set rules, tokens and members."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, other: "Role") -> bool:
        return _RANK[self] >= _RANK[other]


_RANK = {role: rank for rank, role in enumerate(Role)}


def least(first: Role, *others: Role) -> Role:
    return min((first, *others), key=_RANK.__getitem__)


def role_for(permission: str) -> Role | None:
    """The role that GitHub's word for a permission stands for; None for none. Roles of an organisation's own making
    come with the permission that they are based on."""
    return {
        "admin": Role.ADMIN,
        "maintain": Role.OPERATOR,
        "write": Role.OPERATOR,
        "push": Role.OPERATOR,
        "triage": Role.VIEWER,
        "read": Role.VIEWER,
        "pull": Role.VIEWER,
    }.get(permission)


@dataclass(frozen=True, slots=True)
class Account:
    """A person. `id` is GitHub's number, which never changes hands; `login` is only what they are called now.

    `operator`: they run the bot itself, and see everything in it.
    """

    id: int
    login: str
    locale: str = ""
    time_zone: str = ""
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Sight:
    """What a reader may see, handed to everything that reads for people: all of it, or what GitHub lets an account
    see, or what a token is good for. The default sees nothing."""

    everything: bool = False
    account_id: int | None = None
    installation_id: int | None = None
    repository_id: int | None = None


EVERYTHING = Sight(everything=True)


class Scope(StrEnum):
    OBSERVATIONS = "observations"  # rows of what a model predicted
    SIGNALS = "signals"  # alerts, samples, events of monitoring systems and registries
    READ = "read"  # what a viewer may see
    OPERATE = "operate"  # what an operator may do
    ADMIN = "admin"  # what an admin may set


SENDING = frozenset({Scope.OBSERVATIONS, Scope.SIGNALS})
"""What is sent belongs to a repository, so a token for it does, too."""


class TokenKind(StrEnum):
    BEARER = "bearer"  # is sent with each request
    MLFLOW = "mlflow"  # signs what MLflow sends, and is never sent


@dataclass(frozen=True, slots=True)
class Token:
    """What a machine may send, see or do. The token itself is not kept, only its hash; `name` is for people.

    It is good for a repository, for all of an installation (`repository` None), or for everything (both None), and
    never for more than the account may that made it; None: whoever holds this machine. `last_used_at` is exact to five
    minutes.
    """

    id: int
    kind: TokenKind
    repository: Repository | None
    scopes: Collection[Scope]
    name: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    installation_id: int | None = None
    account_id: int | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes
