"""Quality scores of one photo: is it sharp, well lit, about something, and framed as a product photo should be?

Scores are measurements, not verdicts: `QualityLimits` says from where on each is a fault. Every score but the size is taken
from a working copy whose short side is at most WORKING_SIDE_PX, so that it depends little on the resolution of the photo.
Every call is free of shared state, so threads may call it at once; 0.8 ms for 256 x 256 on one thread (benchmarks/quality.py).

Shapes: C channels (1 or 3), H height, W width. Levels are 0..255.
Not covered: noise, colour casts, motion blur along one edge only, bands that are blurred or hold text.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2 import functional

from prodrec.images.quality_scores import Quality

Levels = npt.NDArray[Any]

# Source: measured (docs/log.md, 2026-11-21): of photos blurred by 1.5 px of 256, 94 % are told at 128 px, 99 % here and at 192 px.
WORKING_SIDE_PX = 160
# Longer ones are worked on at a smaller scale: a strip of 65,500 px would cost as much as 400 photos. Source: assumed.
WORKING_LONG_SIDE_PX = 4 * WORKING_SIDE_PX
# Differences up to this say nothing of edges: rounding, JPEG q90 and a sensor's noise. Source: assumed; twice the mean error of
# q90 (docs/log.md, prepared shards).
FAINT_LEVELS = 4
# A direction with less than this share of the strongest direction's gradient energy has no edges to judge (stripes, a barcode).
# Source: measured (docs/log.md, 2026-11-21): 0.25 is the least of untouched photos, 0.04 of photos moved by 25 px.
LEAST_ENERGY = 0.01
# Source: measured (docs/log.md, 2026-11-21): 240 to 250 tell packshots from photos equally well.
WHITE_LEVEL = 245
# Rim of the picture that shows its background, share of the short side. Source: assumed.
RIM = 0.03
# A colour is the same up to this in each channel. Source: assumed; three sigma of the noise of a dim photo after shrinking.
SAME_LEVELS = 10
# A line is uniform while at most this share of it departs; a band ends at a straight edge: at least EDGE of a line departs
# within EDGE_LINES of its end (resampling smears an edge over two). Source: assumed; what they find is in benchmarks/quality.py.
UNIFORM, EDGE, EDGE_LINES = 0.02, 0.5, 3


def quality(pixels_CHW: torch.Tensor, source_size: tuple[int, int]) -> Quality:
    """Measures one photo.

    Args:
        pixels_CHW: uint8, grey or RGB, upright, any size from 1 x 1; best the prepared image, short side WORKING_SIDE_PX or more:
            a smaller one is not enlarged and passes as sharper than it is.
        source_size: (width, height) of the upright original, pixels, each >= 1.
    """
    working_CHW = _working_copy(pixels_CHW)
    luma_HW = _luma(working_CHW)
    counts = _counts(luma_HW)
    return Quality(
        short_side=min(source_size),
        aspect=max(source_size) / min(source_size),
        sharpness=_sharpness(luma_HW),
        brightness=float(counts @ np.arange(256)) / luma_HW.size / 255,
        darkness=1 - _percentile(_counts(working_CHW.max(0)), 0.9) / 255,
        contrast=(_percentile(counts, 0.99) - _percentile(counts, 0.01)) / 255,
        blown=float(counts[WHITE_LEVEL:].sum()) / luma_HW.size,
        blank=min(_near_median(_counts(channel_HW)) for channel_HW in working_CHW),
        border=_border(working_CHW),
        white_background=_white_rim(working_CHW),
    )


def _working_copy(pixels_CHW: torch.Tensor) -> Levels:
    height, width = pixels_CHW.shape[1:]
    scale = min(1.0, WORKING_SIDE_PX / min(height, width), WORKING_LONG_SIDE_PX / max(height, width))
    if scale < 1:
        pixels_CHW = functional.resize(pixels_CHW, [max(1, round(height * scale)), max(1, round(width * scale))], antialias=True)
    copy: Levels = np.ascontiguousarray(pixels_CHW.numpy())
    return copy


def _luma(pixels_CHW: Levels) -> Levels:
    """uint8 [H, W]. Source: ITU-R BT.601; in 256ths, so that equal channels keep their level."""
    if len(pixels_CHW) == 1:
        return pixels_CHW[0]
    red, green, blue = pixels_CHW.astype(np.uint16)
    return ((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(np.uint8)


def _sharpness(luma_HW: Levels) -> float:
    """Share of the strongest rises that happens within one pixel.

        2 * sum(w * max(|b - a|, |c - b|)) / sum(w * |c - a|) - 1,   w = max(|c - a| - FAINT_LEVELS, 0)

    over all three pixels a, b, c in a row: a step gives 1, an even slope 0. The least of four directions, as motion blurs in one.

    Source: our own; measured in benchmarks/quality.py beside the variance of the Laplacian (Pech-Pacheco et al. 2000), Tenengrad
    (Krotkov 1988) and blurring once more (Crete et al. 2007).
    """
    rises = [_rise(first, middle, last) for first, middle, last in _rows_of_three(luma_HW.astype(np.int16))]
    energy = max(energy for _, energy in rises)
    if energy == 0:
        return 0.0
    return min(1.0, min(2 * steps / own - 1 for steps, own in rises if own >= LEAST_ENERGY * energy))


def _rows_of_three(levels_HW: Levels) -> Iterator[tuple[Levels, Levels, Levels]]:
    """All three pixels in a row: across, down and along both diagonals; empty where the picture is too narrow."""
    y = levels_HW
    yield y[:, :-2], y[:, 1:-1], y[:, 2:]
    yield y[:-2], y[1:-1], y[2:]
    yield y[:-2, :-2], y[1:-1, 1:-1], y[2:, 2:]
    yield y[:-2, 2:], y[1:-1, 1:-1], y[2:, :-2]


def _rise(first: Levels, middle: Levels, last: Levels) -> tuple[float, float]:
    """Weighted sums of the larger step and of the whole rise; the second is the gradient energy."""
    # 16-bit as long as it will do: 60 microseconds, against 95 in float32 throughout (measured).
    rise = np.abs(last - first).astype(np.float32)
    step = np.maximum(np.abs(middle - first), np.abs(last - middle)).astype(np.float32)
    weight = np.maximum(rise - FAINT_LEVELS, np.float32(0))
    return float((weight * step).sum()), float((weight * rise).sum())


def _counts(levels_HW: Levels) -> Levels:
    """Pixels of each level, int64 [256]."""
    return np.bincount(levels_HW.ravel(), minlength=256)


def _percentile(counts: Levels, share: float) -> int:
    """The smallest level that at least `share` of the pixels do not exceed."""
    return int(np.searchsorted(counts.cumsum(), share * counts.sum()))


def _near_median(counts: Levels) -> float:
    median = _percentile(counts, 0.5)
    return float(counts[max(0, median - SAME_LEVELS) : median + SAME_LEVELS + 1].sum() / counts.sum())


def _departs(pixels_CHW: Levels, color_C: Levels) -> Levels:
    """bool [H, W]: which pixels are of another colour."""
    departs: Levels = np.abs(pixels_CHW - color_C[:, None, None]).max(0) > SAME_LEVELS
    return departs


def _border(pixels_CHW: Levels) -> float:
    """Bands above and below first, then those to the left and right of what lies between."""
    inner_CHW = pixels_CHW
    for _ in range(2):
        near, far = _band(inner_CHW), _band(inner_CHW[:, ::-1])
        lines = inner_CHW.shape[1]
        # Bands that meet have nothing between them that they would border.
        inner_CHW = (inner_CHW[:, near : lines - far] if near + far < lines else inner_CHW).transpose(0, 2, 1)
    return 1 - inner_CHW.size / pixels_CHW.size


def _band(pixels_CHW: Levels) -> int:
    """Lines of the band at the top; 0 where there is none, or nothing else."""
    color_C = pixels_CHW[:, 0].mean(1).round().astype(np.int16)
    if _departs(pixels_CHW[:, :1], color_C).mean() > UNIFORM:
        return 0
    departing_H = _departs(pixels_CHW, color_C).mean(1)
    lines = int(np.argmax(departing_H > UNIFORM))
    return lines if departing_H[lines : lines + EDGE_LINES].max() >= EDGE else 0


def _white_rim(pixels_CHW: Levels) -> float:
    white_HW = pixels_CHW.min(0) >= WHITE_LEVEL
    rim = max(1, round(RIM * min(white_HW.shape)))
    inner_HW = white_HW[rim:-rim, rim:-rim]
    return float(white_HW.sum() - inner_HW.sum()) / (white_HW.size - inner_HW.size)
