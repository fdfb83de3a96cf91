"""The one statement that SQLAlchemy spells differently for the two databases."""

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite


def insert(connection: Connection, row: type[Any]) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT."""
    return insert_for(connection.dialect.name, row)


def insert_for(dialect: str, row: Any) -> sqlite.Insert | postgresql.Insert:
    """The same for a statement that is kept: into the table, so that it takes its values when it is executed."""
    return postgresql.insert(row) if dialect == "postgresql" else sqlite.insert(row)
