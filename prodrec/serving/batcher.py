"""Dynamic batching: what arrives while a batch is scored is the next batch.

Nothing waits for company, so a lone request costs no more than it must, and batches grow by themselves with the load. Ray's
`@serve.batch` closes a batch by the clock, whether the model is free or not: see docs/log.md, 2026-11-21, for both side by side.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Gathers items for a function that takes several at once; used by one event loop.

    Args:
        function: one result an item, in order; runs in a thread of its own, one batch at a time.
        most: items of a batch.
        thread: an executor of one thread; None: one of its own.
    """

    def __init__(self, function: Callable[[Sequence[Item]], Sequence[Result]], most: int, thread: ThreadPoolExecutor | None = None) -> None:
        self._function, self._most = function, most
        self._thread = thread or ThreadPoolExecutor(1, "score")
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._begun: float | None = None

    async def __call__(self, item: Item) -> Result:
        """The item's result. Raises: whatever the function raised for its batch."""
        loop = asyncio.get_running_loop()
        place: tuple[Item, asyncio.Future[Result]] = (item, loop.create_future())
        self._waiting.append(place)
        if self._runner is None:
            self._runner = loop.create_task(self._run(loop))
        return await place[1]

    def busy_s(self) -> float:
        """How long the batch that is scored now has taken, seconds; 0 where there is none."""
        return time.monotonic() - self._begun if self._begun is not None else 0.0

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Until nothing waits."""
        try:
            while batch := self._next():
                self._begun = time.monotonic()
                try:
                    results = await loop.run_in_executor(self._thread, self._function, [item for item, _ in batch])
                    if len(results) != len(batch):
                        raise ValueError(f"{len(results)} results of {len(batch)} items")
                    for (_, future), result in zip(batch, results, strict=True):
                        if not future.done():
                            future.set_result(result)
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
        finally:
            self._runner = self._begun = None

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """Those that nobody waits for any more are left out."""
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._most:
            place = self._waiting.popleft()
            if not place[1].done():
                batch.append(place)
        return batch
