"""Prepared data sets: opening them and reading their rows."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from prodrec.config import explain_validation
from prodrec.errors import ShardsError
from prodrec.files import Folder
from prodrec.images.boxes import object_lists
from prodrec.label_photos import LabelPhotos
from prodrec.labels import Label
from prodrec.shards.order import Window
from prodrec.shards.schema import CLASS_COLUMNS, OBJECT_COLUMNS, SHARD_SCHEMA, ShardFile, ShardsManifest
from prodrec.sources.schema import IMAGE_COLUMN

MANIFEST = "manifest.json"
# Files that are read at once: object stores answer slowly, but many at a time. Source: assumed.
_READERS = 8
# Footers that a process keeps: of a full shard about 14 kB on disk and at most 200 kB in memory. Source: docs/log.md 2026-11-28.
_MOST_FOOTERS = 1024


@dataclass(frozen=True)
class SplitIndex:
    """Where the rows of one split are. Small and picklable; rows are numbered through its files in order.

    Attributes:
        columns: that are read to train and to judge.
        label_ids: what each label id of the files is told as; None: as it is.
        index: files with all columns but the images, of the same rows; none: of an older prepare.
    """

    uri: str
    files: list[ShardFile]
    columns: tuple[str, ...] = CLASS_COLUMNS
    label_ids: tuple[int, ...] | None = None
    index: list[ShardFile] = field(default_factory=list)

    @cached_property
    def row_group_sizes(self) -> list[int]:
        return [rows for file in self.files for rows in file.row_groups]

    @property
    def rows(self) -> int:
        return sum(self.row_group_sizes)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows, [N]; other columns are not read."""
        files = self.index if self.index and name != IMAGE_COLUMN else self.files
        tables = _each_opened(Folder(self.uri), dict(enumerate(files)), lambda parquet, number: parquet.read(columns=[name]).slice(0, files[number].rows))
        chunks = [chunk for table in tables for chunk in table[name].chunks]
        column = pa.chunked_array(chunks, SHARD_SCHEMA.field(name).type)
        return self._relabelled(pa.table({name: column}))[name]

    def image(self, row: int) -> bytes:
        """The JPEG of one row."""
        table = self.read(Window(0, np.array([row]), np.array([0])))
        return bytes(table["image"][0].as_py())

    def read(self, window: Window) -> pa.Table:
        """The rows of a window in its order: `columns`, lane, row, occurrence."""
        starts = np.concatenate([[0], np.cumsum(self.row_group_sizes)])
        group_of = np.searchsorted(starts, window.rows, side="right") - 1
        needed = np.unique(group_of)
        table = self._relabelled(pa.concat_tables(self._row_groups(needed)))
        offsets = np.concatenate([[0], np.cumsum([self.row_group_sizes[g] for g in needed])])
        position = offsets[np.searchsorted(needed, group_of)] + window.rows - starts[group_of]
        table = table.take(pa.array(position))
        for name, values in (("lane", np.full(len(window.rows), window.lane)), ("row", window.rows), ("occurrence", window.occurrence)):
            table = table.append_column(name, pa.array(values, pa.int64()))
        return table

    def _relabelled(self, table: pa.Table) -> pa.Table:
        if self.label_ids is None:
            return table
        ids = pa.array(self.label_ids, pa.int32())
        if "label_id" in table.column_names:
            table = table.set_column(table.column_names.index("label_id"), "label_id", pc.take(ids, table["label_id"]))
        if "objects" in table.column_names:
            lists = table["objects"].combine_chunks()
            label_id, box, crowd = (pc.struct_field(lists.flatten(), name) for name in ("label_id", "box", "crowd"))
            renamed = object_lists(pc.take(ids, label_id), box, crowd, lists.value_lengths().to_numpy())
            table = table.set_column(table.column_names.index("objects"), "objects", renamed)
        return table

    def _row_groups(self, needed: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
        first = np.cumsum([0, *(len(file.row_groups) for file in self.files)])
        file_of = np.searchsorted(first, needed, side="right") - 1
        inside = {int(number): (needed[file_of == number] - first[number]).tolist() for number in np.unique(file_of)}

        def read(parquet: pq.ParquetFile, number: int) -> pa.Table:
            table = parquet.read_row_groups(inside[number], columns=list(self.columns))
            return table.slice(0, sum(self.files[number].row_groups[g] for g in inside[number]))  # a limit cuts off the last row group of all

        return _each_opened(Folder(self.uri), {number: self.files[number] for number in inside}, read)


@dataclass(frozen=True)
class Shards:
    """A complete prepared data set."""

    uri: str
    manifest: ShardsManifest
    manifest_sha256: str
    label_ids: tuple[int, ...] | None = None

    def split(self, name: str) -> SplitIndex:
        columns = OBJECT_COLUMNS if self.manifest.boxes else CLASS_COLUMNS
        return SplitIndex(self.uri, self.manifest.splits.get(name, []), columns, self.label_ids, self.manifest.index.get(name, []))

    @property
    def photos(self) -> LabelPhotos:
        """The reference photos of its labels."""
        return LabelPhotos(Folder(self.uri))

    def keeps_split_of(self, manifests_sha256: Iterable[str]) -> bool:
        """Whether nothing that was learned from in any of those shards is held out here: a model that was trained on them may be judged here."""
        return {*manifests_sha256} <= {self.manifest_sha256, *self.manifest.earlier}

    def relabelled(self, labels: Sequence[Label]) -> "Shards":
        """The same rows with the ids of other labels, by name; rows with a label that is not among them get -1."""
        if list(labels) == self.manifest.labels:
            return self
        manifest = self.manifest.model_copy(update={"labels": list(labels)})
        if [label.name for label in labels] == [label.name for label in self.manifest.labels]:
            return replace(self, manifest=manifest)
        number = {label.name: i for i, label in enumerate(labels)}
        now = [number.get(label.name, -1) for label in self.manifest.labels]
        ids = tuple(now) if self.label_ids is None else tuple(now[i] if i >= 0 else -1 for i in self.label_ids)
        return replace(self, manifest=manifest, label_ids=ids)

    def limited(self, images: int | None) -> "Shards":
        """At most so many images, the splits in proportion, each with one at least: the first of each, as the splits are mixed already."""
        rows = self.manifest.rows_ok
        if images is None or images >= rows:
            return self
        most, seen = {name: max(1, self.manifest.rows(name) * images // rows) for name in self.manifest.splits}, self.manifest
        splits, index = ({name: _first(files, most[name]) for name, files in of.items()} for of in (seen.splits, seen.index))
        return replace(self, manifest=seen.model_copy(update={"splits": splits, "index": index, "label_counts": {}}))

    def class_counts(self, split: str) -> npt.NDArray[np.int64]:
        """Images of each class in a split, or boxes of each label (crowds left out), [K]."""
        if known := self.manifest.label_counts.get(split):
            ids_N, weight_N = np.arange(len(known)) if self.label_ids is None else np.array(self.label_ids), np.array(known)
        else:
            ids_N = self._label_ids(split)
            weight_N = np.ones(len(ids_N))
        return np.bincount(ids_N[ids_N >= 0], weight_N[ids_N >= 0], minlength=len(self.manifest.labels)).astype(np.int64)

    def _label_ids(self, split: str) -> npt.NDArray[np.int64]:
        if not self.manifest.boxes:
            return self.split(split).column("label_id").to_numpy()
        objects = pc.list_flatten(self.split(split).column("objects"))
        return pc.struct_field(objects, "label_id").filter(pc.invert(pc.struct_field(objects, "crowd"))).to_numpy()


def open_shards(uri: str) -> Shards:
    """Opens a prepared data set and checks that its files are there in full size.

    Raises:
        ShardsError: no manifest (not prepared, or a prepare that did not finish), a manifest of another version, or a
            file that is missing or of another size.
    """
    folder = Folder(uri)
    try:
        data = folder.read(MANIFEST)
    except OSError as error:
        raise ShardsError(f"{folder.uri} holds no complete shards (no {MANIFEST}); make them with `prodrec prepare SOURCE {uri}`") from error
    try:
        manifest = ShardsManifest.model_validate_json(data)
    except ValidationError as error:
        raise ShardsError(f"{folder / MANIFEST}: {explain_validation(error, ShardsManifest)}; prepare the source again") from error
    _check_files(folder, [*(file for files in manifest.splits.values() for file in files), *(file for files in manifest.index.values() for file in files)])
    return Shards(folder.uri, manifest, hashlib.sha256(data).hexdigest())


def _check_files(folder: Folder, files: Sequence[ShardFile]) -> None:
    sizes = {info.base_name: info.size for info in folder.names()}
    for file in files:
        if (size := sizes.get(file.name)) != file.size_bytes:
            found = "is missing" if size is None else f"has {size} bytes instead of {file.size_bytes}"
            raise ShardsError(f"{folder / file.name} {found}; prepare the source again or copy the folder whole")


def _first(files: list[ShardFile], rows: int) -> list[ShardFile]:
    """The files, cut off after so many rows."""
    kept = []
    for file in files:
        starts = np.cumsum([0, *file.row_groups[:-1]])
        groups = [min(size, rows - int(start)) for size, start in zip(file.row_groups, starts, strict=True) if start < rows]
        if groups:
            kept.append(file.model_copy(update={"row_groups": groups}))
        rows -= sum(groups)
    return kept


def _each_opened(folder: Folder, files: Mapping[int, ShardFile], read: Callable[[pq.ParquetFile, int], pa.Table]) -> Iterator[pa.Table]:
    """What is read of each of numbered files, in order; several are read at a time."""

    def opened(number: int) -> pa.Table:
        footer = _footer(folder.uri, files[number].name, files[number].size_bytes)
        source = folder.filesystem.open_input_file(folder.within(files[number].name))
        with source, pq.ParquetFile(source, metadata=footer, pre_buffer=True) as parquet:
            return read(parquet, number)

    with ThreadPoolExecutor(max(1, min(_READERS, len(files))), thread_name_prefix="shards") as pool:
        yield from pool.map(opened, files)


@lru_cache(_MOST_FOOTERS)
def _footer(uri: str, name: str, size_bytes: int) -> pq.FileMetaData:
    """Files of shards are never changed."""
    folder = Folder(uri)
    with folder.filesystem.open_input_file(folder.within(name)) as source:
        return pq.read_metadata(source)
