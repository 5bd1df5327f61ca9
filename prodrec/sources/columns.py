"""Cleaning of whole columns of a source, vectorised: ten million rows are a matter of seconds."""

import posixpath
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.sources.schema import LISTING_SCHEMA, SPLITS
from prodrec.sources.splits import split_named

_ABSOLUTE = r"^(/|[A-Za-z][A-Za-z0-9+.-]*://)"
_WHOLE = r"^-?\d{1,9}(\.0*)?$"
# `4.00638E+12`, in German `4,00638E+12`; and what `as_text` writes.
_LOST_DIGITS = r"^[+-]?\d([.,]\d+)?[eE]\+\d{2,3}$"
# How people keep Excel from making numbers of text: `="0012"`, `'0012`.
_PROTECTED = r"^=\"+([^\"]*)\"+$|^'(\d+)$"
_WHOLE_FLOAT = r"^-?\d+\.0+$"
_LOCAL_URI = r"^file://(localhost)?"
# Blanks of all kinds, and what has no width: soft hyphen, joiners, direction marks, byte order mark. Not NUL, which is nobody's blank.
INVISIBLE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
    "\xad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"
)
# Whole numbers that a float holds to the last digit. Source: IEEE 754: 53, 24 and 11 bits.
_EXACT_BELOW = {pa.float64(): 2.0**53, pa.float32(): 2.0**24, pa.float16(): 2.0**11}


def listing(rows: int, columns: dict[str, pa.ChunkedArray | pa.Array]) -> pa.Table:
    """A table of LISTING_SCHEMA; columns that are not given are null. Every source's names are cleaned here."""
    columns = columns | {name: clean(columns[name]) for name in ("label", "group", "listing_id") if name in columns}
    if "objects" in columns:
        columns["objects"] = _clean_objects(columns["objects"])
    return pa.table([columns.get(field.name, pa.nulls(rows, field.type)) for field in LISTING_SCHEMA], schema=LISTING_SCHEMA)


def clean(names: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Names without surrounding blanks, in Unicode's composed form (NFC): a Mac's and everybody's are one."""
    return pc.utf8_normalize(pc.utf8_trim(names, characters=INVISIBLE), form="NFC")


def identifiers(values: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    """A column of ids or labels, cleaned. `="0012"` is `0012`; `4006381333931.0` in all of its cells, as pandas writes whole numbers, is `4006381333931`.

    Raises:
        SourceError: a number has lost its last digits, as Excel's `4.00638E+12` or a float above 2^53.
    """
    if pc.any(pc.or_(pc.starts_with(values, "="), pc.starts_with(values, "'"))).as_py():
        values = pc.replace_substring_regex(values, _PROTECTED, r"\1\2")
    lost = values.filter(pc.fill_null(pc.match_substring_regex(values, _LOST_DIGITS), False))
    if len(lost):
        raise SourceError(
            f"{where}: {name} '{one_line(lost[0])}' is a long number that has lost digits; store the column as text, or as whole numbers, and export it again"
        )
    if pc.all(pc.match_substring_regex(values, _WHOLE_FLOAT)).as_py():
        values = pc.replace_substring_regex(values, r"\.0+$", "")
    return clean(values)


def told_name(value: object, what: str, where: str) -> str | None:
    """An id or label that JSON or YAML tells: a text or number; None: nothing. A whole float is written as a whole number.

    Raises:
        SourceError: it is neither, or a number that has lost digits.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_BELOW[pa.float64()]:
        value = int(value)
    if value is not None and (not isinstance(value, str | int | float) or (isinstance(value, float) and not abs(value) < _EXACT_BELOW[pa.float64()])):
        raise SourceError(f"{where}: {what} '{one_line(value)}' is no text and no number that is whole to its last digit; store it as text")
    return str(value).strip(INVISIBLE) or None if value is not None else None


def one_line(text: object, letters: int = 60) -> str:
    """What a table says, as a message shows it."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)[: 2 * letters]).split())
    return line if len(line) <= letters else f"{line[:letters]}..."


def refuse_twins(names: list[str], where: str) -> None:
    """Raises: SourceError: two columns have one name."""
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(f"{where} has the column '{one_line(twins[0])}' twice; rename or remove one")


def require_columns(names: Sequence[str], needed: Sequence[tuple[str, ...]], where: str, purpose: str, known: Iterable[str] = ()) -> None:
    """Raises: SourceError: of one of the tuples of `needed` no name is there, neither in the table nor among those `known` for another."""
    missing = [" or ".join(either) for either in needed if not set(either) & {*names, *known}]
    if missing:
        found = f"found: {one_line(', '.join(names), 200) or 'none'}"
        raise SourceError(f"{where} has no column {' and no '.join(missing)}, which {purpose} needs; {found}; rename the columns, or add a header line")


def text(table: pa.Table, name: str, where: str) -> pa.ChunkedArray:
    """A column as text, without surrounding blanks; empty is null, and so is a column that is not there.

    Raises:
        SourceError: the column holds lists, structs or bytes that are no text.
    """
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(len(table), pa.string())])
    try:
        stripped = pc.utf8_trim(as_text(table.column(name)), characters=INVISIBLE)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise SourceError(f"{where}: column '{name}' of type {table.schema.field(name).type} cannot be read as text; store text or numbers") from error
    return pc.if_else(pc.equal(stripped, ""), pa.scalar(None, pa.string()), stripped)


def is_text(kind: pa.DataType) -> bool:
    """Whether `as_text` takes a column of this type."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    bytes_ = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind)
    return not (pa.types.is_nested(kind) or bytes_)


def as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text of what a column holds. A whole number that is stored as a float is written as one; where the float may have lost its last
    digits, with an exponent, which `identifiers` refuses."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if values.type not in _EXACT_BELOW:
        return values.cast(pa.string())
    exact_below = _EXACT_BELOW[values.type]
    wide = pc.if_else(pc.is_nan(values), None, values).cast(pa.float64())
    whole = pc.and_(pc.equal(wide, pc.floor(wide)), pc.less(pc.abs(wide), exact_below))
    numbers = pc.if_else(whole, wide, None).cast(pa.int64()).cast(pa.string())
    lost = pc.greater_equal(pc.abs(wide), exact_below)
    written = pa.chunked_array([pa.array([f"{value:.15E}" for value in pc.if_else(lost, wide, None).drop_null().to_pylist()], pa.string())])
    others = pc.if_else(lost, None, values).cast(pa.string())
    return _filled(pc.coalesce(numbers, others), lost, written)


def splits(names: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Names of splits as people write them to `train`, `val`, `test` or null.

    Raises:
        SourceError: another name.
    """
    values = pc.drop_null(names.unique()).to_pylist()
    known = {name: split_named(name) for name in values}
    strange = next((name for name in values if known[name] is None), None)
    if strange is not None:
        raise SourceError(f"{where}: split '{one_line(strange)}' is unknown; use {', '.join(SPLITS)} (or leave it empty)")
    return pc.take(pa.array(list(known.values()), pa.string()), pc.index_in(names, value_set=pa.array(list(known), pa.string())))


def whole_numbers(values: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    """A column of text as int32; `3.0`, as programs without empty integers write it, is 3.

    Raises:
        SourceError: a value that is no whole number of that size.
    """
    wrong = values.filter(pc.and_(pc.is_valid(values), pc.invert(pc.match_substring_regex(values, _WHOLE))))
    if len(wrong):
        raise SourceError(f"{where}: {name} '{one_line(wrong[0])}' is no whole number; write 0, 1, 2, ... (or leave it empty)")
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


def _clean_objects(objects: pa.Array) -> pa.Array:
    labels = clean(objects.values.field("label"))
    fields = [labels if field.name == "label" else objects.values.field(field.name) for field in objects.type.value_type]
    values = pa.StructArray.from_arrays(fields, fields=list(objects.type.value_type))
    return pa.ListArray.from_arrays(objects.offsets, values, type=objects.type, mask=objects.is_null())


def _filled(values: pa.ChunkedArray, mask: pa.ChunkedArray, new: pa.ChunkedArray) -> pa.ChunkedArray:
    """`new` at the places of `mask`."""
    mask = pc.fill_null(mask, False).combine_chunks()
    return pc.replace_with_mask(values, mask, new.combine_chunks()) if len(new) else values


def _where(values: pa.ChunkedArray | pa.Array, pattern: str, change: Callable[[str], str]) -> Any:
    """Applies a Python function to the (rare) values that match."""
    mask = pc.fill_null(pc.match_substring_regex(values, pattern), False)
    mask = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
    changed = [change(value) for value in values.filter(mask).to_pylist()]
    return pc.replace_with_mask(values, mask, pa.array(changed, pa.string())) if changed else values
