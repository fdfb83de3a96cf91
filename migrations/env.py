"""Runs the migrations on the connection that app/db/migrate.py hands over, or, from alembic's own command, on a URL."""

import os

from alembic import context
from sqlalchemy import Connection

from app.db.engine import make_engine, writing
from app.db.tables import Base


def run(connection: Connection) -> None:
    # SQLite cannot alter most of a table in place: batch mode copies it
    batch = connection.dialect.name == "sqlite"
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=batch, compare_type=True)
    context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ["HEAL_DATABASE__URL"]
    with writing(make_engine(url)) as opened:
        run(opened)
