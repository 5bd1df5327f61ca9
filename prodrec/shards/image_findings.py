"""What is found in the images themselves: files that cannot be used, sizes, quality, and boxes."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from prodrec.errors import RejectCode
from prodrec.images.quality_scores import QualityLimits
from prodrec.shards.facts import Facts
from prodrec.shards.finding import LARGE_SHARE, MOST_EXAMPLES, Finding, Severity, counted, reported, single

# Short side, pixels, that most recipes train at. Source: prodrec/recipes; ImageNet models since 2012.
USUAL_INPUT_PX = 224
# Sides in pixels of the prepared image under which a box is hardly found. Source: assumed; the finest stride of the detectors is 8.
TINY_BOX_PX = 8
# What may be meant so (small, dark, without boxes) is a warning where most images are. Source: assumed.
MOST_SHARE = 0.5
# `prepare` has a line of its own for it.
TURNED = "boxes_of_turned_photos"
_LIMITS = QualityLimits()

# Code: what is wrong, and what to do.
_UNUSABLE: dict[str, tuple[str, str]] = {
    RejectCode.NOT_AN_IMAGE: ("no image, or empty", "Fetch them again: often it is an error page that was saved as a photo."),
    RejectCode.UNSUPPORTED_FORMAT: ("a format that is not read", "Convert them to JPEG or PNG."),
    RejectCode.TRUNCATED: ("cut short or damaged", "Copy or download them again."),
    RejectCode.TOO_LARGE: ("files that are too large", "Save them smaller."),
    RejectCode.TOO_MANY_PIXELS: ("more pixels than are decoded", "Save them smaller."),
    RejectCode.TOO_COSTLY: ("decoding costs too much", "Save them again as plain JPEG."),
    RejectCode.TOO_SLOW: ("decoding takes too long", "Save them again as plain JPEG."),
    RejectCode.MISSING: ("no such file", "Compare the paths of the source with where the images are."),
    RejectCode.FETCH_FAILED: ("the disk, the object store or the rights failed", "Check these, and run it again."),
    RejectCode.UNLABELLED: ("no label", "Add their labels, or take their rows out."),
    RejectCode.BAD_BOX: ("none of their boxes lies within the picture", "Mend the annotation."),
    RejectCode.WRONG_SIZE: ("annotated at another size than the picture has", "Export the annotation again, beside the images that were annotated."),
    RejectCode.DUPLICATE_ACROSS_SPLITS: ("the same bytes stand in a split that is held out", "Take them out of the source's training images."),
    RejectCode.LISTING_ACROSS_SPLITS: ("other images of their listing are held out", "Put each listing into one split."),
}


def unusable(facts: Facts) -> Iterator[Finding]:
    rejected = facts.images[facts.images["code"].notna()]
    for code, rows in rejected.groupby("code", sort=False):
        words, advice = _UNUSABLE.get(code, (code.replace("_", " "), "The reason stands beside each."))
        share = len(rows) / len(facts.images)
        first = rows.iloc[0]
        text = f"{len(rows):,} of {counted(len(facts.images), 'image')} cannot be used: {words} ({reported(str(first['uri']), str(first['detail']))})."
        severity = Severity.SERIOUS if share >= LARGE_SHARE else Severity.WARNING
        yield Finding(f"unusable_{code}", severity, text, advice, share, examples=single(rows.index))


def small_images(facts: Facts) -> Iterator[Finding]:
    side = facts.usable[["source_width", "source_height"]].min(axis=1)
    small = side[side < USUAL_INPUT_PX].sort_values(kind="stable")
    if len(small):
        share = len(small) / len(side)
        text = f"{len(small):,} of {counted(len(side), 'image')} are under {USUAL_INPUT_PX} px, the usual input of models; the smallest {small.iloc[0]:g} px."
        severity = Severity.WARNING if share >= MOST_SHARE else Severity.NOTE
        advice = "They are enlarged, which adds no detail: look for the originals, or train with `--set input.size` near their size."
        yield Finding("small_images", severity, text, advice, share, examples=single(small.index))


def long_images(facts: Facts) -> Iterator[Finding]:
    sides = facts.usable[["source_width", "source_height"]]
    aspect = sides.max(axis=1) / sides.min(axis=1)
    long = aspect[aspect > _LIMITS.max_aspect].sort_values(ascending=False, kind="stable")
    if len(long):
        text = f"{counted(len(long), 'image has', 'images have')} one side over {_LIMITS.max_aspect:g} times the other; the longest {long.iloc[0]:.1f} times."
        advice = "Training crops a square out of them: crop them around the product."
        yield Finding("long_images", Severity.NOTE, text, advice, len(long) / len(aspect), examples=single(long.index))


# Fault: score, whether more of it is worse, the limit, what it is, and what to do.
QUALITY_FAULTS: dict[str, tuple[str, bool, float, str, str]] = {
    "blank": ("blank", True, _LIMITS.max_blank, "show one flat colour", "Take them out: they teach nothing."),
    "blurred": ("sharpness", False, _LIMITS.min_sharpness, "are blurred", "Take them out if buyers send better ones; keep them if they are what will come."),
    "too_dark": ("darkness", True, _LIMITS.max_darkness, "are too dark", "Take them again in more light, unless such photos will come."),
    "overexposed": ("blown", True, _LIMITS.max_blown, "are over-exposed", "Take them again in less light, unless such photos will come."),
    "low_contrast": ("contrast", False, _LIMITS.min_contrast, "have little contrast", "Look for haze and glare; white products on white are fine."),
    "wide_border": ("border", True, _LIMITS.max_border, "have wide borders", "Crop the borders away: a model learns them where they come with a label."),
}
_NOT_ON_WHITE = {"overexposed", "wide_border"}
# The limits flag at most so many untouched photos (`QualityLimits`); only an empty picture is one for certain.
_USUAL_SHARE = 0.01


def quality_faults(facts: Facts) -> dict[str, pd.Series]:
    """Of each fault the positions of the images that have it and their scores, the worst first. Images without scores have none."""
    if "sharpness" not in facts.usable:
        return {}
    found = {}
    on_white = facts.usable["white_background"] >= _LIMITS.min_white_background
    for fault, (score, more_is_worse, limit, *_) in QUALITY_FAULTS.items():
        scores = facts.usable[score]
        bad = (scores > limit) if more_is_worse else (scores < limit)
        found[fault] = scores[bad & ~on_white if fault in _NOT_ON_WHITE else bad].sort_values(ascending=not more_is_worse, kind="stable")
    return found


def poor_quality(facts: Facts) -> Iterator[Finding]:
    for fault, scores in quality_faults(facts).items():
        measured = int(facts.usable["sharpness"].notna().sum())
        if len(scores) and (len(scores) > _USUAL_SHARE * measured or fault == "blank"):
            *_, words, advice = QUALITY_FAULTS[fault]
            severity = Severity.WARNING if len(scores) >= MOST_SHARE * measured else Severity.NOTE
            text = f"{len(scores):,} of {counted(measured, 'image')} {'looked at ' if measured < len(facts.usable) else ''}{words}."
            yield Finding(f"quality_{fault}", severity, text, advice, len(scores) / measured, examples=single(scores.index))


def bad_boxes(facts: Facts) -> Iterator[Finding]:
    if facts.objects is None or facts.bad_boxes.empty:
        return
    first, bad, total = facts.bad_boxes.iloc[0], len(facts.bad_boxes), len(facts.bad_boxes) + len(facts.objects)
    text = f"{bad:,} of {counted(total, 'box', 'boxes')} cannot be used ({reported(str(first['uri']), str(first['detail']))})."
    at = facts.usable.index[facts.usable["uri"].isin(facts.bad_boxes["uri"].head(MOST_EXAMPLES))]
    yield Finding("bad_boxes", Severity.WARNING, text, "Mend the annotation: these objects are not learned.", bad / total, examples=single(at))


def boxes_of_turned_photos(facts: Facts) -> Iterator[Finding]:
    """Shards tell their number (`BoxCounts.turned`), not which they are."""
    if facts.objects is None or "boxes_on" not in facts.usable:
        return
    unknown = facts.usable.index[facts.usable["boxes_on"] == "unknown"]
    if len(unknown):
        share = len(unknown) / len(facts.usable)
        text = (
            f"Of {len(unknown):,} of {counted(len(facts.usable), 'image')}, which EXIF turns, nothing tells whether their boxes were drawn on "
            "stored or upright pixels; here they are taken as upright."
        )
        advice = "Look at these: if boxes lie beside their things, prepare with `--boxes-on stored`, else with `--boxes-on upright`."
        yield Finding(TURNED, Severity.WARNING, text, advice, share, examples=single(unknown))


def tiny_boxes(facts: Facts) -> Iterator[Finding]:
    if facts.objects is None or facts.objects.empty:
        return
    sides = box_sides(facts)
    tiny = sides[sides < TINY_BOX_PX].sort_values(kind="stable")
    if len(tiny):
        share = len(tiny) / len(sides)
        short_side = int(facts.usable[["width", "height"]].min(axis=1).max())
        shrunk = f"once images are shrunk to a short side of {short_side} px"
        text = f"{len(tiny):,} of {counted(len(sides), 'box', 'boxes')} are under {TINY_BOX_PX} px wide or high {shrunk}."
        severity = Severity.WARNING if share >= LARGE_SHARE else Severity.NOTE
        examples = single(pd.unique(facts.objects.loc[tiny.index, "image"])[:MOST_EXAMPLES].tolist())
        yield Finding("tiny_boxes", severity, text, "Prepare with a larger `--short-side`, and train with a larger `input.size`.", share, examples=examples)


def box_sides(facts: Facts) -> pd.Series:
    """Of each object the shorter side of its box, pixels of the prepared image."""
    objects = facts.objects
    assert objects is not None
    return np.minimum(objects["right"] - objects["left"], objects["bottom"] - objects["top"])


def without_boxes(facts: Facts) -> Iterator[Finding]:
    if facts.objects is None:
        return
    empty = facts.usable.index[~facts.usable.index.isin(facts.objects["image"])]
    if len(empty):
        share = len(empty) / len(facts.usable)
        text = f"{len(empty):,} of {counted(len(facts.usable), 'image')} have no boxes."
        severity = Severity.WARNING if share >= MOST_SHARE else Severity.NOTE
        advice = "Right if they show none of the labels; if they were not annotated yet, leave them out: they teach that nothing is there."
        yield Finding("without_boxes", severity, text, advice, share, examples=single(empty))


IMAGE_FINDINGS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    unusable,
    small_images,
    long_images,
    poor_quality,
    bad_boxes,
    boxes_of_turned_photos,
    tiny_boxes,
    without_boxes,
)
