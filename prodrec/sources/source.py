"""What the user has, as a table of examples: image folders, manifests and annotated sets of every usual kind. No image is opened."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from prodrec.errors import SourceError
from prodrec.files import Folder, reading
from prodrec.sources.columns import clean, one_line
from prodrec.sources.groups import groups_of, one_group
from prodrec.sources.image_bytes import read_images
from prodrec.sources.labels import LabelText, joined, label_file, read_label_file
from prodrec.sources.layouts.listed import Listed
from prodrec.sources.layouts.registry import FORMATS, LAYOUTS, Layout, find_manifests, layout_named
from prodrec.sources.layouts.split_lists import divided, find_lists, may_list
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.layouts.unread import refuse_lists, refuse_unread
from prodrec.sources.near_equal import near_equal
from prodrec.sources.schema import SPLITS
from prodrec.sources.splits import split_named
from prodrec.sources.tables import TABLE_SUFFIXES

__all__ = ["FORMATS", "Source", "open_source", "read_images"]


@dataclass(frozen=True)
class Source:
    """A data set before preparation.

    Attributes:
        uri: as it was given, local paths made absolute.
        format: one of FORMATS.
        told: for people: what it was taken for, then what was guessed, left out or is doubtful (`WARNING: ...`).
        listing: of LISTING_SCHEMA; URIs are absolute, local ones are paths.
        labels: what is said of each label, for people; {} where nothing is.
    """

    uri: str
    format: str
    told: tuple[str, ...]
    listing: pa.Table
    labels: Mapping[str, LabelText] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What is told, in one line."""
        return "; ".join(self.told)


def open_source(uri: str, format: str = "auto") -> Source:
    """Lists the examples of a source.

    Args:
        uri: a local path or any URI that pyarrow.fs opens.
        format: one of FORMATS, or `auto`: the first that fits of them (`prodrec.sources.layouts.registry`).

    Raises:
        SourceError: nothing there, nothing recognisable, not of this format, no example in it, or labels that are names within their groups.
    """
    if format not in ("auto", *FORMATS):
        raise SourceError(f"unknown format '{format}'; use auto, {', '.join(FORMATS)}")
    with reading(uri):
        folder = Folder(uri)
        kind = folder.filesystem.get_file_info(folder.path).type
        if kind == fs.FileType.NotFound:
            raise SourceError(f"{folder.uri} does not exist; give the folder or the manifest of your images")
        tree = _beside(folder, format) if kind == fs.FileType.File else _checked(Tree(folder, asked=format))
        layout, names = _recognise(tree, format)
        listed = layout.list(tree, names)
        listed = _with_lists(tree, layout, names, listed)
        said, named = _said(tree.folder, listed)
    if not len(listed.table):
        raise SourceError("; ".join([f"{folder.uri} lists no examples", *listed.notes]))
    table, left_out = _without_photos(_cleaned(listed.table), said)
    table, torn = one_group(table, folder.uri)
    groups = groups_of(table)
    labels, told = joined(said, groups, named) if said else ({}, [])
    titles = [f"{named} names {sum(one.title is not None for one in labels.values()):,} of them", *told] if said else []
    in_groups = {*groups.values(), *(one.group for one in labels.values())} - {None}
    notes = [*torn, *titles, *left_out, *_not_used(tree, layout, names), *listed.notes, *_nearly_equal(list(groups)), *_one_label(tree, layout, table)]
    return Source(folder.uri, layout.name, (f"{listed.what}, {_counts(table, len(groups), len(in_groups))}", *notes), table, labels)


def _with_lists(tree: Tree, layout: Layout, names: list[str], listed: Listed) -> Listed:
    """With the splits of lists that stand beside it, where its annotations tell none."""
    table = listed.table
    told = layout.name == "products10k" or tree.only or table["split"].null_count < len(table) or table["row_group"].null_count < len(table)
    # The folder of a manifest may hold millions of images: it is looked through where a file's name promises a list.
    quiet = layout.name == "manifest" and not any(info.type == fs.FileType.File and may_list(info.base_name) for info in tree.tops)
    if told or quiet or not len(table):
        return listed
    lists = [part for part in find_lists(tree) if part.file not in names]
    if layout.name == "csv":  # one called by a split that is not among them is of images without labels, as in competitions
        lists = [part for part in lists if not part.name.lower().endswith(".csv")]
    if not lists:
        refuse_lists(tree, names)
        return listed
    table, notes = divided(tree, table, lists)
    return replace(listed, table=table, notes=(*listed.notes, *notes))


def _without_photos(table: pa.Table, said: Mapping[str, LabelText]) -> tuple[pa.Table, list[str]]:
    """Without folders of reference photos, such as `packshots/`, which an image folder takes for a label."""
    photos = {one.photo for one in said.values() if isinstance(one.photo, str)}
    if not photos or table["objects"].null_count < len(table):
        return table, []
    is_photo = pc.is_in(table["uri"], value_set=pa.array(sorted(photos), pa.string()))
    examples = set(table["label"].filter(pc.invert(is_photo)).unique().to_pylist())
    folders = sorted({label for label in table["label"].filter(is_photo).unique().to_pylist() if label is not None} - examples - said.keys())
    if not folders:
        return table, []
    gone = pc.fill_null(pc.is_in(table["label"], value_set=pa.array(folders)), False)
    kept = table.filter(pc.invert(gone))
    return kept, [f"{len(table) - len(kept):,} reference photos of labels in {', '.join(folders[:3])} are no examples"]


def _said(beside: Folder, listed: Listed) -> tuple[Mapping[str, LabelText], str]:
    """What is said of the labels, and by what: a file beside the examples goes before columns of a manifest."""
    name = label_file(beside)
    return (read_label_file(beside, name), name) if name else (listed.labels, "the manifest")


def _beside(file: Folder, format: str) -> Tree:
    """The folder in which a given file stands; of annotations in a folder of their own, or of a split, that above. A table's names are relative to its own."""
    suffixes = sorted({suffix for layout in LAYOUTS for suffix in layout.suffixes if format in ("auto", layout.name)})
    if not suffixes:
        raise SourceError(f"{file.uri} is a file; the format {format} is a folder: give that, or --format manifest or coco")
    if not file.path.lower().endswith(tuple(suffixes)):
        raise SourceError(f"{file.uri} is no manifest: looked for a file ending in {', '.join(suffixes)}; or give the folder of a source")
    head, mark, query = file.uri.partition("?") if "://" in file.uri else (file.uri, "", "")
    parent, _, name = head.rpartition("/")
    above, _, last = parent.rpartition("/")
    if not name.lower().endswith(TABLE_SUFFIXES) and (last.lower() in {"annotations", "labels"} or split_named(last)):
        parent, name = above, f"{last}/{name}"
    return Tree(Folder((parent or "/") + mark + query), only=name, asked=format)


def _checked(tree: Tree) -> Tree:
    if any(info.base_name == "manifest.json" for info in tree.tops):
        raise SourceError(f"{tree.folder.uri} is prepared already (it has a manifest.json); give it to `prodrec train`, or name the original source")
    if not tree.tops:
        raise SourceError(f"{tree.folder.uri} is empty; give the folder or the manifest of your images")
    return tree


def _recognise(tree: Tree, format: str) -> tuple[Layout, list[str]]:
    """The layout that was asked for, or the first that fits, and its annotation files."""
    if format != "auto":
        layout = layout_named(format)
        if names := layout.find(tree) or ([tree.only] if tree.only else []):
            return layout, names
        raise SourceError(f"{tree.folder.uri} is no source of the format {format}: looked for {layout.sign}")
    for layout in LAYOUTS:
        if layout.name == "imagefolder" and not tree.only:
            refuse_unread(tree)
        if (not tree.only or tree.only.lower().endswith(layout.suffixes or ("/",))) and (names := layout.find(tree)):
            return layout, names
    if tree.only:
        by_suffix = [layout for layout in LAYOUTS if tree.only.lower().endswith(layout.suffixes or ("/",))]
        return by_suffix[0], [tree.only]
    images = f" {len(tree.images):,} images are there, but nothing tells their labels." if len(tree.images) else ""
    looked_for = f"looked for {', '.join(FORMATS)} (README, sources), at the least a folder of images for each label, such as blue-mug/1.jpg"
    raise SourceError(f"{tree.folder.uri} is no source.{images} prodrec {looked_for}")


def _cleaned(table: pa.Table) -> pa.Table:
    """Labels and groups without surrounding blanks and in one normal form, whatever told them; an empty one is none."""
    for name in ("label", "group"):
        column = clean(table[name])
        table = table.set_column(table.column_names.index(name), name, pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column))
    objects = table["objects"].combine_chunks()
    if objects.null_count == len(objects):
        return table
    items = objects.flatten()
    fields = [clean(items.field(name)) if name == "label" else items.field(name) for name in ("id", "label", "box", "crowd")]
    lengths = pc.fill_null(pc.list_value_length(objects), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(fields, ["id", "label", "box", "crowd"]), mask=pc.is_null(objects))
    return table.set_column(table.column_names.index("objects"), "objects", lists.cast(table.schema.field("objects").type))


def _counts(table: pa.Table, labels: int, groups: int) -> str:
    counts = f"{len(table):,} examples, {labels:,} classes" + (f" in {groups:,} groups" if groups else "")
    given = Counter(table["split"].to_pylist())
    if not any(map(given.get, SPLITS)):
        return counts
    splits = ", ".join(f"{given[name]:,} {name}" for name in SPLITS if given[name])
    return f"{counts}, publisher's split {splits}" + (f", {given[None]:,} without" if given[None] else "")


def _one_label(tree: Tree, layout: Layout, table: pa.Table) -> list[str]:
    """One label in an image folder mostly means that the folder was given one too high."""
    if table["objects"].null_count < len(table) or len(labels := pc.drop_null(table["label"].unique())) != 1:
        return []
    label = labels[0].as_py()
    cause = ""
    if layout.name == "imagefolder" and (inside := [info.base_name for info in tree.folder.names(label) if info.type == fs.FileType.Directory]):
        cause = f": {label}/ holds {', '.join(inside[:3])}; if these are the labels, give {tree.folder / label}"
    return [f"WARNING: only one label, '{one_line(label)}', which no classifier can be trained on{cause}"]


def _not_used(tree: Tree, layout: Layout, names: list[str]) -> list[str]:
    return [f"{name} beside it not used (--format manifest takes it)" for name in ([] if tree.only else find_manifests(tree)) if name not in names]


def _nearly_equal(labels: list[str]) -> list[str]:
    """A note on labels that differ in case or blanks only: mostly one product that is two."""
    found = near_equal(labels)
    if not found:
        return []
    shown = ", ".join(" = ".join(f"'{name}'" for name in names) for names in found[:3])
    return [f"nearly equal labels are kept apart: {shown}" + (f" and {len(found) - 3:,} more" if len(found) > 3 else "")]
