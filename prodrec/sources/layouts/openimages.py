"""Open Images: CSV of boxes in fractions, a row a box, with machine names of labels that `class-descriptions` translates."""

import csv
import io

from prodrec.errors import SourceError
from prodrec.sources.layouts.listed import Listed, Row, as_listed
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.splits import split_of_path

_COLUMNS = ["ImageID", "LabelName", "XMin", "YMin", "XMax", "YMax"]


def find_openimages(tree: Tree) -> list[str]:
    """CSV files with the columns ImageID, LabelName and XMin."""
    return [name for name in tree.named(r"(.*/)?[^/]*(bbox|detections|boxes|annotations)[^/]*\.csv") if _has_columns(tree, name)]


def list_openimages(tree: Tree, names: list[str]) -> Listed:
    """Lists the images that are here of those that the CSV name; the split is told by the file's name.

    Raises:
        SourceError: a file lacks a column, or a corner is no number.
    """
    labels = _descriptions(tree)
    rows: dict[tuple[str, str | None], Row] = {}
    for name in names:
        split = split_of_path(name)
        columns = [*_COLUMNS, "IsGroupOf"] if "IsGroupOf" in (table := tree.table(name)).column_names else _COLUMNS
        if not set(_COLUMNS) <= set(table.column_names):
            raise SourceError(f"{tree.where(name)} has no columns {', '.join(_COLUMNS)}; found: {', '.join(table.column_names)}")
        for batch in table.select(columns).to_batches(max_chunksize=65_536):
            for image, label, *corners, crowd in zip(*_padded([column.to_pylist() for column in batch.columns], batch.num_rows), strict=True):
                start = {"image": image, "near": [f"{split}/", f"{split}/data/", f"images/{split}/", "data/"], "split": split, "objects": [], "relative": True}
                row = rows.setdefault((image, split), start)
                row["objects"].append(_object(corners, labels.get(label, label), crowd, len(row["objects"]), tree.where(name), image))
    here = [row for row in rows.values() if tree.image_index.find(row["image"], row["near"], row["split"])]
    notes = [f"{len(rows) - len(here):,} of {len(rows):,} images of the CSV are not here and left out"] if len(here) < len(rows) else []
    if not labels:
        notes.append("no class-descriptions CSV: labels keep their machine names, such as /m/01yrx")
    return as_listed(tree, f"Open Images: {', '.join(names)}", here, f"{tree.folder.uri} ({', '.join(names)})", notes)


def _padded(columns: list[list[str]], rows: int) -> list[list[str]]:
    return columns if len(columns) == len(_COLUMNS) + 1 else [*columns, ["0"] * rows]


def _has_columns(tree: Tree, name: str) -> bool:
    with tree.folder.filesystem.open_input_stream(tree.folder.within(name)) as stream:
        head = bytes(stream.read(2_000)).decode("utf-8", "replace").splitlines()
    return bool(head) and {"ImageID", "LabelName", "XMin"} <= {column.strip().strip("\ufeff") for column in head[0].split(",")}


def _descriptions(tree: Tree) -> dict[str, str]:
    """Machine name -> name, of files without a header."""
    names = tree.remembered("descriptions", lambda: [path for path in tree.annotations if "class" in path.lower() and path.lower().endswith(".csv")])
    lines = (line for name in names for line in csv.reader(io.StringIO(tree.text(name))))
    return {line[0].strip(): line[1].strip() for line in lines if len(line) >= 2 and line[0].strip() != "LabelName"}


def _object(corners: list[str], label: str, crowd: str, number: int, where: str, image: str) -> Row:
    try:
        box = [float(corner) for corner in corners]
    except (TypeError, ValueError) as error:
        raise SourceError(f"{where}: image {image} has the corners {corners}; expected four numbers") from error
    return {"id": str(number), "label": label, "box": box, "crowd": crowd == "1"}
