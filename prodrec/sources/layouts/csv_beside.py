"""A CSV beside its images, as on Kaggle: a column of names (with or without ending), one of labels, or one for each label, or boxes.

Covered too: Roboflow's `_annotations.csv` (boxes) and `_classes.csv` (a column a label), TensorFlow's CSV of boxes.
"""

from collections.abc import Iterable

import pyarrow as pa

from prodrec.errors import SourceError
from prodrec.sources.columns import identifiers
from prodrec.sources.headers import meant
from prodrec.sources.layouts.boxes import from_corner
from prodrec.sources.layouts.columns_meant import corners, row_splits
from prodrec.sources.layouts.imagefolder import has_labels
from prodrec.sources.layouts.listed import Listed, Row, as_listed, names_itself, refuse_untold
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.splits import split_of_folders, split_of_path
from prodrec.sources.tables import folded

# Tables that are looked into, and rows of which the images are looked for. Source: assumed.
_MOST, _LOOKED_FOR = 30, 20
_TABLES = r"[^/]+\.(csv|tsv|parquet|csv\.gz|tsv\.gz)"

Table = list[dict[str, str | None]]


def find_csv(tree: Tree) -> list[str]:
    """Tables with a column of names of images that are here, and labels or boxes. Where folders tell the same labels, only those that tell splits."""
    names = [name for name in tree.named(r"([^/]+/){0,2}" + _TABLES)[:_MOST] if "submission" not in name.lower()]
    found = {name: rows for name in names if (rows := _sample(tree, name)) and _fits(tree, rows)}
    boxes = [name for name, table in found.items() if _box_columns(table)]
    asked = tree.asked == "csv" or tree.only is not None
    if boxes or asked or not has_labels(tree) or not all(_folders_tell(tree, table) for table in found.values()):
        return boxes or list(found)
    if len({split_of_path(name) for name in found} - {None}) > 1:
        return list(found)
    return [name for name, rows in found.items() if row_splits([*rows[0]], _table(tree, name), name, [])]


def names_must_be_looked_for(tree: Tree) -> bool:
    """Whether the one table names images that are here, but not by paths from it as a manifest's are; or tells boxes."""
    if tree.only is None or not find_csv(tree):
        return False
    table = _sample(tree, tree.only)
    image = meant(table[0], "uri") or ""
    named = next((value for row in table if (value := row[image])), "")
    return bool(_box_columns(table)) or not ("uri" in table[0] or names_itself(named) or tree.folder.exists(named))


def list_csv(tree: Tree, names: list[str]) -> Listed:
    """Lists the rows; the split is told by a column, by the table's name (`val.csv`), or by the folder of the image.

    Raises:
        SourceError: no column of images, or none of labels or boxes; a corner that is no number.
    """
    notes: list[str] = []
    rows: list[Row] = []
    for name in names:
        table = _table(tree, name)
        rows += _with_boxes(tree, name, table, notes) if _box_columns(table) else _with_labels(tree, name, table, notes)
    if not all(row["split"] for row in rows):
        refuse_untold(names, tree.folder.uri)
    splits = {split_of_path(name) for name in names}
    if splits == {"train"} and not any(row["split"] in {"val", "test"} for row in rows):
        # As in competitions: the test images have no labels, so this is all there is.
        rows = [row | {"split": None} for row in rows]
        notes.append(f"{', '.join(names)} is all that has labels, so it is divided")
    others = [name for name in tree.named(r"([^/]+/)?" + _TABLES) if name not in names]
    if others:
        notes.append(f"{', '.join(others[:3])} not used")
    return as_listed(tree, f"CSV of images: {', '.join(names)}", rows, f"{tree.folder.uri} ({', '.join(names)})", notes)


def _table(tree: Tree, name: str) -> Table:
    found: Table = tree.remembered(name, lambda: tree.table(name).to_pylist())
    return found


def _sample(tree: Tree, name: str) -> Table:
    """Some of the rows, from the whole table; none of what cannot be read as one, unless it was given itself."""
    try:
        table = tree.table(name)
    except SourceError:
        if tree.only:
            raise
        return []
    rows: Table = table.take(pa.array(range(0, len(table), -(-len(table) // _LOOKED_FOR) or 1), pa.int64())).to_pylist()
    return rows


def _fits(tree: Tree, table: Table) -> bool:
    image = meant(table[0], "uri")
    if image is None or not (_box_columns(table) or meant(table[0], "label") or _one_hot(table, image)):
        return False
    named = [value for row in table if (value := row[image])]
    return sum(_is_here(tree, value) for value in named) * 2 >= len(named) > 0


def _folders_tell(tree: Tree, table: Table) -> bool:
    """Whether labels of the table stand in the paths of most of their images: then its images' folders tell as much."""
    image, label = meant(table[0], "uri") or "", meant(table[0], "label") or ""
    rows = [row for row in table if row[image] and row.get(label)]
    told = [str(row[label]) in (tree.image_index.find(str(row[image])) or "").split("/") for row in rows if _is_here(tree, str(row[image]))]
    return sum(told) * 2 >= len(told)


def _is_here(tree: Tree, name: str) -> bool:
    try:
        return names_itself(name) or tree.image_index.find(name) is not None
    except SourceError:  # one of several
        return True


def _box_columns(table: Table) -> list[str] | None:
    return corners(table[0]) or (["x", "y", "w", "h"] if {"x", "y", "w", "h"} <= set(table[0]) else None) if table else None


def _one_hot(table: Table, image: str) -> list[str]:
    """Columns of 0 and 1, where all others are: a column a label."""
    others = [name for name in table[0] if name != image]
    flags = {"0", "1", "0.0", "1.0"}
    return others if len(others) > 1 and all((row[name] or "").strip() in flags for row in table for name in others) else []


def _near(name: str, split: str | None) -> list[str]:
    folder, _, last = name.rpartition("/")
    here = f"{folder}/" if folder else ""
    stem = last.rpartition(".")[0]
    named = [f"{here}{start}{stem}{end}/" for start in ("", "images/") for end in ("", "_images", "-images")]
    return [*dict.fromkeys([*named, *([f"{here}{split}/"] if split else []), here, f"{here}images/", "images/", ""])]


def _images(tree: Tree, name: str, table: Table, notes: list[str]) -> list[tuple[Row, dict[str, str | None]]]:
    """Of each row with an image the start of its listing row, and the row."""
    where = tree.where(name)
    image = meant(table[0], "uri") if table else None
    if image is None:
        raise SourceError(f"{where} has no column that names images; call it filename (found: {', '.join(table[0]) if table else 'no row'})")
    own, by_row = split_of_path(name), row_splits([*table[0]], table, where, notes)
    near = _near(name, own)
    found = []
    for number, row in enumerate(table):
        value = row[image]
        split = (by_row[number] if by_row else None) or own or split_of_folders((value or "").rpartition("/")[0])
        found.append(({"image": value or "", "near": near, "split": split}, row))
    if empty := sum(not start["image"] for start, _ in found):
        notes.append(f"{name}: {empty:,} rows that name no image left out")
    return [(start, row) for start, row in found if start["image"]]


def _with_labels(tree: Tree, name: str, table: Table, notes: list[str]) -> list[Row]:
    images = _images(tree, name, table, notes)
    image, label, group = meant(table[0], "uri"), meant(table[0], "label"), meant(table[0], "group")
    if label == image:
        label = None
    flags = [] if label else _one_hot(table, image or "")
    if label is None and not flags:
        raise SourceError(f"{tree.where(name)} has no column of labels; call it label (found: {', '.join(table[0])})")
    if label:
        labels, groups = (_ids(column, images, tree.where(name)) for column in (label, group))
        rows = [start | {"label": one, "group": other} for (start, _), one, other in zip(images, labels, groups, strict=True)]
        return _once(rows, name, notes)
    chosen = [[column.strip() for column in flags if float(row[column] or 0)] for _, row in images]
    if several := sum(len(labels) != 1 for labels in chosen):
        notes.append(f"{name}: {several:,} images with no label or several are rejected: an image has one")
    return [start | {"label": labels[0] if len(labels) == 1 else None} for (start, _), labels in zip(images, chosen, strict=True)]


def _ids(column: str | None, images: list[tuple[Row, dict[str, str | None]]], where: str) -> list[str | None]:
    """A column of the rows, as names are: of a manifest or beside images `3.0` is 3, and what has lost digits is refused."""
    values = pa.chunked_array([pa.array([row[column] if column else None for _, row in images], pa.string())])
    found: list[str | None] = identifiers(values, column or "", where).to_pylist()
    return [value or None for value in found]


def _once(rows: list[Row], name: str, notes: list[str]) -> list[Row]:
    """A row an image: those that say the same again are one, and an image with two labels has none that holds for it."""
    found: dict[tuple[str, str | None], Row] = {}
    torn: dict[tuple[str, str | None], Row] = {}
    for row in rows:
        first = found.setdefault((row["image"], row["split"]), row)
        if first["label"] != row["label"]:
            torn.setdefault((row["image"], row["split"]), row)
    if torn:
        place, row = next(iter(torn.items()))
        several = f"such as {row['image']} ('{found[place]['label']}' and '{row['label']}')"
        notes.append(f"{name}: {len(torn):,} images with several labels, {several}, have no one label and are rejected")
    if len(found) < len(rows):
        notes.append(f"{name}: {len(rows) - len(found):,} rows of images that stand there before")
    return [row | {"label": None, "group": None} if place in torn else row for place, row in found.items()]


def _with_boxes(tree: Tree, name: str, table: Table, notes: list[str]) -> Iterable[Row]:
    """Rows of one image, one a box, as one; a row without corners is a picture that shows nothing."""
    sides = _box_columns(table) or []
    label, width, height = meant(table[0], "label"), meant(table[0], "width", "imagewidth"), meant(table[0], "height", "imageheight")
    if label is None:
        raise SourceError(f"{tree.where(name)} has no column of labels for its boxes; call it class (found: {', '.join(table[0])})")
    images, found = _images(tree, name, table, notes), dict[str, Row]()
    labels = _ids(label, images, tree.where(name))
    for number, ((start, row), named) in enumerate(zip(images, labels, strict=True), start=2):
        size = {"width": _pixels(row[width]) if width else None, "height": _pixels(row[height]) if height else None}
        kept = found.setdefault(start["image"], start | size | {"objects": []})
        if any(row[side] for side in sides):
            kept["objects"].append(_object(row, sides, named, f"{tree.where(name)}, line {number}", len(kept["objects"])))
    relative = all(abs(value) <= 1 for row in found.values() for item in row["objects"] for value in item["box"])
    if relative and any(row["objects"] for row in found.values()):
        notes.append(f"{name}: no corner is over 1, so boxes are fractions of the pictures' sides")
    return [row | {"relative": relative} for row in found.values()]


def _object(row: dict[str, str | None], sides: list[str], label: str | None, where: str, number: int) -> Row:
    try:
        values = [float(row[side] or "") for side in sides]
    except ValueError as error:
        raise SourceError(f"{where}: the corners are {[row[side] for side in sides]}; expected four numbers") from error
    if not label:
        raise SourceError(f"{where} has a box and no label; give it one")
    box = from_corner(*values) if folded(sides[-1]) == "h" else values
    return {"id": str(number), "label": label, "box": box, "crowd": False}


def _pixels(value: str | None) -> int | None:
    return int(float(value)) if value and value.replace(".", "", 1).isdecimal() and float(value) else None
