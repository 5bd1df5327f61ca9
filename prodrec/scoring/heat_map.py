"""A heat map, and the picture with its heat over it."""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image

from prodrec.images.decode import decode_rgb, prepare_image

# Longest side of an overlay, pixels. Source: assumed; a page shows no more.
_OVERLAY_PX = 1024
# Opacity of the hottest place. Source: assumed, by eye.
_OPACITY = 0.6
_COLORS = "turbo"


@dataclass(frozen=True)
class HeatMap:
    """What an answer rests on.

    Attributes:
        label, title, probability: of which class, and how probable the whole picture makes it.
        heat: float32 [S, S]; of occlusion the mean drop of the probability where the pixel is hidden (-1 to 1, negative where
            hiding helps), of Grad-CAM relevance and of attention the gates, both from 0 to 1.
        frame: where it lies in the upright original, xyxy pixels.
        size: (width, height) of the upright original.
    """

    label: str
    probability: float
    heat: npt.NDArray[np.float32]
    frame: tuple[float, float, float, float]
    size: tuple[int, int]
    title: str | None = None


def overlay(data: bytes, heat_map: HeatMap) -> bytes:
    """The upright picture with its heat over it, as PNG of at most 1,024 px a side. What hiding helps stays as it is."""
    scale = min(1.0, _OVERLAY_PX / max(heat_map.size))
    made = prepare_image(data, max(1, round(min(heat_map.size) * scale)))
    picture = Image.fromarray(decode_rgb(made.jpeg).permute(1, 2, 0).numpy()).resize([max(1, round(side * scale)) for side in heat_map.size])
    strength = np.clip(heat_map.heat / max(float(heat_map.heat.max()), 1e-12), 0, 1)
    left, top, right, bottom = (round(edge * scale) for edge in heat_map.frame)
    placed = Image.new("F", picture.size)
    placed.paste(Image.fromarray(strength.astype(np.float32)).resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR), (left, top))
    share_HW = np.asarray(placed)
    colors_HWC = colormaps[_COLORS](share_HW)[..., :3] * 255
    opacity_HW1 = (_OPACITY * share_HW)[..., None]
    mixed = np.asarray(picture) * (1 - opacity_HW1) + colors_HWC * opacity_HW1
    out = io.BytesIO()
    Image.fromarray(mixed.round().astype(np.uint8)).save(out, "PNG")
    return out.getvalue()
