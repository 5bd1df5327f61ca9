"""Small JPEGs of prepared images, for people to look at."""

import io
from collections.abc import Sequence

from PIL import Image

# Source: assumed; artefacts do not show at this size.
THUMBNAIL_QUALITY = 80


def thumbnail(jpeg: bytes, side_px: int, box: Sequence[float] | None = None) -> bytes:
    """A JPEG whose longer side has at most `side_px` pixels; never enlarged.

    Args:
        jpeg: a prepared image.
        box: xyxy pixels that are cut out; None: all of it.

    Raises:
        OSError: it is no whole JPEG.
    """
    out = io.BytesIO()
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        picture = image if box is None else image.crop((int(box[0]), int(box[1]), max(int(box[0]) + 1, round(box[2])), max(int(box[1]) + 1, round(box[3]))))
        picture.thumbnail((side_px, side_px))
        picture.convert("RGB").save(out, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return out.getvalue()
