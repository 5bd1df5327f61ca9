"""Listings out of a database."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import create_engine
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from prodrec.catalog.urls import database_url
from prodrec.errors import SourceError, shown_url
from prodrec.sources.columns import as_text, refuse_twins
from prodrec.sources.headers import find_columns
from prodrec.sources.listings import DECLARED
from prodrec.sources.tables import renamed, with_notes

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
            refuse_twins(names, shown_url(url))
            columns = find_columns(names, ("uri", "listing_id", "view", *DECLARED), shown_url(url))
            if "uri" not in columns:
                raise SourceError(f"{shown_url(url)}: the query gives {', '.join(names) or 'no columns'}; it must give uri (SELECT ... AS uri)")
            tables = [_table(names, columns, rows) for rows in result.partitions()]
    except (SQLAlchemyError, NoSuchModuleError, ImportError) as error:
        reason = shown_url(" ".join(str(getattr(error, "orig", None) or error).split())[:300])
        raise SourceError(f"cannot read {shown_url(url)}: {reason}; check the URL and the query") from error
    return with_notes(pa.concat_tables(tables) if tables else _table(names, columns, []), renamed(columns))


def _table(names: list[str], columns: dict[str, str], rows: Any) -> pa.Table:
    cells = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    return pa.table({column: pa.array([_text(value) for value in cells[name]], pa.string()) for column, name in columns.items()})


def _text(value: Any) -> str | None:
    """A value as tables have it: whole numbers of any type as such, and bytes as the text that they are."""
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, float):
        return as_text(pa.chunked_array([[value]]))[0].as_py()
    if isinstance(value, Decimal):
        return f"{value:.0f}" if value.is_finite() and value == value.to_integral_value() else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError as error:
            raise SourceError("the query gives bytes that are no text; leave that column out, or give it as text (CAST, encode)") from error
    return str(value)
