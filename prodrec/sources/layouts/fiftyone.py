"""Exports of FiftyOne that are its own: image classification and detection (`labels.json` and `data/`), and FiftyOneDataset (`samples.json`)."""

from typing import Any

from prodrec.errors import SourceError
from prodrec.sources.columns import told_name
from prodrec.sources.layouts.boxes import from_corner
from prodrec.sources.layouts.listed import Listed, Row, as_listed
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.splits import split_named, split_of_path


def find_fiftyone(tree: Tree) -> list[str]:
    """JSON files with `classes` and `labels` by image, or with `samples`."""
    return [name for name, content in tree.jsons().items() if _is_labels(content) or _is_samples(content)]


def list_fiftyone(tree: Tree, names: list[str]) -> Listed:
    """Lists the labelled images; the split is told by the file's folder, or by each sample's tags.

    Raises:
        SourceError: a label that cannot be read, or samples with several fields of labels: it names the file.
    """
    notes: list[str] = []
    rows = [row for name in names for row in (_of_labels(tree, name) if _is_labels(tree.json(name)) else _of_samples(tree, name, notes))]
    return as_listed(tree, f"FiftyOne: {', '.join(names)}", rows, f"{tree.folder.uri} ({', '.join(names)})", notes)


def _is_labels(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("labels"), dict) and isinstance(content.get("classes", []), list | None)


def _is_samples(content: Any) -> bool:
    samples = content.get("samples") if isinstance(content, dict) else None
    return isinstance(samples, list) and bool(samples) and isinstance(samples[0], dict) and "filepath" in samples[0]


def _of_labels(tree: Tree, name: str) -> list[Row]:
    content = tree.json(name)
    classes = content.get("classes") or []
    folder = name.rpartition("/")[0]
    near, split = [f"{folder}/data/" if folder else "data/", f"{folder}/" if folder else ""], split_of_path(name)
    rows: list[Row] = []
    for image, told in content["labels"].items():
        row: Row = {"image": image, "near": near, "split": split}
        where = f"{tree.where(name)}, image {image}"
        if isinstance(told, list):
            rows.append(row | {"objects": [_object(item, number, classes, where) for number, item in enumerate(told, start=1)], "relative": True})
        else:
            rows.append(row | {"label": _named(told["label"] if isinstance(told, dict) and "label" in told else told, classes, where)})
    return rows


def _named(label: Any, classes: list[str], where: str) -> str | None:
    if isinstance(label, int | float) and classes and label == int(label):
        label = int(label)
        if not 0 <= label < len(classes):
            raise SourceError(f"{where} has the label {label}, but only {len(classes)} classes are named; mend it")
        return str(classes[label]).strip()
    return told_name(label, "the label", where)


def _object(item: Any, number: int, classes: list[str], where: str) -> Row:
    try:
        x, y, width, height = (float(value) for value in item["bounding_box"])
        label = _named(item["label"], classes, where)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: object {number} has no label and bounding_box (x, y, width, height in fractions); mend or remove it") from error
    return {"id": str(number), "label": label, "box": from_corner(x, y, width, height), "crowd": bool(item.get("iscrowd"))}


def _of_samples(tree: Tree, name: str, notes: list[str]) -> list[Row]:
    samples = tree.json(name)["samples"]
    fields = list(dict.fromkeys(key for sample in samples for key, value in sample.items() if _kind(value) in {"Classification", "Detections"}))
    field = "ground_truth" if "ground_truth" in fields else fields[0] if fields else None
    if field is None:
        raise SourceError(f"{tree.where(name)} has no field of Classification or Detections; export the field of labels")
    if len(fields) > 1:
        notes.append(f"the field {field} is read, not {', '.join(other for other in fields if other != field)}")
    folder, has_boxes = name.rpartition("/")[0], any(_kind(sample.get(field)) == "Detections" for sample in samples)
    rows: list[Row] = []
    for sample in samples:
        splits = {split for tag in sample.get("tags") or () if (split := split_named(str(tag)))}
        row: Row = {"image": str(sample["filepath"]), "near": [f"{folder}/" if folder else ""], "split": splits.pop() if len(splits) == 1 else None}
        value, where = sample.get(field) or {}, f"{tree.where(name)}, image {sample['filepath']}"
        if not has_boxes:
            rows.append(row | {"label": _named(value.get("label"), [], where)})
        else:
            items = value.get("detections") or []
            rows.append(row | {"objects": [_object(item, number, [], where) for number, item in enumerate(items, start=1)], "relative": True})
    return rows


def _kind(value: Any) -> str:
    return str(value.get("_cls", "")) if isinstance(value, dict) else ""
