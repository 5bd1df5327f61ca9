"""One image file to one prepared image: checked, upright, sRGB, RGB or grey, shrunk, re-encoded without metadata.

Shapes: C channels (1 or 3), H height, W width. Every call is free of shared state, so threads may call it at once; the
decoders release the GIL. Not covered: frames after the first, and what a gain map adds for bright screens.
"""

import hashlib
import io
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import ImageFile
from torchcodec import decoders, encoders
from torchvision.transforms.v2 import functional

from prodrec.images.formats import ImageLimits
from prodrec.images.phash import difference_hash
from prodrec.images.pictures import checked, read_picture
from prodrec.images.profiles import to_srgb
from prodrec.images.reading import damage_as_reject, has_end, is_scaled, open_image, shrunk

# Source: assumed. q90 costs about 2 grey levels (docs/log.md, prepared shards).
JPEG_QUALITY = 90
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
        Reject: `not_an_image`, `unsupported_format`, `too_large`, `too_many_pixels`, `too_costly`, `too_slow`, `crashed`, or
            `truncated` for a file that begins as an image and cannot be decoded to its end.
    """
    pixels_CHW, size, orientation, kept = _plain_jpeg(data, short_side, limits) or _picture(data, short_side, limits)
    with damage_as_reject("image"):
        pixels_CHW = _upright(_resized(pixels_CHW, shrunk(size, short_side)), orientation)
    jpeg = kept or encode_jpeg(pixels_CHW, quality)
    _, height, width = pixels_CHW.shape
    source_width, source_height = size[::-1] if orientation >= 5 else size
    return PreparedImage(jpeg, width, height, source_width, source_height, hashlib.sha256(data).hexdigest(), difference_hash(pixels_CHW))


def decode_rgb(jpeg: bytes) -> torch.Tensor:
    """Decodes a prepared image to uint8 [3, H, W], 0..255.

    Raises:
        Reject: `truncated`: it is no whole JPEG.
    """
    with damage_as_reject("JPEG"):
        return _torch_pixels(jpeg, "RGB")


def encode_jpeg(pixels_CHW: torch.Tensor, quality: int = JPEG_QUALITY) -> bytes:
    """Encodes uint8 pixels, grey or RGB, as a baseline 4:2:0 JPEG without metadata."""
    out = io.BytesIO()
    encoders.JpegEncoder(pixels_CHW.contiguous()).to_file_like(out, quality=quality)
    return out.getvalue()


class _Decoded(NamedTuple):
    """Pixels as they are stored, width and height of the original, its orientation, and the file itself where it is fit to keep."""

    pixels_CHW: torch.Tensor
    size: tuple[int, int]
    orientation: int
    kept: bytes | None


def _plain_jpeg(data: bytes, short_side: int, limits: ImageLimits) -> _Decoded | None:
    """Most images: a whole JPEG in sRGB that libjpeg need not scale. TorchCodec is faster here than Pillow, its pixels are the same.

    Not with EXIF (APP1): TorchCodec turns pictures by it, unasked and by its own reading of what is damaged.
    """
    format_name, short = checked(data, short_side, limits)
    if format_name != "JPEG" or not short or not has_end(data):
        return None
    with damage_as_reject("JPEG"):
        header = open_image(data, "JPEG")
        segments = {name for name, _ in getattr(header, "applist", [])}
        if header.mode not in {"RGB", "L"} or "APP1" in segments or is_scaled(header.size, short_side) or to_srgb(header.info.get("icc_profile"), header.mode):
            return None
        is_kept = segments <= {"APP0"} and _is_fit_to_keep(header, data, short_side)
        return _Decoded(_torch_pixels(data, "UNCHANGED"), header.size, 1, data if is_kept else None)


def _picture(data: bytes, short_side: int, limits: ImageLimits) -> _Decoded:
    picture = read_picture(data, short_side, limits)
    pixels_HWC = torch.from_numpy(np.array(picture.image))
    pixels_CHW = pixels_HWC.permute(2, 0, 1) if pixels_HWC.ndim == 3 else pixels_HWC[None]
    return _Decoded(pixels_CHW, picture.size, picture.orientation, None)


def _torch_pixels(jpeg: bytes, mode: Literal["RGB", "UNCHANGED"]) -> torch.Tensor:
    # bytearray: torch refuses to share memory that it must not write to.
    pixels: torch.Tensor = decoders.decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8), mode=mode)
    return pixels


def _resized(pixels_CHW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    width, height = size
    if pixels_CHW.shape[1:] == (height, width):
        return pixels_CHW
    return functional.resize(pixels_CHW, [height, width], interpolation=functional.InterpolationMode.BICUBIC, antialias=True)


def _upright(pixels_CHW: torch.Tensor, orientation: int) -> torch.Tensor:
    transpose, flips = _UPRIGHT.get(orientation, (False, []))
    turned = pixels_CHW.transpose(1, 2) if transpose else pixels_CHW
    return turned.flip(flips) if flips else turned


def _is_fit_to_keep(header: ImageFile.ImageFile, data: bytes, short_side: int) -> bool:
    """A baseline JPEG, small enough, with nothing after its end."""
    width, height = header.size
    return (
        min(header.size) <= short_side
        and len(data) <= KEPT_BYTES_OVERHEAD + KEPT_BYTES_PER_PIXEL * width * height
        and "progressive" not in header.info
        and data.endswith(b"\xff\xd9")
    )
