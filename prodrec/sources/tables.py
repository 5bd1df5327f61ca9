"""The one reader of tables: CSV and TSV as Python's csv reads them, whatever their size, and Parquet.

All columns come as text. Not covered: what the columns mean (`prodrec.sources.manifests`), and images inside of Parquet files.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.sources.columns import INVISIBLE, as_text, is_text, one_line, refuse_twins
from prodrec.sources.encodings import utf8

PARQUET_SUFFIX = ".parquet"
TABLE_SUFFIXES = (".csv", ".tsv", PARQUET_SUFFIX, ".csv.gz", ".tsv.gz")

_SEPARATORS = ",;\t|"
_SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
# Excel's own word for its separator, as a line before the header.
_SEP_LINE = re.compile(rb'"?sep=(.)"?(\r\n|\r|\n)')
# Rows that a separator must hold good for. Source: assumed.
_ROWS_LOOKED_AT = 50
# A whole file is one block: at the ends of smaller ones pyarrow takes line breaks in cells for others. Source: docs/log.md 2026-11-28.
ONE_BLOCK_BYTES = 1 << 30
# Rows that pass through Python at a time. Source: assumed; 50 MB.
_ROWS_AT_ONCE = 1 << 16
# Letters of one cell: a quote that is not closed would take the rest of a large file for one. Source: the image limit of 50 MB in base64.
_CELL_LETTERS = 1 << 27
# What other programs' files begin with.
_MAGIC = {
    b"PAR1": "a Parquet file; name it .parquet",
    b"PK\x03\x04": "a zip or an Excel workbook; save it as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save it as CSV (UTF-8)",
}
# From the names of the columns that are there to what is read: the name that it gets, and the one that it has.
Choose = Callable[[list[str]], dict[str, str]]
_NOTES = b"prodrec.notes"
# A last row of our own: where a quote is not closed, it is swallowed. Source: the control character SUBSTITUTE stands in no table.
_END = "\x1a"

csv.field_size_limit(max(csv.field_size_limit(), _CELL_LETTERS))  # the whole process': no reader of a long cell minds


def read_table(folder: Folder, name: str, choose: Choose | None = None) -> pa.Table:
    """Reads a table; all columns are text, empty cells null, column names without surrounding blanks.

    Whole numbers that are stored as floats are written as whole numbers. Columns of Parquet that hold no text (bytes, lists) are left
    out, and so are columns without a name.

    Args:
        choose: which columns are read, and what they are called then; None: all, as they are.

    Raises:
        SourceError: it is empty or no table, its encoding cannot be told, a row has other cells than the header, a quote is not
            closed, or a column is named twice: with file and line.
    """
    if name.lower().endswith(PARQUET_SUFFIX):
        return _read_parquet(folder, name, choose)
    where = folder / name
    data, note = utf8(_content(folder, name), where)
    separator, data, lines_before = _separator(data, name)
    names = _header(data, separator, where)
    table = _by_arrow(data, separator, len(names)) if len(data) <= ONE_BLOCK_BYTES else None
    if table is None:
        table = _by_csv(data, separator, names, where, lines_before)
    refuse_twins([name for name in names if name], where)
    chosen = choose([name for name in names if name]) if choose else {name: name for name in names if name}
    # Without the header's row, and without columns that have no name, such as the numbers that pandas writes.
    table = table.slice(1).select([names.index(found) for found in chosen.values()]).rename_columns(list(chosen))
    return with_notes(table, [*renamed(chosen), *([note] if note else [])])


def notes_of(table: pa.Table) -> tuple[str, ...]:
    """What was guessed while a table was read, for people."""
    return tuple(json.loads((table.schema.metadata or {}).get(_NOTES, b"[]")))


def with_notes(table: pa.Table, notes: Iterable[str]) -> pa.Table:
    """The table with these notes, each once, instead of its own."""
    return table.replace_schema_metadata({_NOTES: json.dumps(list(dict.fromkeys(notes)))})


def _content(folder: Folder, name: str) -> bytes:
    """The bytes of a file, unpacked; a file's name may not tell that it is packed."""
    try:
        data = folder.read(name)
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise SourceError(f"{folder / name} is a damaged gzip file: {error}; pack it again") from error
    if what := next((what for magic, what in _MAGIC.items() if data.startswith(magic)), None):
        raise SourceError(f"{folder / name} is no CSV but {what}")
    return data


def _separator(data: bytes, name: str) -> tuple[str, bytes, int]:
    """What separates the cells, the text from the header on, and the number of lines before that."""
    if told := _SEP_LINE.match(data):
        return told[1].decode("latin-1"), data[told.end() :], 1
    default = "\t" if ".tsv" in name.lower() else ","
    head = data[: 1 << 20].decode("utf-8", "ignore")
    header = re.split(r"[\r\n]", head.lstrip("\r\n"), maxsplit=1)[0]
    there = [separator for separator in (default, *_SEPARATORS.replace(default, "")) if separator in header]
    fitting = [separator for separator in there if _fits(head, separator)]
    return (fitting or there or [default])[0], data, 0


def _fits(head: str, separator: str) -> bool:
    """Whether the first rows have as many cells as the header, two at least; the last one may be cut."""
    try:
        rows = list(islice(filter(None, csv.reader(io.StringIO(head, newline=""), delimiter=separator)), _ROWS_LOOKED_AT))
    except csv.Error:  # a cell without an end: the reading tells of it
        return False
    widths = {len(row) for row in (rows[:-1] if len(rows) > 2 else rows)}
    return len(widths) == 1 and widths != {1}


def _header(data: bytes, separator: str, where: str) -> list[str]:
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="")
    names = [name.strip(INVISIBLE) for name in next(filter(None, csv.reader(text, delimiter=separator)), [])]
    if not any(names):
        raise SourceError(f"{where} is empty; give it a header line, such as uri{separator}label, and a row for each image")
    return names


def _by_arrow(data: bytes, separator: str, width: int) -> pa.Table | None:
    """All rows, the header's among them; None: they are not all of one width, or a quote is not closed.

    Source: docs/log.md 2026-11-28: in one block, pyarrow and Python's csv agreed on each of 46,000 odd tables that pyarrow took.
    """
    data += _end(separator, width)
    columns = [str(number) for number in range(width)]
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            pa.csv.ReadOptions(column_names=columns, block_size=len(data)),
            pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=True, null_values=[""]),
        )
    except pa.ArrowInvalid:
        return None
    ended = all(column[-1].as_py() == _END for column in table.columns)
    return table.slice(0, len(table) - 1) if ended else None


def _end(separator: str, width: int) -> bytes:
    return f"\n{separator.join([_END] * width)}\n".encode()


def _by_csv(data: bytes, separator: str, names: list[str], where: str, lines_before: int) -> pa.Table:
    """The same through Python, five times slower; it tells which line is wrong."""
    text = io.TextIOWrapper(io.BytesIO(data + _end(separator, len(names))), "utf-8", newline="")
    rows = _even_rows(text, separator, names, where, lines_before)
    kind = pa.schema([(str(number), pa.string()) for number in range(len(names))])
    tables = [kind.empty_table()]
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        columns = [pa.array([cell or None for cell in column], pa.string()) for column in zip(*some, strict=True)]
        tables.append(pa.table(columns, schema=kind))
    return pa.concat_tables(tables)


def _even_rows(text: io.TextIOBase, separator: str, names: list[str], where: str, lines_before: int) -> Iterator[list[str]]:
    """Rows of as many cells as the header, without ours at the end. Empty cells behind the last column are nothing; so is a blank line."""
    rows, width, row = csv.reader(text, delimiter=separator), len(names), [""]
    end, line, before = [_END] * width, 0, 0  # lines up to the last row, and without it
    try:
        for row in rows:
            before, line = line, rows.line_num
            if len(row) > width and not any(row[width:]):
                row = row[:width]
            if len(row) == width and row != end:
                yield row
            elif len(row) != width and "".join(row).strip():
                raise SourceError(_uneven(row, names, f"{where}, line {lines_before + before + 1:,}", separator))
    except csv.Error as error:
        raise SourceError(f"{where}, line {lines_before + line + 1:,}: {error}; is there a quote that is not closed?") from error
    if row != end:
        raise SourceError(f"{where}: a quote that is opened in line {lines_before + before + 1:,} or below is not closed")


def _uneven(row: list[str], names: list[str], where: str, separator: str) -> str:
    cells = f"{len(row)} cell{'s' * (len(row) != 1)}, beginning with '{one_line(row[0])}', and the header has {len(names)} ({one_line(', '.join(names))})"
    return f"{where} has {cells}; text with {_SEPARATOR_NAMES.get(separator, 'the separator')}, quotes or line breaks in it stands in quotes"


def _read_parquet(folder: Folder, name: str, choose: Choose | None) -> pa.Table:
    where = folder / name
    with mapped(where), folder.filesystem.open_input_file(folder.within(name)) as stream, pq.ParquetFile(stream) as file:
        fields = {field.name.strip(INVISIBLE): field for field in file.schema_arrow}
        refuse_twins([field.name.strip(INVISIBLE) for field in file.schema_arrow], where)
        chosen = choose(list(fields)) if choose else {name: name for name, field in fields.items() if is_text(field.type)}
        table = file.read(columns=[fields[found].name for found in chosen.values()])
        classes = class_names(file.schema_arrow)
    columns = {}
    for wanted, found in chosen.items():
        try:  # bytes may be text that was stored without saying so
            values = as_text(table[fields[found].name])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SourceError(f"{where}: column '{found}' of type {fields[found].type} cannot be read as text; store text or numbers") from error
        columns[wanted] = _class_of(values, classes[found], found, where) if found in classes else values
    return with_notes(pa.table(columns), renamed(chosen))


@contextmanager
def mapped(where: str) -> Iterator[None]:
    """Maps what goes wrong while a Parquet file is read to SourceError."""
    try:
        yield
    except pa.ArrowInvalid as error:
        raise SourceError(f"cannot read {where}: {' '.join(str(error).split())}; is it a whole Parquet file?") from error


def renamed(chosen: dict[str, str]) -> list[str]:
    """What is told of columns that were taken by another name than their own."""
    return [f"column '{found}' read as {wanted}" for wanted, found in chosen.items() if folded(found) != folded(wanted)]


def folded(name: str) -> str:
    """A column's name without regard to case and separators: `Image-Path ` and `imagePath` are `imagepath`."""
    return re.sub(r"[\W_]+", "", name.casefold())


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Of Hugging Face's `ClassLabel` columns: the names of the numbers."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel" and feature.get("names")}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _class_of(numbers: pa.ChunkedArray, names: list[str], column: str, where: str) -> pa.ChunkedArray:
    """-1 stands for no class. Raises: SourceError: a number that has no name."""
    known = pc.index_in(numbers, value_set=pa.array([str(number) for number in range(len(names))]))
    strange = numbers.filter(pc.and_(pc.is_null(known), pc.fill_null(pc.not_equal(numbers, "-1"), False)))
    if len(strange):
        raise SourceError(f"{where}: column '{column}' holds the class {strange[0]}, and only {len(names)} have names; mend the file's features")
    return pc.take(pa.array(names, pa.string()), known)
