"""Keeping a device busy, and knowing what it waited for."""

import time
from collections.abc import Iterator
from itertools import chain, pairwise

import torch

from prodrec.shards.stream import Batch


def read_behind(items: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Each item on the host, once the next is under way: between two steps a device then never waits for the host.

    Its copy is queued before the next step is, and waited for by an event of its own: `.cpu()` would wait for the next step too.
    """
    for before, _ in pairwise(chain(map(_Arriving, items), [None])):
        assert before is not None
        yield before.there()


class _Arriving:
    """A tensor on its way to the host."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values, self.event = values, None
        if values.device.type == "cuda":
            self.values, self.event = torch.empty(values.shape, dtype=values.dtype, pin_memory=True), torch.cuda.Event()
            self.values.copy_(values, non_blocking=True)
            self.event.record()

    def there(self) -> torch.Tensor:
        if self.event:
            self.event.synchronize()
        return self.values


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
