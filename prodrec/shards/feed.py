"""From rows in an order to batches, ahead of whoever computes with them.

    two threads read windows -> one cuts them into steps -> `threads` of them decode, a step each -> the consumer

Reading waits and the kernels of decoding release the GIL, so threads suffice and nothing is copied between processes. They work on
from one pass to the next: nothing is drained where an epoch ends and val begins. What a batch holds, and the order of batches,
follow from the order of rows alone, never from who was quicker.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, pairwise, tee
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from prodrec.shards.ahead import Ahead
from prodrec.shards.order import EpochOrder, Window
from prodrec.shards.reading import SplitIndex
from prodrec.shards.stream import AnyTransform, Batch, decode_batch

# Windows that are read at the same time, and ahead: a store far away answers several requests as quickly as one. Source: benchmarks/feed.py.
_READERS = 2


class Pass(NamedTuple):
    """Rows of a split, each shown once or more: an epoch, a look at a split, a part of one."""

    split: SplitIndex
    order: EpochOrder
    transform: AnyTransform


Away = Callable[[Pass], Iterator[pa.Table]]
"""Reads and decodes a pass away from this process; its tables may be cut anywhere: lane, row, occurrence, and `pixels` as `decode_pixels` makes them."""


class Feed:
    """Batches of one pass after another; the first are in work as soon as this is made.

    Args:
        plan: passes in the order in which they are taken; asked for one by one, shortly before they are needed.
        threads: decoding threads; as many batches, and one more, are in work ahead of the consumer.
        pin_memory: page-locks what a GPU takes, which the host then need not wait for.
        away: who reads and decodes instead; None: this process.
    """

    def __init__(self, plan: Iterable[Pass], threads: int, pin_memory: bool = False, away: Away | None = None) -> None:
        self._steps = Ahead(_steps_of(iter(plan), threads, pin_memory, away), threads)

    def next_pass(self) -> tuple[Pass, Iterator[Batch]]:
        """The next pass of the plan with its batches; what was not taken of the pass before is passed over."""
        one = next(item for item in self._steps if isinstance(item, Pass))
        return one, map(Future.result, iter(self._steps.__next__, None))  # type: ignore[arg-type]

    def close(self) -> None:
        """Ends the work ahead, where no more is taken."""
        self._steps.close()


def batches(one: Pass, threads: int, pin_memory: bool = False, away: Away | None = None) -> Iterator[Batch]:
    """The batches of a single pass, as `Feed`."""
    return Feed([one], threads, pin_memory, away).next_pass()[1]


def read_windows(pool: ThreadPoolExecutor, windows: Iterable[tuple[SplitIndex, Window]]) -> Iterator[pa.Table]:
    """The rows of each window in turn, while the next `_READERS` are read."""
    under_way: deque[Future[pa.Table]] = deque()
    for split, window in windows:
        under_way.append(pool.submit(split.read, window))
        if len(under_way) > _READERS:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def _steps_of(plan: Iterator[Pass], threads: int, pin_memory: bool, away: Away | None) -> Iterator[Pass | Future[Batch] | None]:
    """Each pass, the batches of its steps, under way, and None."""
    decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode", initializer=torch.set_num_threads, initargs=(1,))
    readers = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
    read: Iterator[pa.Table] = iter(())
    if away is None:
        plan, to_read = tee(plan)
        read = read_windows(readers, ((one.split, window) for one in to_read for window in one.order.windows))
    try:
        for one in plan:
            yield one
            tables = away(one) if away else islice(read, len(one.order.windows))
            for table in _steps(tables, one.order):
                yield decoders.submit(decode_batch, table, one.transform, pin_memory)
            yield None
    finally:
        decoders.shutdown(wait=False)
        readers.shutdown(wait=False, cancel_futures=True)


def _steps(tables: Iterator[pa.Table], order: EpochOrder) -> Iterator[pa.Table]:
    """Cuts the stream into steps, each with its share of every lane."""
    lanes = list(dict.fromkeys(window.lane for window in order.windows))
    waiting: dict[int, list[pa.Table]] = {lane: [] for lane in lanes}
    for sizes in order.steps:
        parts = []
        for lane, size in zip(lanes, sizes, strict=True):
            while sum(t.num_rows for t in waiting[lane]) < size:
                for number, part in _by_lane(next(tables)):
                    waiting[number].append(part)
            buffered = pa.concat_tables(waiting[lane])
            parts.append(buffered.slice(0, size))
            waiting[lane] = [buffered.slice(size)]
        yield pa.concat_tables(parts)


def _by_lane(table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Splits a table where its lane changes; who reads elsewhere may have joined neighbouring windows."""
    lane = table["lane"].to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(lane)) + 1), len(lane)]
    for low, high in pairwise(edges):
        if high > low:
            yield int(lane[low]), table.slice(low, high - low)
