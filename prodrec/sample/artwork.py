"""Drawing of the sample catalogue's products: flat print, silhouette, light on the surface.

Not covered: what they are like (`looks`) and what is around them (`scenes`).
Shapes: H = W = `SIDE_PX`; artwork is an RGBA uint8 Pillow image.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from prodrec.sample.looks import CAPS, KINDS, MIN_CONTRAST, PATTERNS, Colour, Grid, Kind, Look, contrast

SIDE_PX = 512  # side of an artwork; photos show it at 100-480 px. Source: assumed
SUPERSAMPLE = 2  # artwork is drawn this many times larger and scaled down, against jagged edges. Source: assumed
CORNER_PX = 5.0  # blur that rounds the silhouette's corners. Source: assumed
FRONT = 0.72  # where the front of a flat product ends and its side face begins, -1..1 across. Source: assumed


def draw_product(look: Look) -> Image.Image:
    """The front of a product without surroundings: RGBA, `SIDE_PX` square, transparent around it."""
    kind = KINDS[look.kind]
    surface = _printed(look, kind)
    pixels_HW3 = np.asarray(surface.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS), dtype=np.float64)
    across_HW = _across(kind)
    if kind.surface == "round":
        pixels_HW3 = _wrapped(pixels_HW3, kind)
    shaded_HW3 = pixels_HW3 * _shade(kind, across_HW)[..., None]
    artwork = Image.fromarray(shaded_HW3.clip(0, 255).astype(np.uint8))
    artwork.putalpha(_silhouette(kind))
    return artwork


def star(centre: tuple[float, float], radius: float, mark: tuple[int, float]) -> list[tuple[float, float]]:
    """Corners of a star of (points, inner share of the radius), pixels."""
    points, inner = mark
    radii = np.tile([radius, radius * inner], points)
    angles = np.arange(2 * points) * np.pi / points - np.pi / 2
    return list(zip(centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles), strict=True))


def write_centred(draw: ImageDraw.ImageDraw, centre: tuple[float, float], text: str, width_px: float, fill: Colour) -> None:
    """Writes `text` `width_px` wide with the font that comes with Pillow; short texts stop at a third of that in height."""
    size = min(width_px / 3, 100 * width_px / ImageFont.load_default(100).getlength(text))
    draw.text(centre, text, font=ImageFont.load_default(size), fill=fill, anchor="mm")


def _printed(look: Look, kind: Kind) -> Image.Image:
    """The flat print of a product, supersampled: pattern, closure, label."""
    side = SIDE_PX * SUPERSAMPLE
    y, x = np.meshgrid(*[(np.arange(side) + 0.5) / side] * 2, indexing="ij", copy=False)
    accent = Image.fromarray((PATTERNS[look.pattern](x, y) * 255.0).astype(np.uint8))
    print_ = Image.new("RGB", (side, side), look.body)
    print_.paste(look.accent, mask=accent)
    draw = ImageDraw.Draw(print_)
    top, bottom = (edge * side for edge in kind.cap)
    draw.rectangle((0, top, side, bottom), fill=look.cap)
    _draw_label(draw, look, kind, side)
    return print_


def _draw_label(draw: ImageDraw.ImageDraw, look: Look, kind: Kind, side: int) -> None:
    top, bottom = (edge * side for edge in kind.label)
    half, tall, centre = 0.8 * side * kind.half_width, bottom - top, side / 2
    if kind.surface == "flat":
        centre, half = centre - (1 - FRONT) / 2 * side * kind.half_width, half * (1 + FRONT) / 2
    box = (centre - half, top, centre + half, bottom)
    ground = look.body if look.panel == "patch" else look.panel_colour
    if look.panel == "oval":
        draw.ellipse(box, fill=ground)
    elif look.panel == "band":
        draw.rectangle((0, top, side, bottom), fill=ground)
    else:
        draw.rounded_rectangle(box, radius=tall / 8, fill=ground)
    ink = look.accent if contrast(look.accent, ground) >= MIN_CONTRAST else max(CAPS, key=lambda cap: contrast(cap, ground))
    draw.polygon(star((centre, top + 0.32 * tall), 0.2 * tall, look.mark), fill=ink)
    write_centred(draw, (centre, top + 0.64 * tall), look.brand, 1.3 * half, ink)
    write_centred(draw, (centre, top + 0.85 * tall), look.variant, 0.8 * half, ink)


def _silhouette(kind: Kind) -> Image.Image:
    """Mask, L. Blurring and steepening again rounds the corners and leaves a smooth edge."""
    right = [((0.5 + half) * SIDE_PX, y * SIDE_PX) for y, half in kind.profile]
    left = [((0.5 - half) * SIDE_PX, y * SIDE_PX) for y, half in reversed(kind.profile)]
    mask = Image.new("L", (SIDE_PX, SIDE_PX))
    ImageDraw.Draw(mask).polygon(right + left, fill=255)
    return mask.filter(ImageFilter.GaussianBlur(CORNER_PX)).point([int(min(255, max(0, (v - 128) * 6 + 128))) for v in range(256)])


def _across(kind: Kind) -> Grid:
    """-1 at the left edge of the product, 1 at the right one; shape (H, W)."""
    heights, halves = zip(*kind.profile, strict=True)
    half_H1 = np.interp((np.arange(SIDE_PX) + 0.5) / SIDE_PX, heights, halves)[:, None]
    x_W = (np.arange(SIDE_PX) + 0.5) / SIDE_PX - 0.5
    across_HW: Grid = np.clip(x_W / half_H1, -1, 1)
    return across_HW


def _wrapped(pixels_HW3: Grid, kind: Kind) -> Grid:
    """Bends the print around the body: it narrows towards the sides."""
    half = SIDE_PX * kind.half_width
    turn_W = np.clip((np.arange(SIDE_PX) + 0.5 - SIDE_PX / 2) / half, -1, 1)
    columns_W = SIDE_PX / 2 + half * np.arcsin(turn_W)
    return pixels_HW3[:, np.clip(columns_W, 0, SIDE_PX - 1).astype(int)]


def _shade(kind: Kind, across_HW: Grid) -> Grid:
    """Light on the surface as a factor of the print, about 0.5..1.3; shape (H, W). Source of the numbers: assumed, by eye."""
    y_H1 = np.linspace(0, 1, SIDE_PX)[:, None]
    cap_edge = 1 - 0.35 * np.exp(-(((y_H1 - kind.cap[1]) / 0.006) ** 2)) * (kind.cap[1] > 0)
    if kind.surface == "round":
        gloss = 0.3 * np.exp(-(((across_HW + 0.45) / 0.12) ** 2))
        return cap_edge * (0.55 + 0.45 * np.sqrt(1 - across_HW**2) + gloss)
    if kind.surface == "flat":
        return cap_edge * np.where(across_HW > FRONT, 0.66, 1.02 - 0.08 * y_H1)
    creases = 0.06 * np.sin(9 * across_HW + 14 * y_H1) * np.abs(across_HW)
    return cap_edge * (1.06 - 0.3 * across_HW**2 + creases)
