"""How folders of images tell their labels: Products-10K and ImageFolder. No image is opened."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.sources.columns import SPLIT_NAMES, absolute_uris, listing, require_columns, splits, text
from prodrec.sources.labels import LabelText
from prodrec.sources.tables import read_table

_HIDDEN = r"(^|/)\."
# Files that stand beside images and are none.
_SIDECAR = r"(?i)(\.(txt|csv|tsv|jsonl?|md|rst|xml|ya?ml|ini|db|parquet)|(^|/)(licen[cs]e|readme))$"


@dataclass(frozen=True)
class Listed:
    """Examples as a source lists them.

    Attributes:
        what: the format and what was read, for people.
        table: of LISTING_SCHEMA.
        notes: what was left out, for people.
        labels: what it says of its labels, for people.
    """

    what: str
    table: pa.Table
    notes: tuple[str, ...] = ()
    labels: Mapping[str, LabelText] = field(default_factory=dict)


def list_products10k(folder: Folder) -> Listed:
    """Products-10K: `train.csv` and, with labels, `test.csv` or `test_kaggletest.csv` (name, class, group); images in `train/` and `test/`.

    Raises:
        SourceError: no `train.csv`, or it lacks a column.
    """
    if not folder.exists("train.csv"):
        raise SourceError(f"{folder.uri} is no Products-10K folder: there is no train.csv (name, class, group) in it")
    train = _products10k_csv(folder, "train.csv", "train")
    tests = [name for name in ("test.csv", "test_kaggletest.csv") if folder.exists(name)]
    for name in tests:
        table = read_table(folder, name)
        if {"name", "class"} <= set(table.column_names):
            both = pa.concat_tables([_with_split(train, "train"), _with_split(_products10k_csv(folder, name, "test"), "test")])
            return Listed(f"Products-10K: train.csv + {name}", both)
    return Listed("Products-10K: train.csv", train, tuple(f"{name} left out: it has no labels" for name in tests))


def list_imagefolder(folder: Folder) -> Listed:
    """`FOLDER/LABEL/image`, at any depth below the label, or `FOLDER/{train,val,test}/LABEL/image` with the publisher's split.

    Raises:
        SourceError: no image in a folder of its label.
    """
    images, skipped = image_paths(folder)
    tops = _folder_at(images, 0)
    nested = tops.filter(pc.greater_equal(pc.count_substring(images, "/"), 2))
    by_split = _has_splits(_names(tops), _names(nested))
    inside = pc.is_in(pc.utf8_lower(tops), value_set=pa.array(list(SPLIT_NAMES))) if by_split else pc.is_valid(tops)
    chosen = images.filter(inside)
    if not len(chosen):
        raise SourceError(f"{folder.uri} is no image folder: expected LABEL/image.jpg or train/LABEL/image.jpg below it")
    columns = {"uri": absolute_uris(folder, chosen), "label": _folder_at(chosen, 1 if by_split else 0)}
    if by_split:
        columns["split"] = splits(_folder_at(chosen, 0), folder.uri)
    left_out = {"hidden or text files": skipped, f"files outside {'train/, val/ and test/' if by_split else 'label folders'}": len(images) - len(chosen)}
    notes = tuple(f"{count:,} {what} left out" for what, count in left_out.items() if count)
    return Listed(f"image folder: {'SPLIT/LABEL' if by_split else 'LABEL'}/image", listing(len(chosen), columns), notes)


def image_paths(folder: Folder) -> tuple[pa.Array, int]:
    """Paths relative to the folder of what may be images, and the number of files that are not."""
    files = pa.array([info.path for info in folder.walk()], pa.string())
    relative = pc.utf8_slice_codeunits(files, start=len(folder.path.rstrip("/")) + 1)
    other = pc.or_(pc.match_substring_regex(relative, _HIDDEN), pc.match_substring_regex(relative, _SIDECAR))
    images = relative.filter(pc.invert(other))
    return images, len(files) - len(images)


def _products10k_csv(folder: Folder, name: str, images: str) -> pa.Table:
    table, where = read_table(folder, name), folder / name
    require_columns(table.column_names, [("name",), ("class",)], where, "Products-10K")
    uris = pc.binary_join_element_wise(f"{images}/", text(table, "name", where), "")
    columns = {"uri": absolute_uris(folder, uris), "label": text(table, "class", where), "group": text(table, "group", where)}
    return listing(len(table), columns)


def _with_split(table: pa.Table, split: str) -> pa.Table:
    return table.set_column(table.schema.get_field_index("split"), table.schema.field("split"), pa.repeat(split, len(table)))


def _folder_at(paths: pa.Array, level: int) -> pa.Array:
    """Name of the folder at a level of relative paths; null where the file stands higher."""
    return pc.struct_field(pc.extract_regex(paths, f"^(?:[^/]+/){{{level}}}(?P<part>[^/]+)/"), "part")


def _names(folders: pa.Array) -> set[str]:
    return {name.lower() for name in pc.drop_null(folders.unique()).to_pylist()}


def _has_splits(folders: set[str], with_subfolders: set[str]) -> bool:
    """A toy train may be a label: `train` counts as a split only where label folders are in it."""
    return "train" in with_subfolders or (bool(with_subfolders & set(SPLIT_NAMES)) and folders <= set(SPLIT_NAMES))
