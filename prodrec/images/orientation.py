"""Boxes of photos that their EXIF orientation turns: drawn on the pixels as they are stored, or on the upright picture.

Annotation tools differ: of two that open the same photo one shows it turned, one does not, and few files tell which it was.
"""

from typing import Any, Literal, NamedTuple, get_args

from prodrec.errors import Reject
from prodrec.images.formats import image_format
from prodrec.images.reading import open_image, orientation_of

BoxesOn = Literal["auto", "stored", "upright"]
BOXES_ON: tuple[str, ...] = get_args(BoxesOn)
# Tools round corners, and count from 0 or 1. Source: assumed.
_ROUNDING_PX = 2
_SWAPS_SIDES = {5, 6, 7, 8}
_WITH_EXIF = {"JPEG", "PNG", "WebP", "TIFF", "AVIF"}
# Orientation -> of an upright picture's corner x and y, in fractions of the stored one's x and y. Source: EXIF 2.32, tag 0x0112.
_UPRIGHT = {
    2: lambda x, y: (1 - x, y),
    3: lambda x, y: (1 - x, 1 - y),
    4: lambda x, y: (x, 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}


class Placed(NamedTuple):
    """Objects in pixels of the upright picture.

    Attributes:
        annotated: width and height that the annotation tells, of the upright picture.
        on: of a turned photo with boxes the pixels that they were taken for: stored, upright, or `unknown`: upright, though
            nothing tells. None: the photo is not turned.
    """

    objects: list[dict[str, Any]]
    annotated: tuple[int | None, int | None]
    on: str | None


def stored_orientation(data: bytes) -> int:
    """EXIF orientation, 1..8, of the file as it is stored; damaged EXIF says 1, as for the pixels.

    HEIC says 1: its decoder turns it, by what stands in the file beside EXIF, and tools show it upright.
    """
    try:
        format_name = image_format(data)
        return orientation_of(open_image(data, format_name)) if format_name in _WITH_EXIF else 1
    except (Reject, OSError, SyntaxError, ValueError):
        return 1


def place_upright(
    objects: list[dict[str, Any]],
    annotated: tuple[int | None, int | None],
    relative: bool,
    orientation: int,
    upright: tuple[int, int],
    boxes_on: BoxesOn = "auto",
) -> Placed:
    """Boxes as the upright picture has them.

    Args:
        objects: as LISTING_SCHEMA has them.
        annotated: width and height that the annotation tells, None where it does not.
        relative: boxes are fractions of the sides instead of pixels.
        orientation: of the file as it is stored.
        upright: width and height of the upright original.
        boxes_on: what the boxes were drawn on; `auto`: what the annotated size tells, or the room that boxes need; upright where that tells nothing.
    """
    turn = _UPRIGHT.get(orientation)
    stored = upright[::-1] if orientation in _SWAPS_SIDES else upright
    on = None if turn is None else boxes_on if boxes_on != "auto" else _told([] if relative else objects, annotated, stored, upright)
    width, height = stored if on == "stored" else upright
    if relative:
        objects = [item | {"box": _scaled(item["box"], width, height)} for item in objects]
    if on == "stored" and turn is not None:
        objects = [item | {"box": _scaled(_turned(_scaled(item["box"], 1 / width, 1 / height), turn), *upright)} for item in objects]
        annotated = annotated[::-1] if orientation in _SWAPS_SIDES else annotated
    return Placed(objects, annotated, on if objects else None)


def _told(objects: list[dict[str, Any]], annotated: tuple[int | None, int | None], stored: tuple[int, int], upright: tuple[int, int]) -> str:
    """Which of the pictures has the annotated size, or, if both or none have, which alone has room for all boxes."""
    sizes = {"stored": stored, "upright": upright}
    of_size = [on for on, size in sizes.items() if all(said in (None, found) for said, found in zip(annotated, size, strict=True))]
    of_room = [on for on, size in sizes.items() if all(_lies_in(item["box"], size) for item in objects)]
    return next((found[0] for found in (of_size, of_room) if len(found) == 1), "unknown")


def _lies_in(box: list[float], size: tuple[int, int]) -> bool:
    return all(side <= most + _ROUNDING_PX for side, most in zip(box[2:], size, strict=True))


def _scaled(box: list[float], width: float, height: float) -> list[float]:
    left, top, right, bottom = box
    return [left * width, top * height, right * width, bottom * height]


def _turned(box: list[float], turn: Any) -> list[float]:
    (x1, y1), (x2, y2) = turn(box[0], box[1]), turn(box[2], box[3])
    return [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
