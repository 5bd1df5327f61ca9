"""Whether prepared images have the size that a model wants: enlarged ones hold no more than the small ones did."""

from math import ceil

from prodrec.config import PreprocessSpec, Recipe
from prodrec.models.bundle_info import BundleInfo
from prodrec.models.start import continued_info
from prodrec.shards.reading import Shards


def needed_short_side(spec: PreprocessSpec) -> int:
    """Short side in pixels from which on a prepared image is not enlarged; of `pad`, which scales the long side, that of the square."""
    return ceil(spec.size / spec.crop_fraction) if spec.resize == "crop" else spec.size


def size_notes(recipe: Recipe, shards: Shards) -> list[str]:
    """What is to be known of sizes before a training begins: whether its input is too large for the images, or the bundle it goes on from saw others."""
    before = continued_info(recipe)
    return [told for told in (enlarged(recipe.input, shards), other_size(before, shards) if before else None) if told]


def enlarged(spec: PreprocessSpec, shards: Shards) -> str | None:
    """For people, before the first step: that images are too small for the input; None: they are not."""
    needed, there = needed_short_side(spec), shards.manifest.short_side
    if needed <= there or spec.resize == "pad":  # photos are rarely square
        return None
    fits = int(there * spec.crop_fraction) if spec.resize == "crop" else there
    return (
        f"images in {shards.uri} were shrunk to a short side of {there} px, and input.size={spec.size} enlarges them to {needed}, which adds no detail: "
        f"prepare again with --short-side {needed}, or use --set input.size={fits} or less"
    )


def other_size(info: BundleInfo, shards: Shards) -> str | None:
    """For people: that a bundle serves photos shrunk to another size than those that judge it; None: to the same."""
    there = shards.manifest.short_side
    if info.short_side == there or min(info.short_side, there) >= needed_short_side(info.input):
        return None
    return (
        f"the bundle shrinks photos to a short side of {info.short_side} px before it looks at them, and images in {shards.uri} were shrunk to {there} px: "
        f"figures here are not those of photos that it is served; prepare the source with --short-side {info.short_side}"
    )
