"""Pixels of one image file, in this process: opened by its format's decoder and no other, in sRGB, RGB or grey, 8 bits a channel.

Pillow's `Image.open` is left out on purpose: it guards against large images with a process-wide setting and a warning. Here the
caller's limit is held against the size that the header states. Imports neither torch nor pydantic: see `apart`.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from PIL import AvifImagePlugin, BmpImagePlugin, ExifTags, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from prodrec.errors import Reject, RejectCode
from prodrec.images.color_spaces import adobe_rgb, by_code_points
from prodrec.images.colors import to_rgb_or_grey
from prodrec.images.png import read_png
from prodrec.images.profiles import keeps_greys

# Source: libjpeg's JPEG_MAX_DIMENSION.
MAX_JPEG_SIDE_PX = 65_500
# A DCT-scaled decode must leave at least this many times the size asked for, so that the antialiased resize has something
# to work on. Source: measured: 0.14-0.20 grey levels off a full decode on photos of 2,000 and 3,000 px, 1.4 and 2.2 times
# as fast; with 1 it is 1.2 off on photos.
DCT_HEADROOM = 2
# As above for other formats, which are shrunk by the mean of squares first, to save memory. Source: measured: 0.5 grey
# levels off on photos; 2 is 0.7 off.
MEAN_HEADROOM = 4
_END = b"\xff\xd9"
# What stands in for the rest of a JPEG, to see whether any is missing: bytes that are no marker, and that begin with other bits.
_FILLERS = (bytes(range(1, 200)), bytes(range(200, 1, -1)))


class Picture(NamedTuple):
    """A decoded image as it is stored: not yet upright, and shrunk only by what costs nothing.

    Attributes:
        image: RGB or L; RGBA where transparency is asked for and there.
        size: width and height of the original as stored, pixels.
        orientation: of EXIF, 1..8.
    """

    image: Image.Image
    size: tuple[int, int]
    orientation: int


def _heif(file: io.BytesIO) -> ImageFile.ImageFile:
    from pi_heif.as_plugin import HeifImageFile  # only where there is one

    return HeifImageFile(file)


# An MPO (several JPEGs in one file) opens as its first JPEG.
_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "HEIC": _heif,
}


def open_image(data: bytes, format_name: str) -> ImageFile.ImageFile:
    """Reads the header; pixels are decoded on `load()`. Raises whatever the decoder raises on damaged bytes."""
    return _OPENERS[format_name](io.BytesIO(data))


def read(data: bytes, format_name: str, short_side: int, max_pixels: int, keep_alpha: bool = False) -> Picture:
    """Decodes one image.

    Args:
        short_side: pixels that will do: a larger image comes shrunk, but not below twice that.
        keep_alpha: or what is transparent becomes white.

    Raises:
        Reject: `too_many_pixels`, `too_costly`, `unsupported_format`, or `truncated`.
    """
    with damage_as_reject(format_name):
        whole = data if format_name != "JPEG" or has_end(data) else _ended(data)
        return _read(whole, format_name, short_side, max_pixels, keep_alpha)


def has_end(jpeg: bytes) -> bool:
    """Whether an end marker follows the last scan; where other data behind it looks like a scan, it may say no."""
    return jpeg.rfind(_END) > jpeg.rfind(b"\xff\xda")


def is_scaled(size: tuple[int, int], short_side: int) -> bool:
    """Whether libjpeg is asked for a smaller picture: it scales by halves, and nothing is saved until twice the size asked for is there."""
    return min(size) >= 2 * DCT_HEADROOM * short_side


def check_size(size: tuple[int, int], short_side: int, max_pixels: int) -> None:
    """Raises: Reject: `too_many_pixels`."""
    width, height = size
    if width * height > max_pixels:
        raise Reject(RejectCode.TOO_MANY_PIXELS, f"{width:,} x {height:,} pixels; at most {max_pixels:,} are decoded")
    if max(shrunk(size, short_side)) > MAX_JPEG_SIDE_PX:
        raise Reject(RejectCode.TOO_MANY_PIXELS, f"{width:,} x {height:,} pixels; a side over {MAX_JPEG_SIDE_PX:,} does not fit a JPEG")


def shrunk(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Width and height with the short side at most this; never enlarged."""
    scale = min(1.0, short_side / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def orientation_of(header: ImageFile.ImageFile) -> int:
    """EXIF orientation, 1..8. Damaged EXIF says nothing about the pixels: the image is taken as upright."""
    try:
        return int(header.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def profile_of(header: ImageFile.ImageFile, data: bytes) -> bytes | None:
    """The colour profile that a file other than PNG brings or names."""
    if icc := header.info.get("icc_profile"):
        return icc
    if header.format in ("HEIF", "AVIF"):
        return _by_nclx(data)
    # DCF's Adobe RGB option: cameras write no profile, only this tag. Windows and macOS read it; browsers do not.
    exif = header.info.get("exif", b"")
    return adobe_rgb() if b"R03\0" in exif and header.mode == "RGB" and _says_adobe_rgb(header) else None


def _says_adobe_rgb(header: ImageFile.ImageFile) -> bool:
    try:
        return header.getexif().get_ifd(ExifTags.IFD.Interop).get(1) == "R03"
    except Exception:
        return False


def _by_nclx(data: bytes) -> bytes | None:
    """Of the first `colr` box that names its space by numbers: that of the picture itself, as those of alpha planes follow."""
    start = data.find(b"colrnclx", 0, 1 << 20)
    return by_code_points(data[start + 9], data[start + 11]) if 0 <= start < len(data) - 11 else None


def _read(data: bytes, format_name: str, short_side: int, max_pixels: int, keep_alpha: bool) -> Picture:
    png = read_png(data) if format_name == "PNG" else None
    header = open_image(png.data if png else data, format_name)
    if format_name == "TIFF" and _is_preview(header):
        raise Reject(RejectCode.UNSUPPORTED_FORMAT, "a camera's raw photo is not read, and its first picture is only a preview; export it as JPEG or TIFF")
    check_size(header.size, short_side, max_pixels)
    size, is_plain_jpeg = header.size, format_name == "JPEG" and header.mode in {"RGB", "L"}
    icc = png.icc if png else profile_of(header, data)
    is_drafted = is_plain_jpeg and is_scaled(size, short_side) and keeps_greys(icc, header.mode)
    if is_drafted:
        header.draft(header.mode, shrunk(size, DCT_HEADROOM * short_side))
    # Order matters: TIFF turns itself upright while loading, and HEIF says its size only then.
    header.load()
    if not is_drafted:
        size = header.size
    factor = 1 if is_drafted else max(1, min(size) // (MEAN_HEADROOM * short_side))
    image = to_rgb_or_grey(header, factor, icc, png.depth if png else 8, keep_alpha)
    return Picture(image, size, orientation_of(header))


def _is_preview(header: ImageFile.ImageFile) -> bool:
    """Raw photos (DNG, NEF, ARW, CR2) are TIFFs that begin with a small picture. Source: DNG 1.6; TIFF 6.0, NewSubfileType."""
    kind = header.tag_v2.get(254, 0)  # type: ignore[attr-defined]
    return 50706 in header.tag_v2 or (isinstance(kind, int) and kind & 1 == 1) or header.fp.getvalue()[8:11] == b"CR\2"  # type: ignore[attr-defined,union-attr]


def _ended(data: bytes) -> bytes:
    """A JPEG without its end marker, with one: where nothing else is missing, as what follows its bytes changes no pixel.

    Raises:
        Reject: `truncated`: rows are missing.
    """
    body = data.rstrip(b"\0").removesuffix(b"\xff")
    first, other = (open_image(body + filler + _END, "JPEG").convert("RGB") for filler in _FILLERS)
    if first.tobytes() == other.tobytes():
        return body + _END
    top = next(row for row, (one, another) in enumerate(zip(_rows(first), _rows(other), strict=True)) if one != another)
    raise Reject(RejectCode.TRUNCATED, f"JPEG is cut short: of its {first.height:,} rows {first.height - top:,} are missing or not whole")


def _rows(image: Image.Image) -> Iterator[bytes]:
    return (image.crop((0, row, image.width, row + 1)).tobytes() for row in range(image.height))


@contextmanager
def damage_as_reject(format_name: str) -> Iterator[None]:
    """Decoders raise nearly any exception on damaged bytes; each is the image's fault, none may end a batch."""
    try:
        yield
    except Reject:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Reject(RejectCode.TOO_MANY_PIXELS, str(error)) from error
    except Exception as error:
        # No fault of the image: on another day, or another machine, it is decoded. torch has no class of its own for it on a CPU.
        if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
            raise Reject(RejectCode.CRASHED, f"too little memory to decode a {format_name} of this size") from error
        # TorchCodec puts the path of its C++ file in front.
        reason = " ".join(str(error).split()).rpartition(".cpp:")[2] or type(error).__name__
        raise Reject(RejectCode.TRUNCATED, f"{format_name} is cut short or damaged: {reason}") from error
