"""How formats write boxes, as absolute or relative xyxy."""

import math
from collections.abc import Sequence

Box = list[float]


def from_corner(x: float, y: float, width: float, height: float) -> Box:
    """Left, top, width, height (COCO)."""
    return [x, y, x + width, y + height]


def from_centre(x: float, y: float, width: float, height: float) -> Box:
    """Centre, width, height (YOLO)."""
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def around(points: Sequence[tuple[float, float]]) -> Box:
    """The box around a polygon."""
    xs, ys = zip(*points, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def turned(box: Box, degrees: float, about: tuple[float, float] | None = None) -> Box:
    """The box around a box that is turned clockwise about a point, its centre unless told; in units of equal length on both axes."""
    left, top, right, bottom = box
    x0, y0 = about or ((left + right) / 2, (top + bottom) / 2)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x - x0, y - y0) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]
    return around([(x0 + x * cos - y * sin, y0 + x * sin + y * cos) for x, y in corners])
