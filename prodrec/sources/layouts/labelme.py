"""LabelMe (a JSON file an image) and CreateML (one JSON for all): rectangles and polygons in pixels, as boxes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prodrec.errors import SourceError
from prodrec.sources.layouts.boxes import around, from_centre
from prodrec.sources.layouts.listed import Listed, Row, as_listed, refuse_untold
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.splits import split_of_path

# A read of an object store waits, it does not compute. Source: assumed.
_READERS = 16
_BOXED = {"rectangle", "polygon"}


def find_labelme(tree: Tree) -> list[str]:
    """JSON files with shapes and the path of an image; all beside one that is."""
    folders = {name.rpartition("/")[0] for name, content in tree.jsons().items() if isinstance(content, dict) and {"shapes", "imagePath"} <= set(content)}
    return [name for name in tree.named(r".*\.json") if name.rpartition("/")[0] in folders] if folders else []


def list_labelme(tree: Tree, names: list[str]) -> Listed:
    """Lists the images with a LabelMe file; the split is told by folders.

    Raises:
        SourceError: a file that is none of LabelMe: it names the file.
    """
    notes: list[str] = []
    with ThreadPoolExecutor(_READERS) as pool:
        rows = [row for row in pool.map(lambda name: _labelme_row(tree, name), names) if row]
    if len(rows) < len(names):
        notes.append(f"{len(names) - len(rows):,} JSON files of other kinds left out")
    other = {kind for row in rows for kind in row["others"]}
    if other:
        shown = [row for row in rows if row["objects"] or not row["others"]]
        notes.append(f"shapes of the kinds {', '.join(sorted(other))} are not read, and {len(rows) - len(shown):,} images that show nothing else left out")
        rows = shown
    return as_listed(tree, f"LabelMe: {len(rows):,} JSON files", rows, tree.folder.uri, notes)


def _labelme_row(tree: Tree, name: str) -> Row | None:
    content, where = tree.json(name), tree.where(name)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        return None
    shapes = [shape for shape in content["shapes"] if isinstance(shape, dict)]
    boxed = [shape for shape in shapes if (shape.get("shape_type") or "polygon") in _BOXED]
    folder, _, last = name.rpartition("/")
    image = str(content.get("imagePath") or last.rpartition(".")[0])
    size = {
        side: value if isinstance(value := content.get(key), int) and value > 0 else None for side, key in (("width", "imageWidth"), ("height", "imageHeight"))
    }
    objects = [_shape(shape, number, where) for number, shape in enumerate(boxed, start=1)]
    return {
        "image": image,
        "near": [f"{folder}/" if folder else "", "images/"],
        "split": split_of_path(f"{folder}/x"),
        "objects": objects,
        "others": {str(shape.get("shape_type")) for shape in shapes if shape not in boxed},
        **size,
    }


def _shape(shape: Row, number: int, where: str) -> Row:
    label = str(shape.get("label") or "").strip()
    try:
        box = around([(float(x), float(y)) for x, y in shape["points"]])
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: shape {number} has no points; mend or remove it") from error
    if not label:
        raise SourceError(f"{where}: shape {number} has no label; give it one")
    return {"id": str(number), "label": label, "box": box, "crowd": False}


def find_createml(tree: Tree) -> list[str]:
    """JSON files that are lists of images with annotations and coordinates."""
    return [name for name, content in tree.jsons().items() if _is_createml(content)]


def list_createml(tree: Tree, names: list[str]) -> Listed:
    """Lists the images of CreateML's files; boxes are centre, width and height in pixels.

    Raises:
        SourceError: an annotation that cannot be read: it names file and image.
    """
    refuse_untold(names, tree.folder.uri)
    rows: list[Row] = []
    for name in names:
        content = tree.json(name)
        if not _is_createml(content):
            raise SourceError(f"{tree.where(name)} is no file of CreateML; expected a list of image and annotations")
        folder = name.rpartition("/")[0]
        for item in content:
            near = [f"{folder}/" if folder else "", "images/"]
            image = str(item.get("image") or item.get("imagefilename"))
            objects = [_coordinates(one, number, f"{tree.where(name)}, image {image}") for number, one in enumerate(item.get("annotations") or [], start=1)]
            rows.append({"image": image, "near": near, "split": split_of_path(name), "objects": objects})
    return as_listed(tree, f"CreateML: {', '.join(names)}", rows, f"{tree.folder.uri} ({', '.join(names)})")


def _is_createml(content: Any) -> bool:
    if not isinstance(content, list) or not content or not all(isinstance(item, dict) for item in content):
        return False
    first = next((item["annotations"][0] for item in content if isinstance(item.get("annotations"), list) and item["annotations"]), None)
    return {"image", "imagefilename"} & set(content[0]) != set() and isinstance(first, dict) and "coordinates" in first


def _coordinates(item: Row, number: int, where: str) -> Row:
    try:
        told = item["coordinates"]
        box = from_centre(float(told["x"]), float(told["y"]), float(told["width"]), float(told["height"]))
        return {"id": str(number), "label": str(item["label"]).strip(), "box": box, "crowd": False}
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: annotation {number} has no label and coordinates; mend or remove it") from error
