"""Writing shards: rows are distributed by their hash, or that of their listing, and buffered to whole row groups."""

import hashlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from prodrec.files import Folder
from prodrec.shards.listing_order import cuts, sequence_ends
from prodrec.shards.schema import SHARD_SCHEMA, ShardFile
from prodrec.sources.schema import SPLITS

SHARD_BYTES = 96 * 2**20  # Source: the 64-128 MB; large enough for object stores, small enough to balance
ROW_GROUP_ROWS = 256  # about 5 MB at short side 256; the unit of reading. Source: docs/log.md 2026-11-21
# All shards are open while rows are distributed; larger shards beyond that. Source: under the usual limit of 1024 open files.
_MOST_SHARDS = 500
_BUFFER_BYTES = 256 * 2**20  # of all open shard writers together, so that memory does not grow with the data set


class _ShardWriter:
    """One shard: buffers rows to whole row groups."""

    def __init__(self, out: Folder, name: str, buffer_rows: int) -> None:
        self.name, self.out, self.buffer_rows = name, out, buffer_rows
        self.sink = out.filesystem.open_output_stream(out.within(name))
        self.writer = pq.ParquetWriter(self.sink, SHARD_SCHEMA, compression=compression(SHARD_SCHEMA), use_dictionary=False)
        self.waiting: list[pa.Table] = []
        self.row_groups: list[int] = []

    def add(self, table: pa.Table) -> None:
        self.waiting.append(table)
        if sum(t.num_rows for t in self.waiting) >= self.buffer_rows:
            self._flush(keep_rest=True)

    def close(self) -> ShardFile:
        self._flush(keep_rest=False)
        self.writer.close()
        self.sink.close()
        size = self.out.filesystem.get_file_info(self.out.within(self.name)).size
        return ShardFile(name=self.name, row_groups=self.row_groups, size_bytes=size)

    def _flush(self, keep_rest: bool) -> None:
        """Row groups end where listings end."""
        table = pa.concat_tables(self.waiting) if self.waiting else SHARD_SCHEMA.empty_table()
        self.waiting = []
        for low, high in cuts(sequence_ends(table["listing_id"], table["label_id"]), self.buffer_rows):
            part = table.slice(low, high - low)
            if keep_rest and high == table.num_rows and len(part) < self.buffer_rows:
                self.waiting = [part]
                break
            self.writer.write_table(part.combine_chunks(), row_group_size=part.num_rows)
            self.row_groups.append(part.num_rows)


class ShardWriters:
    """The open shards of all splits; a row's hash names its shard, and its listing's where it has one."""

    def __init__(self, out: Folder, kept: pd.DataFrame) -> None:
        self.out = out
        size = kept.groupby("split")["image_bytes"].sum()
        shard_bytes = max(SHARD_BYTES, -(-int(size.sum()) // _MOST_SHARDS))
        self.counts = {split: int(-(-size[split] // shard_bytes)) for split in SPLITS if split in size.index}
        mean_bytes = int(size.sum()) // len(kept) + 1
        self.buffer_rows = max(16, min(ROW_GROUP_ROWS, _BUFFER_BYTES // sum(self.counts.values()) // mean_bytes))
        self.writers: dict[tuple[str, int], _ShardWriter] = {}

    def add(self, table: pa.Table, part: pd.DataFrame) -> None:
        """Distributes rows of SHARD_SCHEMA; `part` holds their split, sha256 and listing_id."""
        hashes = [_sha256(listing) if isinstance(listing, str) else sha for sha, listing in zip(part["sha256"], part["listing_id"], strict=True)]
        number = np.array([int(sha[:12], 16) % self.counts[split] for sha, split in zip(hashes, part["split"], strict=True)])
        for key, positions in part.groupby([part["split"].to_numpy(), number]).indices.items():
            self._writer(*key).add(table.take(pa.array(positions)))

    def close(self) -> dict[str, list[ShardFile]]:
        closed = {key: self.writers[key].close() for key in sorted(self.writers)}
        return {split: [file for key, file in closed.items() if key[0] == split] for split in self.counts}

    def _writer(self, split: str, number: int) -> _ShardWriter:
        if (split, number) not in self.writers:
            name = f"{split}-{number:05d}-of-{self.counts[split]:05d}.parquet"
            self.writers[split, number] = _ShardWriter(self.out, name, self.buffer_rows)
        return self.writers[split, number]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def compression(schema: pa.Schema) -> dict[str, str]:
    """JPEG does not compress again; the small columns do."""
    return {name: "none" if name == "image" else "zstd" for name in schema.names}
