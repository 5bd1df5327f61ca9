"""CVAT for images 1.1 (XML): boxes in pixels; polygons by the box around them; tags as labels of whole images."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from prodrec.errors import SourceError
from prodrec.sources.layouts.boxes import around, turned
from prodrec.sources.layouts.listed import Listed, Row, as_listed
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.layouts.xml_files import read_xml
from prodrec.sources.splits import split_named, split_of_path

# Files with other names are not looked into where there are many: they are an image's each. Source: assumed.
_MANY = 20
_READ, _UNREAD = {"box", "polygon"}, {"polyline", "points", "cuboid", "skeleton", "mask", "ellipse"}


def find_cvat(tree: Tree) -> list[str]:
    """XML files whose root is `annotations`."""
    names = tree.named(r".*\.xml")
    return [name for name in (names if len(names) <= _MANY else tree.named(r"(.*/)?annotations[^/]*\.xml")) if _is_cvat(tree, name)]


def list_cvat(tree: Tree, names: list[str]) -> Listed:
    """Lists the images of CVAT's files; the split is told by each image's `subset`, or the file's name.

    Raises:
        SourceError: tracks of a video, an image without a name, or a shape that cannot be read: it names file and image.
    """
    images = [(name, image) for name in names for image in _images(tree, name)]
    has_boxes = any(item.tag in _READ for _, image in images for item in image)
    notes: list[str] = []
    unread = [image for _, image in images if has_boxes and {item.tag for item in image} & _UNREAD and not {item.tag for item in image} & _READ]
    images = [(name, image) for name, image in images if image not in unread]
    rows = [_row(tree, name, image, has_boxes) for name, image in images]
    if other := sorted({item.tag for image in [*unread, *(image for _, image in images)] for item in image if item.tag in _UNREAD}):
        notes.append(f"shapes of the kinds {', '.join(other)} are not read, and {len(unread):,} images that show nothing else left out")
    several = [row["image"] for row in rows if not has_boxes and row.pop("several")]
    if several:
        notes.append(f"{len(several):,} images with several tags, such as {several[0]}, have no one label and are rejected")
    return as_listed(tree, f"CVAT: {', '.join(names)}", rows, f"{tree.folder.uri} ({', '.join(names)})", notes)


def _is_cvat(tree: Tree, name: str) -> bool:
    try:
        root = read_xml(tree, name)
    except SourceError:
        return False
    return root.tag == "annotations" and (root.find("image") is not None or root.find("track") is not None)


def _images(tree: Tree, name: str) -> Iterator[ET.Element]:
    root, where = read_xml(tree, name), tree.where(name)
    if root.tag != "annotations":
        raise SourceError(f"{where} is no file of CVAT for images; export as CVAT for images 1.1")
    if root.find("track") is not None:
        raise SourceError(f"{where} holds tracks of a video (CVAT for video), which are not read: export as CVAT for images 1.1 or COCO")
    for image in root.iter("image"):
        if not image.get("name"):
            raise SourceError(f"{where}: the image with id {image.get('id')} has no name; mend or remove it")
        yield image


def _row(tree: Tree, name: str, image: ET.Element, has_boxes: bool) -> Row:
    where = f"{tree.where(name)}, image {image.get('name')}"
    subset = image.get("subset") or ""
    split = split_named(subset) or split_of_path(name)
    if subset and not split_named(subset) and subset.lower() != "default":
        raise SourceError(f"{where}: its subset '{subset}' is no known name of a split; call it train, val or test")
    size = {side: int(text) if (text := image.get(side, "")).isdecimal() and int(text) else None for side in ("width", "height")}
    near = [f"images/{subset}/", f"{subset}/"] if subset else []
    row: Row = {"image": image.get("name"), "near": [*near, "images/", "data/", ""], "split": split, **size}
    if has_boxes:
        return row | {"objects": [_object(item, number, where) for number, item in enumerate(image, start=1) if item.tag in _READ]}
    labels = sorted({item.get("label", "").strip() for item in image.iter("tag")} - {""})
    return row | {"label": labels[0] if len(labels) == 1 else None, "several": len(labels) > 1}


def _object(item: ET.Element, number: int, where: str) -> Row:
    label = (item.get("label") or "").strip()
    if not label:
        raise SourceError(f"{where}: shape {number} has no label; give it one")
    try:
        if item.tag == "polygon":
            box = around([(float(x), float(y)) for x, y in (point.split(",") for point in item.get("points", "").split(";"))])
        else:
            box = [float(item.get(side, "")) for side in ("xtl", "ytl", "xbr", "ybr")]
            box = turned(box, float(item.get("rotation", 0)))
    except ValueError as error:
        raise SourceError(f"{where}: the corners of shape {number} are no numbers; mend or remove it") from error
    return {"id": str(number), "label": label, "box": box, "crowd": False}
