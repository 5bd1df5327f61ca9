"""Small JPEGs of pictures, for people to look at."""

import io
from collections.abc import Sequence

from prodrec.images.formats import ImageLimits
from prodrec.images.pictures import upright

# Source: assumed; artefacts do not show at this size.
THUMBNAIL_QUALITY = 80


def thumbnail(data: bytes, side_px: int, box: Sequence[float] | None = None, limits: ImageLimits = ImageLimits()) -> bytes:
    """A JPEG, upright and sRGB, whose longer side has at most `side_px` pixels; never enlarged.

    Args:
        box: xyxy pixels that are cut out; None: all of it.

    Raises:
        Reject: the picture cannot be used.
    """
    picture, out = upright(data, limits, short_side=None if box else side_px), io.BytesIO()
    if box:
        left, top, right, bottom = (round(edge) for edge in box)
        picture = picture.crop((left, top, max(left + 1, right), max(top + 1, bottom)))
    picture.thumbnail((side_px, side_px))
    picture.save(out, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return out.getvalue()
