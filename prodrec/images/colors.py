"""Pixels of any Pillow mode to RGB or grey, 8 bits a channel."""

from collections.abc import Iterator
from functools import cache, partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

# What lies behind transparent pixels: shops show packshots on white.
BACKGROUND = (255, 255, 255)
# That are converted at a time where an image is shrunk. Source: assumed; 4 MB a copy.
_STRIP_PIXELS = 1 << 20


def to_rgb_or_grey(image: Image.Image, factor: int = 1) -> Image.Image:
    """Converts a loaded image of any mode to `RGB` or `L`, and shrinks it by a whole factor (the mean of each square of pixels).

    Transparency is composited on white. More than 8 bits a channel are scaled, not clipped. LAB is converted by colour
    management to sRGB; CMYK without a profile, as Pillow does.
    """
    is_deep = image.mode.startswith("I") or image.mode == "F"
    convert = partial(_deep_grey, white=_white(image)) if is_deep else _converted
    if factor == 1:
        return convert(image)
    # Conversions of a whole image of 100 megapixels would hold three copies of it.
    tops, strips = zip(*((top // factor, convert(strip).reduce(factor)) for top, strip in _strips(image, factor)), strict=True)
    shrunk = Image.new(strips[0].mode, (strips[0].width, tops[-1] + strips[-1].height))
    for top, strip in zip(tops, strips, strict=True):
        shrunk.paste(strip, (0, top))
    return shrunk


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Strips of whole rows, a multiple of the factor but for the last one, each with the row that it begins at."""
    rows = factor * max(1, _STRIP_PIXELS // (factor * image.width))
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _converted(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    if image.mode in {"RGB", "L"}:
        return image
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, _lab_to_srgb()) or image
    return image.convert("L" if image.mode == "1" else "RGB")


def _on_white(rgba: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", rgba.size, BACKGROUND)
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return canvas


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


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
