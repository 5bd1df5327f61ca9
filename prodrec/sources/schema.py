"""The rows that a source lists, before any image is opened."""

import pyarrow as pa

from prodrec.images.boxes import BOX

# Of prepared shards: the bytes of each image.
IMAGE_COLUMN = "image"

SPLITS = ("train", "val", "test")

# What a source lists, before any image is opened. One row an example.
#   uri          where the image is; for a manifest with bytes: the manifest file itself
#   row_group, row   position of embedded bytes in the Parquet file `uri`; null for images by URI
#   label        null or "" where the source gives none
#   split        publisher's split, null where there is none
#   listing_id   images with one are those of one listing; null: an image by itself
#   view         place of the image among those of its listing; null where the source does not tell: then the order of the source
#   objects      of sources with boxes, [] for a picture that shows none; null for sources without. `id` is the annotation's,
#                `crowd` marks a box around many objects: not learned from, and no mistake where it is predicted
#   relative     whether the boxes are in fractions of the picture's sides, not in pixels
#   width, height   pixels of the picture that was annotated, null where not told
#   offset, size    of an image within the tar archive that `uri` names before its last #: bytes; null for others
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
        ("relative", pa.bool_()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)
