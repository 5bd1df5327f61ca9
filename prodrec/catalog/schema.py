"""Making the tables and bringing them up to date, by Alembic's migrations in `prodrec/catalog/migrations`."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from prodrec.errors import StoreSetupError

# Of its own name, as the database may hold another program's migrations too.
VERSION_TABLE = "prodrec_schema"
# Any number that all versions share. Source: the first eight letters of "prodrec!" as ASCII.
_LOCK = int.from_bytes(b"prodrec!", "big")


def migrate(connection: Connection) -> None:
    """Brings the schema up to date, in the transaction that `connection` is in; processes that do so at once wait for each other.

    Raises:
        StoreSetupError: a newer prodrec made it.
    """
    # SQLite's transaction is exclusive already (BEGIN IMMEDIATE).
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    present, newest = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision(), scripts.get_current_head()
    if present == newest:
        return
    if present is not None and present not in {script.revision for script in scripts.walk_revisions()}:
        raise StoreSetupError(f"the store was made by a newer prodrec (schema {present}; this one knows up to {newest}); install that prodrec")
    command.upgrade(config, "head")
