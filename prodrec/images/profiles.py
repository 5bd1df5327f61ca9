"""Colour profiles: pixels of any profile to sRGB.

LittleCMS lets other threads run while it works, and a transform may be used by several at once. Whether a profile is sRGB is
found out by what it does to colours, as there are hundreds of files and names of it.
"""

import io
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

# Profiles that are kept ready. Source: assumed; a shop's photos have a handful, a transform takes 4 ms to make and up to 1 MB.
_KEPT = 64
# A larger one is made ready anew for each picture: 64 of a stranger's would stay in memory. Source: assumed; those of phones, cameras
# and screens have 0.5 to 10 kB, of printers up to 3 MB.
_KEPT_BYTES = 4_000_000
# A profile that changes no colour by more, of 255, is taken as sRGB. Source: measured: variants of sRGB change colours by 1 at most,
# rounded curves by 2; Display P3 by 60.
_SAME = 2
# A picture's mode -> what it is converted to, and the space that its profile must be of.
_MODES = {"RGB": ("RGB", "RGB"), "RGBA": ("RGBA", "RGB"), "L": ("RGB", "GRAY"), "CMYK": ("RGB", "CMYK"), "LAB": ("RGB", "Lab")}

# Greys that a profile moves by no more in the mean, of 255: averages of pixels are then the same before and after it. Source: measured on photos
# shrunk 2 to 8 times: 0.2-0.3 grey levels apart in Display P3, 0.2-0.4 in Adobe RGB, but 0.5-1.1 in ProPhoto and 0.9-3.2 in linear light.
_SAME_GREYS = 4

Convert = Callable[[Image.Image], Image.Image]


def keeps_greys(icc: bytes | None, mode: str) -> bool:
    """Whether pictures of this mode and profile may be shrunk before they are converted."""
    convert = to_srgb(icc, mode)
    greys = _probe("L").convert(mode)
    return convert is None or float(_changes(convert(greys), greys).mean()) <= _SAME_GREYS


def to_srgb(icc: bytes | None, mode: str) -> Convert | None:
    """What converts pictures of this mode and profile to sRGB (RGB, RGBA or L); None where nothing is to be done.

    A profile that is damaged, or made for another kind of picture, is passed over, as browsers do.
    """
    if not icc or mode not in _MODES:
        return None
    return (_convert if len(icc) <= _KEPT_BYTES else _convert.__wrapped__)(icc, mode)


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """Of a LAB picture, which needs no profile."""
    return ImageCms.applyTransform(image, _lab_transform()) or image


@lru_cache(maxsize=_KEPT)
def _convert(icc: bytes, mode: str) -> Convert | None:
    shown, space = _MODES[mode]
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if source.profile.xcolor_space.strip() != space:
            return None
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, shown, intent, ImageCms.Flags.BLACKPOINTCOMPENSATION)
        probe = _probe(mode)
        changed = ImageCms.applyTransform(probe, transform) or probe
    except Exception:  # LittleCMS and Pillow raise nearly anything on a damaged profile
        return None
    if mode == "L":
        changed = changed.convert("L")
    if changed.mode == mode and int(_changes(changed, probe).max()) <= _SAME:
        return None
    if mode == "L":
        return partial(Image.Image.point, lut=list(changed.tobytes()))
    return lambda image: ImageCms.applyTransform(image, transform) or image


def _changes(image: Image.Image, other: Image.Image) -> npt.NDArray[np.int64]:
    return np.abs(np.asarray(image).astype(np.int64) - np.asarray(other).astype(np.int64))


def _probe(mode: str) -> Image.Image:
    """Every grey, or colours all over the cube."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    return Image.fromarray(cube).convert(mode) if mode != "LAB" else Image.new("LAB", (1, 1))


@lru_cache(maxsize=1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
