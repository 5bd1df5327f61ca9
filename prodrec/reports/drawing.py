"""Boxes drawn on pictures."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont

# Right, wrong, missed; told apart by their pattern as well, for eyes that do not tell red from green.
GOOD, BAD, MISSED = "#18a05e", "#e0352b", "#f0a500"
# Line and letters as shares of the picture's longer side. Source: assumed, by eye.
_LINE_SHARE, _TEXT_SHARE = 0.006, 0.034
_LEAST_TEXT_PX, _DASHES = 9, 12
# Of a title at a box. Source: assumed; more would hide the next box.
_MOST_LETTERS = 28


class Box(NamedTuple):
    """A box to draw: absolute xyxy pixels of the picture, what is written at it ("" for nothing), its colour, dashed or not."""

    corners: Sequence[float]
    text: str
    color: str = GOOD
    dashed: bool = False


def drawn_name(label: str, title: str | None) -> str:
    """What is written at a box: the title, cut short, where the font has all of its letters, else the label."""
    if not title or not all(map(_has_letter, title)):
        return label
    return title if len(title) <= _MOST_LETTERS else f"{title[: _MOST_LETTERS - 1]}…"


def draw_boxes(image: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """A copy of an RGB picture with boxes and their texts on it; the last box lies on top."""
    drawn = image.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    line = max(1, round(_LINE_SHARE * max(image.size)))
    font = _font(max(_LEAST_TEXT_PX, round(_TEXT_SHARE * max(image.size))))
    for box in boxes:
        left, top, right, bottom = box.corners
        if box.dashed:
            _dashed(draw, (left, top, right, bottom), box.color, line)
        else:
            draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=box.color, width=line)
        if box.text:
            _write(draw, (left, top), box, font, drawn.size)
    return drawn


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic, Arabic; Pillow's own has but ASCII."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size_px)


@cache
def _has_letter(letter: str) -> bool:
    """A letter that the font has not is drawn as U+FFFF, which no font has."""
    return letter.isspace() or bytes(_font(_LEAST_TEXT_PX).getmask(letter)) != bytes(_font(_LEAST_TEXT_PX).getmask("\uffff"))


def _dashed(draw: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], color: str, line: int) -> None:
    left, top, right, bottom = corners
    for start, end in (((left, top), (right, top)), ((right, top), (right, bottom)), ((right, bottom), (left, bottom)), ((left, bottom), (left, top))):
        for dash in range(0, _DASHES, 2):
            a, b = (tuple(s + (e - s) * (dash + step) / _DASHES for s, e in zip(start, end, strict=True)) for step in (0, 1))
            draw.line((*a, *b), fill=color, width=line)


def _write(draw: ImageDraw.ImageDraw, corner: tuple[float, float], box: Box, font: ImageFont.FreeTypeFont, size: tuple[int, int]) -> None:
    """The text on a patch of the box's colour above its corner, or within where there is no room."""
    left, top, right, bottom = draw.textbbox((0, 0), box.text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = min(max(0, corner[0]), max(0, size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    draw.rectangle((x, y, x + width, y + height), fill=box.color)
    draw.text((x + 2 - left, y + 2 - top), box.text, font=font, fill="white")
