"""Pixels of any Pillow mode to RGB or grey, 8 bits a channel."""

from functools import cache

import numpy as np
from PIL import Image, ImageCms

# What lies behind transparent pixels: shops show packshots on white.
BACKGROUND = (255, 255, 255)


def to_rgb_or_grey(image: Image.Image) -> Image.Image:
    """Converts a loaded image of any mode to `RGB` or `L`.

    Transparency is composited on white. More than 8 bits a channel are scaled, not clipped. LAB is converted by colour
    management to sRGB; CMYK without a profile, as Pillow does.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image)
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


def _deep_grey(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, integer or float, to 8 bits. White is the smallest of 1 (floats), 255, 65,535 that holds every value.

    16-bit images are taken at their full range, so that a dark one stays dark.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(values.max(initial=0.0))
    whites = [65535.0] if image.mode.startswith("I;16") else [1.0, 255.0, 65535.0] if image.mode == "F" else [255.0, 65535.0]
    white = next((w for w in whites if top <= w), top)
    return Image.fromarray((np.clip(values / white, 0.0, 1.0) * 255.0).round().astype(np.uint8))


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
