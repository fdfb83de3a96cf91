"""Whose a thing is: what the guard asks before anybody is shown anything."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select

from app.db.engine import reading
from app.db.tables import DeliveryRow, IncidentRow, InstallationRow, ModelRow, RepositoryRow


@dataclass(frozen=True, slots=True)
class Owner:
    """`repository_id` is None for what belongs to an installation as a whole, both for what belongs to nobody yet."""

    installation_id: int | None
    repository_id: int | None = None


class Owners:
    """Each method gives None for what there is not."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def incident(self, number: int) -> Owner | None:
        row = IncidentRow
        return self._one(select(row.installation_id, row.repository_id).where(row.id == number))

    def delivery(self, number: int) -> Owner | None:
        row = DeliveryRow
        return self._one(select(row.installation_id, row.repository_id).where(row.id == number))

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

    def _one(self, wanted: Any) -> Owner | None:
        with reading(self._engine) as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else Owner(row.installation_id, row.repository_id)
