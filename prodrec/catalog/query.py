"""Listings out of a database."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import create_engine
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from prodrec.catalog.urls import database_url
from prodrec.errors import SourceError, shown_url
from prodrec.sources.columns import refuse_twins

# Rows fetched at a time. Source: assumed; 5 MB.
_ROWS = 20_000


def read_query(url: str, query: str) -> pa.Table:
    """The result of a query, all columns as text, streamed from the server.

    Raises:
        SourceError: the database cannot be reached, refuses the query, or the result has no column `uri`.
        StoreSetupError: it is no database URL.
    """
    try:
        place = database_url(url)
        if place.get_backend_name() == "sqlite" and not Path(str(place.database)).exists():
            raise SourceError(f"{place.database} does not exist; give a database that is there")
        engine = create_engine(place)
        with engine.connect().execution_options(stream_results=True, yield_per=_ROWS) as connection:
            # A query that changes something is rolled back with the connection.
            result = connection.exec_driver_sql(query)
            names = list(result.keys()) if result.returns_rows else []
            if "uri" not in names:
                raise SourceError(f"{shown_url(url)}: the query gives {', '.join(names) or 'no columns'}; it must give uri (SELECT ... AS uri)")
            refuse_twins(names, shown_url(url))
            tables = [_table(names, rows) for rows in result.partitions()]
    except (SQLAlchemyError, NoSuchModuleError, ImportError) as error:
        reason = shown_url(" ".join(str(getattr(error, "orig", None) or error).split())[:300])
        raise SourceError(f"cannot read {shown_url(url)}: {reason}; check the URL and the query") from error
    return pa.concat_tables(tables) if tables else _table(names, [])


def _table(names: list[str], rows: Any) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return pa.table(
        {name: pa.array([None if value is None else str(value) for value in column], pa.string()) for name, column in zip(names, columns, strict=True)}
    )
