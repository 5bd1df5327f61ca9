"""What the products of the sample catalogue are like: a kind of thing, a colourway, a pattern, a label.

A group is a kind of thing (a silhouette) of one brand; its products share colours and patterns pairwise, so that no single
cue tells them apart. Every choice is drawn from (seed, group) or (seed, product) alone.

Not covered: drawing them (`artwork`). x and y run over 0..1 of the artwork's square, y downwards.
Source of all colours, words and shapes: made up for this catalogue.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Grid = NDArray[np.float64]
Panel = Literal["oval", "card", "band", "patch"]
Rng = np.random.Generator

PRODUCTS_PER_GROUP = 4  # Source: assumed (Products-10K: 9,691 products in 360 groups)
MIN_CONTRAST = 70.0  # grey levels between a colour and what is drawn on it. Source: assumed

PALETTE: tuple[Colour, ...] = (
    (208, 62, 50),
    (238, 138, 52),
    (246, 205, 82),
    (92, 156, 76),
    (36, 136, 138),
    (100, 172, 220),
    (40, 66, 126),
    (120, 68, 134),
    (232, 134, 152),
    (244, 234, 214),
    (108, 70, 52),
    (58, 62, 68),
    (172, 218, 192),
)
CAPS: tuple[Colour, ...] = ((240, 240, 236), (58, 60, 66), (196, 200, 206), (206, 168, 92))
BRANDS = ("Meadow", "North", "Ember", "Tide", "Birch", "Clover", "Harbor", "Maple", "Sunny", "Pebble", "Willow", "Alpine")
VARIANTS = ("classic", "fresh", "mild", "extra", "gold", "pure", "daily", "zero", "deluxe", "soft")
# Marks are stars: (points, inner radius as a share of the outer one).
MARKS = ((5, 0.42), (16, 0.8), (3, 0.5), (4, 0.3), (32, 1.0), (4, 0.71), (6, 0.55), (8, 0.45))
PANELS: tuple[Panel, ...] = ("oval", "card", "band", "patch")


class Stream(IntEnum):
    """First word of every seed: numpy pads seeds with zeros, so (seed, 1) and (seed, 1, 0) would draw the same numbers."""

    GROUP = 1
    PRODUCT = 2
    PHOTO = 3
    PROP = 4
    CATALOGUE = 5
    SCENE = 6
    VIEW = 7


@dataclass(frozen=True)
class Kind:
    """A silhouette.

    Attributes:
        profile: (y, half width) from top to bottom, shares of the artwork's side.
        cap: y range of the closure.
        label: y range of the label.
        surface: `round` turns away at its sides, `flat` shows a darker side face, `soft` is creased.
    """

    profile: tuple[tuple[float, float], ...]
    cap: tuple[float, float]
    label: tuple[float, float]
    surface: Literal["round", "flat", "soft"]

    @property
    def half_width(self) -> float:
        """Of the widest place, share of the artwork's side."""
        return max(half for _, half in self.profile)


KINDS: dict[str, Kind] = {
    "bottle": Kind(((0.02, 0.07), (0.12, 0.07), (0.12, 0.055), (0.2, 0.06), (0.36, 0.16), (0.95, 0.16), (0.98, 0.14)), (0, 0.12), (0.48, 0.82), "round"),
    "can": Kind(((0.12, 0.18), (0.15, 0.2), (0.18, 0.225), (0.9, 0.225), (0.95, 0.2), (0.98, 0.19)), (0, 0.16), (0.32, 0.76), "round"),
    "box": Kind(((0.06, 0.31), (0.98, 0.31)), (0, 0), (0.2, 0.62), "flat"),
    "pouch": Kind(((0.05, 0.29), (0.14, 0.28), (0.2, 0.25), (0.55, 0.3), (0.9, 0.315), (0.98, 0.27)), (0, 0.12), (0.3, 0.7), "soft"),
    "jar": Kind(((0.24, 0.22), (0.38, 0.22), (0.38, 0.2), (0.41, 0.2), (0.48, 0.28), (0.94, 0.28), (0.98, 0.25)), (0, 0.38), (0.53, 0.88), "round"),
    "tube": Kind(((0.04, 0.21), (0.1, 0.21), (0.78, 0.13), (0.8, 0.1), (0.82, 0.085), (0.98, 0.095)), (0.82, 1), (0.2, 0.55), "soft"),
    "carton": Kind(((0.03, 0.2), (0.1, 0.2), (0.1, 0.19), (0.26, 0.24), (0.98, 0.24)), (0, 0.09), (0.4, 0.78), "flat"),
    "pump": Kind(((0.03, 0.12), (0.07, 0.12), (0.07, 0.03), (0.17, 0.03), (0.17, 0.09), (0.26, 0.09), (0.33, 0.2), (1, 0.2)), (0, 0.26), (0.45, 0.8), "round"),
}

# How much of the accent colour (0..1, or a condition) lies at (x, y).
PATTERNS: dict[str, Callable[[Grid, Grid], NDArray[Any]]] = {
    "plain": lambda x, y: np.zeros_like(x),
    "stripes": lambda x, y: x * 13 % 1 < 0.45,
    "hoops": lambda x, y: y * 11 % 1 < 0.4,
    "diagonal": lambda x, y: (x + y) * 9 % 1 < 0.45,
    "checks": lambda x, y: (np.floor(x * 11) + np.floor(y * 11)) % 2,
    "dots": lambda x, y: np.hypot(x * 11 % 1 - 0.5, y * 11 % 1 - 0.5) < 0.3,
    "waves": lambda x, y: (y * 9 + 0.3 * np.sin(x * 25)) % 1 < 0.42,
    "chevron": lambda x, y: (y * 8 + np.abs(x - 0.5) * 8) % 1 < 0.4,
    "fade": lambda x, y: np.clip((y - 0.35) / 0.55, 0, 1),
    "split": lambda x, y: y > 0.75 - 0.6 * (x - 0.5),
    "bands": lambda x, y: np.minimum(np.abs(y - 0.44), np.abs(y - 0.9)) < 0.03,
}


@dataclass(frozen=True)
class Look:
    """Everything that is drawn of one product."""

    kind: str
    body: Colour
    accent: Colour
    cap: Colour
    pattern: str
    panel: Panel
    panel_colour: Colour
    mark: tuple[int, float]
    brand: str
    variant: str


def product_look(seed: int, product: int) -> Look:
    """The look of a product of the catalogue; it depends on nothing else.

    Within a group the four looks differ in body colour or pattern: colours 0 1 0 2, patterns A A B B.
    """
    group, place = divmod(product, PRODUCTS_PER_GROUP)
    brand = np.random.default_rng([Stream.GROUP, seed, group])
    own = np.random.default_rng([Stream.PRODUCT, seed, product])
    bodies = [PALETTE[i] for i in brand.permutation(len(PALETTE))[:3]]
    patterns = [list(PATTERNS)[i] for i in brand.permutation(len(PATTERNS))[:2]]
    cap, panel_colour = CAPS[brand.integers(len(CAPS))], CAPS[brand.integers(2)]
    body = bodies[(0, 1, 0, 2)[place]]
    return Look(
        kind=list(KINDS)[group % len(KINDS)],
        body=body,
        accent=_contrasting(brand, body),
        cap=cap,
        pattern=patterns[place // 2],
        panel=PANELS[own.integers(len(PANELS))],
        panel_colour=panel_colour,
        mark=MARKS[own.integers(len(MARKS))],
        brand=BRANDS[group % len(BRANDS)],
        variant=VARIANTS[own.integers(len(VARIANTS))],
    )


def contrast(one: Colour, other: Colour) -> float:
    """Difference in luma, grey levels 0..255. Source of the weights: ITU-R BT.601."""
    return abs(float(np.dot(np.subtract(one, other), (0.299, 0.587, 0.114))))


def _contrasting(rng: Rng, colour: Colour) -> Colour:
    """A palette colour that stands out from `colour`."""
    return next(PALETTE[i] for i in rng.permutation(len(PALETTE)) if contrast(PALETTE[i], colour) >= MIN_CONTRAST)
