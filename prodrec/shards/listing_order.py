"""How the images of a listing stay together on their way into the shards.

A *sequence* is a run of neighbouring rows with one listing_id and one label, ordered by view: what a model that fuses views sees
at once. A row without a listing_id is a sequence of one. Images of one listing with different labels are several sequences (they
show several products), and more than `LONGEST` images are cut: nothing is rejected for it.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from prodrec.shards.order import Ints

# Images of a sequence at most: it is prepared by one task and read at once. Source: assumed; some 10 s of video frames.
LONGEST = 256


def gathered(listing: pa.Table, shuffle: bool) -> tuple[pa.Table, Ints]:
    """Rows by sequence.

    Args:
        listing: of LISTING_SCHEMA.
        shuffle: mix the sequences (always alike); else they stand in the order of their first rows.

    Returns:
        The rows, and where sequences end, ascending.
    """
    rows = len(listing)
    if not rows or listing["listing_id"].null_count == rows:
        number_N, view_N = np.arange(rows), np.zeros(rows)
    else:
        number_N = _numbers(listing)
        view_N = listing["view"].to_pandas().fillna(np.inf).to_numpy(np.float64)
    count = int(number_N.max()) + 1 if rows else 0
    place = np.empty(count, dtype=np.int64)
    place[np.random.default_rng(0).permutation(count) if shuffle else np.arange(count)] = np.arange(count)
    order = np.lexsort((view_N, place[number_N]))  # stable: equal views stay in the order of the source
    return listing.take(pa.array(order)), _ends(number_N[order])


def sequence_ends(listing_id: pa.ChunkedArray | pa.Array, label: pa.ChunkedArray | pa.Array) -> Ints:
    """Where the sequences of rows end that lie as `gathered` leaves them, ascending; [N] columns."""
    rows = len(listing_id)
    if listing_id.null_count == rows:
        return np.arange(1, rows + 1, dtype=np.int64)
    ids = listing_id.to_pandas()
    same = ids.eq(ids.shift()) & label.to_pandas().eq(label.to_pandas().shift())
    return _ends(np.cumsum(~same.to_numpy(bool)))


def cuts(ends: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Spans of at most `most` rows that end where sequences end; a longer sequence is a span of its own."""
    start = 0
    while len(ends) and start < ends[-1]:
        last = max(int(np.searchsorted(ends, start + most, side="right")) - 1, int(np.searchsorted(ends, start, side="right")))
        yield start, int(ends[last])
        start = int(ends[last])


def _numbers(listing: pa.Table) -> npt.NDArray[np.int64]:
    """[N], the number of each row's sequence, by first appearance."""
    listing_id, _ = pd.factorize(listing["listing_id"].to_pandas())
    label, labels = pd.factorize(listing["label"].to_pandas())
    together = listing_id.astype(np.int64) * (len(labels) + 1) + label + 1
    alone = -1 - np.arange(len(listing), dtype=np.int64)
    numbers, _ = pd.factorize(np.where(listing_id < 0, alone, together))
    return numbers.astype(np.int64)


def _ends(number_N: Ints) -> Ints:
    """Ends of runs of equal numbers, and every `LONGEST` rows within one."""
    starts = np.flatnonzero(np.diff(number_N, prepend=number_N[:1] - 1))
    position_N = np.arange(len(number_N)) - np.repeat(starts, np.diff(starts, append=len(number_N)))
    is_last_N = np.append(np.diff(number_N) != 0, True)[: len(number_N)]
    return (np.flatnonzero(is_last_N | ((position_N + 1) % LONGEST == 0)) + 1).astype(np.int64)
