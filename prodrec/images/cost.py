"""What decoding may cost, told from how a file is built, before any decoder sees it.

A decoder's time grows with pixels x scans (JPEG), with the number of pieces (chunks, segments), and else with pixels alone.
What goes beyond is refused. What is known to be short is decoded in this process; all else in one that can be ended (`apart`).
"""

import re
import struct
from typing import NamedTuple

from prodrec.errors import Reject, RejectCode
from prodrec.images.png import png_chunks

# Of a JPEG. Source: encoders write 10 (libjpeg) to some 20; libjpeg-turbo's own fuzzers stop at 500.
MAX_SCANS = 100
# Pixels that all scans of a JPEG go through. Source: the largest image that is allowed, with 20 scans. Measured: empty scans take
# 0.33 ns a pixel, scans of a photo about 10.
MAX_SCANNED_PIXELS = 2_000_000_000
# Before the first scan of a JPEG. Source: assumed; a profile takes 255 at most, an extended XMP of 60 MB a thousand.
MAX_SEGMENTS = 2_000
# What is short: about a second of one core at most. Source: measured: JPEG takes 3-10 ns a pixel and scan, PNG and WebP 10-40 ns a pixel.
_SHORT_SCANNED_PIXELS = 100_000_000
_SHORT_PIXELS = 25_000_000
_SHORT_CHUNKS = 5_000
# Bytes between two segments before the first scan: Pillow steps over them one by one. Source: assumed; there should be none.
MAX_FILLING = 65_536

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SOF = {marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC)}


class Cost(NamedTuple):
    """Width and height where the file's beginning says them, and whether decoding is short."""

    size: tuple[int, int] | None
    is_short: bool


def cost(data: bytes, format_name: str) -> Cost:
    """What decoding costs.

    Raises:
        Reject: `too_costly`: more scans, segments or chunks than are decoded.
    """
    if format_name == "JPEG":
        return _jpeg(data)
    if format_name == "PNG":
        size = struct.unpack(">II", data[16:24]) if len(data) >= 24 else None
        return Cost(size, len(png_chunks(data)) <= _SHORT_CHUNKS and _is_small(size))
    if format_name == "WebP":
        size = _webp_size(data)
        return Cost(size, not _is_animated(data) and _is_small(size))
    return Cost(None, False)


def _is_small(size: tuple[int, int] | None) -> bool:
    return size is not None and size[0] * size[1] <= _SHORT_PIXELS


def _jpeg(data: bytes) -> Cost:
    """Walks from marker to marker as decoders do; pixels of scans are stepped over at the speed of a search."""
    size, segments, scans, end = None, 0, 0, 2
    while found := _MARKER.search(data, end):
        marker, start = data[found.start() + 1], found.end()
        if scans == 0 and found.start() - end > MAX_FILLING:
            raise Reject(RejectCode.TOO_COSTLY, f"a JPEG with {found.start() - end:,} bytes of filling")
        if marker == 0xD9:
            break
        segments += 1
        if marker in _SOF and size is None and len(data) >= start + 7:
            height, width = struct.unpack(">HH", data[start + 3 : start + 7])
            size = (width, height)
        if marker == 0xDA:
            scans += 1
            pixels = size[0] * size[1] if size else 0
            if scans == 1 and (most := 1 + data.count(b"\xff\xda", start)) <= MAX_SCANS and most * pixels <= _SHORT_SCANNED_PIXELS:
                return Cost(size, True)  # more than there are, as metadata behind may look like scans: no need to walk
            _check_scans(scans, pixels)
        if segments - scans > MAX_SEGMENTS:
            raise Reject(RejectCode.TOO_COSTLY, f"a JPEG of more than {MAX_SEGMENTS:,} segments")
        end = start + (0 if marker == 0x01 else int.from_bytes(data[start : start + 2]))
    return Cost(size, size is not None and scans * size[0] * size[1] <= _SHORT_SCANNED_PIXELS)


def _check_scans(scans: int, pixels: int) -> None:
    if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
        found = f"a JPEG of {pixels:,} pixels with {scans} scans or more"
        raise Reject(RejectCode.TOO_COSTLY, f"{found}; at most {MAX_SCANS} scans, and {MAX_SCANNED_PIXELS:,} pixels in all of them, are decoded")


def _is_animated(webp: bytes) -> bool:
    """Source: RFC 9649, 2.7: a flag of the extended header."""
    return webp[12:16] == b"VP8X" and len(webp) > 20 and bool(webp[20] & 2)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", body[6:10])
    return width & 0x3FFF, height & 0x3FFF
