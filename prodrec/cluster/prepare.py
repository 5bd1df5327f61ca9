"""From a source to shards on Ray: slices of it are read, decoded, checked, shrunk and hashed; then each shard is written, all by tasks."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pyarrow as pa

from prodrec.cluster.session import ray_session
from prodrec.cluster.tasks import spread
from prodrec.files import Folder
from prodrec.shards.assemble import assemble
from prodrec.shards.label_photos import NO_PHOTOS, read_given
from prodrec.shards.listing_order import cuts, gathered
from prodrec.shards.naming import Naming
from prodrec.shards.preparing import PrepareOptions, staged_row
from prodrec.shards.reading import Shards
from prodrec.shards.schema import ShardsManifest
from prodrec.shards.staging import stage, start_output
from prodrec.sources.source import Source, read_images
from prodrec.version import code_version

# Images a task prepares: about a second of work, and a progress bar that moves. Source: docs/log.md 2026-11-20.
_SLICE_ROWS = 256

OnProgress = Callable[[int, int, int], None]
"""(rows done, rows rejected, rows in all)"""


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
    naming = Naming(source.labels, read_given(source.labels, options.limits) if options.photos else NO_PHOTOS, options.photos)
    provenance = {
        "source": source.uri,
        "source_format": source.format,
        "code_version": code_version(),
        "short_side": options.short_side,
        "jpeg_quality": options.jpeg_quality,
    }
    with ray_session():
        done = rejected = 0
        for rows, refused in spread(partial(_stage_slice, out.uri, options), _slices(source.listing)):
            done, rejected = done + rows, rejected + refused
            on_progress(done, rejected, source.listing.num_rows)
        return assemble(out, options.fractions, provenance, source.listing.num_rows, earlier, naming, spread)


def _slices(listing: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """The listing in pieces of one task each, numbered.

    Listings by URI are mixed, so that neighbours in a shard are not neighbours in the source; embedded images stay in the
    order of their row groups, which are read whole. The images of a listing stay together.
    """
    listing, ends = gathered(listing, shuffle=listing["row_group"].null_count == listing.num_rows)
    for number, (start, stop) in enumerate(cuts(ends, _SLICE_ROWS)):
        yield number, listing.slice(start, stop - start).combine_chunks()


def _stage_slice(out_uri: str, options: PrepareOptions, piece: tuple[int, pa.Table]) -> tuple[int, int]:
    """Returns the rows, and how many of them are rejects."""
    number, listing = piece
    images = read_images(listing, options.limits.max_bytes)
    rows = [staged_row(row, image, options) for row, image in zip(listing.to_pylist(), images, strict=True)]
    stage(Folder(out_uri), number, rows)
    return len(rows), sum(row.get("code") is not None for row in rows)
