"""Whose a thing is: what the guard asks before anybody is shown anything."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Select, func, select

from app.db.engine import reading
from app.db.rows import repository_of
from app.db.sight import seen_repository
from app.db.tables import DeliveryRow, IncidentRow, InstallationRow, ModelRow, RepositoryRow
from app.domain.access import Sight
from app.domain.tenant import Repository

MOST_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Owner:
    """`repository_id` is None for what belongs to an installation as a whole, both for what belongs to nobody yet."""

    installation_id: int | None
    repository_id: int | None = None


@dataclass(frozen=True, slots=True)
class Home:
    """An installation: whose it is, and in how many of its repositories the reader sees the App."""

    id: int
    account: str
    repositories: int


class Owners:
    """Each method gives None for what there is not."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def incident(self, number: int) -> Owner | None:
        return self._one(_of_now(IncidentRow).where(IncidentRow.id == number))

    def delivery(self, number: int) -> Owner | None:
        return self._one(_of_now(DeliveryRow).where(DeliveryRow.id == number))

    def repository(self, number: int) -> Owner | None:
        row = RepositoryRow
        return self._one(select(row.installation_id, row.id.label("repository_id")).where(row.id == number))

    def model(self, number: int) -> Owner | None:
        joined = select(RepositoryRow.installation_id, ModelRow.repository_id).join(
            RepositoryRow, RepositoryRow.id == ModelRow.repository_id
        )
        return self._one(joined.where(ModelRow.id == number))

    def installation(self, number: int) -> Owner | None:
        with reading(self._engine) as connection:
            known = connection.scalar(select(InstallationRow.id).where(InstallationRow.id == number))
        return None if known is None else Owner(number)

    def installations(self) -> frozenset[int]:
        """Those on which the App is."""
        with reading(self._engine) as connection:
            here = select(InstallationRow.id).where(InstallationRow.removed_at.is_(None))
            return frozenset(connection.scalars(here))

    def homes(self, sight: Sight) -> list[Home]:
        """The installations of which the reader sees something, by name."""
        here = InstallationRow.id == RepositoryRow.installation_id
        wanted = (
            select(InstallationRow.id, InstallationRow.account, func.count().label("repositories"))
            .join(RepositoryRow, here)
            .where(
                RepositoryRow.removed_at.is_(None),
                InstallationRow.removed_at.is_(None),
                seen_repository(sight, RepositoryRow.id),
            )
            .group_by(InstallationRow.id, InstallationRow.account)
            .order_by(func.lower(InstallationRow.account))
            .limit(MOST_SHOWN)
        )
        with reading(self._engine) as connection:
            return [Home(row.id, row.account, row.repositories) for row in connection.execute(wanted)]

    def home(self, installation_id: int) -> Home | None:
        """One installation, with all of its repositories."""
        count = (
            select(func.count())
            .where(RepositoryRow.installation_id == installation_id, RepositoryRow.removed_at.is_(None))
            .scalar_subquery()
        )
        wanted = select(InstallationRow.id, InstallationRow.account, count.label("repositories"))
        with reading(self._engine) as connection:
            row = connection.execute(wanted.where(InstallationRow.id == installation_id)).one_or_none()
        return None if row is None else Home(row.id, row.account, row.repositories)

    def repositories(self, sight: Sight, installation_id: int) -> list[Repository]:
        """Those of an installation that the reader sees, by name."""
        wanted = (
            select(*RepositoryRow.__table__.c)
            .where(
                RepositoryRow.installation_id == installation_id,
                RepositoryRow.removed_at.is_(None),
                seen_repository(sight, RepositoryRow.id),
            )
            .order_by(func.lower(RepositoryRow.full_name))
            .limit(MOST_SHOWN)
        )
        with reading(self._engine) as connection:
            return [repository_of(row) for row in connection.execute(wanted)]

    def _one(self, wanted: Any) -> Owner | None:
        with reading(self._engine) as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else Owner(row.installation_id, row.repository_id)


def _of_now(row: Any) -> Select[Any]:
    """A repository may have moved to another installation since: what happened in it goes along."""
    home = func.coalesce(RepositoryRow.installation_id, row.installation_id).label("installation_id")
    return select(home, row.repository_id).outerjoin(RepositoryRow, RepositoryRow.id == row.repository_id)
