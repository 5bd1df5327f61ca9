"""Staged images: what `prepare` writes as they stream by, until all are known.

A slice of the source makes two files: a table of what is known of each row, and its images one behind the other, in the order in which
shards want them. So whoever writes a shard reads its own images and no others.
"""

import re
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from prodrec.errors import OutputError
from prodrec.files import Folder, writing
from prodrec.images.boxes import BOX
from prodrec.shards.order import Ints
from prodrec.shards.plan import order_keys
from prodrec.shards.reading import MANIFEST
from prodrec.shards.schema import SHARD_SCHEMA
from prodrec.sources.schema import IMAGE_COLUMN

STAGING = ".staging"
_OURS = re.compile(r"(train|val|test)-\d{5}-of-\d{5}\.parquet|rejects\.parquet|index-(train|val|test)\.parquet|\..*\.parquet\.[0-9a-f]{8}\.part")
# Files that are open at once: object stores answer slowly, but many at a time. Source: assumed.
_READERS = 16
# Bytes between two images that are read along rather than asked for anew. Source: assumed; about what 40 ms of waiting would carry.
_GAP_BYTES = 2**18
_IMAGES_NAME = b"images"

# A staged row is a prepared image or a reject: SHARD_SCHEMA with labels instead of their ids, plus what the source said of it.
#   image_at, image_bytes   place of the image in the file that the table's metadata name
_STAGED_OBJECTS = pa.list_(pa.struct([("label", pa.string()), ("box", BOX), ("crowd", pa.bool_())]))
STAGED_SCHEMA = pa.schema(
    [f for f in SHARD_SCHEMA if f.name not in {IMAGE_COLUMN, "label_id", "objects"}]
    + [("image_at", pa.int64()), ("image_bytes", pa.int64())]
    + [(name, pa.string()) for name in ("label", "group", "split", "code", "detail")]
    + [("objects", _STAGED_OBJECTS), ("boxes_clipped", pa.int32()), ("boxes_rejected", pa.list_(pa.string())), ("boxes_on", pa.string())]
)


def start_output(uri: str) -> Folder:
    """Makes the output folder ready for staging; clears what a killed prepare left.

    Raises:
        OutputError: it already holds shards, or cannot be written.
    """
    out = Folder(uri).make()
    if out.exists(MANIFEST):
        raise OutputError(f"{out.uri} already holds shards; choose another folder or delete this one first")
    with writing(out.uri):
        for info in out.names():
            if info.base_name == STAGING or _OURS.fullmatch(info.base_name):
                out.delete(info.base_name)
        out.filesystem.create_dir(out.within(STAGING), recursive=True)
    return out


def stage(out: Folder, number: int, rows: list[dict[str, Any]]) -> None:
    """Writes staged rows as the slice `number`: a task that runs twice replaces its table and adds nothing.

    Args:
        rows: of STAGED_SCHEMA, with the bytes of `image` instead of its place.
    """
    folder = Folder(out / STAGING)
    name = f"{number:08d}-{uuid.uuid4().hex[:8]}.images"
    with writing(folder / name), folder.filesystem.open_output_stream(folder.within(name)) as sink:
        places = dict[int, dict[str, int]]()
        for position in _by_key(rows):
            places[position] = {"image_at": sink.tell(), "image_bytes": len(rows[position][IMAGE_COLUMN])}
            sink.write(rows[position][IMAGE_COLUMN])
    table = pa.Table.from_pylist([row | places.get(position, {}) for position, row in enumerate(rows)], STAGED_SCHEMA)
    with folder.written(f"{number:08d}.parquet") as sink:
        pq.write_table(table.replace_schema_metadata({_IMAGES_NAME: name.encode()}), sink, compression="zstd")


@dataclass(frozen=True)
class StagedImages:
    """Images of staged rows. Picklable.

    Attributes:
        folder: of the staged files.
        names: of files of images.
        file: [N], number of each image's file among them.
        at, size: [N], bytes.
    """

    folder: str
    names: list[str]
    file: Ints
    at: Ints
    size: Ints

    def read(self) -> list[bytes]:
        """[N] images. Neighbours in a file are read at once, several files at a time."""
        folder, images = Folder(self.folder), [b""] * len(self.file)
        order = np.lexsort((self.at, self.file))
        by_file = np.split(order, np.flatnonzero(np.diff(self.file[order])) + 1) if len(order) else []
        with ThreadPoolExecutor(_READERS, thread_name_prefix="staged") as pool:
            for positions, found in zip(by_file, pool.map(lambda positions: self._of_file(folder, positions), by_file), strict=True):
                for position, image in zip(positions.tolist(), found, strict=True):
                    images[position] = image
        return images

    def _of_file(self, folder: Folder, positions: Ints) -> list[bytes]:
        at, end = self.at[positions], self.at[positions] + self.size[positions]
        runs = np.split(np.arange(len(positions)), np.flatnonzero(at[1:] - end[:-1] > _GAP_BYTES) + 1)
        images = []
        with folder.filesystem.open_input_file(folder.within(self.names[int(self.file[positions[0]])])) as source:
            for run in runs:
                first = int(at[run[0]])
                data = memoryview(source.read_at(int(end[run[-1]]) - first, first))
                images += [bytes(data[start - first : stop - first]) for start, stop in zip(at[run].tolist(), end[run].tolist(), strict=True)]
        return images


class Staged:
    """The staged rows.

    Attributes:
        table: of STAGED_SCHEMA, by the number of their slice.
    """

    def __init__(self, out: Folder) -> None:
        self._folder = Folder(out / STAGING)
        paths = [info.path for info in self._folder.names() if info.base_name.endswith(".parquet")]
        with ThreadPoolExecutor(_READERS, thread_name_prefix="staged") as pool:
            tables = list(pool.map(lambda path: pq.read_table(path, filesystem=self._folder.filesystem), paths))
        self._names = [table.schema.metadata[_IMAGES_NAME].decode() for table in tables]
        self._starts = np.cumsum([0, *(table.num_rows for table in tables)])
        plain = [table.replace_schema_metadata(None) for table in tables]
        self.table = pa.concat_tables(plain or [STAGED_SCHEMA.empty_table()]).combine_chunks()
        self._at, self._size = (self.table[name].fill_null(0).to_numpy() for name in ("image_at", "image_bytes"))

    @property
    def frame(self) -> pd.DataFrame:
        """The table for pandas; phashes would be floats there."""
        return self.table.drop_columns(["phash", "image_at"]).to_pandas()

    def images(self, rows: Ints) -> StagedImages:
        """The images of rows, by their numbers."""
        slices, file = np.unique(np.searchsorted(self._starts, rows, side="right") - 1, return_inverse=True)
        return StagedImages(self._folder.uri, [self._names[number] for number in slices], file, self._at[rows], self._size[rows])


def _by_key(rows: Iterable[dict[str, Any]]) -> Iterator[int]:
    """Positions of the rows that have an image, in the order of shards."""
    there = [(position, row["sha256"], row.get("listing_id")) for position, row in enumerate(rows) if row.get(IMAGE_COLUMN) is not None]
    if there:
        found = pd.DataFrame(there, columns=["position", "sha256", "listing_id"]).astype({"listing_id": object})
        yield from found["position"].iloc[np.argsort(order_keys(found["sha256"], found["listing_id"]), kind="stable")].tolist()
