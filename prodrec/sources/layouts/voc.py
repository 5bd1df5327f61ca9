"""Pascal-VOC: an XML file for each image, in any layout of folders. Boxes are the first and last pixel inside, counted from 1."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from prodrec.errors import SourceError
from prodrec.sources.layouts.listed import Listed, Row, as_listed
from prodrec.sources.layouts.split_lists import SplitList, find_lists
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.layouts.xml_files import read_xml
from prodrec.sources.splits import holds_both, split_named, split_of_folders

# A read of an object store waits, it does not compute. Source: assumed.
_READERS = 16
# XML files that are looked into to learn whether they are annotations. Source: assumed.
_LOOKED_INTO = 3
# Lists of all images. Source: CVAT and Datumaro.
_ALL = {"default", "all", "list", "images"}
_IMAGES = ("JPEGImages/", "images/", "Images/", "imgs/", "")


def find_voc(tree: Tree) -> list[str]:
    """XML files whose root is `annotation`; the first few tell."""
    names = tree.named(r".*\.xml")
    for name in names[:_LOOKED_INTO]:
        try:
            if read_xml(tree, name).tag.lower() != "annotation":
                return []
        except SourceError:
            continue
    return names


def list_voc(tree: Tree, names: list[str]) -> Listed:
    """Lists the images of a Pascal-VOC folder; the split is told by lists in `ImageSets`, or by folders.

    Raises:
        SourceError: no XML file, one that is no annotation (it names the file), or lists that name none of the images.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        rows = list(pool.map(lambda name: _row(tree, name), names))
    places = sorted({name.rpartition("/")[0] + "/" if "/" in name else "./" for name in names})
    where = f"{len(places):,} folders" if len(places) > 3 else ", ".join(places)
    lists = [] if any(row["split"] for row in rows) else voc_lists(tree)
    notes = [*_unannotated(tree, rows), *_unknown_lists(tree, bool(lists) or any(row["split"] for row in rows))]
    return as_listed(tree, f"Pascal-VOC: {len(names):,} XML files in {where}", rows, tree.where(places[0].removesuffix("/")), notes, lists)


def voc_lists(tree: Tree) -> list[SplitList]:
    """Lists of `ImageSets`, those of Main before those of Layout or Segmentation; the lists of classes only where there are no others."""
    named = _image_sets(tree)
    ordered = [[path for path in named if (path.lower().split("/")[-2] == "main") == is_main] for is_main in (True, False)]
    for paths in ordered:
        whole = {path: split for path in paths if (split := split_named(_stem(path)))}
        of_class = {path: split for path in paths if (split := split_named(_stem(path).rpartition("_")[2]))}
        if found := whole or of_class:
            both = {"train", "val"} <= {split for path, split in found.items() if not holds_both(path)}
            return [SplitList(path, split, tree.lines(path)) for path, split in found.items() if not (both and holds_both(path))]
    return find_lists(tree)


def _image_sets(tree: Tree) -> list[str]:
    return [path for path in tree.named(r".*\.txt") if "imagesets" in path.lower().split("/")[:-1]]


def _unknown_lists(tree: Tree, divided: bool) -> list[str]:
    """Told: lists that are called as no split is.

    Raises:
        SourceError: there are no others.
    """
    known = {path for path in _image_sets(tree) if split_named(_stem(path)) or split_named(_stem(path).rpartition("_")[2])}
    unknown = [path for path in _image_sets(tree) if path not in known and _stem(path).lower() not in _ALL]
    if unknown and not divided:
        raise SourceError(f"{tree.where(unknown[0])} is a list of images, but its name is that of no split; rename it to train, val or test, or remove it")
    return [f"{', '.join(unknown[:3])} not used: no known names of splits"] if unknown else []


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def _row(tree: Tree, name: str) -> Row:
    where, root = tree.where(name), read_xml(tree, name)
    objects = [_object(item, f"{where}, object {number}", number) for number, item in enumerate(root.iter("object"), start=1)]
    size = {side: int(text) or None if (text := root.findtext(f"size/{side}", "").strip()).isdecimal() else None for side in ("width", "height")}
    image = (root.findtext("filename") or "").strip()
    if not image:
        raise SourceError(f"{where} names no image: it has no <filename>; mend or remove it")
    folder, _, last = name.rpartition("/")
    above, below = _around(folder)
    near = [f"{folder}/" if folder else "", *(f"{above}{place}{below}" for place in _IMAGES), *_IMAGES]
    # labelImg leaves the old name where an image was renamed, and other tools leave out the ending: the XML file's own name holds.
    own = tree.image_index.find(f"{last.rpartition('.')[0]}", near)
    known = tree.image_index.find(image, near)
    split = split_of_folders(folder)
    return {"image": image if known or not own else own, "near": near, "split": split, "objects": objects, **size}


def _around(folder: str) -> tuple[str, str]:
    """Folders above and below `Annotations`, which the images have too."""
    parts = folder.split("/")
    at = next((i for i, part in enumerate(parts) if part.lower() in {"annotations", "annotation", "xml", "xmls", "labels"}), len(parts))
    return "".join(f"{part}/" for part in parts[:at] if part), "".join(f"{part}/" for part in parts[at + 1 :])


def _object(item: ET.Element, where: str, number: int) -> Row:
    label = (item.findtext("name") or "").strip()
    corners = [item.findtext(f"bndbox/{side}", "") for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = (float(corner) for corner in corners)
    except ValueError as error:
        raise SourceError(f"{where}: the corners of its bndbox are {corners}; expected four numbers") from error
    if not label:
        raise SourceError(f"{where} has no <name>; give its label")
    # Tools that count from 0 write 0 as well: that is the picture's edge, not a pixel outside.
    return {"id": str(number), "label": label, "box": [max(left - 1, min(left, 0)), max(top - 1, min(top, 0)), right, bottom], "crowd": False}


def _unannotated(tree: Tree, rows: Iterable[Row]) -> list[str]:
    """Pictures beside those that are annotated that no XML file is of."""
    named = {path for row in rows if (path := tree.image_index.find(row["image"], row["near"], row["split"]))}
    folders = {path.rpartition("/")[0] for path in named}
    others = [path for path in tree.images.to_pylist() if path not in named and path.rpartition("/")[0] in folders]
    return [f"{len(others):,} images without an XML file, such as {others[0]}, left out"] if others else []
