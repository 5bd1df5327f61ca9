"""Writing shards, each by a task of its own that needs nothing but its plan and the staged images, and the index of a split."""

from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from prodrec.files import Folder, writing
from prodrec.images.thumbnails import thumbnail
from prodrec.label_photos import PHOTO_SIDE_PX
from prodrec.shards.schema import INDEX_SCHEMA, SHARD_SCHEMA, ShardFile
from prodrec.shards.staging import StagedImages
from prodrec.sources.schema import IMAGE_COLUMN

# JPEG does not compress again; the small columns do.
_COMPRESSION = {name: "none" if name == IMAGE_COLUMN else "zstd" for name in SHARD_SCHEMA.names}
# Rows of a row group of an index: a column of 10 million rows takes 40 reads, and about 60 MB wait in memory. Source: assumed.
_INDEX_ROWS = 2**18


class WantedPhoto(NamedTuple):
    """The reference photo of a label: the image of a row of a shard, or a box of it (pixels)."""

    label: str
    row: int
    box: list[float] | None


class ShardTask(NamedTuple):
    """All that it takes to write one shard.

    Attributes:
        facts: [N], of INDEX_SCHEMA.
        images: [N], of these rows.
        photos: to be made of its images.
    """

    out: str
    name: str
    facts: pa.Table
    images: StagedImages
    row_groups: list[int]
    photos: list[WantedPhoto]


class WrittenShard(NamedTuple):
    """A shard that is there, and the photos (JPEG by label) that were made of its images."""

    file: ShardFile
    photos: dict[str, bytes]


def write_shard(task: ShardTask) -> WrittenShard:
    """Writes one shard; whoever does it again replaces it by the same bytes. Memory: the images of the shard.

    Raises:
        OutputError: the folder cannot be read or written.
    """
    out = Folder(task.out)
    with writing(out.uri):
        images = task.images.read()
    with out.written(task.name) as sink:
        with pq.ParquetWriter(sink, SHARD_SCHEMA, compression=_COMPRESSION, use_dictionary=False, write_statistics=False) as writer:
            start = 0
            for rows in task.row_groups:
                part = task.facts.slice(start, rows).add_column(0, SHARD_SCHEMA.field(IMAGE_COLUMN), pa.array(images[start : start + rows], pa.binary()))
                writer.write_table(part.combine_chunks(), row_group_size=rows)
                start += rows
        size = sink.tell()
    photos = {photo.label: thumbnail(images[photo.row], PHOTO_SIDE_PX, photo.box) for photo in task.photos}
    return WrittenShard(ShardFile(name=task.name, row_groups=task.row_groups, size_bytes=size), photos)


class IndexWriter:
    """The index of one split, written while its shards are planned; complete once the block has ended."""

    def __init__(self, out: Folder, split: str) -> None:
        self.name, self._waiting, self._row_groups = f"index-{split}.parquet", list[pa.Table](), list[int]()
        self._sink = out.filesystem.open_output_stream(out.within(self.name))
        self._writer = pq.ParquetWriter(self._sink, INDEX_SCHEMA, compression="zstd", use_dictionary=["label_id", "listing_id"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._sink.close()

    def add(self, facts: pa.Table) -> None:
        self._waiting.append(facts)
        if sum(table.num_rows for table in self._waiting) >= _INDEX_ROWS:
            self._flush()

    def close(self) -> ShardFile:
        self._flush()
        self._writer.close()
        return ShardFile(name=self.name, row_groups=self._row_groups, size_bytes=self._sink.tell())

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting).combine_chunks()
            self._writer.write_table(table, row_group_size=table.num_rows)
            self._row_groups.append(table.num_rows)
            self._waiting = []
