"""Image folders: the folder of an image is its label; above the labels, or below them, may stand the publisher's splits."""

from collections import defaultdict

import pyarrow as pa
import pyarrow.compute as pc

from prodrec.errors import SourceError
from prodrec.sources.columns import absolute_uris, listing
from prodrec.sources.layouts.listed import Listed, system_note
from prodrec.sources.layouts.split_lists import divide_by_lists, find_lists
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.splits import split_named

# Folders that hold the labels' folders in sets such as Food-101 and CUB: a level that tells nothing.
_HOLDERS = {"images", "image", "imgs", "img", "jpegimages"}
# Parts of annotated sets, as folders; that all labels are called so is no accident.
PARTS = _HOLDERS | {"annotations", "annotation", "labels", "label", "masks", "mask", "segmentations", "segmentationclass", "xml", "xmls", "bboxes", "boxes"}


def find_imagefolder(tree: Tree) -> list[str]:
    """Folders that hold images, unless they are called as parts of annotated sets are."""
    tops = [name for name in _folder_at(tree.images, 0).unique().to_pylist() if name]
    return tops if not tops or {name.lower() for name in tops} - PARTS or _holder(tree) else []


def has_labels(tree: Tree) -> bool:
    """Whether folders tell labels: more than one, and not all called as splits or parts of annotated sets are."""
    tops, below = _names(_folder_at(tree.images, 0)), _names(_folder_at(tree.images, 1))
    plain = {name for name in tops if not split_named(name) and name.lower() not in PARTS}
    return len(plain) > 1 or (not plain and len(below) > 1 and not {name.lower() for name in below} & PARTS)


def list_imagefolder(tree: Tree, names: list[str]) -> Listed:
    """`FOLDER/LABEL/image`, at any depth below the label; `FOLDER/SPLIT/LABEL/image` or `FOLDER/LABEL/SPLIT/image` with the publisher's split.

    Raises:
        SourceError: no image in a folder of its label, or all labels would be names of splits.
    """
    images, base = tree.images, _holder(tree)
    level = 1 if base else 0
    tops, below = _folder_at(images, level), _folder_at(images, level + 1)
    inside_of = _below(tops, below)
    by_split = _has_splits(_names(tops), inside_of)
    split_level = level if by_split else level + 1 if _splits_below(below) else None
    inside = pc.is_in(tops, value_set=pa.array([name for name in _names(tops) if split_named(name)])) if by_split else pc.is_valid(tops)
    chosen = images.filter(inside)
    if not len(chosen):
        raise SourceError(f"{tree.folder.uri} is no image folder: expected LABEL/image.jpg or train/LABEL/image.jpg below it")
    labels = _labels(tree, chosen, level + 1) if by_split else _folder_at(chosen, level)
    columns = {"uri": absolute_uris(tree.folder, chosen), "label": labels}
    notes = _left_out(tree, images.filter(pc.invert(inside)), by_split)
    if split_level is not None:
        folders = _folder_at(chosen, split_level)
        columns["split"] = pc.take(
            pa.array([split_named(name or "") for name in folders.unique().to_pylist()], pa.string()), pc.index_in(folders, folders.unique())
        )
    elif lists := find_lists(tree):
        splits, kept, told = divide_by_lists(chosen.to_pylist(), lists, tree.folder.uri)
        columns = {name: values.filter(pa.array(kept)) for name, values in (columns | {"split": pa.array(splits, pa.string())}).items()}
        notes += told
    else:
        _refuse_labels_that_are_splits(tree, labels)
        notes += _repeated(inside_of) or [f"WARNING: '{name}', with folders in it, is taken as a label" for name in inside_of if split_named(name)]
    layout = "/".join([*([base] if base else []), *(["SPLIT", "LABEL"] if by_split else ["LABEL", "SPLIT"] if split_level is not None else ["LABEL"]), "image"])
    return Listed(f"image folder: {layout}", listing(len(columns["uri"]), columns), tuple(notes))


def _labels(tree: Tree, chosen: pa.Array, level: int) -> pa.Array:
    """Labels in folders of splits; a folder `images` in each is a level that tells nothing.

    Raises:
        SourceError: only some of the splits have folders of labels.
    """
    labels = _folder_at(chosen, level)
    holders = {name for name in _names(labels) if name.lower() in _HOLDERS}
    if holders and holders == _names(labels):
        return _folder_at(chosen, level + 1)
    if holders:
        where = sorted({"/".join(path.split("/")[: level + 1]) for path in chosen.filter(pc.is_in(labels, value_set=pa.array(list(holders)))).to_pylist()})
        raise SourceError(f"{tree.folder.uri}: {', '.join(where[:3])} hold images without a label, beside folders of labels; sort them by label, or move them")
    return labels


def _holder(tree: Tree) -> str | None:
    """The one folder that holds all label folders, where its name tells that it is no label."""
    tops = _names(_folder_at(tree.images, 0))
    deeper = _folder_at(tree.images, 1)
    name = next(iter(tops)) if len(tops) == 1 else None
    return name if name and name.lower() in _HOLDERS and len(_names(deeper)) > 1 else None


def _left_out(tree: Tree, outside: pa.Array, by_split: bool) -> list[str]:
    others = len(tree.paths) - len(tree.images)
    notes = [system_note(tree.system_files)] if tree.system_files else []
    notes += [f"{others:,} text or other files left out, such as {tree.annotations[0]}"] if others and tree.annotations else []
    if len(outside) and by_split:
        folders = sorted(_names(_folder_at(outside, 0)))
        named = f" ({', '.join(folders[:5])}: not known as names of splits)" if folders else ""
        notes.append(f"{len(outside):,} files outside train, val and test left out{named}")
    elif len(outside):
        notes.append(f"{len(outside):,} files outside label folders left out")
    return notes


def _refuse_labels_that_are_splits(tree: Tree, labels: pa.Array) -> None:
    names = sorted(_names(labels))
    if all(map(split_named, names)):
        raise SourceError(
            f"{tree.folder.uri}: the folders {', '.join(names)} are called as splits are, but hold images without a label: give each label a folder"
            " in them, or annotations of a kind that is read (README, sources), or name the labels in a manifest.csv (uri, label)"
        )


def _below(tops: pa.Array, below: pa.Array) -> dict[str, set[str]]:
    """Names of the folders in each top folder that has some."""
    found: dict[str, set[str]] = defaultdict(set)
    pairs = pa.table([tops, below], ["top", "name"]).group_by(["top", "name"]).aggregate([]).drop_null()
    for top, name in zip(pairs["top"].to_pylist(), pairs["name"].to_pylist(), strict=True):
        found[top].add(name)
    return found


def _repeated(inside_of: dict[str, set[str]]) -> list[str]:
    """Told: the same names of folders below several labels look like labels under sets of unknown names."""
    shared = set.intersection(*inside_of.values()) if len(inside_of) > 1 else set()
    if len(shared) < 2:
        return []
    shown = ", ".join(sorted(shared)[:3])
    return [f"WARNING: {', '.join(sorted(inside_of)[:3])} all hold {shown}, and are taken as the labels; if they are splits, call them train, val and test"]


def _splits_below(below: pa.Array) -> bool:
    """Whether each label folder is divided into splits in turn, as MVTec's are: `cup/train/1.jpg`."""
    names = _names(below)
    return not below.null_count and len(names) > 1 and all(map(split_named, names)) and "train" in set(map(split_named, names))


def _folder_at(paths: pa.Array, level: int) -> pa.Array:
    """Name of the folder at a level of relative paths; null where the file stands higher."""
    return pc.struct_field(pc.extract_regex(paths, f"^(?:[^/]+/){{{level}}}(?P<part>[^/]+)/"), "part")


def _names(folders: pa.Array) -> set[str]:
    return set(pc.drop_null(folders.unique()).to_pylist())


def _has_splits(folders: set[str], inside_of: dict[str, set[str]]) -> bool:
    """A toy train may be a label: `train` counts as a split where label folders are in it, and in no other that has others in it."""
    splits = {name: split for name in inside_of if (split := split_named(name))}
    labels = set().union(*(inside_of[name] for name in splits))
    others = set().union(*(inside_of[name] for name in inside_of if name not in splits))
    if "train" not in splits.values():
        return bool(splits) and all(map(split_named, folders))
    return len({*splits.values()}) > 1 or not others or bool(labels & others)
