"""The rows and the manifest of prepared data sets."""

from typing import Annotated

import pyarrow as pa
from pydantic import Field

from prodrec.config import Frozen
from prodrec.images.boxes import BOX
from prodrec.labels import Label
from prodrec.sources.schema import IMAGE_COLUMN

# What prepare writes. One row an image; the images of a listing lie together, ordered by view (see `prodrec.shards.listing_order`).
#   image          JPEG bytes, RGB or grey, upright, short side <= the manifest's short_side
#   label_id       index into the manifest's labels; null for sources with boxes
#   objects        of sources with boxes; boxes in pixels of `image`
#   width, height  of `image`, pixels; source_width, source_height of the upright original
#   sha256         hex, of the original bytes; phash: 64-bit difference hash of the prepared image
SHARD_SCHEMA = pa.schema(
    [
        (IMAGE_COLUMN, pa.binary()),
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

# Of a split's index: everything but the images, so that a look at labels or hashes opens one small file.
INDEX_SCHEMA = pa.schema([field for field in SHARD_SCHEMA if field.name != IMAGE_COLUMN])

# What training and judging read: of images with one label, and of images with boxes.
CLASS_COLUMNS = (IMAGE_COLUMN, "label_id")
OBJECT_COLUMNS = (IMAGE_COLUMN, "objects", "width", "height", "source_width", "source_height")

# A row for each rejected image, and for each rejected box of an image that is used (code bad_box; `detail` names it).
REJECT_SCHEMA = pa.schema([("uri", pa.string()), ("listing_id", pa.string()), ("label", pa.string()), ("code", pa.string()), ("detail", pa.string())])


class ShardFile(Frozen):
    """One Parquet file: a shard of a split, or its index.

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
        turned: of photos with boxes that their EXIF orientation turns, how many have them on `stored` pixels, how many on `upright`
            ones, and of how many that is `unknown`: they were taken as upright.
    """

    ok: int
    clipped: int
    rejected: int
    turned: dict[str, int] = {}


class LabelPhotoCounts(Frozen):
    """Where the reference photos of labels come from.

    Attributes:
        given: by the source; `refused`, by reason code, could not be used.
        taken: from images that are learned from.
        named: what is wrong with the first that were refused.
    """

    given: int
    taken: int
    refused: dict[str, int] = {}
    named: list[str] = []


class ShardsManifest(Frozen):
    """`manifest.json` of a prepared data set, written last: its presence means complete.

    Attributes:
        content_sha256: of the sorted (sha256, label, split) of all images: equal for equal data, whatever the order.
        rejects: number of rejected rows by reason code; rows_in = rows_ok + their sum.
        boxes: None for sources without boxes.
        split_origin: of each split how many of its images are there by `publisher`, `earlier` shards, `drawn` by prodrec, or
            `drawn_from_train` of the publisher; empty: of an older prepare.
        earlier: sha256 of the manifests of the shards whose split is kept here (`prodrec prepare --keep-split`). Not those that
            they kept in turn: images that were left out meanwhile may stand anywhere.
        photos: None where no label has one, or of an older prepare.
        findings: the worst that `prodrec.shards.findings` has to say, a line each.
        listings: number of listings whose images lie together; None where the source names no listings, or of an older prepare.
        label_counts: of each split the images of each label, or its boxes (crowds left out), [K]; empty: of an older prepare, or seen in part.
        index: of each split files of INDEX_SCHEMA, its rows in order; empty: of an older prepare.
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
    photos: LabelPhotoCounts | None = None
    findings: list[str] = []
    split_origin: dict[str, dict[str, int]] = {}
    label_counts: dict[str, list[int]] = {}
    index: dict[str, list[ShardFile]] = {}

    def rows(self, split: str) -> int:
        """Number of images of a split; 0 where there is none."""
        return sum(f.rows for f in self.splits.get(split, []))
