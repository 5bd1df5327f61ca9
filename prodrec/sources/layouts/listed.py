"""From rows that annotations tell to a listing: images found by their names, pictures that are annotated twice, splits by lists."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from prodrec.errors import SourceError
from prodrec.sources.columns import absolute_uris, listing
from prodrec.sources.layouts.split_lists import SplitList, divide_by_lists
from prodrec.sources.layouts.tree import Tree, exists_here
from prodrec.sources.matching import written
from prodrec.sources.schema import LISTING_SCHEMA
from prodrec.sources.splits import split_of_path

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:[\\/]|\\\\")

Row = dict[str, Any]
"""`image` as the annotation names it, what it tells by the names of LISTING_SCHEMA, and `near`: folders where it is looked for first."""


@dataclass(frozen=True)
class Listed:
    """Examples as a source lists them.

    Attributes:
        what: the format and what was read, for people.
        table: of LISTING_SCHEMA.
        notes: what was left out, for people.
    """

    what: str
    table: pa.Table
    notes: tuple[str, ...] = ()


def as_listed(tree: Tree, what: str, rows: Sequence[Row], where: str, notes: Iterable[str] = (), lists: Sequence[SplitList] = ()) -> Listed:
    """A listing of annotated images.

    Args:
        where: the annotations, for people.
        lists: that tell the splits.

    Raises:
        SourceError: a picture that stands in several rows, a name that may be either of two files, or lists that name no image.
    """
    told = [*notes]
    try:
        uris = _places(tree, rows, told)
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from error
    twice = next((uri for uri, count in Counter(uris).items() if count > 1), None)
    if twice is not None:
        raise SourceError(f"{where}: the picture {twice} is annotated more than once; keep one entry, or give the one file to be used")
    columns = {name: [row.get(name) for row in rows] for name in LISTING_SCHEMA.names} | {"uri": uris}
    if lists and rows:
        splits, kept, said = divide_by_lists(uris, lists, where)
        told += said
        columns["split"] = splits
        columns = {name: [value for value, keep in zip(values, kept, strict=True) if keep] for name, values in columns.items()}
    arrays = {name: pa.array(values, LISTING_SCHEMA.field(name).type) for name, values in columns.items()}
    if tree.guesses:
        told.append(f"{len(tree.guesses):,} files in guessed encodings, such as {tree.guesses[0]}")
    if tree.system_files:
        told.append(system_note(tree.system_files))
    return Listed(what, listing(len(columns["uri"]), arrays | {"uri": absolute_uris(tree.folder, arrays["uri"])}), tuple(told))


def refuse_untold(names: Sequence[str], where: str) -> None:
    """Raises: SourceError: of several annotation files the names of some tell a split, that of another does not."""
    splits = {name: split_of_path(name) for name in names}
    untold = next((name for name, split in splits.items() if split is None), None)
    if untold and any(splits.values()):
        raise SourceError(f"{where}: the name of {untold} tells no split, those of others do; rename it to train, val or test, or give the one file to be used")


def system_note(count: int) -> str:
    return f"{count:,} hidden or system files left out"


def _places(tree: Tree, rows: Sequence[Row], told: list[str]) -> list[str]:
    """Where each image is, relative or absolute; one that is not there is looked for where the others are, so that its reject says so."""
    found = [_place(tree, row) for row in rows]
    starts = Counter(path[: -len(name)] for row, path in zip(rows, found, strict=True) if path and path.endswith(name := written(row["image"])))
    usual = starts.most_common(1)[0][0] if starts else None
    moved = [row["image"] for row, path in zip(rows, found, strict=True) if path and _ABSOLUTE.match(row["image"]) and path != row["image"]]
    if moved:
        told.append(f"{len(moved):,} images named by absolute paths of another machine, such as {moved[0]}, found here by their names")
    web = [row["image"] for row in rows if row["image"].startswith(("http://", "https://"))]
    if web:
        told.append(f"{len(web):,} images are named by web addresses, such as {web[0]}, which are not fetched here: download them, and name the files")
    missing = [row["image"] for row, path in zip(rows, found, strict=True) if not path]
    if missing and found:
        told.append(f"{len(missing):,} of {len(rows):,} images are not there, such as {missing[0]}")
    return [path or _default(row, usual) for row, path in zip(rows, found, strict=True)]


def names_itself(name: str) -> bool:
    """Whether a name is a place that needs no looking for: a URI, or an absolute path that is here."""
    return bool(_URI.match(name)) or (name.startswith("/") and exists_here(name))


def _default(row: Row, usual: str | None) -> str:
    name = row["image"]
    if _ABSOLUTE.match(name):
        return str(name)
    return (next(iter(row.get("near", ())), "") if usual is None else usual) + written(name)


def _place(tree: Tree, row: Row) -> str | None:
    name = row["image"]
    if names_itself(name):
        return str(name)
    return tree.image_index.find(name, row.get("near", ()), row.get("split"))
