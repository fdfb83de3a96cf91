"""What all reads for people have in common."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select

from app.db.engine import reading

AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

PAGE = 50


class Reader:
    """All methods raise Unreachable when the database is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def _listing(self) -> Iterator[Connection]:
        """For pages of lists: PostgreSQL never reads a whole large table for them, however old its statistics are."""
        with reading(self._engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            yield connection

    def _rows(self, wanted: AnySelect) -> Sequence[AnyRow]:
        with reading(self._engine) as connection:
            return connection.execute(wanted).all()
