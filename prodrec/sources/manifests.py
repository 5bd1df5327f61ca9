"""Manifests of a source: CSV, TSV or Parquet tables of URIs or embedded bytes with labels.

Columns: `uri` or `bytes` (Parquet only, also as Hugging Face has them), `label`; optional `group`, `split`, `listing_id`, `view`, and
those that name labels (`prodrec.sources.labels`). The bytes are not read here.
"""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from prodrec.files import Folder
from prodrec.sources.columns import absolute_uris, clean, identifiers, listing, one_line, require_columns, splits, text, whole_numbers
from prodrec.sources.embedded import BYTES_COLUMN, Embedded, find_embedded
from prodrec.sources.headers import find_columns
from prodrec.sources.labels import NAME_COLUMNS, names_in_rows
from prodrec.sources.layouts.columns_meant import row_splits, split_column
from prodrec.sources.layouts.listed import Listed
from prodrec.sources.splits import split_named
from prodrec.sources.tables import PARQUET_SUFFIX, TABLE_SUFFIXES, notes_of, read_table, with_notes

_TEXT_COLUMNS = ("label", "group", "split", "listing_id", "view")
# Before the name of a column that may be of splits: what it holds tells.
_MAYBE = "split by "
# Of columns that a line names. Source: assumed.
_MOST_NAMES = 8
# Files that stand beside a data set's shards and say nothing of its rows.
_ABOUT = re.compile(r"(?i)(readme|licen[cs]e|dataset_infos?|dataset_dict|state)(\.\w+)?")


def list_manifests(folder: Folder, names: list[str]) -> Listed:
    """Lists the rows of manifests in one folder, one after the other; relative URIs are resolved against the folder.

    Of several Parquet files the names may tell the split: `train-00000-of-00002.parquet`, `test.parquet`, `data/val/0.parquet`.

    Raises:
        SourceError: a file that cannot be read, lacks a column, names an unknown split or a view that is no number.
    """
    tables: list[pa.Table] = []
    notes: list[str] = []
    named: list[pa.Table] = []
    for name in names:
        table, where = read_manifest(folder, name, (*_TEXT_COLUMNS, *NAME_COLUMNS), required=("label",)), folder / name
        columns = {column: table[column] for column in table.column_names}
        for column in ("label", "group", "listing_id"):
            columns[column] = identifiers(columns[column], column, where)
        if maybe := next((column for column in columns if column.startswith(_MAYBE)), None):
            columns["split"] = _by_column(maybe.removeprefix(_MAYBE), columns.pop(maybe), where)
        told = _split_told(name) if len(names) > 1 else None
        columns["split"] = pc.fill_null(splits(columns["split"], where), told) if told else splits(columns["split"], where)
        tables.append(listing(len(table), columns | {"view": whole_numbers(columns["view"], "view", where)}))
        named.append(pa.table({column: columns.pop(column) for column in NAME_COLUMNS} | {"label": clean(columns["label"])}))
        notes += notes_of(table)
    what = names[0] if len(names) == 1 else f"{len(names):,} Parquet files"
    said, not_used = names_in_rows(pa.concat_tables(named), folder, folder / names[0])
    return Listed(f"manifest: {what}", pa.concat_tables(tables), tuple(dict.fromkeys([*notes, *not_used])), said)


def manifest_names(folder: Folder, children: Sequence[fs.FileInfo]) -> list[str]:
    """Manifests of a folder: the one called `manifest`, or else all files, in it or in its only subfolder or one for each split, if all are Parquet.

    Args:
        children: of the folder, without hidden ones.
    """
    names = [info.base_name for info in children]
    if named := [f"manifest{suffix}" for suffix in TABLE_SUFFIXES if f"manifest{suffix}" in names]:
        return named[:1]
    files, subfolders = _files(children), [info.base_name for info in children if info.type == fs.FileType.Directory]
    if not subfolders or (files and not _all_parquet(files)):
        return files if not subfolders and _all_parquet(files) else []
    if len(subfolders) > 1 and not all(map(split_named, subfolders)):
        return []
    inside = {name: [info for info in folder.names(name) if not info.base_name.startswith(".")] for name in subfolders}
    if any(info.type == fs.FileType.Directory for infos in inside.values() for info in infos):
        return []
    found = files + [f"{name}/{file}" for name, infos in inside.items() for file in _files(infos)]
    return found if _all_parquet(found) else []


def read_manifest(folder: Folder, name: str, columns: Sequence[str], required: Sequence[str] = ()) -> pa.Table:
    """The rows of one manifest: where the image is (`uri`, `row_group`, `row`) and text columns; those that it lacks are null.

    Args:
        columns: beside the URI or the bytes.
        required: of them.

    Raises:
        SourceError: it cannot be read, lacks a column, or has two that could be one.
    """
    embedded = find_embedded(folder, name) if name.lower().endswith(PARQUET_SUFFIX) else None
    left_out: list[str] = []

    def choose(names: list[str]) -> dict[str, str]:
        found = _columns(names, columns, required, embedded is not None, folder / name)
        used = {*found.values(), embedded.column if embedded else None}
        left_out.extend(column for column in names if column not in used)
        return found

    table = read_table(folder, name, choose)
    maybe = [column for column in table.column_names if column.startswith(_MAYBE)]
    notes = [note for note in notes_of(table) if _MAYBE not in note] + _not_used(left_out)
    return with_notes(_placed(folder, name, table, [*columns, *maybe], embedded), notes)


def _not_used(names: list[str]) -> list[str]:
    """A column that was meant for one of ours, and is called otherwise, is seen here."""
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return [f"columns not used: {', '.join(map(one_line, names[:_MOST_NAMES]))}{more}"] if names else []


def _columns(names: list[str], wanted: Sequence[str], required: Sequence[str], embedded: bool, where: str) -> dict[str, str]:
    """Which columns are read. Where bytes are there, `uri` is where those are that have none."""
    by_name = [] if embedded and "uri" not in names else ["uri"]
    found = find_columns(names, [*by_name, *(column for column in wanted if column not in NAME_COLUMNS)], where)
    found |= {column: column for column in NAME_COLUMNS if column in wanted and column in names and column not in found.values()}
    if "split" in wanted and "split" not in found and (maybe := split_column(names)) and maybe not in found.values():
        found[_MAYBE + maybe] = maybe
    parquet = where.lower().endswith(PARQUET_SUFFIX)
    needed = [("uri", BYTES_COLUMN) if parquet else ("uri",), *((column,) for column in required)]
    require_columns(names, needed, where, f"a {'Parquet' if parquet else 'CSV'} manifest", [*found, *[BYTES_COLUMN] * embedded])
    return found


def _placed(folder: Folder, name: str, table: pa.Table, columns: Sequence[str], embedded: Embedded | None) -> pa.Table:
    """The rows with the places of their images: embedded ones by row group and row, the others by URI."""
    rows, where = (sum(embedded.row_groups) if embedded else len(table)), folder / name
    given = text(table, "uri", where) if "uri" in table.column_names else embedded.paths if embedded else pa.nulls(rows, pa.string())
    texts = {column: text(table, column, where) if column in table.column_names else pa.nulls(rows, pa.string()) for column in columns}
    nowhere = pa.nulls(rows, pa.int32())
    placed = pa.table({"uri": absolute_uris(folder, given), "row_group": nowhere, "row": nowhere, **texts})
    if embedded is None:
        return placed
    inside = located(placed, absolute_uris(folder, pa.array([name]))[0], embedded.row_groups)
    elsewhere = pc.and_(embedded.without, pc.is_valid(placed["uri"]))
    return pa.table({column: pc.if_else(elsewhere, placed[column], inside[column]) for column in placed.column_names})


def _by_column(name: str, values: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Splits by a column of another name, where it holds such: `is_test`, or a `fold` of train and test."""
    told = values.unique()
    found = row_splits([name], [{name: value} for value in told.to_pylist()], where, [])
    return pc.take(pa.array(found or [None] * len(told), pa.string()), pc.index_in(values, value_set=told))


def _split_told(name: str) -> str | None:
    """The split that the name of one of several files tells, or that of its folder."""
    return next((split for part in reversed(name.split("/")) if (split := split_named(part.partition(".")[0]))), None)


def _files(children: Sequence[fs.FileInfo]) -> list[str]:
    return [info.base_name for info in children if info.type == fs.FileType.File and not _ABOUT.fullmatch(info.base_name)]


def _all_parquet(names: Sequence[str]) -> bool:
    return bool(names) and all(name.lower().endswith(PARQUET_SUFFIX) for name in names)


def located(table: pa.Table, uri: pa.Scalar, rows: list[int]) -> pa.Table:
    """Replaces the URIs by the place of the bytes: the Parquet file, its row group (of so many rows each), the row in that."""
    groups = np.repeat(np.arange(len(rows), dtype=np.int32), rows)
    within = np.concatenate([np.arange(n, dtype=np.int32) for n in [*rows, 0]])
    place = {"uri": pa.repeat(uri, len(table)), "row_group": pa.array(groups), "row": pa.array(within)}
    return pa.table(place | {name: table[name] for name in table.column_names if name not in place})
