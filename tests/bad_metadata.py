"""Images whose metadata, segments and directories are damaged or hostile, the same at every run."""

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

from made import photo
from PIL import ExifTags, Image

# What may be said of bytes that come as an image.
ANY = frozenset({200, 413, 415, 422})
BAD = frozenset({413, 415, 422})
OK = frozenset({200})
NO_IMAGE = frozenset({422})
NOT_READ = frozenset({415})


class BadImage(NamedTuple):
    name: str
    data: bytes
    statuses: frozenset[int] = ANY


def bad_segments() -> Iterator[BadImage]:
    jpeg = photo(2, 900)
    many = jpeg
    for _ in range(60):
        many = with_segment(many, 0xFE, b"x" * 65_000)
    yield BadImage("JPEG with 4 MB of comments", many, OK)
    icc = b"ICC_PROFILE\0\1\2" + b"\xff" * 60_000
    yield BadImage("JPEG, half a profile", with_segment(jpeg, 0xE2, icc), OK)
    yield BadImage("JPEG, profile of parts without end", with_segment(jpeg, 0xE2, b"ICC_PROFILE\0\0\0" + b"x" * 100), OK)
    loops = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    huge = b"II*\0\x08\0\0\0" + struct.pack("<H", 0xFFFF) + struct.pack("<HHII", 0x0112, 3, 0xFFFFFFFF, 0xFFFFFFF0) * 3
    texts = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHI4s", 0x0112, 2, 4, b"six\0") + bytes(4)
    zero = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHIII", 0x0112, 5, 1, 26, 0) + struct.pack("<II", 1, 0)
    several = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHIHH", 0x0112, 3, 2, 6, 6) + bytes(4)
    gps = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x8825, 4, 1, 0xFFFFFF00) + bytes(4)
    odd = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHI4s", 0x9286, 250, 4, b"abcd") + bytes(4)
    bad = {"loops": loops, "huge counts": huge, "text as orientation": texts, "division by zero": zero, "two orientations": several, "GPS nowhere": gps}
    for name, exif in {**bad, "a type that is none": odd, "garbage": b"\xff" * 60_000, "nothing": b"", "half a head": b"II*\0"}.items():
        yield BadImage(f"JPEG, EXIF with {name}", with_segment(jpeg, 0xE1, b"Exif\0\0" + exif), OK)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><tiff:Orientation>6</tiff:Orientation>" + b"<a>" * 15_000
    yield BadImage("JPEG, XMP that is no XML", with_segment(with_segment(jpeg, 0xE1, b"Exif\0\0" + exif_of(6).tobytes()[6:]), 0xE1, xmp), OK)
    yield BadImage("JPEG, XMP not UTF-8", with_segment(jpeg, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"\xff\xfe\xfd" * 100), OK)
    yield BadImage("JPEG, MPF that is none", with_segment(jpeg, 0xE2, b"MPF\0II*\0\xff\xff\xff\x7f"), ANY)
    yield BadImage("JPEG, Photoshop segment that is none", with_segment(jpeg, 0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\xff\xff\xff\xff"), ANY)
    yield BadImage("JPEG, Adobe segment too short", with_segment(jpeg, 0xEE, b"Adobe"), ANY)
    yield BadImage("JPEG, segment longer than the file", jpeg[:2] + b"\xff\xe1\xff\xff" + jpeg[2:40])
    yield BadImage("JPEG, segment of length 0", jpeg[:2] + b"\xff\xe1\0\0" + jpeg[2:])
    yield BadImage("JPEG, no tables", jpeg.replace(b"\xff\xdb", b"\xff\xfe").replace(b"\xff\xc4", b"\xff\xfe"), BAD)
    yield BadImage("JPEG, arithmetic coding", jpeg.replace(b"\xff\xc0", b"\xff\xc9"))
    yield BadImage("JPEG, lossless", jpeg.replace(b"\xff\xc0", b"\xff\xc3"), BAD)
    yield BadImage("JPEG, 12 bits", jpeg.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), BAD)
    scans = saved(picture(), "JPEG", progressive=True)
    last = scans.rindex(b"\xff\xda")
    yield BadImage("JPEG of 2,000 scans", scans[:last] + scans[last:-2] * 2_000 + b"\xff\xd9")
    yield BadImage("PNG, huge EXIF", saved(picture(), "PNG", exif=b"Exif\0\0II*\0" + b"\xff" * 1_000_000))
    yield BadImage("WebP, EXIF that is none", saved(picture(), "WEBP", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"))


def bad_tiffs() -> Iterator[BadImage]:
    yield BadImage("TIFF, directories in a circle", tiff(48, 48, following=8))
    for name, tags in {
        "strips nowhere": {273: (4, 1, 0xFFFFFF00)},
        "a strip of 4 GB": {279: (4, 1, 0xFFFFFFFF)},
        "a billion strips": {273: (4, 1_000_000_000, 8), 279: (4, 1_000_000_000, 8)},
        "unknown compression": {259: (3, 1, 9_999)},
        "LZW of garbage": {259: (3, 1, 5)},
        "JPEG of garbage": {259: (3, 1, 7)},
        "ZSTD of garbage": {259: (3, 1, 50_000)},
        "65535 samples": {277: (3, 1, 65_535)},
        "65535 bits": {258: (3, 1, 65_535)},
        "tiles of 0": {322: (3, 1, 0), 323: (3, 1, 0), 324: (4, 1, 8), 325: (4, 1, 8)},
        "tiles of 2 GB": {322: (4, 1, 2**31 - 16), 323: (4, 1, 2**31 - 16), 324: (4, 1, 8), 325: (4, 1, 8)},
        "a text as width": {256: (2, 4, 0x41414141)},
        "orientation 6": {274: (3, 1, 6)},
        "orientation of 4 GB": {274: (3, 0xFFFFFFFF, 8)},
    }.items():
        yield BadImage(f"TIFF, {name}", tiff(48, 48, tags))


def picture(side: int = 48) -> Image.Image:
    return Image.open(io.BytesIO(photo(2, 900, side)))


def saved(image: Image.Image, format_name: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format_name, **options)
    return out.getvalue()


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def tiff(width: int, height: int, tags: dict[int, tuple[int, int, int]] | None = None, following: int = 0) -> bytes:
    known = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1), 278: (4, 1, height)}
    entries = sorted((known | {273: (4, 1, 4_096), 279: (4, 1, min(width * height, 2**32 - 1))} | (tags or {})).items())
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in entries) + struct.pack("<I", following)
    return (b"II*\0\x08\0\0\0" + directory).ljust(4_096, b"\0") + bytes(range(256)) * 9
