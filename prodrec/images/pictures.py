"""The one door to the pixels of image files: refused before it costs, decoded here or in a process that can be ended."""

from PIL import Image

from prodrec.errors import Reject, RejectCode
from prodrec.images.apart import read_apart
from prodrec.images.cost import cost
from prodrec.images.formats import ImageLimits, image_format
from prodrec.images.reading import Picture, check_size, read

# EXIF orientation -> how a stored picture is turned upright. Source: EXIF 2.32, tag 0x0112.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def checked(data: bytes, short_side: int, limits: ImageLimits) -> tuple[str, bool]:
    """The format, and whether decoding is known to be short.

    Raises:
        Reject: `not_an_image`, `unsupported_format`, `too_large`, `too_many_pixels`, `too_costly`.
    """
    if len(data) > limits.max_bytes:
        raise Reject(RejectCode.TOO_LARGE, f"{len(data):,} bytes; at most {limits.max_bytes:,} are read")
    format_name = image_format(data)
    found = cost(data, format_name)
    if found.size and all(found.size):
        check_size(found.size, short_side, limits.max_pixels)
    return format_name, found.is_short


def is_short(data: bytes) -> bool:
    """Whether this image keeps a thread for a second at most; so does one that is refused."""
    try:
        return cost(data, image_format(data)).is_short
    except Reject:
        return True


def read_picture(data: bytes, short_side: int, limits: ImageLimits, keep_alpha: bool = False) -> Picture:
    """Decodes one image file, as `reading.read`.

    Raises:
        Reject: as `checked`; `truncated`, `too_slow`, `crashed`.
    """
    format_name, short = checked(data, short_side, limits)
    if short:
        return read(data, format_name, short_side, limits.max_pixels, keep_alpha)
    return read_apart(data, format_name, short_side, limits.max_pixels, keep_alpha, limits.max_seconds)


def upright(data: bytes, limits: ImageLimits = ImageLimits(), short_side: int | None = None, keep_alpha: bool = False) -> Image.Image:
    """The picture as a person sees it, RGB (RGBA with `keep_alpha`), sRGB.

    Args:
        short_side: pixels that will do; None: the whole size.

    Raises:
        Reject: as `read_picture`.
    """
    picture = read_picture(data, short_side or limits.max_pixels, limits, keep_alpha)
    turn = _TURNS.get(picture.orientation)
    image = picture.image if turn is None else picture.image.transpose(turn)
    return image.convert("RGBA" if keep_alpha else "RGB")
