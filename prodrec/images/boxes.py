"""Annotated boxes of one picture, fitted to what became of it.

Boxes are absolute xyxy pixels, floats; a box covers [left, right) x [top, bottom).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prodrec.errors import Reject, RejectCode

BOX = pa.list_(pa.float32(), 4)  # absolute xyxy pixels

# A thinner box shows nothing to learn from. Source: torchvision's detectors refuse sides of 0; one pixel of the original is assumed.
_LEAST_SIDE_PX = 1.0


@dataclass(frozen=True)
class FittedBoxes:
    """Objects of a prepared image.

    Attributes:
        objects: dicts of label, box (pixels of the prepared image) and crowd.
        clipped: how many boxes reached beyond the picture.
        rejected: what is wrong with each box that could not be used, one line each.
    """

    objects: list[dict[str, Any]]
    clipped: int
    rejected: list[str]


def fit_boxes(objects: list[dict[str, Any]], annotated: tuple[int | None, int | None], source: tuple[int, int], prepared: tuple[int, int]) -> FittedBoxes:
    """Clips boxes to the picture and scales them to its prepared size.

    Args:
        objects: as LISTING_SCHEMA has them.
        annotated: width and height that the annotation tells, None where it does not.
        source: width and height of the original, upright.
        prepared: width and height of the prepared image.

    Raises:
        Reject: `wrong_size`: the annotation was made on another picture; `bad_box`: there are boxes, and not one can be used.
    """
    width, height = source
    if any(said is not None and said != found for said, found in zip(annotated, source, strict=True)):
        raise Reject(RejectCode.WRONG_SIZE, f"annotated at {annotated[0]} x {annotated[1]} pixels, the upright image has {width} x {height}")
    scale_x, scale_y = prepared[0] / width, prepared[1] / height
    kept, rejected, clipped = [], [], 0
    for item in objects:
        left, top, right, bottom = item["box"]
        inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
        if not (inside[2] - inside[0] >= _LEAST_SIDE_PX and inside[3] - inside[1] >= _LEAST_SIDE_PX):
            told = ", ".join(f"{value:g}" for value in item["box"])
            rejected.append(f"annotation {item['id']} ('{item['label']}'): the box {told} has no area within {width} x {height} pixels")
            continue
        clipped += inside != (left, top, right, bottom)
        box = [inside[0] * scale_x, inside[1] * scale_y, inside[2] * scale_x, inside[3] * scale_y]
        kept.append({"label": item["label"], "box": box, "crowd": item["crowd"]})
    if objects and not kept:
        raise Reject(RejectCode.BAD_BOX, "; ".join(rejected))
    return FittedBoxes(kept, clipped, rejected)


def object_lists(label_ids: pa.Array, boxes: pa.Array, crowd: pa.Array, counts: npt.ArrayLike, missing: pa.Array | None = None) -> pa.ListArray:
    """A column `objects` out of its parts.

    Args:
        label_ids, boxes, crowd: of all objects, one row after the other.
        counts: objects of each row; missing: whether a row has no list at all.
    """
    items = pa.StructArray.from_arrays([label_ids, boxes, crowd], ["label_id", "box", "crowd"])
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, items, mask=missing)
