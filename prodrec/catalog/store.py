"""Opening the store that a URL names."""

from prodrec.catalog.records import Store
from prodrec.catalog.urls import is_folder

PATIENCE_S = 300.0


def open_store(url: str, patience_s: float = PATIENCE_S) -> Store:
    """Opens a store; nothing is read or written yet.

    Args:
        url: `postgresql://user@host/database` (with psycopg 3), `sqlite:///FILE`, any URL of SQLAlchemy, or a folder or URI such
            as s3://bucket/tags for Parquet files.
        patience_s: how long `known`, `write` and `finish` wait for a database that is away, seconds. Source: assumed; PostgreSQL
            restarts or fails over within a minute or two.

    Raises:
        StoreSetupError: the URL is wrong, or its driver is not installed.
    """
    if is_folder(url):
        from prodrec.catalog.parquet_store import ParquetStore

        return ParquetStore(url)
    from prodrec.catalog.sql_store import SqlStore

    return SqlStore(url, patience_s)
