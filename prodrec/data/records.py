"""The rows and manifests that rooms hand to each other."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from prodrec.config import Frozen

SPLITS = ("train", "val", "test")

BOX = pa.list_(pa.float32(), 4)  # absolute xyxy pixels

# What a source lists, before any image is opened. One row an example.
#   uri          where the image is; for a manifest with bytes: the manifest file itself
#   row_group, row   position of embedded bytes in the Parquet file `uri`; null for images by URI
#   label        null or "" where the source gives none
#   split        publisher's split, null where there is none
#   listing_id   images with one are those of one listing; null: an image by itself
#   view         place of the image among those of its listing; null where the source does not tell: then the order of the source
#   objects      of sources with boxes, [] for a picture that shows none; null for sources without. `id` is the annotation's,
#                `crowd` marks a box around many objects: not learned from, and no mistake where it is predicted
#   width, height   pixels of the picture that was annotated, null where not told
LISTING_SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("row_group", pa.int32()),
        ("row", pa.int32()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("listing_id", pa.string()),
        ("view", pa.int32()),
        ("objects", pa.list_(pa.struct([("id", pa.string()), ("label", pa.string()), ("box", BOX), ("crowd", pa.bool_())]))),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)

# What prepare writes. One row an image; the images of a listing lie together, ordered by view (see `prodrec.data.listing_order`).
#   image          JPEG bytes, RGB or grey, upright, short side <= the manifest's short_side
#   label_id       index into the manifest's labels; null for sources with boxes
#   objects        of sources with boxes; boxes in pixels of `image`
#   width, height  of `image`, pixels; source_width, source_height of the upright original
#   sha256         hex, of the original bytes; phash: 64-bit difference hash of the prepared image
SHARD_SCHEMA = pa.schema(
    [
        ("image", pa.binary()),
        ("label_id", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("sha256", pa.string()),
        ("phash", pa.uint64()),
        ("uri", pa.string()),
        ("listing_id", pa.string()),
        ("view", pa.int32()),
        ("objects", pa.list_(pa.struct([("label_id", pa.int32()), ("box", BOX), ("crowd", pa.bool_())]))),
    ]
)

# What training and judging read: of images with one label, and of images with boxes.
CLASS_COLUMNS = ("image", "label_id")
OBJECT_COLUMNS = ("image", "objects", "width", "height", "source_width", "source_height")

# A row for each rejected image, and for each rejected box of an image that is used (code bad_box; `detail` names it).
REJECT_SCHEMA = pa.schema([("uri", pa.string()), ("listing_id", pa.string()), ("label", pa.string()), ("code", pa.string()), ("detail", pa.string())])


def object_lists(label_ids: pa.Array, boxes: pa.Array, crowd: pa.Array, counts: npt.ArrayLike, missing: pa.Array | None = None) -> pa.ListArray:
    """A column `objects` out of its parts.

    Args:
        label_ids, boxes, crowd: of all objects, one row after the other.
        counts: objects of each row; missing: whether a row has no list at all.
    """
    items = pa.StructArray.from_arrays([label_ids, boxes, crowd], ["label_id", "box", "crowd"])
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, items, mask=missing)


def label_order(name: str) -> tuple[int, int, str]:
    """Sort key: numbers as numbers, before words."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


class Label(Frozen):
    """One class of a data set; its id is its position in the manifest's list."""

    name: str
    group: str | None = None


class ShardFile(Frozen):
    """One Parquet file of a split.

    Attributes:
        name: relative to the manifest's folder.
        row_groups: rows of each row group.
    """

    name: str
    row_groups: list[int]
    size_bytes: int

    @property
    def rows(self) -> int:
        return sum(self.row_groups)


class BoxCounts(Frozen):
    """Boxes of a source: boxes_in = ok + rejected. Boxes of rejected images do not count.

    Attributes:
        clipped: of those that are ok, how many reached beyond their picture.
    """

    ok: int
    clipped: int
    rejected: int


class ShardsManifest(Frozen):
    """`manifest.json` of a prepared data set, written last: its presence means complete.

    Attributes:
        content_sha256: of the sorted (sha256, label, split) of all images: equal for equal data, whatever the order.
        rejects: number of rejected rows by reason code; rows_in = rows_ok + their sum.
        boxes: None for sources without boxes.
        earlier: sha256 of the manifests of the shards whose split is kept here (`prodrec prepare --keep-split`). Not those that
            they kept in turn: images that were left out meanwhile may stand anywhere.
        listings: number of listings whose images lie together; None where the source names no listings, or of an older prepare.
    """

    schema_version: Annotated[int, Field(ge=1, le=1)] = 1
    source: str
    source_format: str
    created: str
    code_version: str
    short_side: int
    jpeg_quality: int
    split_rule: str
    content_sha256: str
    labels: list[Label]
    splits: dict[str, list[ShardFile]]
    rows_in: int
    rows_ok: int
    rejects: dict[str, int]
    boxes: BoxCounts | None = None
    listings: int | None = None
    earlier: list[str] = []

    def rows(self, split: str) -> int:
        """Number of images of a split; 0 where there is none."""
        return sum(f.rows for f in self.splits.get(split, []))
