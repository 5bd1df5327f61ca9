"""Pixels of any Pillow mode and colour profile to sRGB, RGB or grey, 8 bits a channel."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from prodrec.images.profiles import lab_to_srgb, to_srgb

# What lies behind transparent pixels: shops show packshots on white.
BACKGROUND = (255, 255, 255)
# That are converted at a time where an image is shrunk. Source: assumed; 4 MB a copy.
_STRIP_PIXELS = 1 << 20


def to_rgb_or_grey(image: Image.Image, factor: int = 1, icc: bytes | None = None, depth: int = 8, keep_alpha: bool = False) -> Image.Image:
    """Converts a loaded image of any mode to `RGB` or `L`, and shrinks it by a whole factor (the mean of each square of pixels).

    Transparency is composited on white. More than 8 bits a channel are scaled, not clipped. CMYK without a profile is converted as
    Pillow does.

    Args:
        icc: the image's colour profile.
        depth: bits of a sample in the file, which a PNG's transparent value is given in.
        keep_alpha: what has transparency becomes `RGBA` instead.
    """
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image = image.convert("RGB")  # written by programs that leave the fourth byte unused; viewers show it opaque
    white = _white(image) if _is_deep(image) else 0.0
    key = image.info.get("transparency")
    if key is not None and not _is_deep(image) and image.mode in {"L", "RGB"} and depth != 8:
        image.info["transparency"] = _key_in_8_bits(key, depth)
    if factor == 1:
        return _converted(image, icc, white, keep_alpha)
    # Conversions of a whole image of 100 megapixels would hold three copies of it.
    strips = [(top // factor, _converted(strip, icc, white, keep_alpha).reduce(factor)) for top, strip in _strips(image, factor)]
    first, (last_top, last) = strips[0][1], strips[-1]
    shrunk = Image.new(first.mode, (first.width, last_top + last.height))
    for top, strip in strips:
        shrunk.paste(strip, (0, top))
    return shrunk


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Strips of whole rows, a multiple of the factor but for the last one, each with the row that it begins at."""
    rows = factor * max(1, _STRIP_PIXELS // (factor * image.width))
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _converted(image: Image.Image, icc: bytes | None, white: float, keep_alpha: bool) -> Image.Image:
    opaque, alpha = _parted(image, white)
    convert = to_srgb(icc, opaque.mode)
    if convert:
        opaque = convert(opaque)
    elif opaque.mode == "LAB":
        opaque = lab_to_srgb(opaque)
    elif opaque.mode not in {"RGB", "L"}:
        opaque = opaque.convert("RGB")
    if alpha is None:
        return opaque
    if keep_alpha:
        return Image.merge("RGBA", (*opaque.convert("RGB").split(), alpha))
    canvas = Image.new(opaque.mode, opaque.size, BACKGROUND if opaque.mode == "RGB" else BACKGROUND[0])
    canvas.paste(opaque, mask=alpha)
    return canvas


def _parted(image: Image.Image, white: float) -> tuple[Image.Image, Image.Image | None]:
    """Colours as a profile is made for them (RGB, L, CMYK, LAB or another), and what is transparent."""
    key = image.info.get("transparency")
    if _is_deep(image):
        alpha = Image.fromarray(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8)) if isinstance(key, int) else None
        return _deep_grey(image, white), alpha
    if image.has_transparency_data:
        mixed = image.convert("LA" if image.mode in {"1", "L", "LA", "La"} else "RGBA")
        return mixed.convert("L" if mixed.mode == "LA" else "RGB"), mixed.getchannel("A")
    if image.mode in {"1", "P"}:
        return image.convert("L" if image.mode == "1" else "RGB"), None
    return image, None


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _key_in_8_bits(key: int | tuple[int, ...], depth: int) -> int | tuple[int, ...]:
    """Pillow scales samples to 8 bits, and leaves the transparent value as it is."""
    if isinstance(key, tuple):
        return tuple(value >> 8 for value in key) if depth == 16 else key
    return key * 255 // (2**depth - 1) if depth < 8 and depth != 1 else key


def _white(image: Image.Image) -> float:
    """What is white in grey of 16 or 32 bits, integer or float: the smallest of 1 (floats), 255, 65,535 that holds every value.

    16-bit images are taken at their full range, so that a dark one stays dark.
    """
    whites = [65535.0] if image.mode.startswith("I;16") else [1.0, 255.0, 65535.0] if image.mode == "F" else [255.0, 65535.0]
    top = max(float(_values(strip).max()) for _, strip in _strips(image))
    return next((white for white in whites if top <= white), top)


def _deep_grey(image: Image.Image, white: float) -> Image.Image:
    return Image.fromarray((np.clip(_values(image) / white, 0.0, 1.0) * 255.0).round().astype(np.uint8))


def _values(image: Image.Image) -> npt.NDArray[np.float32]:
    return np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
