"""What all reads for people have in common."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, Row, Select

from app.db.engine import reading

AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

PAGE = 50


class Reader:
    """All methods raise Unreachable when the database is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _rows(self, wanted: AnySelect) -> Sequence[AnyRow]:
        with reading(self._engine) as connection:
            return connection.execute(wanted).all()
