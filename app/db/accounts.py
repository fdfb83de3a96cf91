"""People: who they are, which browsers they have signed in with, and what GitHub lets them do."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, and_, case, delete, func, select, update

from app.db.audit import Act, add
from app.db.dialect import insert
from app.db.digest import digest
from app.db.engine import db_now, reading, writing
from app.db.sight import in_force
from app.db.tables import AccountRow, GrantRow, MemberRow, RepositoryRow, SessionRow, SignInRow
from app.domain.access import Account, Role, least

SEEN_EVERY_S = 60.0
MOST_SHOWN = 500
_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in. `user_token` is sealed; `checked_at` is when the grants were last asked for, and
    `stale_s` how long ago that is."""

    id: int
    account: Account
    user_token: bytes
    checked_at: datetime
    stale_s: float
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that was begun and has come back. `verifier` is sealed; `onwards` is where they wanted to go."""

    verifier: bytes
    onwards: str


@dataclass(frozen=True, slots=True)
class Grant:
    repository_id: int
    installation_id: int
    role: Role


@dataclass(frozen=True, slots=True)
class Browser:
    """A session, for whoever it is of."""

    id: int
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who has signed in, in one installation. `ceiling` is the most that GitHub lets them do in any of its
    `repositories`; `most` is what its admins say, and `by` who said so."""

    account: Account
    ceiling: Role
    repositories: int
    most: Role | None
    by: str
    seen_at: datetime


class Accounts:
    """All methods raise Unreachable when the database is away. What a cookie or a link holds is kept as its hash."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # people
    def remember(self, account_id: int, login: str, *, operator: bool) -> Account:
        """Who has just proven to be that account."""
        values = {"login": login, "operator": operator, "seen_at": db_now()}
        with writing(self._engine) as connection:
            put = insert(connection, AccountRow).values(id=account_id, created_at=db_now(), **values)
            connection.execute(put.on_conflict_do_update(index_elements=[AccountRow.id], set_=values))
            return account_of(connection.execute(_account(account_id)).one())

    def account(self, account_id: int) -> Account | None:
        with reading(self._engine) as connection:
            row = connection.execute(_account(account_id)).one_or_none()
        return None if row is None else account_of(row)

    def members(self, installation_id: int) -> list[Member]:
        """Who has signed in and may see something of an installation, by login."""
        ceiling = case(
            *((GrantRow.role == role.value, rank) for rank, role in enumerate(Role)),
            else_=0,
        )
        here = and_(GrantRow.installation_id == installation_id, RepositoryRow.installation_id == installation_id)
        set_here = and_(MemberRow.installation_id == installation_id, MemberRow.account_id == AccountRow.id)
        wanted = (
            select(
                *AccountRow.__table__.c,
                func.max(ceiling).label("ceiling"),
                func.count().label("repositories"),
                MemberRow.role.label("most"),
                MemberRow.by,
            )
            .join(GrantRow, GrantRow.account_id == AccountRow.id)
            .join(RepositoryRow, RepositoryRow.id == GrantRow.repository_id)
            .outerjoin(MemberRow, set_here)
            .where(here, RepositoryRow.removed_at.is_(None))
            .group_by(*AccountRow.__table__.c, MemberRow.role, MemberRow.by)
            .order_by(func.lower(AccountRow.login))
            .limit(MOST_SHOWN)
        )
        with reading(self._engine) as connection:
            return [
                Member(
                    account_of(row),
                    tuple(Role)[row.ceiling],
                    row.repositories,
                    Role(row.most) if row.most else None,
                    row.by or "",
                    row.seen_at,
                )
                for row in connection.execute(wanted)
            ]

    def appoint(self, installation_id: int, account_id: int, role: Role | None, act: Act) -> None:
        """What they may do at most in an installation from now on; None: what GitHub lets them."""
        this = (MemberRow.installation_id == installation_id, MemberRow.account_id == account_id)
        with writing(self._engine) as connection:
            if role is None:
                connection.execute(delete(MemberRow).where(*this))
            else:
                values = {"role": role.value, "by": act.actor, "at": db_now()}
                put = insert(connection, MemberRow).values(
                    installation_id=installation_id, account_id=account_id, **values
                )
                keys = [MemberRow.installation_id, MemberRow.account_id]
                connection.execute(put.on_conflict_do_update(index_elements=keys, set_=values))
            add(connection, act)

    def choose(self, account_id: int, *, locale: str, time_zone: str) -> None:
        this = update(AccountRow).where(AccountRow.id == account_id)
        with writing(self._engine) as connection:
            connection.execute(this.values(locale=locale, time_zone=time_zone))

    # signing in
    def begin(self, kind: str, *, seconds: float, verifier: bytes = b"", onwards: str = "/") -> str:
        """A new one-time text (a state, or the token of a link), which nobody can be told again."""
        made = secrets.token_urlsafe(_BYTES)
        with writing(self._engine) as connection:
            row = insert(connection, SignInRow).values(
                digest=digest(made),
                kind=kind,
                verifier=verifier,
                onwards=onwards,
                created_at=db_now(),
                expires_at=db_now(seconds),
            )
            connection.execute(row)
        return made

    def redeem(self, kind: str, text: str) -> Begun | None:
        """Once, and in time; of two that come at once one."""
        valid = (
            SignInRow.digest == digest(text),
            SignInRow.kind == kind,
            SignInRow.used_at.is_(None),
            SignInRow.expires_at > db_now(),
        )
        with writing(self._engine) as connection:
            used = update(SignInRow).where(*valid).values(used_at=db_now())
            row = connection.execute(used.returning(SignInRow.verifier, SignInRow.onwards)).one_or_none()
            connection.execute(delete(SignInRow).where(SignInRow.expires_at < db_now(-86_400.0)))
        return None if row is None else Begun(row.verifier, row.onwards)

    # sessions
    def open(self, account_id: int, *, seconds: float, user_token: bytes = b"") -> str:
        """The new session's cookie."""
        made = secrets.token_urlsafe(_BYTES)
        with writing(self._engine) as connection:
            row = insert(connection, SessionRow).values(
                digest=digest(made),
                account_id=account_id,
                user_token=user_token,
                checked_at=db_now(),
                created_at=db_now(),
                seen_at=db_now(),
                expires_at=db_now(seconds),
            )
            connection.execute(row)
            connection.execute(delete(SessionRow).where(SessionRow.expires_at < db_now(-7 * 86_400.0)))
        return made

    def session(self, cookie: str, *, idle_s: float, used: bool = True) -> Session | None:
        """The session of that cookie, if it is in force; it counts as used, unless nobody asked by themselves."""
        columns = (
            SessionRow.id.label("session_id"),
            SessionRow.user_token,
            SessionRow.checked_at,
            SessionRow.created_at.label("begun_at"),
            SessionRow.expires_at,
            SessionRow.seen_at.label("used_at"),
            db_now().label("now"),
        )
        valid = and_(
            SessionRow.digest == digest(cookie),
            SessionRow.ended_at.is_(None),
            SessionRow.expires_at > db_now(),
            SessionRow.seen_at > db_now(-idle_s),
        )
        with reading(self._engine) as connection:
            joined = select(*columns, *AccountRow.__table__.c).join(AccountRow, AccountRow.id == SessionRow.account_id)
            row = connection.execute(joined.where(valid)).one_or_none()
        if row is None:
            return None
        if used and (row.now - row.used_at).total_seconds() > SEEN_EVERY_S:
            with writing(self._engine) as connection:
                connection.execute(update(SessionRow).where(SessionRow.id == row.session_id).values(seen_at=db_now()))
        return Session(
            row.session_id,
            account_of(row),
            row.user_token,
            row.checked_at,
            (row.now - row.checked_at).total_seconds(),
            row.begun_at,
            row.expires_at,
        )

    def sessions(self, account_id: int, *, idle_s: float) -> list[Browser]:
        """Where somebody is signed in, the latest used first."""
        row = SessionRow
        valid = (
            row.account_id == account_id,
            row.ended_at.is_(None),
            row.expires_at > db_now(),
            row.seen_at > db_now(-idle_s),
        )
        wanted = select(row.id, row.created_at, row.seen_at, row.expires_at).where(*valid).order_by(row.seen_at.desc())
        with reading(self._engine) as connection:
            found = connection.execute(wanted.limit(MOST_SHOWN))
            return [Browser(each.id, each.created_at, each.seen_at, each.expires_at) for each in found]

    def checked(self, session_id: int) -> None:
        """Their grants have just been asked for."""
        with writing(self._engine) as connection:
            connection.execute(update(SessionRow).where(SessionRow.id == session_id).values(checked_at=db_now()))

    def end(self, session_id: int) -> None:
        with writing(self._engine) as connection:
            this = update(SessionRow).where(SessionRow.id == session_id, SessionRow.ended_at.is_(None))
            connection.execute(this.values(ended_at=db_now(), user_token=b""))

    def end_all(self, account_id: int) -> None:
        with writing(self._engine) as connection:
            this = update(SessionRow).where(SessionRow.account_id == account_id, SessionRow.ended_at.is_(None))
            connection.execute(this.values(ended_at=db_now(), user_token=b""))

    # rights
    def grant(self, account_id: int, grants: Sequence[Grant]) -> None:
        """What GitHub says now, in place of what it said before."""
        this = select(AccountRow.id).where(AccountRow.id == account_id).with_for_update(key_share=True)
        with writing(self._engine) as connection:
            connection.execute(this)  # two browsers of one person ask at the same time: one after the other
            connection.execute(delete(GrantRow).where(GrantRow.account_id == account_id))
            if grants:
                rows = [
                    {
                        "account_id": account_id,
                        "repository_id": each.repository_id,
                        "installation_id": each.installation_id,
                        "role": each.role.value,
                    }
                    for each in grants
                ]
                connection.execute(insert(connection, GrantRow).values(granted_at=db_now()), rows)

    def role_in(self, account_id: int, repository_id: int) -> Role | None:
        """What they may do in a repository: GitHub's grant, and at most what the installation's admins have said."""
        with reading(self._engine) as connection:
            return role_in(connection, account_id, repository_id)

    def role_at(self, account_id: int, installation_id: int) -> Role | None:
        """What they may do with an installation as a whole: the least of what they may in each of its repositories.

        Who sees only some of them is a viewer; who sees none has no role at all.
        """
        with reading(self._engine) as connection:
            return role_at(connection, account_id, installation_id)


def role_in(connection: Connection, account_id: int, repository_id: int) -> Role | None:
    ours = and_(
        MemberRow.installation_id == GrantRow.installation_id,
        MemberRow.account_id == GrantRow.account_id,
    )
    row = connection.execute(
        select(GrantRow.role, MemberRow.role.label("most"))
        .join(RepositoryRow, RepositoryRow.id == GrantRow.repository_id)
        .outerjoin(MemberRow, ours)
        .where(
            GrantRow.account_id == account_id,
            GrantRow.repository_id == repository_id,
            in_force(),
            RepositoryRow.installation_id == GrantRow.installation_id,  # it may have moved to another
            RepositoryRow.removed_at.is_(None),
        )
    ).one_or_none()
    return None if row is None else _capped(Role(row.role), row.most)


def role_at(connection: Connection, account_id: int, installation_id: int) -> Role | None:
    granted = and_(
        GrantRow.repository_id == RepositoryRow.id,
        GrantRow.installation_id == installation_id,
        GrantRow.account_id == account_id,
        in_force(),
    )
    all_of_it = (
        select(GrantRow.role)
        .select_from(RepositoryRow)
        .outerjoin(GrantRow, granted)
        .where(RepositoryRow.installation_id == installation_id, RepositoryRow.removed_at.is_(None))
    )
    roles = [Role(role) if role else None for role in connection.scalars(all_of_it)]
    if not any(roles):
        return None
    lowest = least(Role.ADMIN, *(role or Role.VIEWER for role in roles))
    most = connection.scalar(
        select(MemberRow.role).where(MemberRow.installation_id == installation_id, MemberRow.account_id == account_id)
    )
    return _capped(lowest, most)


def _capped(role: Role, most: str | None) -> Role:
    return least(role, Role(most)) if most else role


def account_of(row: Any) -> Account:
    return Account(row.id, row.login, row.locale, row.time_zone, row.operator)


def _account(account_id: int) -> Any:
    return select(*AccountRow.__table__.c).where(AccountRow.id == account_id)
