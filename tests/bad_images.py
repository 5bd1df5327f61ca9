"""Images that are damaged, hostile or odd, the same at every run."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from bad_metadata import ANY, BAD, NO_IMAGE, NOT_READ, OK, BadImage, bad_segments, bad_tiffs, exif_of, picture, saved, tiff, with_segment
from made import photo
from PIL import Image, ImageCms

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAGIC = {
    "JPEG": b"\xff\xd8\xff\xe0",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "WEBP": b"RIFF\xff\xff\xff\x7fWEBPVP8 ",
    "GIF": b"GIF89a",
    "BMP": b"BM" + b"\xff" * 12 + b"\x28\0\0\0",
    "TIFF": b"II*\0\x08\0\0\0",
    "TIFF, big-endian": b"MM\0*\0\0\0\x08",
    "BigTIFF": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",
}
UNREAD = {"JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n", "PSD": b"8BPS\0\1", "PDF": b"%PDF-1.7\n"}


def all_images() -> list[BadImage]:
    makers = (_cut, _flipped, _headed, _bombs, _pngs, _odd_ones, _polyglots, bad_segments, bad_tiffs)
    return [image for make in makers for image in make()]


def _cut() -> Iterator[BadImage]:
    for name in FORMATS:
        data = saved(picture(), name)
        for part in (0, 1, 3, 8, 17, 25, 60, len(data) // 4, len(data) // 2, len(data) * 9 // 10, len(data) - 3, len(data) - 1):
            yield BadImage(f"{name} cut at {part}", data[:part], NO_IMAGE if part < 4 else ANY)


def _flipped() -> Iterator[BadImage]:
    for name in FORMATS:
        data = saved(picture(), name, **({"exif": exif_of(6)} if name != "BMP" and name != "GIF" else {}))
        for seed in range(14):
            rng = np.random.default_rng([seed, len(name)])
            damaged = bytearray(data)
            # Half of them in the head, where the sizes and offsets are.
            places = rng.integers(4, min(len(data), 200) if seed % 2 else len(data), 1 + seed)
            for place in places:
                damaged[place] ^= 1 << int(rng.integers(8))
            yield BadImage(f"{name} with {1 + seed} bits flipped", bytes(damaged))


def _headed() -> Iterator[BadImage]:
    rng = np.random.default_rng(5)
    for name, head in MAGIC.items():
        for size in (0, 7, 100, 5_000):
            yield BadImage(f"{name} head and {size} random bytes", head + rng.bytes(size))
        yield BadImage(f"{name} head and zeros", head + bytes(1_000))
    for name, head in UNREAD.items():
        yield BadImage(f"{name} head", head + rng.bytes(500), NOT_READ)
    for size in (1, 12, 1_000, 100_000):
        yield BadImage(f"{size} random bytes", b"\0" + rng.bytes(size - 1), NO_IMAGE)
    yield BadImage("zeros", bytes(100_000), NO_IMAGE)
    yield BadImage("text", "Ünïcode — text\r\n".encode() * 100, NO_IMAGE)
    yield BadImage("path", b"....//....//etc/passwd", NO_IMAGE)


def _bombs() -> Iterator[BadImage]:
    for width, height in ((100_000, 100_000), (2**31 - 1, 2**31 - 1), (2**32 - 1, 2**32 - 1), (20_000, 20_000), (100_000_001, 1), (0, 0), (0, 9), (1, 65_501)):
        small = zlib.compress(bytes(1_000))
        yield BadImage(f"PNG of {width}x{height}", _png(width, height, small), NO_IMAGE)
    # 400 megapixels of one bit: 50 MB in 49 KB, all there.
    packed = zlib.compressobj(9)
    rows = b"".join(packed.compress(bytes(2_501 * 100)) for _ in range(200)) + packed.flush()
    yield BadImage("PNG of 20000x20000, whole", _png(20_000, 20_000, rows), NO_IMAGE)
    gif = bytearray(saved(picture(), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield BadImage("GIF of 65535x65535", bytes(gif), NO_IMAGE)
    for size in ((2**31 - 1, 2**31 - 1), (50_000, 50_000), (-(2**31), 1), (1, -(2**31)), (0, 0)):
        bmp = bytearray(saved(picture(), "BMP"))
        bmp[18:26] = struct.pack("<ii", *size)
        yield BadImage(f"BMP of {size[0]}x{size[1]}", bytes(bmp), BAD)
    for size in ((60_000, 60_000), (2**32 - 1, 2**32 - 1), (0, 0)):
        yield BadImage(f"TIFF of {size[0]}x{size[1]}", tiff(*size), BAD)
    vp8x = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff\xff\xff" * 2
    yield BadImage("WebP of 16777216x16777216", b"RIFF" + struct.pack("<I", len(vp8x) + 4) + b"WEBP" + vp8x, BAD)
    jpeg = bytearray(photo(2, 900))
    start = jpeg.index(b"\xff\xc0") + 5
    for height, width in ((65_535, 65_535), (0, 48), (48, 0), (60_000, 1)):
        jpeg[start : start + 4] = struct.pack(">HH", height, width)
        yield BadImage(f"JPEG of {width}x{height}", bytes(jpeg))


def _pngs() -> Iterator[BadImage]:
    whole = saved(picture(), "PNG")
    broken = bytearray(whole)
    broken[29] ^= 1
    yield BadImage("PNG, wrong CRC of the header", bytes(broken), NO_IMAGE)
    broken = bytearray(whole)
    broken[whole.index(b"IDAT") + 100] ^= 0xFF
    yield BadImage("PNG, wrong CRC of pixels", bytes(broken), NO_IMAGE)
    idat = zlib.compress(b"".join(b"\0" + bytes(48) for _ in range(48)))
    text = zlib.compress(bytes(70_000_000), 9)
    for kind, chunk in {
        "zTXt of 70 MB": (b"zTXt", b"Comment\0\0" + text),
        "iTXt of 70 MB": (b"iTXt", b"Comment\0\1\0\0\0" + text),
        "iCCP of 70 MB": (b"iCCP", b"icc\0\0" + text),
        "iCCP of garbage": (b"iCCP", b"icc\0\0garbage"),
        "eXIf of garbage": (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"),
        "tEXt without a key": (b"tEXt", b"\0" * 99),
        "pHYs too short": (b"pHYs", b"\0"),
        "tRNS too long": (b"tRNS", bytes(9_999)),
        "acTL without frames": (b"acTL", struct.pack(">II", 0xFFFFFFFF, 0)),
        "unknown critical chunk": (b"EVIL", b"x" * 1_000),
        "second header": (b"IHDR", struct.pack(">IIBBBBB", 90_000, 90_000, 8, 0, 0, 0, 0)),
    }.items():
        yield BadImage(f"PNG with {kind}", _png(48, 48, idat, chunk))
    for depth, color in ((3, 0), (16, 3), (8, 1), (8, 255), (0, 0)):
        yield BadImage(f"PNG of depth {depth} and colour {color}", _png(48, 48, idat, depth=depth, color=color))
    yield BadImage("PNG without pixels", _png(48, 48, b""), NO_IMAGE)
    yield BadImage("PNG, pixels too few", _png(48, 48, zlib.compress(bytes(10))))
    yield BadImage("PNG, pixels 1,000 times too many", _png(48, 48, zlib.compress(bytes(2_400_000))))
    yield BadImage("PNG, no zlib stream", _png(48, 48, b"\x78\x9c" + b"\xff" * 500), NO_IMAGE)


def _odd_ones() -> Iterator[BadImage]:
    """Unusual, and yet images."""
    base = picture()
    yield BadImage("JPEG, CMYK", saved(base.convert("CMYK"), "JPEG"), OK)
    yield BadImage("JPEG, Adobe marker changed", saved(base.convert("CMYK"), "JPEG").replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2"), ANY)
    yield BadImage("JPEG, grey", saved(base.convert("L"), "JPEG"), OK)
    yield BadImage("JPEG, progressive", saved(base, "JPEG", progressive=True), OK)
    yield BadImage("JPEG, restart markers", saved(base, "JPEG", restart_marker_blocks=1), OK)
    for orientation in (*range(1, 9), 0, 9, 65_535):
        yield BadImage(f"JPEG, orientation {orientation}", saved(base, "JPEG", exif=exif_of(orientation)), OK)
    frames = [base.rotate(90 * turn) for turn in range(3)]
    for name in ("GIF", "WEBP", "PNG", "TIFF"):
        yield BadImage(f"{name}, animated", saved(base, name, save_all=True, append_images=frames), OK)
    yield BadImage("MPO of two", saved(base, "MPO", save_all=True, append_images=frames[:1]), OK)
    mpo = saved(base, "MPO", save_all=True, append_images=frames[:1])
    yield BadImage("MPO within an MPO", mpo + saved(base, "MPO", save_all=True, append_images=frames), OK)
    yield BadImage("MPO, cut", mpo[: len(mpo) // 2 + 40])
    deep = Image.fromarray((np.arange(48 * 48, dtype=np.uint16) * 28).reshape(48, 48))
    for name in ("PNG", "TIFF"):
        yield BadImage(f"{name}, 16 bits", saved(deep, name), OK)
    for mode in ("1", "LA", "P", "RGBA"):
        yield BadImage(f"PNG, {mode}", saved(base.convert(mode), "PNG"), OK)
    yield BadImage("PNG, palette with transparency", saved(base.convert("P"), "PNG", transparency=bytes(range(256))), OK)
    for mode in ("F", "LAB", "CMYK", "YCbCr", "I"):
        yield BadImage(f"TIFF, {mode}", saved(base.convert("L").convert(mode) if mode in "FI" else _as(base, mode), "TIFF"), OK)
    floats = np.full((48, 48), np.nan, np.float32)
    floats[0, :3] = np.inf, -np.inf, 1e38
    yield BadImage("TIFF, not a number", saved(Image.fromarray(floats), "TIFF"), OK)
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield BadImage(f"TIFF, {compression}", saved(base, "TIFF", compression=compression), OK)
    for size in ((1, 1), (1, 3_000), (3_000, 1), (2, 2)):
        yield BadImage(f"PNG of {size[0]}x{size[1]}", saved(base.resize(size), "PNG"), OK)
        yield BadImage(f"JPEG of {size[0]}x{size[1]}", saved(base.resize(size), "JPEG"), OK)
    for color in ("black", "white", "red"):
        yield BadImage(f"all {color}", saved(Image.new("RGB", (64, 64), color), "PNG"), OK)
    yield BadImage("all transparent", saved(Image.new("RGBA", (64, 64)), "PNG"), OK)


def _as(image: Image.Image, mode: str) -> Image.Image:
    if mode != "LAB":
        return image.convert(mode)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    return ImageCms.applyTransform(image, to_lab)


def _polyglots() -> Iterator[BadImage]:
    jpeg, gif = photo(2, 900), saved(picture(), "GIF")
    archive = b"PK\3\4" + bytes(26) + b"a.class" + b"PK\5\6" + bytes(18)
    html = b"<html><script>alert(1)</script></html>"
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    yield BadImage("GIF and JAR", gif + archive, OK)
    yield BadImage("JPEG and HTML behind", jpeg + html, OK)
    yield BadImage("JPEG with HTML as comment", with_segment(jpeg, 0xFE, html), OK)
    yield BadImage("GIF and script", gif.replace(b"GIF89a", b"GIF89a") + b"/*" + html + b"*/", OK)
    yield BadImage("PDF and JPEG", b"%PDF-1.4\n" + jpeg, NOT_READ)
    yield BadImage("HTML before JPEG", html + jpeg, NO_IMAGE)
    yield BadImage("SVG", svg, NOT_READ)
    entity = b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>" + svg
    yield BadImage("SVG with an entity", entity, NOT_READ)
    yield BadImage("ZIP", archive, NO_IMAGE)
    yield BadImage("ELF", b"\x7fELF" + bytes(100), NO_IMAGE)
    yield BadImage("PHP in a GIF", gif[:-1] + b"<?php system($_GET['c']); ?>;", ANY)
    yield BadImage("ImageMagick script", b"push graphic-context\nfill 'url(https://a/b|ls)'\npop graphic-context", NO_IMAGE)
    yield BadImage("Ghostscript", b"%!PS\n(x) (r) file\n", NOT_READ)
    yield BadImage("pickle", b"\x80\4\x95" + b"cos\nsystem\n(S'ls'\ntR.", NO_IMAGE)
    yield BadImage("base64 of a JPEG", b"data:image/jpeg;base64,/9j/4AAQSkZJRg==", NO_IMAGE)
    yield BadImage("two JPEGs", jpeg + jpeg, OK)


def _png(width: int, height: int, idat: bytes, extra: tuple[bytes, bytes] | None = None, depth: int = 8, color: int = 0) -> bytes:
    depth = 1 if width == 20_000 else depth
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [(b"IHDR", header), *([extra] if extra else []), *([(b"IDAT", idat)] if idat else []), (b"IEND", b"")]
    return MAGIC["PNG"] + b"".join(struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks)
