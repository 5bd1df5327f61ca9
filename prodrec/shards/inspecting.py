"""Looking at every image of a data set once: what `prodrec inspect` knows beyond what the source says."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from prodrec.errors import Reject, ShardsError
from prodrec.images.decode import decode_rgb
from prodrec.images.quality import quality
from prodrec.images.quality_scores import Quality
from prodrec.machine import usable_cores
from prodrec.shards.facts import Facts, facts_of
from prodrec.shards.order import Window
from prodrec.shards.preparing import PrepareOptions, staged_row
from prodrec.shards.reading import Shards
from prodrec.shards.staging import STAGED_SCHEMA
from prodrec.sources.schema import SPLITS
from prodrec.sources.source import Source, read_images

# Images of one piece of work. Source: assumed; half a second of work of one core, and a progress bar that moves.
SLICE_ROWS = 128
# Of `Quality`; its sizes stand in columns of their own.
SCORES = tuple(name for name in Quality._fields if name not in {"short_side", "aspect"})
LOOKED_SCHEMA = pa.schema([f for f in STAGED_SCHEMA if f.name not in {"image", "image_bytes"}] + [(name, pa.float32()) for name in SCORES])

OnProgress = Callable[[int, int, int], None]
"""(rows done, rows rejected, rows in all)"""


def look_at(source: Source, options: PrepareOptions, on_progress: OnProgress) -> Facts:
    """Facts and quality of all images of a source, in its order, by the threads of this process."""
    tables, done, rejected = [], 0, 0
    for table in _overlapped(source.listing, options):
        tables.append(table)
        done, rejected = done + len(table), rejected + len(table) - table["code"].null_count
        on_progress(done, rejected, len(source.listing))
    return facts_of(pa.concat_tables(tables), titles_of(source))


def look_at_slice(listing: pa.Table, options: PrepareOptions) -> pa.Table:
    """Rows of LISTING_SCHEMA to rows of LOOKED_SCHEMA."""
    images = read_images(listing, options.limits.max_bytes)
    rows = [staged_row(row, image, options) for row, image in zip(listing.to_pylist(), images, strict=True)]
    return pa.Table.from_pylist([row | _scores(row) for row in rows], LOOKED_SCHEMA)


def titles_of(source: Source) -> dict[str, str]:
    return {name: said.title for name, said in source.labels.items() if said.title}


def with_quality(facts: Facts, shards: Shards, images: int | None, on_progress: OnProgress) -> Facts:
    """The scores of so many images of shards, of each split alike; None: of all. Others have none.

    Raises:
        ShardsError: an image is damaged.
    """
    part = shards.limited(images)
    total = sum(part.manifest.rows(name) for name in part.manifest.splits)
    positions, scores = [], []
    for split in [name for name in SPLITS if part.manifest.rows(name)]:
        index, first = part.split(split), int((facts.images["split"] == split).idxmax())
        for start in range(0, index.rows, SLICE_ROWS):
            rows_N = np.arange(start, min(start + SLICE_ROWS, index.rows))
            table = index.read(Window(0, rows_N, np.zeros_like(rows_N)))
            sizes = facts.images.loc[first + rows_N, ["source_width", "source_height"]].astype(int).itertuples(index=False)
            try:
                scores += [quality(decode_rgb(jpeg.as_py()), tuple(size)) for jpeg, size in zip(table["image"], sizes, strict=True)]
            except Reject as reject:
                raise ShardsError(f"{shards.uri}: an image of {split} is damaged ({reject.detail}); prepare the source again") from reject
            positions += (first + rows_N).tolist()
            on_progress(len(positions), 0, total)
    measured = pd.DataFrame(scores, index=positions, columns=Quality._fields)[list(SCORES)].astype(np.float32)
    return replace(facts, images=facts.images.join(measured))


def _overlapped(listing: pa.Table, options: PrepareOptions) -> Iterator[pa.Table]:
    """The decoders release the GIL, so threads suffice. At most one slice more than there are threads waits."""
    threads = usable_cores()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="look", initializer=torch.set_num_threads, initargs=(1,))
    pending: deque[Future[pa.Table]] = deque()
    try:
        for start in range(0, len(listing), SLICE_ROWS):
            pending.append(pool.submit(look_at_slice, listing.slice(start, SLICE_ROWS), options))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _scores(row: dict[str, Any]) -> dict[str, float]:
    if row.get("code") is not None:
        return {}
    try:
        measured = quality(decode_rgb(row["image"]), (row["source_width"], row["source_height"]))
    except Reject:  # what prepare_image made is whole; were it not, its scores alone would be missing
        return {}
    return {name: getattr(measured, name) for name in SCORES}
