"""A backend within this process: one thread scores, as requests come. For a laptop and for tests; it has no bulk runs."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from prodrec.models.bundle import Bundle
from prodrec.scoring.recognizer import Recognizer
from prodrec.serving.backend import MOST_CANDIDATES, Ask, BulkRuns, Explained, Scored, Served, explain_with
from prodrec.serving.metrics import BATCH_SIZE, Meter

T = TypeVar("T")


class LocalBackend:
    """Scores with bundles that this process holds.

    Args:
        classifier, tagger: one at least.

    Raises:
        ConfigError: neither is given.
    """

    bulk: BulkRuns | None = None

    def __init__(self, classifier: Bundle | None, tagger: Bundle | None, meter: Meter, device: str = "cpu") -> None:
        self._recognizer = Recognizer(classifier, tagger, device=device, top_k=MOST_CANDIDATES)
        self._served = Served(self._recognizer.classifier_info, self._recognizer.tagger_info)
        self._meter, self._thread = meter, ThreadPoolExecutor(1, "score")

    async def recognize(self, images: Sequence[bytes]) -> list[Scored]:
        found = await self._run(lambda: self._recognizer.recognize(images))
        self._meter.note(BATCH_SIZE, len(images), kind="recognizer")
        return [Scored(recognition, self._served) for recognition in found]

    async def explain(self, data: bytes, ask: Ask) -> Explained:
        return await self._run(lambda: explain_with(self._recognizer, data, ask))

    async def served(self) -> Served:
        return self._served

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
