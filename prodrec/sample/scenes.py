"""What is around the sample catalogue's products: poses, backgrounds, and the props that stand about.

Not covered: the products (`artwork`), light and camera (`photos`).
Scenes are RGB uint8 Pillow images, props RGBA. Source of every range and colour: assumed, by eye.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from prodrec.sample.artwork import draw_product, star, write_centred
from prodrec.sample.looks import CAPS, PALETTE, Colour, Grid, Rng, Stream, product_look

SKINS: tuple[Colour, ...] = ((244, 208, 180), (222, 170, 130), (168, 112, 76), (104, 68, 48))
TAGS: tuple[Colour, ...] = ((252, 250, 244), (250, 214, 60), (222, 52, 48))
WOODS: tuple[Colour, ...] = ((196, 154, 108), (150, 106, 70), (222, 198, 164), (120, 116, 112))


@dataclass(frozen=True)
class Pose:
    """Where a product stands in a photo.

    Attributes:
        size: (width, height) of the photo, pixels.
        tall: side of the artwork in the photo, pixels.
        x, floor: middle of the product's foot, pixels.
        tilt: radians, clockwise.
    """

    size: tuple[int, int]
    tall: float
    x: float
    floor: float
    tilt: float

    @property
    def corners(self) -> Grid:
        """Of the artwork's square, clockwise from the top left; shape (4, 2), pixels."""
        square = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]) * self.tall
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        corners: Grid = square @ np.array([(cos, sin), (-sin, cos)]) + np.array((self.x, self.floor - self.tall / 2))
        return corners


@dataclass(frozen=True)
class Props:
    """Things that are on photos without being their subject, RGBA."""

    strangers: list[Image.Image]
    balls: list[Image.Image]
    hands: list[Image.Image]
    tags: list[Image.Image]


def make_props(seed: int) -> Props:
    """The props of a catalogue; the strangers are products of another one."""
    rng = np.random.default_rng([Stream.PROP, seed])
    return Props(
        strangers=[draw_product(product_look(seed + 1, i)).reduce(2) for i in rng.permutation(32)[:12]],
        balls=[_ball(PALETTE[i]) for i in rng.permutation(len(PALETTE))[:6]],
        hands=[_hand(skin) for skin in SKINS],
        tags=[_tag(rng, colour) for colour in TAGS for _ in range(2)],
    )


def scaled(sprite: Image.Image, tall: float) -> Image.Image:
    """`sprite`, `tall` pixels high."""
    return sprite.resize((max(1, round(sprite.width * tall / sprite.height)), max(1, round(tall))), Image.Resampling.BILINEAR)


def as_image(pixels: NDArray[np.floating]) -> Image.Image:
    """Grey (H, W) or RGB (H, W, 3) from floats: rounded towards zero, cut off at 0 and 255."""
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _plain(_: Props, pose: Pose, rng: Rng) -> Image.Image:
    """A studio sweep: nearly white or pastel, a little darker below the product."""
    tone = 255 - rng.uniform(0, 60) * rng.uniform(0.3, 1, 3)
    return _vertical(pose, [tone, tone, tone * rng.uniform(0.82, 0.98)])


def _gradient(_: Props, pose: Pose, rng: Rng) -> Image.Image:
    """Two colours, corner to corner."""
    corners = rng.uniform(90, 230, 3) + rng.uniform(-45, 45, (2, 2, 3))
    return as_image(corners).resize(pose.size, Image.Resampling.BICUBIC)


def _texture(_: Props, pose: Pose, rng: Rng) -> Image.Image:
    """Wood or cloth seen from above."""
    across, along = int(rng.integers(3, 8)), int(rng.integers(30, 90))
    streaks = rng.normal(0, rng.uniform(4, 12), (along, across, 1))
    if rng.random() < 0.5:
        streaks = streaks.transpose(1, 0, 2)
    return as_image(streaks + WOODS[rng.integers(len(WOODS))]).resize(pose.size, Image.Resampling.BICUBIC)


def _shelf(props: Props, pose: Pose, rng: Rng) -> Image.Image:
    """A shelf with other products to both sides."""
    wall = rng.uniform(120, 235, 3)
    scene = _vertical(pose, [wall * 0.8, wall, wall * 0.9])
    step = pose.tall * rng.uniform(0.5, 0.62)
    for place in (-2, -1, 1, 2):
        stranger = props.strangers[rng.integers(len(props.strangers))]
        _stand(scene, stranger, pose.tall * rng.uniform(0.75, 1.05), pose.x + place * step, pose.floor)
    board = WOODS[rng.integers(len(WOODS))]
    draw = ImageDraw.Draw(scene)
    top, thick = pose.floor - 0.02 * pose.tall, 0.07 * pose.tall
    draw.rectangle((0, top, pose.size[0], max(top, pose.size[1])), fill=tuple(channel // 3 for channel in board))
    draw.rectangle((0, top, pose.size[0], top + thick), fill=board)
    return scene


def _clutter(props: Props, pose: Pose, rng: Rng) -> Image.Image:
    """A table with things behind the product, out of focus."""
    wall, table = rng.uniform(90, 240, 3), np.array(WOODS[rng.integers(len(WOODS))])
    scene = _vertical(pose, [wall, wall * 0.9, table, table * 0.85])
    for _ in range(rng.integers(3, 7)):
        pool = props.balls if rng.random() < 0.5 else props.strangers
        thing = pool[rng.integers(len(pool))]
        _stand(scene, thing, pose.tall * rng.uniform(0.3, 0.9), rng.uniform(0, pose.size[0]), pose.floor - rng.uniform(0, 0.15) * pose.tall)
    return scene.filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 4)))


# Each scene and how far products lean in it, radians: things on shelves stand, things seen from above lie as they fell.
SCENES: tuple[tuple[Callable[[Props, Pose, Rng], Image.Image], float], ...] = (
    (_plain, 0.15),
    (_gradient, 0.25),
    (_texture, 0.5),
    (_shelf, 0.05),
    (_clutter, 0.12),
)


def _ball(colour: Colour) -> Image.Image:
    """A shaded fruit or ball, RGBA."""
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    shade = 1.15 - 0.5 * np.hypot(x + 0.3, y + 0.35)
    pixels = np.dstack([shade[..., None] * colour, 255 * np.clip((1 - np.hypot(x, y)) * 40, 0, 1)])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _hand(skin: Colour) -> Image.Image:
    """Four fingers that reach in from the right, RGBA."""
    hand = Image.new("RGBA", (1200, 320))
    draw = ImageDraw.Draw(hand)
    dark, light = (tuple(min(255, int(channel * factor)) for channel in skin) for factor in (0.8, 1.1))
    draw.rounded_rectangle((150, 20, 1300, 300), radius=120, fill=skin)
    for finger, reach in enumerate((60, 10, 0, 50)):
        top = 6 + 76 * finger
        draw.rounded_rectangle((reach, top, 420, top + 74), radius=37, fill=skin, outline=dark, width=4)
        draw.rounded_rectangle((reach + 12, top + 20, reach + 52, top + 54), radius=15, fill=light)
    draw.rounded_rectangle((300, 14, 1300, 306), radius=60, fill=skin)
    return hand.reduce(2)


def _tag(rng: Rng, colour: Colour) -> Image.Image:
    """A price tag or an offer star, RGBA."""
    tag = Image.new("RGBA", (256, 256))
    draw = ImageDraw.Draw(tag)
    ink = CAPS[0] if colour == TAGS[2] else CAPS[1]
    if rng.random() < 0.5:
        draw.polygon(star((128, 128), 126, (14, 0.86)), fill=colour)
        write_centred(draw, (128, 128), f"-{rng.integers(1, 8) * 10}%", 150, ink)
    else:
        draw.rounded_rectangle((2, 54, 254, 202), radius=18, fill=colour, outline=(90, 90, 90), width=3)
        write_centred(draw, (128, 128), f"{rng.integers(1, 9)}.{rng.integers(10, 99)}", 190, ink)
    return tag


def _stand(scene: Image.Image, thing: Image.Image, tall: float, x: float, floor: float) -> None:
    thing = scaled(thing, tall)
    scene.paste(thing, (int(x - thing.width / 2), int(floor - thing.height)), thing)


def _vertical(pose: Pose, rows: list[Grid]) -> Image.Image:
    """A background of horizontal zones that melt into one another."""
    return as_image(np.array(rows)[:, None]).resize(pose.size, Image.Resampling.BILINEAR)
