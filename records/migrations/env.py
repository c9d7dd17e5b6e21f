"""Alembic runs this file. The engine comes from `records.migrate`, or from the settings on the command line."""

from alembic import context
from sqlalchemy import Connection

from records.database import Database
from records.models import Base
from records.settings import load_settings


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,  # SQLite cannot alter most things in place
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    database = Database(load_settings().database)
    with database.engine.begin() as opened:
        run(opened)
    database.close()
