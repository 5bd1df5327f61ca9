"""A PNG's chunks: counted, and only those that make pixels are left for the decoder.

So texts that inflate to gigabytes, damaged profiles and frames of an animation cost nothing. An animated PNG is taken as the
picture that viewers without animation show.
"""

import struct
import zlib
from typing import NamedTuple

from prodrec.errors import Reject, RejectCode
from prodrec.images.color_spaces import by_code_points, by_gamma

# Source: assumed; 2,500 bytes each in the largest file that is read, encoders write 8,192 or more.
MAX_CHUNKS = 20_000
# Of an inflated profile. Source: assumed; the largest of printers have 3 MB.
_MAX_PROFILE = 8_000_000
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"}
_COLORS = {b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"}


class Png(NamedTuple):
    """What is decoded, the profile of its colours, and the bits of a sample."""

    data: bytes
    icc: bytes | None
    depth: int


def png_chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Name, begin and end of each chunk.

    Raises:
        Reject: `too_costly`: there are too many.
    """
    chunks, start = [], 8
    while start + 8 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4])
        chunks.append((data[start + 4 : start + 8], start, end))
        if len(chunks) > MAX_CHUNKS:
            raise Reject(RejectCode.TOO_COSTLY, f"a PNG of more than {MAX_CHUNKS:,} chunks")
        start = end
        if chunks[-1][0] == b"IEND":
            break
    return chunks


def read_png(data: bytes) -> Png:
    """Raises: Reject: `too_costly`: too many chunks."""
    chunks = png_chunks(data)
    # One header: of two the first would be held against the limits, and the last decoded.
    kept = data[:8] + b"".join(data[at:end] for name, at, end in chunks if (name in _PIXELS and (name != b"IHDR" or at == 8)) or end > len(data))
    said = {name: data[start + 8 : end - 4] for name, start, end in chunks if name in _COLORS}
    return Png(kept, _profile(said), data[24] if len(data) > 24 else 8)


def _profile(said: dict[bytes, bytes]) -> bytes | None:
    """By the chunk that counts most. Source: PNG, third edition, 4.3."""
    try:
        if b"cICP" in said:
            return by_code_points(*struct.unpack("BB", said[b"cICP"][:2]))
        if b"iCCP" in said:
            return zlib.decompressobj().decompress(said[b"iCCP"].partition(b"\0")[2][1:], _MAX_PROFILE)
        if b"sRGB" in said or not said:
            return None
        gamma = struct.unpack(">I", said[b"gAMA"])[0] / 100_000 if b"gAMA" in said else None
        numbers = [value / 100_000 for value in struct.unpack(">8I", said[b"cHRM"])] if b"cHRM" in said else []
        white, red, green, blue = [*zip(numbers[::2], numbers[1::2], strict=True)] or [(0.0, 0.0)] * 4
        return by_gamma(gamma, (red, green, blue, white) if numbers else None)
    except (struct.error, zlib.error):
        return None
