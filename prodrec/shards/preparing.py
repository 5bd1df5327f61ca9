"""One row of a source, prepared: decoded, checked, shrunk and hashed, or a reject. What `prepare` stages and `inspect` looks at."""

from typing import Any

from prodrec.config import SHORT_SIDE_PX, Frozen
from prodrec.errors import Reject, RejectCode
from prodrec.images.boxes import fit_boxes
from prodrec.images.decode import PreparedImage, prepare_image
from prodrec.images.formats import ImageLimits
from prodrec.images.orientation import BoxesOn, place_upright, stored_orientation
from prodrec.shards.split import Fractions


class PrepareOptions(Frozen):
    """How images are prepared.

    Attributes:
        short_side: pixels; larger images are shrunk to it, smaller ones stay.
        jpeg_quality: of re-encoded images.
        photos: whether each label gets a reference photo: the one that the source gives, else one that is learned from.
        boxes_on: the pixels that boxes of turned photos were drawn on.
    """

    short_side: int = SHORT_SIDE_PX
    jpeg_quality: int = 90
    fractions: Fractions = Fractions(0.8, 0.1, 0.1)
    limits: ImageLimits = ImageLimits()
    photos: bool = True
    boxes_on: BoxesOn = "auto"


def staged_row(row: dict[str, Any], image: bytes | Reject, options: PrepareOptions) -> dict[str, Any]:
    """The row as `stage` takes it: with its prepared image, or with the code and detail of why there is none."""
    said = {name: row[name] for name in ("uri", "listing_id", "view", "label", "group", "split")}
    try:
        if isinstance(image, Reject):
            raise image
        if row["objects"] is None and not row["label"]:
            raise Reject(RejectCode.UNLABELLED, "the source gives no label")
        prepared = prepare_image(image, options.short_side, options.limits, options.jpeg_quality)
        boxes = _fitted(row, image, prepared, options.boxes_on)
    except Reject as reject:
        return said | {"code": reject.code.value, "detail": reject.detail}
    return said | {
        "image": prepared.jpeg,
        "width": prepared.width,
        "height": prepared.height,
        "source_width": prepared.source_width,
        "source_height": prepared.source_height,
        "sha256": prepared.sha256,
        "phash": prepared.phash,
        **boxes,
    }


def _fitted(row: dict[str, Any], image: bytes, prepared: PreparedImage, boxes_on: BoxesOn) -> dict[str, Any]:
    if row["objects"] is None:
        return {}
    size, source = (prepared.width, prepared.height), (prepared.source_width, prepared.source_height)
    annotated = (row["width"], row["height"])
    placed = place_upright(row["objects"], annotated, bool(row["relative"]), stored_orientation(image), source, boxes_on)
    fitted = fit_boxes(placed.objects, placed.annotated, source, size)
    return {"objects": fitted.objects, "boxes_clipped": fitted.clipped, "boxes_rejected": fitted.rejected, "boxes_on": placed.on}
