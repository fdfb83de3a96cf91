"""The one statement that SQLAlchemy spells differently for the two databases."""

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite


def insert(connection: Connection, row: type[Any]) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT."""
    return postgresql.insert(row) if connection.dialect.name == "postgresql" else sqlite.insert(row)
