"""What is said of the quality of one photo, and from where on each score is a fault. Needs no torch: policies and decisions do without.

How a photo is measured: prodrec.images.quality.
"""

from typing import Annotated, NamedTuple

from pydantic import Field

from prodrec.config import Fraction, Frozen, PositiveInt


class Quality(NamedTuple):
    """Scores of one photo.

    Attributes:
        short_side: of the upright original, pixels, >= 1.
        aspect: long side / short side of the original, >= 1.
        sharpness: 0..1, how much of the strongest edges' rise happens within one pixel of the working copy, in the direction in
            which they are softest: 1 a step, 0 an even slope, or nothing to see. About 0.36 for a good photo.
        brightness: 0..1, mean luma.
        darkness: 0..1, how far even the brightest tenth stays below full: 1 - 90th percentile of the largest channel. Dark
            products in a well lit photo have lights, and red ones, whose luma is low, have a full red.
        contrast: 0..1, 99th less 1st percentile of luma.
        blown: 0..1, share of pixels that are white (luma). Includes a white background.
        blank: 0..1, share of pixels of one colour: near the median of the channel that departs most; 1 is an empty picture.
        border: 0..1, share of the picture taken by bands of one colour along its sides that end at a straight edge (letterbox,
            screenshot, frame); the background of a packshot, which ends at the product's outline, is none.
        white_background: 0..1, share of the outer rim that is white in each channel.
    """

    short_side: int
    aspect: float
    sharpness: float
    brightness: float
    darkness: float
    contrast: float
    blown: float
    blank: float
    border: float
    white_background: float


class QualityLimits(Frozen):
    """From where on a score is a fault. Each flags at most 1 % of untouched photos and 1 of 81 packshots.

    Source, where none is named: measured, benchmarks/quality.py (docs/log.md, 2026-11-21).

    Attributes:
        min_short_side: pixels; less is enlarged for the models, and scores are not comparable. Source: assumed.
        max_aspect: Source: cleanvision's `odd_aspect_ratio` (0.35 = 1 / 2.9), rounded.
        min_sharpness: less is blurred.
        max_darkness: more is too dark.
        max_blown: more is over-exposed; no fault on a white background, which is blown itself.
        min_contrast: less is hazy. White products on white come near it.
        max_blank: more shows nothing.
        max_border: more is a wide border; no fault on a white background, where a carton ends as straight as a band.
        min_white_background: less is no white background; a fault only where one is asked for.
    """

    min_short_side: PositiveInt = 160
    max_aspect: Annotated[float, Field(ge=1)] = 3.0
    min_sharpness: Fraction = 0.24
    max_darkness: Fraction = 0.38
    max_blown: Fraction = 0.05
    min_contrast: Fraction = 0.29
    max_blank: Fraction = 0.98
    max_border: Fraction = 0.1
    min_white_background: Fraction = 0.7
