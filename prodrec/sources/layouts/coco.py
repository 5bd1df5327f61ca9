"""COCO instances (JSON) under every usual name and place. Boxes are x, y, width, height in pixels. Not covered: masks and keypoints."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from prodrec.errors import SourceError
from prodrec.sources.columns import told_name
from prodrec.sources.layouts.boxes import from_corner
from prodrec.sources.layouts.listed import Listed, Row, as_listed, refuse_untold
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.splits import holds_both, split_of_path

_PARTS = {"images": ("id", "file_name"), "annotations": ("image_id", "category_id", "bbox"), "categories": ("id", "name")}
# Words of a file's name that name no folder of images.
_NO_PLACE = re.compile(r"^(instances|person_keypoints|annotations?|coco|labels?)[_.-]?|[_.-]?(annotations?|coco|labels?|instances)$", re.IGNORECASE)


def find_coco(tree: Tree) -> list[str]:
    """JSON files with images and annotations; where some are called `instances`, as COCO's own are, those alone."""
    found = [name for name, content in tree.jsons().items() if _is_coco(content)]
    called = [name for name in found if name.rpartition("/")[2].lower().startswith("instances")]
    return called or [name for name in found if not _is_empty_copy(tree.json(name))]


def list_coco(tree: Tree, names: list[str]) -> Listed:
    """Lists the images of COCO files; a file's split is told by its name (`instances_train2017.json`) or its folder's.

    Args:
        names: paths of JSON files relative to the folder.

    Raises:
        SourceError: a file that is no COCO JSON, an annotation that names no known image or category (it names file and id), or
            a file that tells no split beside others that do.
    """
    splits = {name: split_of_path(name) for name in names}
    whole = [name for name in names if holds_both(name)]
    if {"train", "val"} <= {splits[name] for name in names if name not in whole}:
        names = [name for name in names if name not in whole]
    rows = [row for name in names for row in _rows(tree, name, splits[name])]
    notes = [f"{', '.join(whole)} left out, as train and val have files of their own"] if whole and whole[0] not in names else []
    where = f"{tree.folder.uri} ({', '.join(names)})"
    listed = as_listed(tree, f"COCO: {', '.join(names)}", rows, where, notes)
    refuse_untold(names, where)
    return listed


def coco_without_boxes(tree: Tree) -> str | None:
    """A file that is laid out as COCO's, but of captions, keypoints, panoptic segments or masks alone."""
    parts = ("images", "annotations")
    alike = [name for name, content in tree.jsons().items() if isinstance(content, dict) and all(isinstance(content.get(part), list) for part in parts)]
    return next((name for name in alike if not _is_coco(tree.json(name))), None)


def _is_coco(content: Any) -> bool:
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in ("images", "annotations")):
        return False
    first: Any = next(iter(content["annotations"]), {"bbox": []})
    return isinstance(first, dict) and "bbox" in first


def _is_empty_copy(content: Any) -> bool:
    """`image_info_test-dev2017.json` lists images whose annotations are kept back: no pictures that show nothing."""
    return not content["annotations"] and not content.get("categories")


def _rows(tree: Tree, name: str, split: str | None) -> Iterator[Row]:
    where = tree.where(name)
    content = _checked(tree, name)
    categories = {category["id"]: told_name(category["name"], f"the name of category {category['id']}", where) for category in content["categories"]}
    objects: dict[Any, list[Row]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        _check_references(annotation, objects, categories, where)
        objects[annotation["image_id"]].append(_object(annotation, categories, where))
    near = _near(name)
    for image in content["images"]:
        size = {side: image[side] if isinstance(image.get(side), int) and image[side] > 0 else None for side in ("width", "height")}
        yield {"image": str(image["file_name"]), "near": near, "split": split, "objects": objects[image["id"]], **size}


def _near(name: str) -> list[str]:
    """Where the images of a file stand: beside it, in a folder of its name, in images/ or data/."""
    folder, _, last = name.rpartition("/")
    beside = f"{folder}/" if folder and folder.lower() not in {"annotations", "labels"} else ""
    above = folder.rpartition("/")[0] + "/" if "/" in folder else ""
    stem = _NO_PLACE.sub("", last.rpartition(".")[0])
    named = [f"{start}{stem}/" for start in (above, f"{above}images/", beside) if stem]
    return [*dict.fromkeys([*([beside] if beside else []), f"{beside}images/", *named, f"{above}images/", "images/", "data/", ""])]


def _checked(tree: Tree, name: str) -> dict[str, Any]:
    where, content = tree.where(name), tree.json(name)
    for part, keys in _PARTS.items():
        items = content.get(part) if isinstance(content, dict) else None
        if not isinstance(items, list):
            raise SourceError(f"{where} is no COCO file: it has no list '{part}'; expected images, annotations and categories")
        for position, item in enumerate(items):
            missing = [key for key in keys if not isinstance(item, dict) or key not in item]
            if missing:
                name_of = f"id {item['id']}" if isinstance(item, dict) and "id" in item else f"number {position}"
                raise SourceError(f"{where}: {name_of} of '{part}' has no '{missing[0]}'; mend or remove it")
    for part in ("images", "categories"):
        _check_ids([item["id"] for item in content[part]], part, where)
    result: dict[str, Any] = content
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
    if not categories[annotation["category_id"]]:
        raise SourceError(f"{where}: category {annotation['category_id']}, of annotation id {annotation.get('id')}, has an empty name; give it one")


def _object(annotation: Row, categories: Row, where: str) -> Row:
    name, bbox, crowd = f"annotation id {annotation.get('id')}", annotation["bbox"], annotation.get("iscrowd", 0)
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(isinstance(value, int | float) for value in bbox):
        raise SourceError(f"{where}: {name} has the bbox {bbox}; expected x, y, width, height")
    if crowd not in (0, 1):
        raise SourceError(f"{where}: {name} has the iscrowd {crowd!r}; expected 0 or 1")
    return {"id": str(annotation.get("id")), "label": categories[annotation["category_id"]], "box": from_corner(*bbox), "crowd": bool(crowd)}
