"""What the user has, as a table of examples: Products-10K, an image folder, manifests, COCO or Pascal-VOC. No image is opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.sources.annotations import COCO_SUFFIX, coco_files, is_voc, list_coco, list_voc
from prodrec.sources.image_bytes import read_images
from prodrec.sources.layouts import Listed, list_imagefolder, list_products10k
from prodrec.sources.manifests import list_manifests, manifest_names
from prodrec.sources.near_equal import near_equal
from prodrec.sources.tables import TABLE_SUFFIXES

__all__ = ["FORMATS", "Source", "open_source", "read_images"]

FORMATS = ("products10k", "imagefolder", "manifest", "coco", "voc")


@dataclass(frozen=True)
class Source:
    """A data set before preparation.

    Attributes:
        uri: as it was given, local paths made absolute.
        format: one of FORMATS.
        description: one line for people: what it was taken for, and what was left out.
        listing: of LISTING_SCHEMA; URIs are absolute, local ones are paths.
    """

    uri: str
    format: str
    description: str
    listing: pa.Table


def open_source(uri: str, format: str = "auto") -> Source:
    """Lists the examples of a source.

    `auto` takes the first that fits: a .csv, .tsv or .parquet file is a manifest, a .json file is COCO; a folder with `train.csv`
    is Products-10K; a folder with `manifest.csv` (.tsv, .parquet), or of Parquet files alone, is a manifest; a folder with
    `annotations/instances*.json` is COCO, one with XML files in `annotations/` is Pascal-VOC; a folder with subfolders is an
    image folder. A manifest goes before the subfolders, as they mostly hold its images.

    Args:
        uri: a local path or any URI that pyarrow.fs opens.
        format: `auto` or one of FORMATS.

    Raises:
        SourceError: nothing there, nothing recognisable, not of this format, no example in it, or a label in two groups.
    """
    if format not in ("auto", *FORMATS):
        raise SourceError(f"unknown format '{format}'; use auto, {', '.join(FORMATS)}")
    with _access(uri):
        folder = Folder(uri)
        kind = folder.filesystem.get_file_info(folder.path).type
        if kind == fs.FileType.NotFound:
            raise SourceError(f"{folder.uri} does not exist; give the folder or the manifest of your images")
        if kind == fs.FileType.File:
            format, listed = _list_file(folder, format)
        else:
            format, listed = _list_folder(folder, format)
    if not len(listed.table):
        raise SourceError(f"{folder.uri} lists no examples; it has a header and no rows")
    groups = _check_groups(listed.table, folder.uri)
    labels = pc.drop_null(_label_names(listed.table).unique()).to_pylist()
    counts = f"{len(listed.table):,} examples, {len(labels):,} classes" + (f" in {groups:,} groups" if groups else "")
    return Source(folder.uri, format, "; ".join([f"{listed.what}, {counts}", *listed.notes, *_nearly_equal(labels)]), listed.table)


def _list_file(file: Folder, format: str) -> tuple[str, Listed]:
    if format not in {"auto", "manifest", "coco"}:
        raise SourceError(f"{file.uri} is a file; the format {format} is a folder: give that, or --format manifest or coco")
    if not file.path.lower().endswith((*TABLE_SUFFIXES, COCO_SUFFIX)):
        raise SourceError(f"{file.uri} is no manifest: looked for a file ending in {', '.join((*TABLE_SUFFIXES, COCO_SUFFIX))}")
    head, mark, query = file.uri.partition("?") if "://" in file.uri else (file.uri, "", "")
    parent = head.rpartition("/")[0] or "/"
    name = file.path.rpartition("/")[2]
    if not name.lower().endswith(COCO_SUFFIX):
        return "manifest", list_manifests(Folder(parent + mark + query), [name])
    above, _, last = parent.rpartition("/")
    if last == "annotations":  # the images stand beside that folder
        parent, name = above or "/", f"{last}/{name}"
    return "coco", list_coco(Folder(parent + mark + query), [name])


def _list_folder(folder: Folder, format: str) -> tuple[str, Listed]:
    children = [info for info in folder.names() if not info.base_name.startswith((".", "_"))]
    if any(info.base_name == "manifest.json" for info in children):
        raise SourceError(f"{folder.uri} is prepared already (it has a manifest.json); give it to `prodrec train`, or name the original source")
    if not children:
        raise SourceError(f"{folder.uri} is empty; give the folder or the manifest of your images")
    manifests = manifest_names(folder, children)
    if format == "auto":
        format = _recognise(folder, children, manifests)
    if format == "products10k":
        return format, _beside(list_products10k(folder), manifests)
    if format == "imagefolder":
        return format, _beside(list_imagefolder(folder), manifests)
    if format == "coco":
        return format, _beside(_list_coco_folder(folder), manifests)
    if format == "voc":
        return format, _beside(list_voc(folder), manifests)
    if not manifests:
        raise SourceError(f"{folder.uri} holds no manifest: looked for manifest.csv, .tsv or .parquet, or Parquet files alone; or give the file itself")
    return format, list_manifests(folder, manifests)


def _recognise(folder: Folder, children: list[fs.FileInfo], manifests: list[str]) -> str:
    if any(info.base_name == "train.csv" for info in children):
        return "products10k"
    if manifests:
        return "manifest"
    if coco_files(folder):
        return "coco"
    if is_voc(folder):
        return "voc"
    if any(info.type == fs.FileType.Directory for info in children):
        return "imagefolder"
    looked_for = "train.csv (Products-10K), manifest.csv or Parquet files, annotations (COCO, Pascal-VOC), and a folder of images for each product"
    raise SourceError(f"{folder.uri} is no source: looked for {looked_for}, such as blue-mug/1.jpg")


def _list_coco_folder(folder: Folder) -> Listed:
    names = coco_files(folder)
    if not names:
        raise SourceError(f"{folder.uri} holds no COCO files: looked for annotations/instances*.json and train/_annotations.coco.json; or give the file itself")
    return list_coco(folder, names)


def _label_names(table: pa.Table) -> pa.ChunkedArray:
    """Labels of the images, or of the objects on them."""
    if table["objects"].null_count == len(table):
        return table["label"]
    return pc.struct_field(pc.list_flatten(table["objects"]), "label")


def _nearly_equal(labels: list[str]) -> list[str]:
    """A note on labels that differ in case or blanks only: mostly one product that is two."""
    found = near_equal(labels)
    if not found:
        return []
    shown = ", ".join(" = ".join(f"'{name}'" for name in names) for names in found[:3])
    return [f"nearly equal labels are kept apart: {shown}" + (f" and {len(found) - 3:,} more" if len(found) > 3 else "")]


def _beside(listed: Listed, manifests: list[str]) -> Listed:
    notes = tuple(f"{name} beside it not used (--format manifest takes it)" for name in manifests)
    return Listed(listed.what, listed.table, listed.notes + notes)


def _check_groups(table: pa.Table, where: str) -> int:
    """Number of groups; a label belongs to one at most."""
    grouped = table.filter(pc.is_valid(table["group"])).group_by("label").aggregate([("group", "min"), ("group", "max")])
    torn = grouped.filter(pc.and_(pc.is_valid(grouped["label"]), pc.not_equal(grouped["group_min"], grouped["group_max"]))).slice(0, 1).to_pylist()
    if torn:
        label, one, other = torn[0]["label"], torn[0]["group_min"], torn[0]["group_max"]
        raise SourceError(f"{where}: label '{label}' stands in two groups, '{one}' and '{other}'; give it one group, or make it two labels")
    return len(pc.drop_null(table["group"].unique()))


@contextmanager
def _access(uri: str) -> Iterator[None]:
    """Maps what goes wrong while listing to SourceError."""
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeError) as error:
        raise SourceError(f"cannot read {uri}: {' '.join(str(error).split())}; check the path, its permissions and that the file is whole") from error
