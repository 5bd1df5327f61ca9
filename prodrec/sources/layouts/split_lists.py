"""Text files that name the images of a split. What is given is kept or told; nothing given is divided in silence."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from prodrec.errors import SourceError
from prodrec.sources.headers import meant
from prodrec.sources.layouts.columns_meant import row_splits, split_column
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.matching import NameIndex
from prodrec.sources.splits import holds_both, split_named, split_of_path

# Where lists stand that are no annotations of one image. Source: Food-101 (meta), Caltech (splits), Darknet (root), CUB.
_PLACES = r"((meta|eval|splits?|lists?|image_?sets?(/main)?|data|sets|partitions?)/)?[^/]+"
# Numbers for splits. Source: CUB-200-2011 (train_test_split.txt), CelebA (list_eval_partition.txt).
_OF_CUB, _OF_CELEBA = {"1": "train", "0": "test"}, {"0": "train", "1": "val", "2": "test"}
_FLAG = re.compile(r"\s+-?[01]$")  # of the lists that Pascal-VOC has for each class
# Names of each split that are looked for to learn whether a table is about these images. Source: assumed.
_LOOKED_INTO = 20
_FURTHEST_FIRST = ("test", "val", "train")


@dataclass(frozen=True)
class SplitList:
    """A text file that names the images of a split, one a line."""

    name: str
    split: str
    lines: list[str]

    @property
    def file(self) -> str:
        return self.name.partition(" (")[0]


def may_list(name: str) -> bool:
    """Whether a file's name promises a list of a split, or a table of splits."""
    return bool(split_of_path(name)) or bool({"split", "splits", "partition", "partitions"} & set(re.split(r"[^a-z]+", name.lower())))


def find_lists(tree: Tree) -> list[SplitList]:
    """Lists of images called by a split that stand where such lists do; trainval is left out where train and val are there."""
    named = {path: split for path in tree.named(_PLACES + r"\.(txt|lst|list|csv)") if (split := split_named(path.rpartition("/")[2].rpartition(".")[0]))}
    both = {"train", "val"} <= {split for path, split in named.items() if not holds_both(path)}
    lists = [SplitList(path, split, _lines(tree, path)) for path, split in named.items() if not (both and holds_both(path))]
    lists = lists or [part for path in tree.named(_PLACES + r"\.json") for part in _of_json(tree, path)]
    lists = lists or [part for path in tree.named(_PLACES + r"\.(csv|tsv|parquet)") for part in _of_table(tree, path)]
    return lists or [part for path in tree.named(_PLACES + r"\.(txt|csv)") for part in _of_partition(tree, path)]


def divided(tree: Tree, table: pa.Table, lists: Sequence[SplitList]) -> tuple[pa.Table, list[str]]:
    """A listing without splits with those that lists give, and what is told.

    Raises:
        SourceError: the lists name not one of its images.
    """
    start = tree.folder.path.rstrip("/") + "/"
    paths = [(uri or "").removeprefix(start) for uri in table["uri"].to_pylist()]
    splits, kept, told = divide_by_lists(paths, lists, tree.folder.uri)
    table = table.set_column(table.column_names.index("split"), table.schema.field("split"), pa.array(splits, pa.string()))
    return table.filter(pa.array(kept, pa.bool_())), told


def _lines(tree: Tree, path: str) -> list[str]:
    """A CSV begins with the names of its columns, unless that line names an image."""
    lines = tree.lines(path)
    return lines[1:] if path.lower().endswith(".csv") and lines and not names_image(tree.image_index, lines[0]) else lines


def _of_json(tree: Tree, path: str) -> list[SplitList]:
    """`{"train": ["cup/1.jpg", ...], "test": [["mug/2.jpg", 1, "mug"], ...]}`."""
    content = tree.json(path) if "split" in path.lower() else None
    if not isinstance(content, dict) or not content or not all(split_named(str(key)) and isinstance(value, list) for key, value in content.items()):
        return []
    firsts = {key: [item[0] if isinstance(item, list) and item else item for item in value] for key, value in content.items()}
    return [SplitList(f"{path} ({key})", split_named(key) or "", [str(item) for item in items if item]) for key, items in firsts.items()]


def _of_table(tree: Tree, path: str) -> list[SplitList]:
    """A column of images and one of splits; one table is enough, so it is what the publisher gives."""
    try:
        table = tree.table(path)
    except SourceError:
        return []
    image = meant(table.column_names, "uri", "name", "key")  # whether they name images is looked at below
    rows = table.to_pylist() if image and split_column(table.column_names) else []
    told = row_splits(table.column_names, rows, path, []) if rows else None
    found: dict[str, list[str]] = {}
    for row, split in zip(rows, told or (), strict=bool(told)):
        if split and row[image]:
            found.setdefault(split, []).append(row[image])
    shown = [name for names in found.values() for name in names[:_LOOKED_INTO]]
    here = sum(names_image(tree.image_index, name) is not None for name in shown)
    return [SplitList(f"{path} ({split})", split, names) for split, names in found.items()] if here * 2 > len(shown) else []


def _of_partition(tree: Tree, path: str) -> list[SplitList]:
    """A line an image with its split: `img/1.jpg train` (DeepFashion), `1.jpg 2` (CelebA), or of numbers that `images.txt` names `7 0` (CUB)."""
    last = path.rpartition("/")[2].lower()
    if "split" not in last and "partition" not in last:
        return []
    pairs = [cells for line in tree.lines(path) if len(cells := re.split(r"[\s,;]+(?=\S+$)", line)) == 2]
    names = {number: name for line in tree.lines(images) for number, _, name in [line.partition(" ")]} if (images := _numbered(tree, path)) else {}
    codes = _OF_CUB if names else _OF_CELEBA
    found: dict[str, list[str]] = {}
    for name, told in pairs:
        if split := split_named(told) or codes.get(told):
            found.setdefault(split, []).append(names.get(name, name))
    return [SplitList(f"{path} ({split})", split, lines) for split, lines in found.items()] if len(found) > 1 else []


def _numbered(tree: Tree, path: str) -> str | None:
    images = path.rpartition("/")[0] + "/images.txt" if "/" in path else "images.txt"
    return images if images in tree.annotations else None


def divide_by_lists(paths: Sequence[str], lists: Sequence[SplitList], where: str) -> tuple[list[str | None], list[bool], list[str]]:
    """The split of every path by the lists that name it, however they write it.

    Of an image in two lists the one further from training holds. What no list names is kept out where a list of training images
    is there; else it is what the publisher left for training, and is divided.

    Returns:
        Of every path the split and whether it is kept; and what is to be told.

    Raises:
        SourceError: the lists name not one of the paths.
    """
    index, found, notes = NameIndex(paths), dict[str, str](), []
    for part in sorted(lists, key=lambda part: (holds_both(part.name), _FURTHEST_FIRST.index(part.split))):
        known = [(line, path) for line in part.lines if (path := names_image(index, line))]
        taken = sum(path in found and found[path] != part.split for _, path in known) if not holds_both(part.name) else 0
        for _, path in known:
            found.setdefault(path, part.split)
        if len(known) < len(part.lines):
            there = {line for line, _ in known}
            example = next(line for line in part.lines if line not in there)
            notes.append(f"{part.name}: {len(part.lines) - len(known):,} of {len(part.lines):,} lines name no image that is here, such as '{example}'")
        if taken:
            notes.append(f"{part.name}: {taken:,} images stand in a list further from training too, and stay there")
    if not found:
        shown = next((line for part in lists for line in part.lines), "")
        names = ", ".join(part.name for part in lists)
        raise SourceError(f"{where}: {names} name not one of the {len(paths):,} images (they say '{shown}', the images are '{paths[0]}'); mend or remove them")
    splits = [found.get(path) for path in paths]
    closed = any(part.split == "train" for part in lists)
    unnamed = [path for path, split in zip(paths, splits, strict=True) if split is None]
    if unnamed:
        what = "left out (add them to a list, or remove the lists to have all divided)" if closed else "divided, as no list is of train"
        notes.append(f"{len(unnamed):,} images that no list names, such as '{unnamed[0]}', {what}")
    return splits, [bool(split) or not closed for split in splits], notes


def names_image(index: NameIndex, line: str) -> str | None:
    """A line may end in the flag of a class list, or in a label after a blank, tab or comma."""
    for written in (line, _FLAG.sub("", line), re.split(r"[\t,;]", line)[0], line.rpartition(" ")[0]):
        if written and (path := index.find(written)):
            return path
    return None
