"""Hugging Face image folder with `metadata.csv`, `.jsonl` or `.parquet`: file_name, and label, or objects with boxes."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prodrec.errors import SourceError
from prodrec.sources.columns import identifiers, is_text, told_name
from prodrec.sources.headers import meant
from prodrec.sources.layouts.boxes import from_corner
from prodrec.sources.layouts.columns_meant import row_splits
from prodrec.sources.layouts.listed import Listed, Row, as_listed, refuse_untold
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.splits import split_of_folders
from prodrec.sources.tables import PARQUET_SUFFIX, mapped

_BOXES = ("objects", "annotations")
_PATTERN = r"(.*/)?metadata\.(csv|jsonl|parquet)"


def find_metadata(tree: Tree) -> list[str]:
    """Files called `metadata` with a column file_name."""
    return [name for name in tree.named(_PATTERN) if any(key.endswith("file_name") for record in _records(tree, name)[:1] for key in record)]


def list_metadata(tree: Tree, names: list[str]) -> Listed:
    """Lists the images; the split is told by the folder of the metadata, or of the image.

    Raises:
        SourceError: neither label nor objects, or objects that cannot be read: it names file and line.
    """
    notes: list[str] = []
    refuse_untold(names, tree.folder.uri)
    rows = [row for name in names for row in _rows(tree, name, notes)]
    if all(str(row.get("label") or "0").isdecimal() for row in rows) and not any(row.get("objects") for row in rows):
        notes.append("labels are numbers: the file has no names of them")
    return as_listed(tree, f"Hugging Face image folder: {', '.join(names)}", rows, f"{tree.folder.uri} ({', '.join(names)})", notes)


def _records(tree: Tree, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tree.remembered(name, lambda: _read(tree, name))
    return found


def _read(tree: Tree, name: str) -> list[dict[str, Any]]:
    if name.lower().endswith(".jsonl"):
        try:
            records = [json.loads(line) for line in tree.lines(name)]
        except ValueError as error:
            raise SourceError(f"{tree.where(name)} is not JSON lines: {error}; write one object a line") from error
        return [record if isinstance(record, dict) else {} for record in records]
    columns: dict[str, list[Any]] = tree.table(name).to_pydict()
    if name.lower().endswith(PARQUET_SUFFIX):
        columns |= _nested(tree, name)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _nested(tree: Tree, name: str) -> dict[str, list[Any]]:
    """Columns of objects, which are no text, so the reader of tables leaves them out."""
    with mapped(tree.where(name)), tree.folder.filesystem.open_input_file(tree.folder.within(name)) as stream, pq.ParquetFile(stream) as file:
        found = [field.name for field in file.schema_arrow if field.name in _BOXES and not is_text(field.type)]
        return {column: file.read(columns=[column]).column(0).to_pylist() for column in found}


def _rows(tree: Tree, name: str, notes: list[str]) -> list[Row]:
    records, where = _records(tree, name), tree.where(name)
    columns = list(dict.fromkeys(key for record in records for key in record))
    label, group = meant(columns, "label"), meant(columns, "group")
    boxes = next((key for key in _BOXES if key in columns), None)
    if "file_name" not in columns:
        raise SourceError(f"{where} names several images a row ({', '.join(columns)}); give a manifest.csv with uri, label, listing_id and view")
    if label is None and boxes is None:
        raise SourceError(f"{where} has neither label nor objects (found: {', '.join(columns)}); add a column label")
    folder, rows = name.rpartition("/")[0], []
    by_row = row_splits(columns, [{column: _text(record.get(column)) for column in columns} for record in records], where, notes)
    labels, groups = ([], []) if boxes else (_named(records, column, where) for column in (label, group))
    for number, record in enumerate(records, start=1):
        image = str(record.get("file_name") or "")
        near = [f"{folder}/" if folder else ""]
        split = by_row[number - 1] if by_row else split_of_folders(f"{folder}/{image}".rpartition("/")[0])
        row: Row = {"image": image, "near": near, "split": split}
        if boxes:
            row["objects"] = _objects(record.get(boxes), f"{where}, row {number}")
        else:
            row |= {"label": labels[number - 1], "group": groups[number - 1]}
        rows.append(row)
    return rows


def _named(records: list[dict[str, Any]], column: str | None, where: str) -> list[str | None]:
    """A column of labels or groups, as those of tables are."""
    told = [told_name(record.get(column) if column else None, column or "", where) for record in records]
    found: list[str | None] = identifiers(pa.chunked_array([pa.array(told, pa.string())]), column or "", where).to_pylist()
    return found


def _text(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def _objects(told: Any, where: str) -> list[Row]:
    """Lists side by side, or a list of objects; boxes are x, y, width, height in pixels."""
    try:
        told = json.loads(told) if isinstance(told, str) else told or {}
        items = told if isinstance(told, list) else [dict(zip(told, values, strict=True)) for values in zip(*told.values(), strict=True)]
        return [_object(item, number) for number, item in enumerate(items, start=1)]
    except (AttributeError, KeyError, TypeError, ValueError, SourceError) as error:
        raise SourceError(f"{where}: objects cannot be read: {error or type(error).__name__}; expected bbox (x, y, width, height) and categories") from error


def _object(item: dict[str, Any], number: int) -> Row:
    label = told_name(item[meant(item, "label") or "categories"], "the label of a box", f"number {number}")
    if label is None:
        raise ValueError("a box without a label")
    x, y, width, height = (float(value) for value in item["bbox"])
    return {"id": str(item.get("id", number)), "label": label, "box": from_corner(x, y, width, height), "crowd": bool(item.get("iscrowd"))}
