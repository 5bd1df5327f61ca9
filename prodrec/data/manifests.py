"""Manifests of a source: CSV, TSV or Parquet tables of URIs or embedded bytes with labels.

Columns: `uri` or `bytes` (Parquet only), `label`; optional `group`, `split`, `listing_id`. The bytes are not read here.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prodrec.data.columns import absolute_uris, listing, read_csv, refuse_twins, require_columns, splits, text
from prodrec.data.files import Folder
from prodrec.data.layouts import Listed
from prodrec.errors import SourceError

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet")
BYTES_COLUMN = "bytes"
_TEXT_COLUMNS = ("uri", "label", "group", "split", "listing_id")


def list_manifests(folder: Folder, names: list[str]) -> Listed:
    """Lists the rows of manifests in one folder, one after the other; relative URIs are resolved against the folder.

    Raises:
        SourceError: a file that cannot be read, lacks a column or names an unknown split.
    """
    tables = [_parquet(folder, name) if name.lower().endswith(".parquet") else _csv(folder, name) for name in names]
    return Listed(f"manifest: {names[0] if len(names) == 1 else f'{len(names):,} Parquet files'}", pa.concat_tables(tables))


def _csv(folder: Folder, name: str) -> pa.Table:
    table, where = read_csv(folder, name), folder / name
    require_columns(table.column_names, [("uri",), ("label",)], where, "a CSV manifest")
    return _listed(folder, table, where)


def _parquet(folder: Folder, name: str) -> pa.Table:
    """All columns but the bytes are read; row group and row tell where the bytes are."""
    where = folder / name
    with folder.filesystem.open_input_file(folder.within(name)) as stream, pq.ParquetFile(stream) as file:
        schema: pa.Schema = file.schema_arrow
        _check_schema(schema, where)
        table = file.read(columns=[column for column in schema.names if column in _TEXT_COLUMNS])
        rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    listed = _listed(folder, table, where)
    return _located(listed, absolute_uris(folder, pa.array([name]))[0], rows) if BYTES_COLUMN in schema.names else listed


def _check_schema(schema: pa.Schema, where: str) -> None:
    refuse_twins(schema.names, where)
    require_columns(schema.names, [("uri", BYTES_COLUMN), ("label",)], where, "a Parquet manifest")
    if BYTES_COLUMN in schema.names:
        kind = schema.field(BYTES_COLUMN).type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise SourceError(f"{where}: column '{BYTES_COLUMN}' is of type {kind}; store the files' bytes as binary")


def _listed(folder: Folder, table: pa.Table, where: str) -> pa.Table:
    columns = {name: text(table, name, where) for name in _TEXT_COLUMNS}
    return listing(len(table), {**columns, "uri": absolute_uris(folder, columns["uri"]), "split": splits(columns["split"], where)})


def _located(table: pa.Table, uri: pa.Scalar, rows: list[int]) -> pa.Table:
    """Replaces the URIs by the place of the bytes: the Parquet file, its row group, the row in that."""
    groups = np.repeat(np.arange(len(rows), dtype=np.int32), rows)
    within = np.concatenate([np.arange(n, dtype=np.int32) for n in [*rows, 0]])
    columns = {name: table.column(name) for name in ("label", "group", "split", "listing_id")}
    return listing(len(table), {**columns, "uri": pa.repeat(uri, len(table)), "row_group": pa.array(groups), "row": pa.array(within)})
