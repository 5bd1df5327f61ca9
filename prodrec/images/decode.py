"""One image file to one prepared image: checked, upright, RGB or grey, shrunk, re-encoded without metadata.

Shapes: C channels (1 or 3), H height, W width. Every call is free of shared state, so threads may call it at once; the
decoders release the GIL. Not covered: colour profiles (pixels are taken as sRGB) and frames after the first.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torchvision
from PIL import ExifTags, Image, ImageFile
from torchvision.transforms.v2 import functional

from prodrec.errors import Reject, RejectCode
from prodrec.images.colors import to_rgb_or_grey
from prodrec.images.formats import ImageLimits, declared_png_size, image_format, open_image
from prodrec.images.phash import difference_hash

# Source: assumed. q90 costs about 2 grey levels (docs/log.md, prepared shards).
JPEG_QUALITY = 90
# Source: libjpeg's JPEG_MAX_DIMENSION.
MAX_JPEG_SIDE_PX = 65_500
# A DCT-scaled decode must leave at least this many times the size asked for, so that the antialiased resize has something
# to work on. Source: measured: 0.14-0.20 grey levels off a full decode on photos of 2,000 and 3,000 px, 1.4 and 2.2 times
# as fast; with 1 it is 1.2 off on photos.
DCT_HEADROOM = 2
# As above for other formats, which are shrunk by the mean of squares first, to save memory. Source: measured: 0.5 grey
# levels off on photos; 2 is 0.7 off.
MEAN_HEADROOM = 4
# A JPEG that is fit to keep is kept as it is up to this size: a second encoding costs quality and saves little.
# Source: measured: q90 4:2:0 of 264 grocery photos at 320 px takes 0.29 bytes a pixel (median), 0.42 (most).
KEPT_BYTES_PER_PIXEL = 0.5
# Tables and headers. Source: baseline tables take 623 bytes (ITU-T T.81 annex K).
KEPT_BYTES_OVERHEAD = 1_000

# Orientation -> swap rows and columns first, then flip which axes of CHW. Source: EXIF 2.32, tag 0x0112.
_UPRIGHT: dict[int, tuple[bool, list[int]]] = {
    2: (False, [2]),
    3: (False, [1, 2]),
    4: (False, [1]),
    5: (True, []),
    6: (True, [2]),
    7: (True, [1, 2]),
    8: (True, [1]),
}


@dataclass(frozen=True)
class PreparedImage:
    """An image as shards hold it.

    Attributes:
        jpeg: baseline JPEG, RGB or grey, upright, without metadata.
        width, height: of `jpeg`, pixels.
        source_width, source_height: of the original once upright, pixels.
        sha256: hex, of the original bytes.
        phash: difference hash of the prepared pixels (before encoding), 0..2**64-1.
    """

    jpeg: bytes
    width: int
    height: int
    source_width: int
    source_height: int
    sha256: str
    phash: int


def prepare_image(data: bytes, short_side: int, limits: ImageLimits = ImageLimits(), quality: int = JPEG_QUALITY) -> PreparedImage:
    """Decodes, checks, shrinks and re-encodes one image file.

    Args:
        data: the file's bytes.
        short_side: pixels; the short side of the result is at most this. Never enlarged, aspect kept.
        limits: what is refused unread or undecoded.
        quality: of the JPEG, 1..100.

    Raises:
        Reject: `not_an_image`, `unsupported_format`, `too_large`, `too_many_pixels`, or `truncated` for a file that begins as
            an image and cannot be decoded to its end.
    """
    if len(data) > limits.max_bytes:
        raise Reject(RejectCode.TOO_LARGE, f"{len(data):,} bytes; at most {limits.max_bytes:,} are read")
    format_name = image_format(data)
    if format_name == "PNG" and all(declared_png_size(data)):
        _check_size(declared_png_size(data), short_side, limits.max_pixels)
    with _damage_as_reject(format_name):
        header = open_image(data, format_name)
        _check_size(header.size, short_side, limits.max_pixels)
        keep = _is_fit_to_keep(header, data, short_side)
        pixels_CHW, (source_width, source_height) = _decode(header, data, short_side)
    jpeg = data if keep else encode_jpeg(pixels_CHW, quality)
    _, height, width = pixels_CHW.shape
    return PreparedImage(jpeg, width, height, source_width, source_height, hashlib.sha256(data).hexdigest(), difference_hash(pixels_CHW))


def decode_rgb(jpeg: bytes) -> torch.Tensor:
    """Decodes a prepared image to uint8 [3, H, W], 0..255.

    Raises:
        Reject: `truncated`: it is no whole JPEG.
    """
    with _damage_as_reject("JPEG"):
        return _decode_jpeg(jpeg, torchvision.io.ImageReadMode.RGB)


def encode_jpeg(pixels_CHW: torch.Tensor, quality: int = JPEG_QUALITY) -> bytes:
    """Encodes uint8 pixels, grey or RGB, as a baseline 4:2:0 JPEG without metadata."""
    return bytes(torch.ops.image.encode_jpeg(pixels_CHW.contiguous(), quality).numpy().tobytes())


def _decode_jpeg(data: bytes, mode: torchvision.io.ImageReadMode) -> torch.Tensor:
    # The operator itself, as torchvision.io.decode_jpeg warns on every call since 0.29 that TorchCodec is to follow it.
    # bytearray: torch refuses to share memory that it must not write to.
    pixels: torch.Tensor = torch.ops.image.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode.value)
    return pixels


def _decode(header: ImageFile.ImageFile, data: bytes, short_side: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """Upright pixels [C, H, W], shrunk, and the (width, height) of the upright original."""
    if header.format == "JPEG" and header.mode in {"RGB", "L"}:
        size, orientation = header.size, _orientation(header)
        pixels_CHW = _decode_plain_jpeg(header, data, short_side)
    else:
        # Order matters: TIFF turns itself upright while loading.
        header.load()
        size, orientation = header.size, _orientation(header)
        pixels_CHW = _to_tensor(to_rgb_or_grey(header, max(1, min(size) // (MEAN_HEADROOM * short_side))))
    width, height = _shrunk(size, short_side)
    if pixels_CHW.shape[1:] != (height, width):
        pixels_CHW = functional.resize(pixels_CHW, [height, width], interpolation=functional.InterpolationMode.BICUBIC, antialias=True)
    transpose, flips = _UPRIGHT.get(orientation, (False, []))
    if transpose:
        return pixels_CHW.transpose(1, 2).flip(flips), (size[1], size[0])
    return pixels_CHW.flip(flips) if flips else pixels_CHW, size


def _decode_plain_jpeg(header: ImageFile.ImageFile, data: bytes, short_side: int) -> torch.Tensor:
    asked = DCT_HEADROOM * short_side
    # libjpeg scales by halves: nothing is saved until twice the size asked for is there.
    if min(header.size) < 2 * asked:
        return _decode_jpeg(data, torchvision.io.ImageReadMode.UNCHANGED)
    width, height = _shrunk(header.size, asked)
    header.draft(header.mode, (width, height))
    return _to_tensor(header)


def _to_tensor(image: Image.Image) -> torch.Tensor:
    pixels_HWC = torch.from_numpy(np.array(image))
    return pixels_HWC.permute(2, 0, 1) if pixels_HWC.ndim == 3 else pixels_HWC[None]


def _shrunk(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    scale = min(1.0, short_side / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _orientation(header: ImageFile.ImageFile) -> int:
    """EXIF orientation, 1..8. Damaged EXIF says nothing about the pixels: the image is taken as upright."""
    try:
        return int(header.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def _check_size(size: tuple[int, int], short_side: int, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise Reject(RejectCode.TOO_MANY_PIXELS, f"{width:,} x {height:,} pixels; at most {max_pixels:,} are decoded")
    if max(_shrunk(size, short_side)) > MAX_JPEG_SIDE_PX:
        raise Reject(RejectCode.TOO_MANY_PIXELS, f"{width:,} x {height:,} pixels; a side over {MAX_JPEG_SIDE_PX:,} does not fit a JPEG")


def _is_fit_to_keep(header: ImageFile.ImageFile, data: bytes, short_side: int) -> bool:
    """A baseline JPEG, RGB or grey, small enough, with no segment that could hold metadata (JFIF alone) and nothing after its end."""
    width, height = header.size
    return (
        header.format == "JPEG"
        and header.mode in {"RGB", "L"}
        and min(header.size) <= short_side
        and len(data) <= KEPT_BYTES_OVERHEAD + KEPT_BYTES_PER_PIXEL * width * height
        and "progressive" not in header.info
        and {name for name, _ in getattr(header, "applist", [])} <= {"APP0"}
        and data.endswith(b"\xff\xd9")
    )


@contextmanager
def _damage_as_reject(format_name: str) -> Iterator[None]:
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
        # torchvision puts the path of its C++ file in front.
        reason = " ".join(str(error).split()).rpartition(".cpp:")[2] or type(error).__name__
        raise Reject(RejectCode.TRUNCATED, f"{format_name} is cut short or damaged: {reason}") from error
