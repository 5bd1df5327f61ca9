"""The store: where recognitions, tags, boxes, decisions and runs are written."""

from prodrec.catalog.query import read_query
from prodrec.catalog.records import Known, RunRecord, Store
from prodrec.catalog.store import open_store
from prodrec.catalog.tables import SCHEMAS, clean_text, rows_table, storable_id
from prodrec.errors import shown_url

__all__ = ["SCHEMAS", "Known", "RunRecord", "Store", "clean_text", "open_store", "read_query", "rows_table", "shown_url", "storable_id"]
