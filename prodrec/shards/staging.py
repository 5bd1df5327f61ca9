"""Staged images: what `prepare` writes as they stream by, one file a slice of the source, until all are known."""

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from prodrec.errors import OutputError
from prodrec.files import Folder, writing
from prodrec.images.boxes import BOX
from prodrec.shards.reading import MANIFEST
from prodrec.shards.schema import SHARD_SCHEMA
from prodrec.shards.writers import compression

STAGING = ".staging"
_OURS = re.compile(r"(train|val|test)-\d{5}-of-\d{5}\.parquet|rejects\.parquet")

# A staged row is a prepared image or a reject: SHARD_SCHEMA with labels instead of their ids, plus what the source said of it.
_STAGED_OBJECTS = pa.list_(pa.struct([("label", pa.string()), ("box", BOX), ("crowd", pa.bool_())]))
STAGED_SCHEMA = pa.schema(
    [f for f in SHARD_SCHEMA if f.name not in {"label_id", "objects"}]
    + [("image_bytes", pa.int64())]
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
    """Writes staged rows as one file named by `number`: a task that runs twice replaces its file and adds nothing."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, STAGED_SCHEMA), sink, compression=compression(STAGED_SCHEMA))
    Folder(out / STAGING).write(f"{number:08d}.parquet", sink.getvalue().to_pybytes())


class Staged:
    """The staged files: their small columns as one frame, their images one file at a time in the frame's order.

    Attributes:
        phash, objects: as they are; in the frame hashes are floats, objects Python lists.
    """

    def __init__(self, out: Folder) -> None:
        self.folder = Folder(out / STAGING)
        self.paths = [info.path for info in self.folder.names() if info.base_name.endswith(".parquet")]
        small = [name for name in STAGED_SCHEMA.names if name != "image"]
        tables = [pq.read_table(path, columns=small, filesystem=self.folder.filesystem) for path in self.paths]
        frame = pa.concat_tables(tables, promote_options="none") if tables else STAGED_SCHEMA.empty_table().select(small)
        self.phash, self.objects = frame["phash"], frame["objects"]
        self.frame: pd.DataFrame = frame.to_pandas()

    def batches(self) -> Iterator[pa.Table]:
        for path in self.paths:
            with self.folder.filesystem.open_input_file(path) as source:
                yield pq.ParquetFile(source).read()
