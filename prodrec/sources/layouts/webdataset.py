"""WebDataset: tar archives in which a sample's image, label and texts share a name. Members are located, images are not read.

A sample's label is `KEY.cls` (a name, or a number that `classnames.txt` names), `KEY.json` with a label, or `KEY.txt` where texts repeat.
"""

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import fs

from prodrec.errors import SourceError
from prodrec.sources.columns import absolute_uris, listing, told_name
from prodrec.sources.headers import meant
from prodrec.sources.layouts.listed import Listed, Row, refuse_untold
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.splits import split_of_path

_IMAGE = re.compile(r"(.*\.)?(jpe?g|png|webp|bmp|gif|tiff?|heic|heif|avif|ppm|img)", re.IGNORECASE)
_LABELS = ("cls", "label", "json", "txt")
# A label is no longer. Source: assumed.
_LABEL_BYTES = 1 << 20
# Headers of members are 512 bytes; a read of an object store takes a request.
_REMOTE_BUFFER, _LOCAL_BUFFER = 1 << 20, 1 << 13
_LONGEST_LABEL = 80


class _Member(NamedTuple):
    name: str
    offset: int
    size: int


def find_webdataset(tree: Tree) -> list[str]:
    """Tar archives, in a folder without images of its own."""
    return tree.named(r".*\.tar") if tree.only or not len(tree.images) else []


def list_webdataset(tree: Tree, names: list[str]) -> Listed:
    """Lists the images in archives; the split is told by the archive's name or folder.

    Raises:
        SourceError: an archive that is compressed, damaged or without images, or samples without labels.
    """
    refuse_untold(names, tree.folder.uri)
    rows, images = [], 0
    for name in names:
        found = [row | {"split": split_of_path(name)} for row in _samples(tree, name)]
        images += len(found)
        rows += found
    if not images:
        raise SourceError(f"{tree.folder.uri}: {names[0]} holds no images as samples (KEY.jpg and KEY.cls); unpack it and give the folder")
    notes = _labelled(tree, rows)
    columns = {name: pa.array([row.get(name) for row in rows]) for name in ("uri", "label", "group", "split", "offset", "size")}
    columns = {name: column.cast(pa.string()) if name in {"label", "group", "split"} else column for name, column in columns.items()}
    table = listing(len(rows), columns | {"uri": absolute_uris(tree.folder, columns["uri"])})
    return Listed(f"WebDataset: {len(names):,} archives, {names[0]}" + (" ..." if len(names) > 1 else ""), table, tuple(notes))


def _samples(tree: Tree, name: str) -> Iterator[Row]:
    """One row an image, with what its sample says of it."""
    samples: dict[str, Row] = {}
    for member, small in _members(tree, name):
        folder, slash, last = member.name.rpartition("/")
        key, _, kind = last.partition(".")
        if not kind or key == "" or last.startswith("._") or "__MACOSX" in folder:
            continue
        sample = samples.setdefault(f"{folder}{slash}{key}", {"images": []})
        if _IMAGE.fullmatch(kind):
            sample["images"].append(member)
        elif small is not None:
            sample[kind.lower()] = small
    for sample in samples.values():
        for member in sample.pop("images"):
            yield sample | {"uri": f"{name}#{member.name.replace('#', '%23')}", "offset": member.offset, "size": member.size}


def _members(tree: Tree, name: str) -> Iterator[tuple[_Member, str | None]]:
    """The files of an archive, and the text of those that may be labels."""
    local = isinstance(tree.folder.filesystem, fs.LocalFileSystem)
    try:
        with (
            tree.folder.filesystem.open_input_file(tree.folder.within(name)) as file,
            io.BufferedReader(file, _LOCAL_BUFFER if local else _REMOTE_BUFFER) as stream,
            tarfile.open(fileobj=stream, mode="r:") as archive,
        ):
            for info in archive:
                if info.isfile():
                    is_label = info.name.lower().endswith(tuple(f".{kind}" for kind in _LABELS)) and info.size <= _LABEL_BYTES
                    data = archive.extractfile(info).read() if is_label else None  # type: ignore[union-attr]
                    yield _Member(info.name, info.offset_data, info.size), _decoded(data, f"{tree.where(name)}#{info.name}") if data is not None else None
    except tarfile.TarError as error:
        raise SourceError(f"{tree.where(name)} cannot be read as a tar archive: {error}; is it whole, and not compressed?") from error


def _decoded(data: bytes, where: str) -> str:
    """A caption may be damaged, a label may not."""
    try:
        return data.decode("utf-8", "replace" if where.lower().endswith(".txt") else "strict")
    except UnicodeError as error:
        raise SourceError(f"{where} is no UTF-8 text ({error}); write the label anew") from error


def _labelled(tree: Tree, rows: list[Row]) -> list[str]:
    """Gives each row its label; what is told."""
    names = next((tree.numbered_lines(name) for name in tree.annotations if re.fullmatch(r"(.*/)?class(_?names|es)\.txt", name, re.IGNORECASE)), [])
    texts = Counter(row["txt"].strip() for row in rows if "txt" in row)
    repeat = bool(texts) and len(texts) * 2 <= sum(texts.values()) and max(map(len, texts)) <= _LONGEST_LABEL
    for row in rows:
        told, group = _told(row, tree.where(row["uri"]))
        label = told if told is not None else row["txt"].strip() if repeat and "txt" in row else None
        row["label"] = (names[int(label)] or label) if label is not None and label.isdecimal() and int(label) < len(names) else label
        row["group"] = group
    without = sum(not row["label"] for row in rows)
    if without == len(rows):
        kinds = sorted({key for row in rows for key in row} - {"uri", "offset", "size", "split", "label", "group"})
        raise SourceError(f"{tree.folder.uri}: the samples have no labels (found {', '.join(kinds) or 'images alone'}); add KEY.cls or a label in KEY.json")
    numbers = not names and all(row["label"].isdecimal() for row in rows if row["label"])
    return ["labels are numbers: there is no classnames.txt"] if numbers else []


def _told(row: Row, where: str) -> tuple[str | None, str | None]:
    """Label and group by `cls` or JSON."""
    for kind in ("cls", "label"):
        if kind in row:
            return row[kind].strip() or None, None
    if "json" not in row:
        return None, None
    try:
        content: Any = json.loads(row["json"])
    except ValueError:
        return None, None
    if isinstance(content, str | int | float):
        return told_name(content, "the label", where), None
    if not isinstance(content, dict):
        return None, None
    label, group = (content.get(key) if (key := meant(content, *wanted)) else None for wanted in (("cls", "label"), ("group",)))
    plain = isinstance(label, str | int | float) and not isinstance(label, bool)
    return told_name(label, "the label", where) if plain else None, str(group).strip() if isinstance(group, str | int) else None
