"""Run by Alembic, on the connection and in the transaction of `serving.events.store`."""

from alembic import context

from serving.events.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
