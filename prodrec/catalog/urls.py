"""Where a store is: database URLs and folders."""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from prodrec.errors import StoreSetupError, shown_url

# Schemes of folders. Source: what pyarrow.fs.FileSystem.from_uri takes.
FOLDER_SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
_FILE_ENDINGS = (".db", ".sqlite", ".sqlite3")
_POSTGRES = ("postgres", "postgresql")


def is_folder(url: str) -> bool:
    """Whether a URL means a folder of Parquet files.

    Raises:
        StoreSetupError: it is the path of a file, as of a database.
    """
    if "://" in url:
        return url.partition("://")[0].lower() in FOLDER_SCHEMES
    if Path(url).is_file() or url.lower().endswith(_FILE_ENDINGS):
        raise StoreSetupError(f"{url} is no folder; for a SQLite file write sqlite:///{url}, for Parquet files name a folder")
    return True


def database_url(url: str) -> URL:
    """A database's URL with its driver, and for SQLite with the absolute path of its file.

    Raises:
        StoreSetupError: it is no URL, or names no file.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreSetupError(f"{shown_url(url)} is no database URL; write postgresql://user@host/database, sqlite:///FILE or a folder") from error
    if parsed.drivername in _POSTGRES:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        return parsed
    if not parsed.database or parsed.database == ":memory:":
        raise StoreSetupError(f"{shown_url(url)} names no file, and workers cannot share memory; write sqlite:///FILE")
    return parsed.set(database=str(Path(parsed.database).expanduser().absolute()))
