"""What looks annotated and is not read: refused by name, with what to do; never taken for an image folder."""

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from prodrec.errors import SourceError
from prodrec.sources.layouts.coco import coco_without_boxes
from prodrec.sources.layouts.imagefolder import PARTS, has_labels
from prodrec.sources.layouts.split_lists import find_lists, names_image
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.splits import split_named, split_of_folders, split_of_path

_EXPORT = "export it as COCO, Pascal-VOC, YOLO or a CSV of images and labels"
_MASKS = {
    "masks",
    "mask",
    "segmentations",
    "segmentationclass",
    "segmentationobject",
    "gtfine",
    "ground_truth",
    "groundtruth",
    "gt",
    "trimaps",
    "annotations",
    "labels",
}
# Names of images that are looked for in files of unknown kinds. Source: assumed.
_LOOKED_FOR = 20
_READ_BYTES, _MOST = 4 << 20, 200


class _Sign(NamedTuple):
    pattern: str
    what: str
    do: str


_SIGNS = (
    _Sign(r"\.(tfrecords?|record)(-\d+-of-\d+)?$", "TFRecord", _EXPORT),
    _Sign(r"\.(h5|hdf5)$", "HDF5", _EXPORT),
    _Sign(r"\.mat$", "MATLAB", _EXPORT),
    _Sign(r"\.(pkl|pickle)$", "a pickle (MMDetection's, CIFAR's), which may run code: one", _EXPORT),
    _Sign(r"\.np[yz]$", "NumPy arrays", _EXPORT),
    _Sign(r"(^|/)data\.mdb$", "LMDB", _EXPORT),
    _Sign(r"\.(rec|idx)$", "MXNet RecordIO", _EXPORT),
    _Sign(r"(^|/)ann/[^/]+\.json$", "Supervisely", _EXPORT),
    _Sign(r"(^|/)data_batch_\d|-ubyte(\.gz)?$", "CIFAR or MNIST in binary files", "write the images as files, LABEL/image.png"),
)
_ARCHIVE = _Sign(r"(?i)\.(zip|tar\.(gz|bz2|xz)|tgz|7z|rar)$", "archives", "unpack them, and give the folder")


def refuse_unread(tree: Tree) -> None:
    """Of a folder that is none of the annotated sets that are read.

    Raises:
        SourceError: there are signs of annotations, or nothing but archives.
    """
    for sign in _SIGNS:
        if (name := _first(tree.paths, f"(?i){sign.pattern}")) is not None:
            raise _refusal(tree, name, sign.what, sign.do)
    if not len(tree.images) and (name := _first(tree.paths, _ARCHIVE.pattern)) is not None:
        raise _refusal(tree, name, _ARCHIVE.what, _ARCHIVE.do)
    if name := coco_without_boxes(tree):
        raise _refusal(tree, name, "COCO of captions, keypoints or segments without boxes, a kind", _EXPORT)
    _refuse_masks(tree)
    _refuse_per_image(tree)
    _refuse_tables(tree)
    _refuse_workbooks(tree)


def _refuse_masks(tree: Tree) -> None:
    """Folders of masks beside one of pictures: `images/` and `masks/`."""
    folders = pc.struct_field(pc.extract_regex(tree.images, r"^(?P<folder>.*)/[^/]*$"), "folder").unique().drop_null().to_pylist()
    names = {part.lower() for folder in folders for part in folder.split("/")}
    clear = names & (_MASKS - {"mask", "masks", "gt", "annotations", "labels", "segmentations"})
    beside = names & _MASKS if names & (PARTS - _MASKS - {"label", "annotation"}) else set()
    if found := sorted(clear or beside):
        raise _refusal(tree, f"{found[0]}/", "masks", "boxes are read, not masks: export boxes as COCO; if these are labels, --format imagefolder")


def _refuse_per_image(tree: Tree) -> None:
    """A file of the same name beside, or in a folder next to, most of the images."""
    stems = set(pc.replace_substring_regex(tree.images, r"^.*/|\.[^./]*$", "").to_pylist())
    for suffix in (".txt", ".json", ".xml"):
        found = [path for path in tree.named(r".*\S" + re.escape(suffix)) if path.rpartition("/")[2].removesuffix(suffix) in stems]
        if len(found) * 2 >= len(stems) > 1:
            do = f"a {suffix} file of the same name stands beside {len(found):,} of the images; {_EXPORT}, or --format imagefolder if they are of no use"
            raise _refusal(tree, found[0], "annotations of a kind", do)


def _refuse_tables(tree: Tree) -> None:
    """A table or JSON that names the images. Beside folders that tell labels a CSV or text is a list of them; JSON and XML are more."""
    names = _sampled(tree.images)
    kinds = "json|jsonl|ndjson|xml|ya?ml" if has_labels(tree) else "csv|tsv|json|jsonl|ndjson|txt|xml|ya?ml"
    lists = {part.file for part in find_lists(tree)}
    for path in tree.named(rf"([^/]+/)?[^/]+\.({kinds})")[:_MOST]:
        of_split = bool(lists) and split_named(path.rpartition("/")[2].partition(".")[0]) is not None  # Food-101 has its lists twice
        text = _head(tree, path) if names and path not in lists and not of_split else ""
        if sum(name in text for name in names) * 2 >= max(1, len(names)):
            raise _refusal(tree, path, "annotations of a kind", f"it names the images; {_EXPORT}, or give a manifest.csv with the columns uri and label")


def _refuse_workbooks(tree: Tree) -> None:
    """Excel's workbooks (zip archives of XML) and SQLite's databases that name the images."""
    names = _sampled(tree.images)
    for path in tree.named(r"([^/]+/)?[^/]+\.(xlsx|xlsm|ods|xls|db|sqlite3?)")[:_MOST]:
        text = _unpacked(tree, path) if path.lower().endswith((".xlsx", ".xlsm", ".ods")) else _head(tree, path)
        if names and sum(name in text for name in names) * 2 >= len(names):
            raise _refusal(tree, path, "a workbook or database", "it names the images; save it as CSV (UTF-8) with the columns uri and label")


def _unpacked(tree: Tree, path: str) -> str:
    """The texts of a workbook, so far as they are looked at."""
    try:
        with zipfile.ZipFile(io.BytesIO(tree.folder.read(path))) as archive:
            parts = [name for name in archive.namelist() if re.search(r"sharedStrings|/sheet\d+\.xml$|content\.xml$", name)]
            return "".join(archive.open(name).read(_READ_BYTES).decode("utf-8", "replace") for name in parts[:_LOOKED_FOR])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError):  # damaged, or with a password: nothing is told by it
        return ""


def refuse_lists(tree: Tree, used: Sequence[str]) -> None:
    """Of a source of which nothing tells splits.

    Args:
        used: its annotation files.

    Raises:
        SourceError: a text names images of a split, but not as lists are read, so all would be divided in silence.
    """
    for path in tree.named(r".*\.(txt|lst|list)")[:_MOST]:
        split = split_of_path(path)
        lines = [line.strip() for line in _head(tree, path).splitlines()[:_LOOKED_FOR]] if split and path not in used else []
        named = [image for line in lines if (image := names_image(tree.image_index, line))]
        if named and len(named) * 2 >= len(lines) and any(split_of_folders(image) != split for image in named):
            do = f"call it {split}.txt, beside the images' folders, with an image a line, or remove it"
            raise SourceError(f"{tree.where(path)} is a list of {split} images that prodrec does not read: {do}")


def _sampled(images: pa.Array) -> Sequence[str]:
    step = -(-len(images) // _LOOKED_FOR) or 1
    lasts = [path.rpartition("/")[2] for path in images.take(pa.array(range(0, len(images), step), pa.int64())).to_pylist()]
    return [stem if len(stem := last.partition(".")[0]) > 2 else last for last in lasts]


def _head(tree: Tree, path: str) -> str:
    with tree.folder.filesystem.open_input_stream(tree.folder.within(path)) as stream:
        return bytes(stream.read(_READ_BYTES)).decode("utf-8", "replace")


def _first(paths: pa.Array, pattern: str) -> str | None:
    found = paths.filter(pc.match_substring_regex(paths, pattern))
    return found[0].as_py() if len(found) else None


def _refusal(tree: Tree, name: str, what: str, do: str) -> SourceError:
    folders = "; if its folders are the labels, --format imagefolder takes them" if has_labels(tree) else ""
    return SourceError(f"{tree.folder.uri} looks annotated, but {name} is {what} that prodrec does not read: {do}{folders}")
