"""What a reader may see, as SQL: every read for people is narrowed by it."""

from typing import Any, Protocol

from sqlalchemy import ColumnElement, Select, false, select, true

from app.db.engine import db_now
from app.db.tables import GrantRow, RepositoryRow
from app.domain.access import Sight

GRANTED_S = 7 * 86_400.0


class OfRepository(Protocol):
    """A table whose rows belong to repositories."""

    repository_id: Any


def seen(sight: Sight, row: type[OfRepository]) -> ColumnElement[bool]:
    """Whether the row's repository is one that may be seen."""
    return seen_repository(sight, row.repository_id)


def seen_repository(sight: Sight, repository_id: Any) -> ColumnElement[bool]:
    """The same of a column that holds a repository's number. The narrowest of what is said counts."""
    if sight.everything:
        return true()
    clauses: list[ColumnElement[bool]] = []
    if sight.repository_id is not None:
        clauses.append(repository_id == sight.repository_id)
    if sight.installation_id is not None:
        home = RepositoryRow.installation_id == sight.installation_id
        clauses.append(repository_id.in_(select(RepositoryRow.id).where(home, RepositoryRow.removed_at.is_(None))))
    if sight.account_id is not None:
        clauses.append(repository_id.in_(_granted(sight.account_id)))
    if not clauses:
        return false()
    every = clauses[0]
    for clause in clauses[1:]:
        every = every & clause
    return every


def in_force() -> ColumnElement[bool]:
    """What GitHub said long ago is worth nothing: tokens outlive the sign-in of whoever made them."""
    return GrantRow.granted_at > db_now(-GRANTED_S)


def _granted(account_id: int) -> Select[int]:
    """What the App was removed from, or what has moved to another installation, is granted to nobody."""
    return (
        select(GrantRow.repository_id)
        .join(RepositoryRow, RepositoryRow.id == GrantRow.repository_id)
        .where(
            GrantRow.account_id == account_id,
            in_force(),
            RepositoryRow.installation_id == GrantRow.installation_id,
            RepositoryRow.removed_at.is_(None),
        )
    )
