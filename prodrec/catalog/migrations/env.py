"""Alembic runs this file for each upgrade; the connection, in its transaction, comes from `prodrec.catalog.schema`."""

from alembic import context

from prodrec.catalog.schema import VERSION_TABLE
from prodrec.catalog.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
