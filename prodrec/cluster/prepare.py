"""From a source to shards on Ray Data: read, decode, check, shrink and hash as a stream, then assemble."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data

from prodrec.cluster.session import ray_session
from prodrec.config import SHORT_SIDE_PX, Frozen
from prodrec.errors import Reject, RejectCode
from prodrec.files import Folder
from prodrec.images.boxes import fit_boxes
from prodrec.images.decode import PreparedImage, prepare_image
from prodrec.images.formats import ImageLimits
from prodrec.images.orientation import BoxesOn, place_upright, stored_orientation
from prodrec.shards.assemble import assemble, stage, start_output
from prodrec.shards.listing_order import cuts, gathered
from prodrec.shards.reading import Shards
from prodrec.shards.schema import ShardsManifest
from prodrec.shards.split import Fractions
from prodrec.sources.source import Source, read_images
from prodrec.version import code_version

# Images a task prepares: about a second of work, and a progress bar that moves. Source: docs/log.md 2026-11-20.
_SLICE_ROWS = 256

OnProgress = Callable[[int, int, int], None]
"""(rows done, rows rejected, rows in all)"""


class PrepareOptions(Frozen):
    """How images are prepared.

    Attributes:
        short_side: pixels; larger images are shrunk to it, smaller ones stay.
        jpeg_quality: of re-encoded images.
        boxes_on: the pixels that boxes of turned photos were drawn on.
    """

    short_side: int = SHORT_SIDE_PX
    jpeg_quality: int = 90
    fractions: Fractions = Fractions(0.8, 0.1, 0.1)
    limits: ImageLimits = ImageLimits()
    boxes_on: BoxesOn = "auto"


def prepare(
    source: Source,
    out_uri: str,
    options: PrepareOptions,
    on_progress: OnProgress = lambda done, rejected, total: None,
    earlier: Sequence[Shards] = (),
) -> ShardsManifest:
    """Prepares a source into shards.

    Args:
        earlier: shards whose images keep the split that they had there.

    Raises:
        OutputError: the output folder holds shards already or cannot be written.
        ShardsError: not one usable image.
    """
    out = start_output(out_uri)
    with ray_session():
        slices = ray.data.from_arrow(list(_slices(source.listing)))
        staged = slices.map_batches(partial(_stage_slice, out.uri, options), batch_size=None, batch_format="pyarrow")
        done = rejected = 0
        for counts in staged.iter_rows():
            done, rejected = done + counts["rows"], rejected + counts["rejected"]
            on_progress(done, rejected, source.listing.num_rows)
    provenance = {
        "source": source.uri,
        "source_format": source.format,
        "code_version": code_version(),
        "short_side": options.short_side,
        "jpeg_quality": options.jpeg_quality,
    }
    return assemble(out, options.fractions, provenance, source.listing.num_rows, earlier)


def _slices(listing: pa.Table) -> Iterator[pa.Table]:
    """The listing in pieces of one task each, numbered.

    Listings by URI are mixed, so that neighbours in a shard are not neighbours in the source; embedded images stay in the
    order of their row groups, which are read whole. The images of a listing stay together.
    """
    listing, ends = gathered(listing, shuffle=listing["row_group"].null_count == listing.num_rows)
    for number, (start, stop) in enumerate(cuts(ends, _SLICE_ROWS)):
        piece = listing.slice(start, stop - start).combine_chunks()
        yield piece.append_column("slice", pa.array([number] * piece.num_rows, pa.int32()))


def _stage_slice(out_uri: str, options: PrepareOptions, listing: pa.Table) -> pa.Table:
    images = read_images(listing, options.limits.max_bytes)
    rows = [_stage_row(row, image, options) for row, image in zip(listing.drop_columns(["slice"]).to_pylist(), images, strict=True)]
    stage(Folder(out_uri), listing["slice"][0].as_py(), rows)
    return pa.table({"rows": [len(rows)], "rejected": [sum(row.get("code") is not None for row in rows)]})


def _stage_row(row: dict[str, Any], image: bytes | Reject, options: PrepareOptions) -> dict[str, Any]:
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
        "image_bytes": len(prepared.jpeg),
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
