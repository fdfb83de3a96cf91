"""Searches that people keep under names of their own."""

from dataclasses import dataclass

from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from app.db.dialect import insert
from app.db.engine import db_now, reading, writing
from app.db.tables import ViewRow

MOST_VIEWS, NAME_LENGTH = 50, 60


@dataclass(frozen=True, slots=True)
class View:
    """`query` is the query string of the page, without its question mark."""

    id: int
    name: str
    query: str


class Views:
    """Each person sees and changes their own alone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, account_id: int) -> list[View]:
        """By name."""
        row = ViewRow
        wanted = select(row.id, row.name, row.query).where(row.account_id == account_id).order_by(row.name, row.id)
        with reading(self._engine) as connection:
            return [View(*found) for found in connection.execute(wanted)]

    def keep(self, account_id: int, name: str, query: str) -> bool:
        """Under that name, in place of what it stood for. False: there are too many."""
        row = ViewRow
        with writing(self._engine) as connection:
            others = (row.account_id == account_id, row.name != name)
            if (connection.scalar(select(func.count()).where(*others)) or 0) >= MOST_VIEWS:
                return False
            new = insert(connection, row).values(account_id=account_id, name=name, query=query, created_at=db_now())
            connection.execute(
                new.on_conflict_do_update(index_elements=[row.account_id, row.name], set_={"query": query})
            )
        return True

    def rename(self, account_id: int, view_id: int, name: str) -> bool:
        """False: there is no such view of theirs, or another one has that name."""
        this = update(ViewRow).where(ViewRow.id == view_id, ViewRow.account_id == account_id)
        try:
            with writing(self._engine) as connection:
                return connection.execute(this.values(name=name)).rowcount > 0
        except IntegrityError:
            return False

    def forget(self, account_id: int, view_id: int) -> bool:
        """False: there is no such view of theirs."""
        this = delete(ViewRow).where(ViewRow.id == view_id, ViewRow.account_id == account_id)
        with writing(self._engine) as connection:
            return connection.execute(this).rowcount > 0
