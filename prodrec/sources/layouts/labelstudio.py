"""Label Studio's JSON and JSON-MIN: rectangles in percent of the picture, polygons by the box around them, choices as labels."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from prodrec.errors import SourceError
from prodrec.sources.layouts.boxes import around, from_corner, turned
from prodrec.sources.layouts.listed import Listed, Row, as_listed
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.splits import split_of_path

_LABELS = {"rectanglelabels": "rectanglelabels", "polygonlabels": "polygonlabels", "rectangle": "labels"}
# What Label Studio puts before the name of an uploaded file.
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
_IMAGE_KEYS = ("image", "img", "image_url", "url", "photo", "picture", "captioning", "ocr")


def find_labelstudio(tree: Tree) -> list[str]:
    """JSON files that are lists of tasks with an image."""
    return [name for name, content in tree.jsons().items() if _is_tasks(content)]


def list_labelstudio(tree: Tree, names: list[str]) -> Listed:
    """Lists the annotated tasks of exports.

    Raises:
        SourceError: no list of tasks, or a result that cannot be read: it names file and task.
    """
    tasks = [(name, number, task) for name in names for number, task in enumerate(_tasks(tree, name), start=1)]
    results = [_result(task) for _, _, task in tasks]
    has_boxes = any(_kind(item) in _LABELS for result in results for item in result or ())
    rows = [
        _row(tree, name, task, result, f"{tree.where(name)}, task {task.get('id', number)}", has_boxes)
        for (name, number, task), result in zip(tasks, results, strict=True)
        if result is not None and not (has_boxes and result and not any(_kind(item) in _LABELS for item in result))
    ]
    return as_listed(tree, f"Label Studio: {', '.join(names)}", rows, f"{tree.folder.uri} ({', '.join(names)})", _notes(tasks, results))


def _notes(tasks: list[Any], results: list[list[Row] | None]) -> Iterator[str]:
    if missing := sum(result is None for result in results):
        yield f"{missing:,} of {len(tasks):,} tasks without an annotation left out"
    if again := sum(len(_done(task)) > 1 for _, _, task in tasks):
        yield f"{again:,} tasks with several annotations: the first of each is read"
    others = {_kind(item) for result in results for item in result or ()} - {*_LABELS, "choices"}
    if others:
        yield f"results of the kinds {', '.join(sorted(others))} are not read; beside boxes, tasks with nothing else are left out"


def _is_tasks(content: Any) -> bool:
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    first = content[0]
    minimal = "annotator" in first or "annotation_id" in first
    return (isinstance(first.get("data"), dict) and ("annotations" in first or "completions" in first)) or (minimal and _image(first) is not None)


def _tasks(tree: Tree, name: str) -> list[Row]:
    content = tree.json(name)
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        raise SourceError(f"{tree.where(name)} is no list of tasks; export from Label Studio as JSON")
    return content


def _image(data: Row) -> str | None:
    keys = [key for key in (*_IMAGE_KEYS, *data) if isinstance(data.get(key), str)]
    images = [data[key] for key in keys if re.search(r"\.(jpe?g|png|webp|bmp|gif|tiff?|heic|avif)\b", data[key], re.IGNORECASE) or key in _IMAGE_KEYS]
    return images[0] if images else None


def _done(task: Row) -> list[Row]:
    found = task.get("annotations") or task.get("completions") or []
    return [item for item in found if isinstance(item, dict) and not item.get("was_cancelled")]


def _result(task: Row) -> list[Row] | None:
    """What the first annotation says; None: there is none."""
    if "data" in task:
        done = _done(task)
        return [item for item in done[0].get("result", []) if isinstance(item, dict)] if done else None
    # JSON-MIN: each control's values under its name; a choice is a text.
    found: list[Row] = []
    for value in task.values():
        if isinstance(value, list):
            found += [{"value": item} | item for item in value if isinstance(item, dict)]
    choices = [task[key] for key in ("choice", "choices", "class", "label", "category") if isinstance(task.get(key), str)]
    found += [{"type": "choices", "value": {"choices": [choice]}} for choice in choices[:1]]
    return found


def _kind(item: Row) -> str:
    value = item.get("value")
    known = [key for key in ("rectanglelabels", "polygonlabels", "choices") if isinstance(value, dict) and key in value]
    return known[0] if known else str(item.get("type", "unknown"))


def _row(tree: Tree, name: str, task: Row, result: list[Row], where: str, has_boxes: bool) -> Row:
    image = _image(task["data"] if isinstance(task.get("data"), dict) else task)
    if image is None:
        raise SourceError(f"{where} names no image; export again with the image's column")
    size = next(((item.get("original_width"), item.get("original_height")) for item in result if item.get("original_width")), (None, None))
    row: Row = {"image": _file(tree, image), "near": ["images/", ""], "split": split_of_path(name), "width": size[0], "height": size[1]}
    if has_boxes:
        boxes = [_object(item, number, where) for number, item in enumerate(result, start=1) if _kind(item) in _LABELS]
        return row | {"objects": [box for box in boxes if box], "relative": True}
    choices = [choice for item in result if _kind(item) == "choices" for choice in item["value"]["choices"]]
    return row | {"label": str(choices[0]).strip() if len(choices) == 1 else None}


def _file(tree: Tree, image: str) -> str:
    """The file of an image that was uploaded to Label Studio, or that it served from a disk; other addresses stay."""
    parts = urlsplit(image)
    local = parse_qs(parts.query).get("d")
    if local:
        return local[0]
    if parts.scheme or not parts.path.startswith("/data/"):
        return image
    last = unquote(parts.path).rpartition("/")[2]
    return last if tree.image_index.find(last) else _UPLOADED.sub("", last)


def _object(item: Row, number: int, where: str) -> Row | None:
    value = item["value"]
    labels = value.get(_LABELS[_kind(item)]) or []
    if not labels:
        raise SourceError(f"{where}: region {number} has no label; give it one")
    try:
        # A turned region turns about its upper left corner, in pixels, whose sides are unequal in percent.
        width, height = float(item.get("original_width") or 1), float(item.get("original_height") or 1)
        if "points" in value:
            box = around([(float(x), float(y)) for x, y in value["points"]])
        else:
            box = from_corner(*(float(value[key]) for key in ("x", "y", "width", "height")))
            if degrees := float(value.get("rotation") or 0):
                pixels = [box[0] * width, box[1] * height, box[2] * width, box[3] * height]
                left, top, right, bottom = turned(pixels, degrees, (pixels[0], pixels[1]))
                box = [left / width, top / height, right / width, bottom / height]
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: region {number} has no x, y, width and height in numbers; mend or remove it") from error
    return {"id": str(item.get("id", number)), "label": str(labels[0]).strip(), "box": [side / 100 for side in box], "crowd": False}
