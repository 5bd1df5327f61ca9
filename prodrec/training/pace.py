"""Keeping a device busy, and knowing what it waited for."""

import time
from collections.abc import Iterator
from itertools import chain, pairwise

import torch

from prodrec.shards.stream import Batch


def prefetch_one(items: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Passes each item on once the next is under way: reading a step's sums then never makes the device wait for the host."""
    for before, _ in pairwise(chain(items, [torch.empty(0)])):
        yield before


class Stopwatch:
    """Adds up the time that a consumer waits for its items."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def for_each(self, items: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            started = time.monotonic()
            item = next(items, None)
            self.seconds += time.monotonic() - started
            if item is None:
                return
            yield item
