"""YOLO: a text file for each image, a line an object: class and box, or class and polygon, in fractions of the picture's sides.

Covered: `data.yaml` of Ultralytics v5 and v8 and of Roboflow, Darknet's `obj.names` and lists, `classes.txt`; `images/train` and
`labels/train`, `train/images` and `train/labels`, text files beside the images.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from prodrec.errors import SourceError
from prodrec.sources.layouts.boxes import around, from_centre
from prodrec.sources.layouts.listed import Listed, Row, as_listed
from prodrec.sources.layouts.split_lists import SplitList, divide_by_lists, find_lists
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.matching import NameIndex, written
from prodrec.sources.splits import split_of_folders

_NAMES = r"(.*/)?(obj|coco|voc|classes|predefined_classes|labels|names|_darknet)(\.names|\.labels)|(.*/)?(predefined_)?classes\.txt|.*\.names"
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_LINE = re.compile(rf"\d+(\.0*)?(\s+{_NUMBER}){{4,}}")
# Label files that are looked into to learn whether they are YOLO's; the most of them may be empty. Source: assumed.
_LOOKED_INTO = 40


def find_yolo(tree: Tree) -> list[str]:
    """`data.yaml` or the file of the classes' names; or, where there is none, the first label file."""
    labels = _label_files(tree)
    step = -(-len(labels) // _LOOKED_INTO) or 1
    looked = [lines[0] for name in labels[::step] if (lines := tree.lines(name))]
    if not looked or sum(bool(_LINE.fullmatch(line)) for line in looked) * 2 < len(looked):
        return []
    return _yamls(tree) or tree.named(_NAMES)[:1] or labels[:1]


def list_yolo(tree: Tree, names: list[str]) -> Listed:
    """Lists the images with their label files; the split is told by `data.yaml`, else by folders, else by lists.

    Raises:
        SourceError: a line that is no object, or a class without a name: it names file and line.
    """
    settings = _settings(tree, names[0]) if names[0].lower().endswith((".yaml", ".yml")) else {}
    classes = _classes(tree, settings, names[0])
    notes = [] if classes else ["no names of classes (data.yaml, classes.txt or obj.names): their numbers are the labels"]
    keypoints = "kpt_shape" in settings
    labels = NameIndex(_label_files(tree))
    rows, used = [], set()
    for path in tree.images.to_pylist():
        found = labels.find(path.rpartition("/")[2].rpartition(".")[0] + ".txt", _near(path), split_of_folders(path))
        used.add(found)
        objects = list(_objects(tree, found, classes, keypoints)) if found else []
        rows.append({"image": path, "objects": objects, "relative": True, "labelled": found is not None, "split": split_of_folders(path.rpartition("/")[0])})
    rows, told = _divided(tree, rows, settings, names[0])
    rows, unlabelled = _without_unlabelled(rows)
    lost = [name for name in _label_files(tree) if name not in used]
    notes += [*told, *unlabelled, *([f"{len(lost):,} label files without an image, such as {lost[0]}, left out"] if lost else [])]
    return as_listed(tree, f"YOLO: {names[0]}", rows, tree.folder.uri, notes)


def _label_files(tree: Tree) -> list[str]:
    return [path for path in tree.annotations if path.lower().endswith(".txt") and _stem(path) in _stems(tree)]


def _stems(tree: Tree) -> set[str]:
    found: set[str] = tree.remembered("stems", lambda: {_stem(path) for path in tree.images.to_pylist()})
    return found


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def _near(path: str) -> list[str]:
    """Folders of the label file of an image: the last `images` of its path called `labels`, else the same folder."""
    parts = path.split("/")[:-1]
    places = [i for i, part in enumerate(parts) if part.lower() in {"images", "image", "jpegimages", "imgs", "img"}]
    called = ["/".join([*parts[:i], word, *parts[i + 1 :]]) + "/" for i in reversed(places) for word in ("labels", "label", "annotations", "Annotations")]
    here = "".join(f"{part}/" for part in parts)
    return [*called, here, f"{here}labels/", f"labels/{here}", "labels/"]


def _yamls(tree: Tree) -> list[str]:
    found = [name for name in tree.named(r"([^/]+/)?[^/]+\.ya?ml") if isinstance(_settings(tree, name).get("names"), list | dict)]
    return sorted(found, key=lambda name: (name.count("/"), not name.lower().startswith("data"), name))[:1]


def _settings(tree: Tree, name: str) -> dict[str, Any]:
    try:
        content = yaml.load(tree.text(name), Loader=yaml.BaseLoader)  # all as it is written: a label may be `no` or `007`
    except yaml.YAMLError as error:
        raise SourceError(f"{tree.where(name)} is not YAML: {' '.join(str(error).split())}; export it again") from error
    return content if isinstance(content, dict) else {}


def _classes(tree: Tree, settings: dict[str, Any], name: str) -> dict[int, str]:
    told = settings.get("names")
    if isinstance(told, dict):
        try:
            return {int(number): str(label).strip() for number, label in told.items()}
        except (TypeError, ValueError) as error:
            raise SourceError(f"{tree.where(name)}: the keys of 'names' are no numbers; write 0: cup") from error
    lines = told if isinstance(told, list) else tree.numbered_lines(name) if re.fullmatch(_NAMES, name, re.IGNORECASE) else []
    return {number: str(label).strip() for number, label in enumerate(lines)}


def _objects(tree: Tree, name: str, classes: dict[int, str], keypoints: bool) -> Iterator[Row]:
    for number, line in enumerate(tree.lines(name), start=1):
        where = f"{tree.where(name)}, line {number}"
        if not _LINE.fullmatch(line):
            raise SourceError(f"{where} is '{line[:60]}'; expected a class number and x, y, width, height (or a polygon) in fractions")
        first, *values = line.split()
        label, numbers = int(float(first)), [float(value) for value in values]
        if classes and not classes.get(label):
            raise SourceError(f"{where} has the class {label}, but only {sum(map(bool, classes.values()))} are named; add its name")
        polygon = len(numbers) >= 6 and len(numbers) % 2 == 0 and not keypoints
        box = around([*zip(numbers[::2], numbers[1::2], strict=True)]) if polygon else from_centre(*numbers[:4])
        yield {"id": str(number), "label": classes.get(label, str(label)), "box": box, "crowd": False}


def _divided(tree: Tree, rows: list[Row], settings: dict[str, Any], name: str) -> tuple[list[Row], list[str]]:
    """The rows with their splits, without those that the publisher's lists leave out, and what is told."""
    entries = {split: _entries(settings.get(key)) for split, key in _keys(settings)}
    folders = {split: [item for item in items if not item.lower().endswith(".txt")] for split, items in entries.items()}
    listed = [SplitList(path, split, tree.lines(path)) for split, items in entries.items() for item in items if (path := _list_file(tree, item))]
    lists = listed or ([] if any(row["split"] for row in rows) else find_lists(tree))
    lost = [item for items in entries.values() for item in items if item.lower().endswith(".txt") and not _list_file(tree, item)]
    notes = [f"WARNING: {name} names the list {item}, which is not here" for item in lost]
    if any(folders.values()):
        rows = _by_folders(rows, folders, name, notes)
    if not lists:
        return rows, notes
    splits, kept, told = divide_by_lists([row["image"] for row in rows], lists, tree.folder.uri)
    return [row | {"split": split} for row, split, keep in zip(rows, splits, kept, strict=True) if keep], notes + told


def _keys(settings: dict[str, Any]) -> list[tuple[str, str]]:
    return [(split, key) for split, keys in (("train", ("train",)), ("val", ("val", "valid")), ("test", ("test",))) for key in keys if settings.get(key)]


def _entries(told: Any) -> list[str]:
    """Paths as `data.yaml` writes them, without their beginning: `../train/images` of Roboflow stands beside the file."""
    return [written(str(item)).strip("/") for item in (told if isinstance(told, list) else [told])]


def _list_file(tree: Tree, item: str) -> str | None:
    if not item.lower().endswith(".txt"):
        return None
    return NameIndex(path for path in tree.annotations if path.lower().endswith(".txt") and "/labels/" not in f"/{path}").find(item)


def _by_folders(rows: list[Row], folders: dict[str, list[str]], name: str, notes: list[str]) -> list[Row]:
    """The split of each image by the folders that the file names."""
    same = [split for split, items in folders.items() if items and any(items == other for name, other in folders.items() if name != split)]
    if same:
        notes.append(f"{name} names the same folder for {' and '.join(same)}: no split is given by that")
        return [row | {"split": None} for row in rows]
    splits = [next((split for split, items in folders.items() for item in items if _within(row["image"], item)), None) for row in rows]
    for split, items in folders.items():
        if items and split not in splits:
            notes.append(f"{name}: {split} names {', '.join(items)}, where no image is")
    outside = [row["image"] for row, split in zip(rows, splits, strict=True) if split is None]
    if len(outside) == len(rows):
        return rows
    if outside:
        notes.append(f"{len(outside):,} images outside the folders that {name} names, such as {outside[0]}, left out")
    return [row | {"split": split} for row, split in zip(rows, splits, strict=True) if split]


def _within(path: str, folder: str) -> bool:
    """Whether an image lies in a folder that may be written with folders above the source, or without `images`."""
    here = "/" + path.rpartition("/")[0]
    parts = folder.split("/")
    return any(f"{here}/".startswith(f"/{'/'.join(parts[i:])}/") for i in range(len(parts))) or f"/{folder}/" in f"{here}/"


def _without_unlabelled(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """An image without a label file shows nothing; in a split (or folder) of which none has one, nobody looked."""
    rows = list(rows)
    looked = {row["split"] for row in rows if row["labelled"]}
    kept = [row for row in rows if row["split"] in looked]
    left = [row["image"] for row in rows if row["split"] not in looked]
    empty = [row["image"] for row in kept if not row["labelled"]]
    notes = [f"{len(left):,} images of a split without label files, such as {left[0]}, left out"] if left else []
    return kept, [*notes, *([f"{len(empty):,} images without a label file, such as {empty[0]}, are taken to show nothing"] if empty else [])]
