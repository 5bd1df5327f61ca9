"""Thumbnails of images of a data set, with their boxes, read anew for the page: no pixels are kept while all images are looked at."""

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa
from PIL import Image, ImageFile

from prodrec.errors import Reject, RejectCode
from prodrec.images.decode import prepare_image
from prodrec.images.formats import ImageLimits, image_format
from prodrec.images.reading import open_image
from prodrec.reports.drawing import Box, draw_boxes
from prodrec.shards.facts import Facts
from prodrec.shards.finding import shortened
from prodrec.shards.reading import Shards
from prodrec.sources.schema import LISTING_SCHEMA
from prodrec.sources.source import Source, read_images

# Twice the width that a thumbnail has on the page; with boxes, whose labels must be read. Source: assumed.
_SIDE_PX, _SIDE_WITH_BOXES_PX, _QUALITY = 160, 360, 75
# Of damaged files what is left is decoded in this process: only by decoders that are at home with damage.
_READ_IN_PART = {"JPEG", "PNG"}
# Characters written at a box, so that the text hides little of the picture. Source: assumed.
_LONGEST_TEXT = 24


def source_pictures(source: Source, facts: Facts) -> Callable[[Sequence[int]], Mapping[int, str]]:
    return partial(_pictures, facts, lambda positions: read_images(source.listing.take(pa.array(positions, pa.int64())), ImageLimits().max_bytes))


def shards_pictures(shards: Shards, facts: Facts) -> Callable[[Sequence[int]], Mapping[int, str]]:
    """Prepared images; of rejects what still lies where the source had it, on this machine."""

    def read(positions: Sequence[int]) -> Iterator[bytes | Reject]:
        for row in facts.images.loc[list(positions)].itertuples():
            if not isinstance(row.code, str):
                yield shards.split(row.split).image(int(row.row))
            elif "://" in row.uri:
                yield Reject(RejectCode.MISSING, "not fetched for a thumbnail")
            else:
                listed = {name: pa.nulls(1, LISTING_SCHEMA.field(name).type) for name in ("row_group", "row")}
                yield from read_images(pa.table({"uri": [row.uri], **listed}), ImageLimits().max_bytes)

    return partial(_pictures, facts, read)


def _pictures(facts: Facts, read: Callable[[Sequence[int]], Iterable[bytes | Reject]], positions: Sequence[int]) -> dict[int, str]:
    side = _SIDE_PX if facts.objects is None else _SIDE_WITH_BOXES_PX
    found = {}
    for position, image in zip(positions, read(positions), strict=True):
        picture = None if isinstance(image, Reject) else _small(image, side)
        if picture is not None:
            found[position] = _data_uri(draw_boxes(picture, _boxes(facts, position, picture.width)) if facts.objects is not None else picture)
    return found


def _small(image: bytes, side: int) -> Image.Image | None:
    """The picture with its longer side at most `side`; of a damaged file what can be read of it; None: nothing can."""
    try:
        picture: Image.Image = Image.open(io.BytesIO(prepare_image(image, side).jpeg))
    except Reject as reject:
        if reject.code is not RejectCode.TRUNCATED:  # others are no picture, or cost too much
            return None
        left = _what_is_left(image, side)
        if left is None:
            return None
        picture = left
    picture.thumbnail((side, side))
    return picture.convert("RGB")


def _what_is_left(image: bytes, side: int) -> Image.Image | None:
    if (format_name := image_format(image)) not in _READ_IN_PART:
        return None
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # the process has no other decoding at this time
    try:
        picture = open_image(image, format_name)
        picture.draft("RGB", (side, side))
        picture.load()
        return picture
    except Exception:  # decoders raise nearly anything on damaged bytes: there is no picture of this one
        return None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def _boxes(facts: Facts, position: int, width: int) -> list[Box]:
    rows = facts.objects_on(position)
    scale = width / facts.images.loc[position, "width"] if len(rows) else 1.0
    return [
        Box([scale * row.left, scale * row.top, scale * row.right, scale * row.bottom], shortened(facts.shown(row.label), _LONGEST_TEXT), dashed=row.crowd)
        for row in rows.itertuples()
    ]


def _data_uri(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
