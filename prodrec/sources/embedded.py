"""Images inside of Parquet files: which column holds their bytes, and which rows have some. The bytes are not read here."""

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.sources.schema import IMAGE_COLUMN
from prodrec.sources.tables import folded, mapped

BYTES_COLUMN = "bytes"
_OTHER_NAMES = {IMAGE_COLUMN, "imagebytes", "imagedata", "img", "imgbytes", "picture", "photo", "content", "jpeg", "jpg", "png"}
# Rows whose bytes are looked at together, where the file does not tell how many have none. Source: assumed; at 50 MB an image 800 MB.
_ROWS_AT_ONCE = 16


class Embedded(NamedTuple):
    """The images of one file.

    Attributes:
        column: that holds them.
        row_groups: rows of each.
        without: [rows] whether a row holds no bytes.
        paths: [rows] where such an image is instead, as Hugging Face's `path` tells; null where it does not.
    """

    column: str
    row_groups: list[int]
    without: pa.Array
    paths: pa.Array


def embedded_column(schema: pa.Schema, where: str) -> str | None:
    """Path of the column of bytes: `bytes`, binary under another usual name, or Hugging Face's `image.bytes`; None: there is none.

    Raises:
        SourceError: `bytes` holds none, or several columns could be meant.
    """
    if BYTES_COLUMN in schema.names:
        if not _is_bytes(schema.field(BYTES_COLUMN).type):
            raise SourceError(f"{where}: column 'bytes' is of type {schema.field(BYTES_COLUMN).type}; store the files' bytes as binary")
        return BYTES_COLUMN
    found = [field.name for field in schema if _is_bytes(field.type) and folded(field.name) in _OTHER_NAMES]
    found += [f"{field.name}.bytes" for field in schema if _child(field.type, "bytes") and _is_bytes(field.type.field("bytes").type)]
    if len(found) > 1:
        raise SourceError(f"{where}: the columns {' and '.join(found)} hold bytes of images; name the one that is meant 'bytes'")
    return found[0] if found else None


def find_embedded(folder: Folder, name: str) -> Embedded | None:
    """What a Parquet file holds of images; None: nothing.

    Raises:
        SourceError: it is no whole Parquet file, or does not tell which of its columns is meant.
    """
    where = folder / name
    with mapped(where), folder.filesystem.open_input_file(folder.within(name)) as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        column = embedded_column(schema, where)
        if column is None:
            return None
        without, paths = _without(file, column), pa.nulls(rows, pa.string())
        top = column.removesuffix(".bytes")
        if pc.any(without).as_py() and top != column and _child(schema.field(top).type, "path"):
            paths = pc.struct_field(file.read(columns=[f"{top}.path"]).column(0), "path").cast(pa.string()).combine_chunks()
        return Embedded(top, [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)], without, paths)


def _without(file: pq.ParquetFile, column: str) -> pa.Array:
    """[rows] whether a row holds no bytes: mostly the file's statistics tell."""
    found = [pa.array([], pa.bool_())]
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        [told] = [group.column(i).statistics for i in range(group.num_columns) if group.column(i).path_in_schema == column]
        nulls = told.null_count if told and told.has_null_count else None
        if nulls in (0, group.num_rows):
            found.append(pa.repeat(pa.scalar(nulls > 0), group.num_rows))
        else:
            found += [leaf(batch.column(0)).is_null() for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[number], columns=[column])]
    return pa.concat_arrays(found)


def leaf(values: pa.Array) -> pa.Array:
    """The bytes of a column that was read by the path that `embedded_column` gives."""
    return pc.struct_field(values, "bytes") if pa.types.is_struct(values.type) else values


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _child(kind: pa.DataType, name: str) -> bool:
    return bool(pa.types.is_struct(kind)) and name in [kind.field(i).name for i in range(kind.num_fields)]
