"""A run's decisions as CSV, for those who have no SQL."""

import csv
import io
import json
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, create_engine, inspect, null, select, union_all
from sqlalchemy.exc import SQLAlchemyError

from prodrec.catalog.records import RunRecord
from prodrec.catalog.tables import DECISIONS, PREDICTIONS, REJECTS
from prodrec.catalog.urls import database_url
from prodrec.errors import StoreError, shown_url

CSV_COLUMNS = ("listing_id", "decision", "product", "product_title", "product_group", "probability", "reasons", "uris")
# Decisions read at once. Source: assumed; some 500 KB of CSV.
_ROWS = 1_000
# What a spreadsheet takes for a formula. Source: OWASP, "CSV Injection"; the wide signs are those of East Asian keyboards.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")


def decisions_csv(store_url: str, run: RunRecord, hidden: str) -> Generator[bytes, None, None]:
    """A run's decisions by listing, CSV in UTF-8, in pieces. `reasons` and `uris` (of the images) are JSON.

    Listings that were unchanged have none of this run. Text that a spreadsheet would take for a formula begins with '.

    Args:
        hidden: a path of the server's that is left out wherever it stands.

    Raises:
        StoreError: the database fails.
    """
    yield _csv([CSV_COLUMNS])
    try:
        engine = create_engine(database_url(store_url))
        try:
            with engine.connect() as decided, engine.connect() as placed:
                for rows in _decisions(decided, run):
                    uris = _uris(placed, run, [row.listing_id for row in rows])
                    yield _csv([[_cell(value, hidden) for value in (*row, json.dumps(uris.get(row.listing_id, [])))] for row in rows])
        finally:
            engine.dispose()
    except SQLAlchemyError as error:
        raise StoreError(f"the store {shown_url(store_url)} failed: {' '.join(str(getattr(error, 'orig', None) or error).split())}") from error


def _decisions(connection: Connection, run: RunRecord) -> Iterator[Sequence[Row[Any]]]:
    # All the decisions that there are: so the index of (decision, run_id) serves.
    mine = DECISIONS.c.run_id == run.run_id, DECISIONS.c.decision.in_(("accept", "review", "reject"))
    # An older prodrec's table has fewer columns until the next run.
    there = {column["name"] for column in inspect(connection).get_columns(DECISIONS.name)}
    columns = [DECISIONS.c[name] if name in there else null().label(name) for name in CSV_COLUMNS[:-1]]
    query = select(*columns).where(*mine).order_by(DECISIONS.c.listing_id)
    return connection.execution_options(stream_results=True, yield_per=_ROWS).execute(query).partitions()


def _uris(connection: Connection, run: RunRecord, listing_ids: Sequence[str]) -> dict[str, list[str]]:
    """Of the images of listings, rejected ones too, in the order of their names."""

    def of(table: Any) -> Any:
        return select(table.c.listing_id, table.c.uri).where(
            table.c.listing_id.in_(listing_ids), table.c.bundle_id == run.bundle_id, table.c.run_id == run.run_id
        )

    found: dict[str, list[str]] = {}
    for listing_id, uri in sorted(connection.execute(union_all(of(PREDICTIONS), of(REJECTS)))):
        found.setdefault(listing_id, []).append(uri)
    return found


def _cell(value: Any, hidden: str) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace(f"{hidden.rstrip('/')}/", "")
    return f"'{text}" if _FORMULA.match(text) else text


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue().encode("utf-8", "replace")
