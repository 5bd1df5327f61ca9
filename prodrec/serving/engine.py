"""Bundles at work online: each image is prepared when it comes, and scored with those that have gathered meanwhile."""

import asyncio
import io
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from PIL import Image

from prodrec.errors import ConfigError, ProdrecError
from prodrec.images.formats import ImageLimits
from prodrec.machine import usable_cores
from prodrec.models.bundle import Bundle
from prodrec.scoring.explain import explain
from prodrec.scoring.heat_map import overlay
from prodrec.scoring.inputs import Crowded, Inputs
from prodrec.scoring.recognition import Recognition
from prodrec.scoring.recognizer import Recognizer
from prodrec.serving.backend import MOST_CANDIDATES, Ask, Explained, Scored, Served
from prodrec.serving.batcher import Batcher
from prodrec.serving.metrics import BATCH_SIZE, Meter
from prodrec.serving.settings import EngineOptions
from prodrec.serving.unavailable import Busy

# A batch that is scored for longer will not end. Source: assumed; a hundred times a large model's on a CPU.
STUCK_S = 120.0


class Engine:
    """The online side of a `Recognizer`; used by one event loop.

    Raises:
        ConfigError: neither a classifier nor a tagger is given.
    """

    def __init__(self, classifier: Bundle | None, tagger: Bundle | None, meter: Meter, device: str = "cpu", options: EngineOptions = EngineOptions()) -> None:
        self._limits = ImageLimits(max_pixels=options.max_pixels)
        limited: dict[str, Any] = {"threads": options.threads, "limits": self._limits, "most_long": options.max_long}
        self._recognizer = Recognizer(classifier, tagger, device=device, top_k=MOST_CANDIDATES, **limited)
        self.served = Served(self._recognizer.classifier_info, self._recognizer.tagger_info)
        self._photos = [bundle.photos for bundle in (classifier, tagger) if bundle]
        self._kind = "classifier" if tagger is None else "tagger" if classifier is None else "both"
        self._meter, self._options = meter, options
        half = max(1, (options.threads or usable_cores()) // 2)  # the other half prepares what is scored next
        self._batcher: Batcher[_Waiting, Recognition] = Batcher(self._score, options.max_batch_size, _torch_thread("score", half))
        self._explainer, self._explaining = _torch_thread("explain", half), 0
        # The first forward pass costs several: no request should pay for it, and what cannot score must not say that it is ready.
        if code := self._recognizer.recognize([_grey_picture()])[0].code:
            raise ProdrecError(f"a grey picture cannot be scored: {code}")

    async def recognize(self, data: bytes) -> Scored:
        """A bad image is an answer with a reason code. Raises: Busy: too many images that take long to decode."""
        try:
            inputs = await self._recognizer.inputs.prepared(data)
        except Crowded as error:
            raise Busy("too many images that take long to decode") from error
        if inputs.answer.code:
            return Scored(inputs.answer, self.served)
        return Scored(await self._batcher(_Waiting(inputs, time.perf_counter())), self.served)

    async def explain(self, data: bytes, ask: Ask) -> Explained:
        """Raises: Reject, ConfigError: as `Backend.explain`; Busy: too many heat maps are asked for."""
        if self._explaining >= self._options.max_explaining:
            raise Busy
        self._explaining += 1
        gone = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._explainer, self._explain, data, ask, gone)
        finally:
            gone.set()
            self._explaining -= 1

    async def photo(self, photo: str) -> bytes | None:
        """The reference photo with that id, JPEG."""
        return await asyncio.to_thread(lambda: next(filter(None, (place.get(photo) for place in self._photos)), None))

    def check(self) -> None:
        """Raises: ProdrecError: a batch does not come to an end."""
        if (took_s := self._batcher.busy_s()) > STUCK_S:
            raise ProdrecError(f"a batch has been scored for {took_s:.0f} s")

    def _score(self, batch: "Sequence[_Waiting]") -> list[Recognition]:
        start = time.perf_counter()
        self._meter.note(BATCH_SIZE, len(batch), kind=self._kind)
        answers = self._recognizer.score([waiting.inputs for waiting in batch])
        return [replace(answer, timings_ms=answer.timings_ms | {"wait": 1e3 * (start - waiting.since)}) for answer, waiting in zip(answers, batch, strict=True)]

    def _explain(self, data: bytes, ask: Ask, gone: threading.Event) -> Explained:
        def look(_done: int, _total: int) -> None:
            if gone.is_set():
                raise ProdrecError("nobody waits for this heat map any more")

        if self._recognizer.classifier is None:
            raise ConfigError("no classifier is served: there is no product to explain")
        heat_map = explain(self._recognizer.classifier, data, ask.label, ask.method, ask.occluder, look, self._limits)
        return Explained(heat_map, overlay(data, heat_map), self._recognizer.classifier.info.bundle_id)


class _Waiting(NamedTuple):
    """An image that waits for the batch before its own, since when (perf_counter)."""

    inputs: Inputs
    since: float


def _torch_thread(name: str, threads: int) -> ThreadPoolExecutor:
    """A thread that computes with so many: torch gives a new one what the last `set_num_threads` said, anywhere in the process."""
    return ThreadPoolExecutor(1, name, initializer=torch.set_num_threads, initargs=(threads,))


def _grey_picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (320, 320), (128, 128, 128)).save(out, "JPEG")
    return out.getvalue()
