"""Which rows go into which shard, in which order, and where row groups end.

Rows stand in the order of a hash of their bytes, or of their listing's name where they have one: each shard, and each run of rows, is a
random sample, whatever the order of the source, and the images of a listing lie together.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from prodrec.shards.listing_order import cuts, sequence_ends
from prodrec.shards.order import Ints
from prodrec.sources.schema import SPLITS

SHARD_BYTES = 96 * 2**20  # Source: the 64-128 MB; large enough for object stores, small enough to balance
ROW_GROUP_ROWS = 256  # about 5 MB at short side 256; the unit of reading. Source: docs/log.md 2026-11-21

# Hex digits of a sha256 that order rows; the first ones order the division into splits (`prodrec.shards.split`), and must not do both.
_DIGITS = slice(16, 31)


class PlannedShard(NamedTuple):
    """One shard to be written.

    Attributes:
        rows: numbers of its rows among the staged ones, in order.
        row_groups: rows of each.
    """

    split: str
    name: str
    rows: Ints
    row_groups: list[int]


def plan_shards(kept: pd.DataFrame) -> list[PlannedShard]:
    """The shards of all splits.

    Args:
        kept: rows with split, sha256, listing_id, label, objects and image_bytes; numbered by its index.
    """
    planned = []
    for split in SPLITS:
        part = kept[kept["split"] == split]
        part = part.iloc[np.argsort(order_keys(part["sha256"], part["listing_id"]), kind="stable")]
        spans = list(_spans(part))
        for number, (low, high, row_groups) in enumerate(spans):
            name = f"{split}-{number:05d}-of-{len(spans):05d}.parquet"
            planned.append(PlannedShard(split, name, part.index[low:high].to_numpy(np.int64), row_groups))
    return planned


def order_keys(sha256: pd.Series, listing_id: pd.Series) -> npt.NDArray[np.int64]:
    """[N], what rows are ordered by."""
    named = {name: hashlib.sha256(name.encode()).hexdigest() for name in listing_id.dropna().unique()}
    digests = listing_id.map(named).where(listing_id.notna(), sha256) if named else sha256
    return np.array([int(digest[_DIGITS], 16) for digest in digests], dtype=np.int64)


def _spans(part: pd.DataFrame) -> Iterator[tuple[int, int, list[int]]]:
    """(start, stop, row groups) of each shard of a split: all end where listings end."""
    label = part["label"].where(part["objects"].isna())  # as shards have it: images with boxes have no label of their own
    ends = sequence_ends(*(pa.array(column, pa.string(), from_pandas=True) for column in (part["listing_id"], label)))
    shards = -(-int(part["image_bytes"].sum()) // SHARD_BYTES) or 1
    most = -(-len(part) // (shards * ROW_GROUP_ROWS)) * ROW_GROUP_ROWS
    for low, high in cuts(ends, most):
        inside = ends[np.searchsorted(ends, low, side="right") : np.searchsorted(ends, high, side="right")] - low
        yield low, high, [stop - start for start, stop in cuts(inside, ROW_GROUP_ROWS)]
