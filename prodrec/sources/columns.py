"""Cleaning of whole columns of a source, vectorised: ten million rows are a matter of seconds."""

import posixpath
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, fs

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.sources.schema import LISTING_SCHEMA, SPLITS
from prodrec.sources.splits import split_named

_ABSOLUTE = r"^(/|[A-Za-z][A-Za-z0-9+.-]*://)"
_WHOLE = r"^-?\d{1,9}(\.0*)?$"
_LOCAL_URI = r"^file://(localhost)?"


def listing(rows: int, columns: dict[str, pa.ChunkedArray | pa.Array]) -> pa.Table:
    """A table of LISTING_SCHEMA; columns that are not given are null."""
    return pa.table([columns.get(field.name, pa.nulls(rows, field.type)) for field in LISTING_SCHEMA], schema=LISTING_SCHEMA)


def read_csv(folder: Folder, name: str) -> pa.Table:
    """Reads a .csv or .tsv file; all columns are text, empty cells null, column names without surrounding blanks.

    Raises:
        SourceError: it is empty, not UTF-8 or not CSV, or names a column twice.
    """
    where = folder / name
    parse = csv.ParseOptions(delimiter="\t" if name.lower().endswith(".tsv") else ",")
    try:
        with folder.filesystem.open_input_stream(folder.within(name)) as stream:
            header = csv.open_csv(stream, parse_options=parse).schema.names
        convert = csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""])
        with folder.filesystem.open_input_stream(folder.within(name)) as stream:
            table = csv.read_csv(stream, parse_options=parse, convert_options=convert)
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise SourceError(f"{where} cannot be read as CSV: {' '.join(str(error).split())}; save it as UTF-8 with one header line") from error
    table = table.rename_columns([name.strip() for name in table.column_names])
    refuse_twins(table.column_names, where)
    return table


def refuse_twins(names: list[str], where: str) -> None:
    """Raises: SourceError: two columns have one name."""
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(f"{where} has the column '{twins[0]}' twice; rename or remove one")


def require_columns(names: list[str], needed: list[tuple[str, ...]], where: str, purpose: str) -> None:
    """Raises: SourceError: of one of the tuples of `needed` no name is there."""
    missing = [" or ".join(either) for either in needed if not set(either) & set(names)]
    if missing and len(names) == 1 and ";" in names[0]:
        raise SourceError(f"{where} separates its columns by semicolons; save it with commas")
    if missing:
        raise SourceError(f"{where} has no column {' and no '.join(missing)}, which {purpose} needs; found: {', '.join(names) or 'none'}; rename the columns")


def text(table: pa.Table, name: str, where: str) -> pa.ChunkedArray:
    """A column as text, without surrounding blanks; empty is null, and so is a column that is not there.

    Raises:
        SourceError: the column holds lists, structs or bytes that are no text.
    """
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(len(table), pa.string())])
    try:
        stripped = pc.utf8_trim_whitespace(table.column(name).cast(pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise SourceError(f"{where}: column '{name}' of type {table.schema.field(name).type} cannot be read as text; store text or numbers") from error
    return pc.if_else(pc.equal(stripped, ""), pa.scalar(None, pa.string()), stripped)


def splits(names: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Names of splits as people write them to `train`, `val`, `test` or null.

    Raises:
        SourceError: another name.
    """
    values = pc.drop_null(names.unique()).to_pylist()
    known = {name: split_named(name) for name in values}
    strange = next((name for name in values if known[name] is None), None)
    if strange is not None:
        raise SourceError(f"{where}: split '{strange}' is unknown; use {', '.join(SPLITS)} (or leave it empty)")
    return pc.take(pa.array(list(known.values()), pa.string()), pc.index_in(names, value_set=pa.array(list(known), pa.string())))


def whole_numbers(values: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    """A column of text as int32; `3.0`, as programs without empty integers write it, is 3.

    Raises:
        SourceError: a value that is no whole number of that size.
    """
    wrong = values.filter(pc.and_(pc.is_valid(values), pc.invert(pc.match_substring_regex(values, _WHOLE))))
    if len(wrong):
        raise SourceError(f"{where}: {name} '{wrong[0].as_py()}' is no whole number; write 0, 1, 2, ... (or leave it empty)")
    return pc.replace_substring_regex(values, r"\.0*$", "").cast(pa.int32())


def absolute_uris(folder: Folder, uris: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Resolves URIs against a folder; local ones become absolute paths. Object keys are taken as they are, unescaped."""
    head, mark, query = folder.uri.partition("?")
    if isinstance(folder.filesystem, fs.LocalFileSystem):
        head, mark, query = folder.path, "", ""
    joined = pc.binary_join_element_wise(head.rstrip("/") + "/", uris, mark + query, "")
    absolute = pc.if_else(pc.match_substring_regex(uris, _ABSOLUTE), uris, joined)
    local = _where(absolute, _LOCAL_URI, lambda uri: unquote(uri.removeprefix("file://").removeprefix("localhost")))
    return _where(local, r"^/.*/\.\.?/", posixpath.normpath)


def _where(values: pa.ChunkedArray | pa.Array, pattern: str, change: Callable[[str], str]) -> Any:
    """Applies a Python function to the (rare) values that match."""
    mask = pc.fill_null(pc.match_substring_regex(values, pattern), False)
    mask = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
    changed = [change(value) for value in values.filter(mask).to_pylist()]
    return pc.replace_with_mask(values, mask, pa.array(changed, pa.string())) if changed else values
