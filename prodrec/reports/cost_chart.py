"""Accuracy against cost as inline SVG, every point with its name."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from prodrec.reports.charts import ACCENT, INK, PERCENT, QUIET, STYLE, figure_and_axes, svg

_FONT_PT = 10.0
# Width of a letter as a share of its height. Source: assumed; the page's font is not known here.
_LETTER = 0.6


class CostPoint(NamedTuple):
    """One run: accuracy with its interval (fractions) against a cost above 0."""

    name: str
    cost: float
    accuracy: float
    low: float
    high: float
    recommended: bool


def cost_chart(points: Sequence[CostPoint], xlabel: str, ylabel: str) -> str:
    """A scatter with a logarithmic cost axis; the lines are 95 % intervals."""
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes()
        for point in points:
            color = ACCENT if point.recommended else QUIET
            axes.plot([point.cost] * 2, [point.low, point.high], color=color, linewidth=1.2)
            axes.plot(point.cost, point.accuracy, "o", color=color, markersize=8 if point.recommended else 6)
        axes.set(xscale="log", xlabel=xlabel, ylabel=ylabel, **_limits(points))
        axes.yaxis.set_major_formatter(PERCENT)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        figure.draw_without_rendering()
        _name(axes, points)
        return svg(figure, f"{ylabel} by {xlabel}")


def _limits(points: Sequence[CostPoint]) -> dict[str, tuple[float, float]]:
    """Room at the sides for names; never so narrow that nothing is written on the axis."""
    low, high = min(point.cost for point in points), max(point.cost for point in points)
    bottom, top = min(point.low for point in points), max(point.high for point in points)
    margin = 0.06 * max(0.1, top - bottom)
    return {"xlim": (low / 2, high * 3), "ylim": (max(-0.02, bottom - margin), min(1.02, top + margin))}


def _name(axes: Axes, points: Sequence[CostPoint]) -> None:
    """Writes each name where it covers the least: of some places beside its point the first of those that are freest, in points (1/72 inch)."""
    scale = 72 / axes.figure.dpi
    places = {point.name: tuple(scale * axes.transData.transform((point.cost, point.accuracy))) for point in points}
    left, right = (scale * axes.bbox.x0, scale * axes.bbox.x1)
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in places.values()]
    for point in sorted(points, key=lambda point: (not point.recommended, -point.accuracy)):
        x, y = places[point.name]
        width = _LETTER * _FONT_PT * len(point.name)
        boxes = [(x + dx, y + dy, x + dx + width, y + dy + _FONT_PT) for dy in (-5, 4, -14, 13, -23) for dx in (7, -7 - width)]
        boxes += [(x - width / 2, y + dy, x + width / 2, y + dy + _FONT_PT) for dy in (9, -19)]
        inside = [box for box in boxes if box[0] >= left and box[2] <= right] or boxes
        box = min(inside, key=lambda box: sum(_overlap(box, other) for other in taken))
        taken.append(box)
        offset = (box[0] - x, box[1] - y)
        color = ACCENT if point.recommended else INK
        axes.annotate(point.name, (point.cost, point.accuracy), offset, textcoords="offset points", fontsize=_FONT_PT, color=color)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
