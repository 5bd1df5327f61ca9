"""Manifests of a source: CSV, TSV or Parquet tables of URIs or embedded bytes with labels.

Columns: `uri` or `bytes` (Parquet only), `label`; optional `group`, `split`, `listing_id`, `view`. The bytes are not read here.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.sources.columns import absolute_uris, listing, refuse_twins, require_columns, splits, text, whole_numbers
from prodrec.sources.layouts.listed import Listed
from prodrec.sources.tables import read_table

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet")
BYTES_COLUMN = "bytes"
_TEXT_COLUMNS = ("label", "group", "split", "listing_id", "view")


def list_manifests(folder: Folder, names: list[str]) -> Listed:
    """Lists the rows of manifests in one folder, one after the other; relative URIs are resolved against the folder.

    Raises:
        SourceError: a file that cannot be read, lacks a column, names an unknown split or a view that is no number.
    """
    tables = []
    for name in names:
        table = read_manifest(folder, name, _TEXT_COLUMNS, required=("label",))
        columns = {column: table[column] for column in table.column_names}
        read = {"split": splits(columns["split"], folder / name), "view": whole_numbers(columns["view"], "view", folder / name)}
        tables.append(listing(len(table), columns | read))
    return Listed(f"manifest: {names[0] if len(names) == 1 else f'{len(names):,} Parquet files'}", pa.concat_tables(tables))


def read_manifest(folder: Folder, name: str, columns: Sequence[str], required: Sequence[str] = ()) -> pa.Table:
    """The rows of one manifest: where the image is (`uri`, `row_group`, `row`) and text columns; those that it lacks are null.

    Args:
        columns: beside the URI or the bytes.
        required: of them.

    Raises:
        SourceError: it cannot be read, or lacks a column.
    """
    read = _parquet if name.lower().endswith(".parquet") else _csv
    return read(folder, name, columns, [(column,) for column in required])


def _csv(folder: Folder, name: str, columns: Sequence[str], required: list[tuple[str, ...]]) -> pa.Table:
    table, where = read_table(folder, name), folder / name
    require_columns(table.column_names, [("uri",), *required], where, "a CSV manifest")
    return _placed(folder, table, where, columns)


def _parquet(folder: Folder, name: str, columns: Sequence[str], required: list[tuple[str, ...]]) -> pa.Table:
    """All columns but the bytes are read; row group and row tell where the bytes are."""
    where = folder / name
    with folder.filesystem.open_input_file(folder.within(name)) as stream, pq.ParquetFile(stream) as file:
        schema: pa.Schema = file.schema_arrow
        _check_schema(schema, where, required)
        table = file.read(columns=[column for column in schema.names if column in ("uri", *columns)])
        rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    placed = _placed(folder, table, where, columns)
    return located(placed, absolute_uris(folder, pa.array([name]))[0], rows) if BYTES_COLUMN in schema.names else placed


def _check_schema(schema: pa.Schema, where: str, required: list[tuple[str, ...]]) -> None:
    refuse_twins(schema.names, where)
    require_columns(schema.names, [("uri", BYTES_COLUMN), *required], where, "a Parquet manifest")
    if BYTES_COLUMN in schema.names:
        kind = schema.field(BYTES_COLUMN).type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise SourceError(f"{where}: column '{BYTES_COLUMN}' is of type {kind}; store the files' bytes as binary")


def _placed(folder: Folder, table: pa.Table, where: str, columns: Sequence[str]) -> pa.Table:
    nowhere = pa.nulls(len(table), pa.int32())
    uris = absolute_uris(folder, text(table, "uri", where))
    return pa.table({"uri": uris, "row_group": nowhere, "row": nowhere, **{name: text(table, name, where) for name in columns}})


def located(table: pa.Table, uri: pa.Scalar, rows: list[int]) -> pa.Table:
    """Replaces the URIs by the place of the bytes: the Parquet file, its row group (of so many rows each), the row in that."""
    groups = np.repeat(np.arange(len(rows), dtype=np.int32), rows)
    within = np.concatenate([np.arange(n, dtype=np.int32) for n in [*rows, 0]])
    place = {"uri": pa.repeat(uri, len(table)), "row_group": pa.array(groups), "row": pa.array(within)}
    return pa.table(place | {name: table[name] for name in table.column_names if name not in place})
