"""Sources with boxes: COCO instances (JSON) and Pascal-VOC (XML), as listings with objects. No image is opened.

Boxes are absolute xyxy pixels of the annotated picture, continuous: the left edge of the first pixel is 0. COCO writes
x, y, width, height; VOC writes the first and last pixel inside, counted from 1. Not covered: masks and keypoints.
"""

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from pyarrow import fs

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.sources.columns import SPLIT_NAMES, absolute_uris, listing
from prodrec.sources.layouts import Listed
from prodrec.sources.schema import LISTING_SCHEMA

COCO_SUFFIX, VOC_SUFFIX = ".json", ".xml"
_VOC_ANNOTATIONS, _VOC_IMAGES = ("Annotations", "annotations", "."), ("JPEGImages", "images", ".")
# A read of an object store waits, it does not compute. Source: assumed.
_READERS = 16
# Images that are looked for to learn which folder they are in; some may be missing. Source: assumed.
_LOOKED_FOR = 32

Row = dict[str, Any]


def list_coco(folder: Folder, names: list[str]) -> Listed:
    """Lists the images of COCO files; a file's split is told by its name (`instances_train2017.json`) or its folder's.

    Args:
        names: paths of JSON files relative to the folder.

    Raises:
        SourceError: a file that is no COCO JSON, or an annotation that names no known image or category: it names file and id.
    """
    rows = [row for name in names for row in _coco_rows(folder, name)]
    return Listed(f"COCO: {', '.join(names)}", _table(folder, rows, f"{folder.uri} ({', '.join(names)})"))


def list_voc(folder: Folder) -> Listed:
    """Lists the images of a Pascal-VOC folder; the split is told by `ImageSets/Main/{train,val,test}.txt`, where there is one.

    Raises:
        SourceError: no XML file, or one that is no annotation: it names the file.
    """
    place, names = _voc_files(folder)
    sets = _voc_splits(folder)
    with ThreadPoolExecutor(_READERS) as pool:
        rows = list(pool.map(lambda name: _voc_row(folder, f"{place}/{name}".removeprefix("./")), names))
    images = _place_of(folder, [f"{there}/" for there in _VOC_IMAGES], [row["uri"] for row in rows])
    for row, name in zip(rows, names, strict=True):
        row |= {"uri": images + row["uri"], "split": sets.get(name.removesuffix(VOC_SUFFIX))}
    return Listed(f"Pascal-VOC: {len(names):,} XML files in {place}/", _table(folder, rows, folder / place))


def is_voc(folder: Folder) -> bool:
    """Whether XML files stand where Pascal-VOC has them."""
    return bool(_voc_files(folder)[1])


def coco_files(folder: Folder) -> list[str]:
    """JSON files where COCO sets have them: `annotations/instances*.json`, or `{train,valid,test}/_annotations.coco.json`."""
    tops = {info.base_name for info in folder.names()}
    within = {top: [info.base_name for info in Folder(folder / top).names()] for top in ("annotations", *SPLIT_NAMES) if top in tops}
    found = [f"annotations/{name}" for name in within.pop("annotations", []) if re.match(r"instances.*\.json$", name)]
    return sorted(found) or sorted(f"{top}/{name}" for top, names in within.items() for name in names if name == "_annotations.coco.json")


def _coco_rows(folder: Folder, name: str) -> Iterator[Row]:
    where = folder / name
    tree = _coco_tree(folder, name)
    categories = {category["id"]: str(category["name"]).strip() for category in tree["categories"]}
    objects: dict[Any, list[Row]] = {image["id"]: [] for image in tree["images"]}
    for annotation in tree["annotations"]:
        _check_references(annotation, objects, categories, where)
        objects[annotation["image_id"]].append(_coco_object(annotation, categories, where))
    beside = name.rpartition("/")[0]
    stem = re.sub(r"^instances_?", "", name.rpartition("/")[2].removesuffix(COCO_SUFFIX))
    named = [f"{stem}/", f"images/{stem}/"] if stem else []
    places = [f"{beside}/".lstrip("/"), f"{beside}/images/".lstrip("/"), *named, "images/", ""]
    images = _place_of(folder, places, [str(image["file_name"]) for image in tree["images"]])
    for image in tree["images"]:
        size = {side: image[side] if isinstance(image.get(side), int) and image[side] > 0 else None for side in ("width", "height")}
        yield {"uri": images + str(image["file_name"]), "split": _split_of(name), "objects": objects[image["id"]], **size}


def _coco_tree(folder: Folder, name: str) -> dict[str, Any]:
    where = folder / name
    try:
        tree = json.loads(folder.read(name))
    except ValueError as error:
        raise SourceError(f"{where} is not JSON: {error}; export it again") from error
    for part, keys in {"images": ("id", "file_name"), "annotations": ("image_id", "category_id", "bbox"), "categories": ("id", "name")}.items():
        items = tree.get(part) if isinstance(tree, dict) else None
        if not isinstance(items, list):
            raise SourceError(f"{where} is no COCO file: it has no list '{part}'; expected images, annotations and categories")
        for position, item in enumerate(items):
            missing = [key for key in keys if not isinstance(item, dict) or key not in item]
            if missing:
                name_of = f"id {item['id']}" if isinstance(item, dict) and "id" in item else f"number {position}"
                raise SourceError(f"{where}: {name_of} of '{part}' has no '{missing[0]}'; mend or remove it")
    for part in ("images", "categories"):
        _check_ids([item["id"] for item in tree[part]], part, where)
    result: dict[str, Any] = tree
    return result


def _check_ids(ids: list[Any], part: str, where: str) -> None:
    odd = next((value for value in ids if not isinstance(value, int | str)), None)
    if odd is not None:
        raise SourceError(f"{where}: '{part}' has the id {odd}; expected a number or a text")
    twice = next((value for value, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise SourceError(f"{where}: '{part}' has the id {twice} more than once; give each its own")


def _check_references(annotation: Row, objects: Row, categories: Row, where: str) -> None:
    for key, known in (("image_id", objects), ("category_id", categories)):
        if not isinstance(annotation[key], int | str) or annotation[key] not in known:
            raise SourceError(f"{where}: annotation id {annotation.get('id')} names {key} {annotation[key]}, which the file does not have; mend or remove it")


def _coco_object(annotation: Row, categories: Row, where: str) -> Row:
    name, bbox, crowd = f"annotation id {annotation.get('id')}", annotation["bbox"], annotation.get("iscrowd", 0)
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(isinstance(value, int | float) for value in bbox):
        raise SourceError(f"{where}: {name} has the bbox {bbox}; expected x, y, width, height")
    if crowd not in (0, 1):
        raise SourceError(f"{where}: {name} has the iscrowd {crowd!r}; expected 0 or 1")
    x, y, width, height = bbox
    return {"id": str(annotation.get("id")), "label": categories[annotation["category_id"]], "box": [x, y, x + width, y + height], "crowd": bool(crowd)}


def _split_of(name: str) -> str | None:
    """The split that a file's path names: the last of its words that is one."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in reversed(words) if word in SPLIT_NAMES), None)


def _voc_files(folder: Folder) -> tuple[str, list[str]]:
    tops = {info.base_name for info in folder.names()}
    for place in _VOC_ANNOTATIONS:
        inside = folder.names() if place == "." else Folder(folder / place).names() if place in tops else []
        names = sorted(info.base_name for info in inside if info.base_name.lower().endswith(VOC_SUFFIX))
        if names:
            return place, names
    return ".", []


def _voc_splits(folder: Folder) -> dict[str, str]:
    found: dict[str, str] = {}
    for split in ("train", "val", "test"):
        name = f"ImageSets/Main/{split}.txt"
        if folder.exists(name):
            found |= {line.split()[0]: split for line in folder.read(name).decode().splitlines() if line.strip()}
    return found


def _voc_row(folder: Folder, name: str) -> Row:
    where = folder / name
    data = folder.read(name)
    if b"<!ENTITY" in data:
        raise SourceError(f"{where} defines XML entities, which annotations have no use for; remove them")
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        raise SourceError(f"{where} is not XML: {error}; export it again") from error
    objects = [_voc_object(item, f"{where}, object {number}", number) for number, item in enumerate(root.iter("object"), start=1)]
    size = {side: int(text) or None if (text := root.findtext(f"size/{side}", "").strip()).isdecimal() else None for side in ("width", "height")}
    image = (root.findtext("filename") or "").strip()
    if not image:
        raise SourceError(f"{where} names no image: it has no <filename>; mend or remove it")
    return {"uri": image, "objects": objects, **size}


def _voc_object(item: ET.Element, where: str, number: int) -> Row:
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


def _place_of(folder: Folder, places: list[str], images: list[str]) -> str:
    """Which of the places has most of the images; the first of all where none has any, so that the rejects name it."""
    looked_for = images[:: -(-len(images) // _LOOKED_FOR) or 1]

    def found(place: str) -> int:
        paths = [folder.within((place + image).removeprefix("./")) for image in looked_for]
        return sum(info.type == fs.FileType.File for info in folder.filesystem.get_file_info(paths))

    return max(places, key=found).removeprefix("./")


def _table(folder: Folder, rows: list[Row], where: str) -> pa.Table:
    twice = next((uri for uri, count in Counter(row["uri"] for row in rows).items() if count > 1), None)
    if twice is not None:
        raise SourceError(f"{where}: the picture {twice} is annotated more than once; keep one entry, or give the one file to be used")
    columns = {name: pa.array([row.get(name) for row in rows], LISTING_SCHEMA.field(name).type) for name in ("uri", "split", "objects", "width", "height")}
    return listing(len(rows), columns | {"uri": absolute_uris(folder, columns["uri"])})
