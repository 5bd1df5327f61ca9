"""Which image format bytes are in, by their first bytes, and what an image may cost. Not covered: whether the rest of the file is sound."""

import re

from prodrec.config import Frozen, PositiveFloat, PositiveInt
from prodrec.errors import Reject, RejectCode


class ImageLimits(Frozen):
    """What is refused before it costs memory or time.

    Attributes:
        max_bytes: of the file. Source: assumed; five times the largest phone JPEG (about 10 MB).
        max_pixels: of the decoded image. Source: assumed; 300 MB of RGB, twice a 48-megapixel phone photo.
        max_seconds: of decoding, on one core. Source: assumed; ten times what the largest image that is allowed takes.
    """

    max_bytes: PositiveInt = 50_000_000
    max_pixels: PositiveInt = 100_000_000
    max_seconds: PositiveFloat = 20.0


# Bytes looked at. An SVG may open with an XML declaration and a comment.
HEAD_BYTES = 1024

# Source: the formats' specifications. "BM" alone would take a text that begins so: the header's length is looked at too.
_READ = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WebP": rb"RIFF.{4}WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    # The general brands of HEIF, mif1 and msf1, say which codec it is among those that follow.
    "AVIF": rb".{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){0,15}?avi[fs])",
    "HEIC": rb".{4}ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)",
}
_NOT_READ = {
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\0\0\0\x0cJXL |\xff\x0a",
    "JPEG XR": rb"II\xbc",
    "PSD": rb"8BPS",
    "ICO": rb"\0\0[\1\2]\0",
    "SVG": rb"(?=.*<svg\b)(?:\xef\xbb\xbf)?\s*<(?:svg|\?xml|!--|!DOCTYPE svg)",
    "PDF": rb"%PDF",
    "EPS": rb"%!PS",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "DDS": rb"DDS ",
    "QOI": rb"qoif",
    "PNM": rb"P[1-7]\s+\d",
}


def _one_of(patterns: dict[str, bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(b"(%b)" % pattern for pattern in patterns.values()), re.DOTALL)


_READ_PATTERN, _NOT_READ_PATTERN = _one_of(_READ), _one_of(_NOT_READ)


def image_format(data: bytes) -> str:
    """Name of the format that `data` begins as: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF.

    Raises:
        Reject: `unsupported_format` for a known image format that is not read, `not_an_image` for anything else.
    """
    head = data[:HEAD_BYTES]
    if found := _READ_PATTERN.match(head):
        return list(_READ)[(found.lastindex or 1) - 1]
    if other := _NOT_READ_PATTERN.match(head):
        name = list(_NOT_READ)[(other.lastindex or 1) - 1]
        raise Reject(RejectCode.UNSUPPORTED_FORMAT, f"{name} is not read; convert it to one of {', '.join(_READ)}")
    raise Reject(RejectCode.NOT_AN_IMAGE, f"begins with {head[:12]!r}" if data else "the file is empty (0 bytes)")
