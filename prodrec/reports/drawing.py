"""Boxes drawn on pictures."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

# Right, wrong, missed; told apart by their pattern as well, for eyes that do not tell red from green.
GOOD, BAD, MISSED = "#18a05e", "#e0352b", "#f0a500"
# Line and letters as shares of the picture's longer side. Source: assumed, by eye.
_LINE_SHARE, _TEXT_SHARE = 0.006, 0.034
_LEAST_TEXT_PX, _DASHES = 9, 12


class Box(NamedTuple):
    """A box to draw: absolute xyxy pixels of the picture, what is written at it ("" for nothing), its colour, dashed or not."""

    corners: Sequence[float]
    text: str
    color: str = GOOD
    dashed: bool = False


def draw_boxes(image: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """A copy of an RGB picture with boxes and their texts on it; the last box lies on top."""
    drawn = image.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    line = max(1, round(_LINE_SHARE * max(image.size)))
    font = ImageFont.load_default(max(_LEAST_TEXT_PX, _TEXT_SHARE * max(image.size)))
    for box in boxes:
        left, top, right, bottom = box.corners
        if box.dashed:
            _dashed(draw, (left, top, right, bottom), box.color, line)
        else:
            draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=box.color, width=line)
        if box.text:
            _write(draw, (left, top), box, font, drawn.size)
    return drawn


def _dashed(draw: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], color: str, line: int) -> None:
    left, top, right, bottom = corners
    for start, end in (((left, top), (right, top)), ((right, top), (right, bottom)), ((right, bottom), (left, bottom)), ((left, bottom), (left, top))):
        for dash in range(0, _DASHES, 2):
            a, b = (tuple(s + (e - s) * (dash + step) / _DASHES for s, e in zip(start, end, strict=True)) for step in (0, 1))
            draw.line((*a, *b), fill=color, width=line)


def _write(draw: ImageDraw.ImageDraw, corner: tuple[float, float], box: Box, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, size: tuple[int, int]) -> None:
    """The text on a patch of the box's colour above its corner, or within where there is no room."""
    left, top, right, bottom = draw.textbbox((0, 0), box.text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = min(max(0, corner[0]), max(0, size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    draw.rectangle((x, y, x + width, y + height), fill=box.color)
    draw.text((x + 2 - left, y + 2 - top), box.text, font=font, fill="white")
