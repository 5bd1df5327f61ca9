"""The tables of the store, each column declared once: the SQL tables and the Arrow schemas come from here.

    listings     the state that each listing has now; its `run_id` says which rows of the others are current
    predictions  one row an image of a listing and bundle; tags: the objects found on it, boxes in its pixels
    decisions    one row a listing, bundle, policy and content
    rejects      images that could not be used
    runs         one row an execution of the bulk job

Rows with another `run_id` than their listing's are history. Text is UTF-8 without NUL; a float that is not a number is null.
`product` and `label` are ids, the titles what people call them: null where the bundle knows none.
Times are ISO 8601 in UTC. `candidates`, `quality`, `reasons` and `policy` are JSON.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.types import TypeEngine

METADATA = MetaData()
# MySQL wants a length of what it indexes. Source: assumed; four such columns fit its 3,072 bytes of an index entry.
_INDEXED = Text().with_variant(String(191), "mysql", "mariadb")
# Of a listing's id in UTF-8. Source: PostgreSQL: an index entry holds 2,704 bytes, and the hashes beside the id take 300.
MOST_ID_BYTES = 2_048
# Of an id that is too long, what is kept for people to see. Source: assumed.
_SHOWN_LETTERS = 100
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def _key(name: str) -> Column[str]:
    return Column(name, _INDEXED, primary_key=True)


def _indexed(name: str) -> Column[str]:
    return Column(name, _INDEXED, nullable=False)


def _given(type_: type[TypeEngine[Any]], names: str) -> list[Column[Any]]:
    """Columns that every row has."""
    return [Column(name, type_, nullable=False) for name in names.split()]


def _known(type_: type[TypeEngine[Any]], names: str) -> list[Column[Any]]:
    """Columns that are null where there is nothing to tell."""
    return [Column(name, type_) for name in names.split()]


RUNS = Table(
    "runs",
    METADATA,
    _key("run_id"),
    *_given(Text, "status started"),
    *_known(Text, "finished"),
    *_given(Text, "run_date input bundle_id policy_id policy code_version"),
    *_known(Integer, "rows_in rows_tagged rows_skipped rows_rejected listings accepted reviewed refused"),
    *_known(Text, "detail"),
)
LISTINGS = Table(
    "listings",
    METADATA,
    _key("listing_id"),
    *_known(Text, "category brand"),
    *_known(Double, "price"),
    *_given(Text, "input_sha256 content_sha256 bundle_id policy_id"),
    _indexed("run_id"),
    *_given(Integer, "images_tagged images_rejected"),
    Index("ix_listings_run_id", "run_id"),
)
# phash: the 64 bits of the difference hash as a signed number, as databases know no unsigned one.
PREDICTIONS = Table(
    "predictions",
    METADATA,
    *(_key(name) for name in ("listing_id", "image_sha256", "bundle_id")),
    *_given(Text, "uri"),
    *_given(Integer, "width height"),
    *_known(Text, "product product_group"),
    *_known(Double, "probability"),
    *_known(Text, "candidates"),
    *_known(Double, "energy"),
    *_known(Text, "quality"),
    *_known(BigInteger, "phash"),
    _indexed("run_id"),
    *_known(Text, "product_title"),
    Index("ix_predictions_run_id", "run_id"),
)
TAGS = Table(
    "tags",
    METADATA,
    *(_key(name) for name in ("listing_id", "image_sha256", "bundle_id")),
    Column("tag_no", Integer, primary_key=True),
    *_given(Text, "label"),
    *_known(Double, "score x1 y1 x2 y2"),
    *_known(Text, "title"),
)
DECISIONS = Table(
    "decisions",
    METADATA,
    *(_key(name) for name in ("listing_id", "bundle_id", "policy_id", "content_sha256")),
    Column("decision", String(16), nullable=False),
    *_known(Text, "reasons product product_group"),
    *_known(Double, "probability"),
    _indexed("run_id"),
    *_known(Text, "product_title"),
    Index("ix_decisions_decision", "decision", "run_id"),
)
# uri_sha256 stands for `uri` in the key: an entry of PostgreSQL's index holds 2,700 bytes, a data: URI has many more.
REJECTS = Table(
    "rejects",
    METADATA,
    *(_key(name) for name in ("listing_id", "uri_sha256", "bundle_id")),
    *_given(Text, "uri code"),
    *_known(Text, "detail"),
    _indexed("run_id"),
    Index("ix_rejects_run_id", "run_id"),
)
# What a batch holds; a store's Parquet files too.
BATCH_TABLES = {table.name: table for table in (LISTINGS, PREDICTIONS, TAGS, DECISIONS, REJECTS)}


def _arrow_type(column: Column[Any]) -> pa.DataType:
    types = {BigInteger: pa.int64(), Integer: pa.int32(), Double: pa.float64(), Text: pa.string(), String: pa.string()}
    return types[type(column.type)]


SCHEMAS = {name: pa.schema([(column.name, _arrow_type(column)) for column in table.columns]) for name, table in METADATA.tables.items()}


def key_of(table: Table) -> list[str]:
    return [column.name for column in table.primary_key.columns]


def clean_text(text: str) -> str:
    """Text that databases and Arrow take: NUL and surrogates without their partner become U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", _REPLACEMENT)


def storable_id(listing_id: str) -> tuple[str, str | None]:
    """The id that a listing is stored by, and what is wrong with its own (None: nothing, and it is the same)."""
    size = len(listing_id.encode("utf-8", "surrogatepass"))
    if size <= MOST_ID_BYTES and "\0" not in listing_id:
        return listing_id, None
    wrong = f"its id has {size:,} bytes, at most {MOST_ID_BYTES:,} can be stored" if size > MOST_ID_BYTES else "its id has a NUL in it"
    digest = hashlib.sha256(listing_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{clean_text(listing_id[:_SHOWN_LETTERS])}... sha256:{digest}", f"{wrong}; give the listing another listing_id"


def rows_table(name: str, rows: Iterable[Mapping[str, object]]) -> pa.Table:
    """Rows of one table as Arrow; `uri_sha256` is made, columns that a row leaves out are null.

    Args:
        rows: text may hold anything; `phash` is 0..2**64-1 or signed.

    Raises:
        ValueError: a row has a column that the table has not.
    """
    rows = list(rows)
    if foreign := {column for row in rows for column in row} - set(SCHEMAS[name].names):
        raise ValueError(f"{name} has no column {', '.join(sorted(foreign))}; it has {', '.join(SCHEMAS[name].names)}")
    return pa.table({field.name: pa.array([_plain(row.get(field.name)) for row in rows], field.type) for field in SCHEMAS[name]})


def conform(name: str, rows: pa.Table) -> pa.Table:
    """Rows as every store keeps them: all columns, clean, one row a key (the first), sorted by key.

    Sorted, so that concurrent writers lock rows in one order. One a key, as a listing may show one picture twice.

    Raises:
        ValueError: an unknown column, or null in a column that every row has.
    """
    if foreign := set(rows.column_names) - set(SCHEMAS[name].names):
        raise ValueError(f"{name} has no column {', '.join(sorted(foreign))}; it has {', '.join(SCHEMAS[name].names)}")
    columns = {field.name: _conformed(rows, field) for field in SCHEMAS[name]}
    if name == "rejects":
        columns["uri_sha256"] = pa.array([hashlib.sha256(uri.encode()).hexdigest() for uri in columns["uri"].fill_null("").to_pylist()], pa.string())
    for column in METADATA.tables[name].columns:
        if not column.nullable and columns[column.name].null_count:
            raise ValueError(f"{name}.{column.name} is null in {columns[column.name].null_count} rows; every row has one")
    return _one_a_key(pa.table(columns, schema=SCHEMAS[name]), key_of(METADATA.tables[name]))


def _plain(value: object) -> object:
    if isinstance(value, str):
        return clean_text(value)
    return value - 2**64 if isinstance(value, int) and value >= 2**63 else value


def _conformed(rows: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    if field.name not in rows.column_names:
        return pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
    values = rows[field.name]
    if values.type == pa.uint64():
        return pa.chunked_array([chunk.view(pa.int64()) for chunk in values.chunks], pa.int64())
    return _CLEAN.get(field.type, lambda same: same)(values.cast(field.type))


_CLEAN: dict[pa.DataType, Callable[[pa.ChunkedArray], pa.ChunkedArray]] = {
    pa.string(): lambda values: pc.replace_substring(values, "\0", _REPLACEMENT),
    pa.float64(): lambda values: pc.if_else(pc.is_nan(values), None, values),
}


def _one_a_key(rows: pa.Table, key: list[str]) -> pa.Table:
    numbered = rows.select(key).append_column("row", pa.array(range(rows.num_rows), pa.int64()))
    first = numbered.group_by(key, use_threads=False).aggregate([("row", "min")])
    return rows.take(first["row_min"]).sort_by([(name, "ascending") for name in key])
