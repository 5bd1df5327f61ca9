"""Hugging Face image folder with `metadata.csv`, `.jsonl` or `.parquet`: file_name, and label, or objects with boxes."""

import json
from typing import Any

import pyarrow.parquet as pq

from prodrec.errors import SourceError
from prodrec.sources.layouts.boxes import from_corner
from prodrec.sources.layouts.columns_meant import GROUP, LABEL, meant, row_splits
from prodrec.sources.layouts.listed import Listed, Row, as_listed, refuse_untold
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.splits import split_of_folders

_PATTERN = r"(.*/)?metadata\.(csv|jsonl|parquet)"


def find_metadata(tree: Tree) -> list[str]:
    """Files called `metadata` with a column file_name."""
    return [name for name in tree.named(_PATTERN) if (records := _records(tree, name)) and any(key.endswith("file_name") for key in records[0])]


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
    if name.lower().endswith(".csv"):
        return tree.table(name).to_pylist()
    if name.lower().endswith(".parquet"):
        with tree.folder.filesystem.open_input_file(tree.folder.within(name)) as stream:
            return pq.read_table(stream).to_pylist()
    try:
        return [json.loads(line) for line in tree.lines(name)]
    except ValueError as error:
        raise SourceError(f"{tree.where(name)} is not JSON lines: {error}; write one object a line") from error


def _rows(tree: Tree, name: str, notes: list[str]) -> list[Row]:
    records, where = _records(tree, name), tree.where(name)
    columns = list(dict.fromkeys(key for record in records for key in record))
    label, group = meant(columns, LABEL), meant(columns, GROUP)
    boxes = next((key for key in ("objects", "annotations") if key in columns), None)
    if "file_name" not in columns:
        raise SourceError(f"{where} names several images a row ({', '.join(columns)}); give a manifest.csv with uri, label, listing_id and view")
    if label is None and boxes is None:
        raise SourceError(f"{where} has neither label nor objects (found: {', '.join(columns)}); add a column label")
    folder, rows = name.rpartition("/")[0], []
    by_row = row_splits(columns, [{column: _text(record.get(column)) for column in columns} for record in records], where, notes)
    for number, record in enumerate(records, start=1):
        image = str(record.get("file_name") or "")
        near = [f"{folder}/" if folder else ""]
        split = by_row[number - 1] if by_row else split_of_folders(f"{folder}/{image}".rpartition("/")[0])
        row: Row = {"image": image, "near": near, "split": split}
        if boxes:
            row["objects"] = _objects(record.get(boxes), f"{where}, row {number}")
        else:
            row |= {"label": _text(record.get(label or "")), "group": _text(record.get(group)) if group else None}
        rows.append(row)
    return rows


def _text(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def _objects(told: Any, where: str) -> list[Row]:
    """Lists side by side, or a list of objects; boxes are x, y, width, height in pixels."""
    try:
        told = json.loads(told) if isinstance(told, str) else told or {}
        items = told if isinstance(told, list) else [dict(zip(told, values, strict=True)) for values in zip(*told.values(), strict=True)]
        return [_object(item, number) for number, item in enumerate(items, start=1)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: objects cannot be read: {error or type(error).__name__}; expected bbox (x, y, width, height) and categories") from error


def _object(item: dict[str, Any], number: int) -> Row:
    label = item[meant(item, LABEL) or "categories"]
    if label is None:
        raise ValueError("a box without a label")
    x, y, width, height = (float(value) for value in item["bbox"])
    return {"id": str(item.get("id", number)), "label": str(label).strip(), "box": from_corner(x, y, width, height), "crowd": bool(item.get("iscrowd"))}
