"""The audit log for people: what they did themselves, and what was done where they are admins."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, false, or_, select, true
from sqlalchemy.orm import aliased

from app.db.reads.reader import PAGE, Reader
from app.db.sight import in_force
from app.db.tables import AuditRow, GrantRow, MemberRow, RepositoryRow, storable
from app.domain.access import Role, Sight

EXPORTED = 500  # rows of one query


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that somebody did."""

    id: int
    at: datetime
    actor: str
    via: str
    verb: str
    what: str
    number: str
    data: Mapping[str, Any]
    chain: str


@dataclass(frozen=True, slots=True)
class Entries:
    """Newest first. `older` is the `before` of the next page, None on the last one."""

    lines: tuple[Entry, ...]
    older: int | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for; "" for anything. `who` is a login as it was then."""

    who: str = ""
    verb: str = ""
    what: str = ""
    since: datetime | None = None


class AuditReads(Reader):
    def acts(
        self, sight: Sight, asked: Asked, before: int | None = None, limit: int = PAGE, *, admin: bool = True
    ) -> Entries:
        """`admin` False: what is asked with is no good for more than one's own acts."""
        row = AuditRow
        columns = (row.id, row.at, row.actor, row.via, row.verb, row.what, row.number, row.data, row.chain)
        wanted = select(*columns).where(shown(sight, admin=admin)).order_by(row.id.desc()).limit(limit + 1)
        for column, value in ((row.actor, asked.who), (row.verb, asked.verb), (row.what, asked.what)):
            if value:
                wanted = wanted.where(column == storable(value))
        if asked.since is not None:
            wanted = wanted.where(row.at >= asked.since)
        if before is not None:
            wanted = wanted.where(row.id < before)
        with self._listing() as connection:
            rows = connection.execute(wanted).all()
        lines = tuple(Entry(*each) for each in rows[:limit])
        return Entries(lines, lines[-1].id if len(rows) > limit else None)

    def every_act(self, sight: Sight, asked: Asked, *, admin: bool = True) -> Iterator[Entry]:
        """All that match, newest first, read bit by bit."""
        before: int | None = None
        while True:
            part = self.acts(sight, asked, before, EXPORTED, admin=admin)
            yield from part.lines
            if part.older is None:
                return
            before = part.older


def shown(sight: Sight, *, admin: bool = True) -> ColumnElement[bool]:
    """Whether a row of the audit log may be shown."""
    row = AuditRow
    if sight.everything:
        return true() if admin else false()
    narrow = []
    if sight.repository_id is not None:
        narrow.append(row.repository_id == sight.repository_id)
    elif sight.installation_id is not None:
        narrow.append(row.installation_id == sight.installation_id)
    if sight.account_id is None:
        return and_(*narrow) if narrow and admin else false()
    own = row.actor_id == sight.account_id
    if not admin:
        return and_(own, *narrow)
    administered = row.repository_id.in_(_administered(sight.account_id))
    whole = and_(row.repository_id.is_(None), row.installation_id.in_(_installations(sight.account_id)))
    return and_(or_(own, administered, whole), *narrow)


def _administered(account_id: int) -> Any:
    """The repositories of which they are an admin, by GitHub and by the installation's own admins."""
    return (
        select(GrantRow.repository_id)
        .join(RepositoryRow, RepositoryRow.id == GrantRow.repository_id)
        .where(
            GrantRow.account_id == account_id,
            GrantRow.role == Role.ADMIN.value,
            in_force(),
            RepositoryRow.installation_id == GrantRow.installation_id,
            RepositoryRow.removed_at.is_(None),
            ~_capped(account_id, GrantRow.installation_id),
        )
    )


def _installations(account_id: int) -> Any:
    """Those of which they administer every repository."""
    there = aliased(RepositoryRow)
    other = exists().where(
        there.installation_id == GrantRow.installation_id,
        there.removed_at.is_(None),
        there.id.not_in(_administered(account_id)),
    )
    return select(GrantRow.installation_id).where(GrantRow.repository_id.in_(_administered(account_id)), ~other)


def _capped(account_id: int, installation_id: Any) -> ColumnElement[bool]:
    return exists().where(
        MemberRow.account_id == account_id,
        MemberRow.installation_id == installation_id,
        MemberRow.role != Role.ADMIN.value,
    )
