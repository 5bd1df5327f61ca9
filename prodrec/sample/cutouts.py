"""Cut-outs of products from packshots: by their alpha channel, or by the white around them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from prodrec.errors import Reject, RejectCode, SourceError
from prodrec.files import Folder
from prodrec.images.pictures import upright

# Sides of a cut-out, pixels: scenes show it smaller. Source: assumed.
MOST_SIDE_PX = 400
# The background is what is connected to the rim and within this many grey levels of its colour; a rim darker than white is no
# packshot's. Source: assumed, by eye.
_TOLERANCE, _LEAST_WHITE = 12, 225
_LEAST_SHARE, _MOST_SHARE = 0.02, 0.98


class CutOut(NamedTuple):
    """A product without what is around it; `image` is RGBA, cropped to the product. Of what is drawn the title is known."""

    label: str
    image: Image.Image
    title: str = ""


def read_cutouts(uri: str) -> tuple[list[CutOut], list[str]]:
    """Cut-outs of a folder of packshots: LABEL/image, or images named by their label.

    Returns:
        The cut-outs, and one line for each file that gave none.

    Raises:
        SourceError: not one usable packshot.
    """
    folder = Folder(uri)
    cutouts, refused = [], []
    for label, path, data in _files(folder):
        try:
            cutouts.append(CutOut(label, cut_out(data)))
        except Reject as reject:
            refused.append(f"{path}: {reject.detail}")
    if not cutouts:
        raise SourceError(f"{folder.uri} has no usable packshot ({'; '.join(refused[:3]) or 'no images'}); give product photos on white, or with alpha")
    return cutouts, refused


def cut_out(data: bytes) -> Image.Image:
    """The product of a packshot, RGBA.

    Raises:
        Reject: no image, or neither transparent nor on white.
    """
    picture = _opened(data)
    mask = picture.getchannel("A") if _has_alpha(picture) else _off_white(picture.convert("RGB"))
    share = float((np.asarray(mask) > 127).mean())
    if not _LEAST_SHARE <= share <= _MOST_SHARE:
        raise Reject(RejectCode.NOT_A_PACKSHOT, f"{share:.0%} of it is no background; a packshot shows a product on white or on nothing")
    picture.putalpha(mask)
    box = mask.point(lambda value: 255 * (value > 127)).getbbox()
    return picture.crop(box)


def _opened(data: bytes) -> Image.Image:
    picture = upright(data, short_side=MOST_SIDE_PX, keep_alpha=True)
    picture.thumbnail((MOST_SIDE_PX, MOST_SIDE_PX), Image.Resampling.LANCZOS)
    return picture


def _has_alpha(picture: Image.Image) -> bool:
    return bool((np.asarray(picture.getchannel("A")) < 128).any())


def _off_white(picture: Image.Image) -> Image.Image:
    """Mask of what is not connected to the white rim."""
    rim = np.concatenate([np.asarray(picture)[edge].reshape(-1, 3) for edge in (0, -1, np.s_[:, 0], np.s_[:, -1])])
    color = np.median(rim, axis=0)
    if color.min() < _LEAST_WHITE:
        raise Reject(RejectCode.NOT_A_PACKSHOT, f"it has no alpha, and its rim is not white but {tuple(color.astype(int).tolist())}")
    framed = ImageOps.expand(picture, 1, tuple(color.astype(int).tolist()))
    pixels = np.asarray(framed)
    marker = next(color for color in ((255, 0, green) for green in range(256)) if not (pixels == color).all(2).any())
    ImageDraw.floodfill(framed, (0, 0), marker, thresh=3 * _TOLERANCE)
    kept = (np.asarray(framed) != marker).any(2)[1:-1, 1:-1]
    # Opening by one pixel takes off what JPEG leaves along the edge; blurring leaves it soft.
    return Image.fromarray((kept * 255).astype(np.uint8)).filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(0.7))


def _files(folder: Folder) -> Iterator[tuple[str, str, bytes]]:
    if not folder.is_folder():
        raise SourceError(f"{folder.uri} is no folder; give the folder of your packshots")
    inside = len(folder.path.rstrip("/")) + 1
    for path in (info.path for info in folder.walk()):
        top, below, _ = path[inside:].partition("/")
        label = top if below else top.rpartition(".")[0]
        with folder.filesystem.open_input_file(path) as stream:
            yield label, path, stream.read()
