"""From image bytes to model inputs, in threads.

Images are prepared as `prodrec prepare` does and transformed as each bundle says, so that what is served is what was judged.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import torch

from prodrec.errors import Reject, RejectCode
from prodrec.images.box_transforms import place
from prodrec.images.decode import decode_rgb, prepare_image
from prodrec.images.formats import ImageLimits
from prodrec.images.objects import Objects
from prodrec.images.pictures import is_short
from prodrec.images.quality import WORKING_SIDE_PX, quality
from prodrec.images.transforms import resize
from prodrec.models.bundle_info import BundleInfo
from prodrec.scoring.recognition import Recognition

# Side that the photo rules are measured at where the bundles see less. Source: benchmarks/quality.py, whose limits hold there.
QUALITY_SIDE_PX = 256


class Inputs(NamedTuple):
    """One image as each model takes it: uint8 [3, S, S], and where it lies in the tagger's."""

    answer: Recognition
    to_classify: torch.Tensor | None = None
    to_tag: torch.Tensor | None = None
    frame: Objects | None = None


def make_inputs(data: bytes, classifier: BundleInfo | None, tagger: BundleInfo | None, limits: ImageLimits = ImageLimits()) -> Inputs:
    """Each bundle sees the image as its own data set was prepared; an image that cannot be used is an answer with a reason code."""
    start = time.perf_counter()
    try:
        made = _inputs(data, classifier, tagger, limits)
    except Reject as reject:
        return Inputs(_rejected(reject))
    except Exception as error:  # whatever one picture does to a kernel, the others of its batch must not suffer
        return Inputs(_rejected(Reject(RejectCode.CRASHED, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")))
    timings_ms = {"prepare": 1e3 * (time.perf_counter() - start)}
    return made._replace(answer=replace(made.answer, timings_ms=timings_ms))


def _inputs(data: bytes, classifier: BundleInfo | None, tagger: BundleInfo | None, limits: ImageLimits) -> Inputs:
    sides = {info.short_side for info in (classifier, tagger) if info}
    # The larger bundle's pixels tell the quality, unless they are too few: preparing an image once more doubles what it costs.
    judged = max(sides) if max(sides) >= WORKING_SIDE_PX else QUALITY_SIDE_PX
    made = {side: prepare_image(data, side, limits) for side in sides | {judged}}
    first, pixels = made[judged], {side: decode_rgb(image.jpeg) for side, image in made.items()}
    size = first.source_width, first.source_height
    to_classify = resize(pixels[classifier.short_side], classifier.input) if classifier else None
    to_tag = frame = None
    if tagger:
        shown = torch.tensor([[0.0, 0.0, made[tagger.short_side].width, made[tagger.short_side].height]])
        to_tag, frame = place(pixels[tagger.short_side], Objects.none_on(shown, torch.tensor([size]).float()), tagger.input)
    answer = Recognition(*size, first.sha256, first.phash, quality=quality(pixels[judged], size))
    return Inputs(answer, to_classify, to_tag, frame)


class Crowded(Exception):
    """Too many images that may take long are at work."""


class InputThreads:
    """Prepares images in threads: what is short in most of them, what may take long beside them, so that nothing waits for it.

    No thread is ever stuck: what may take long is decoded in a process that ends itself (`prodrec.images.apart`).

    Args:
        threads: that prepare short images at once; half as many, but one at least, wait for long ones.
        most_long: images that may take long, at work or waiting at once; one more is `Crowded`. None: any number.
    """

    def __init__(self, make: Callable[[bytes], Inputs], threads: int, most_long: int | None = None) -> None:
        self._make = make
        self._places = threading.Semaphore(most_long) if most_long else None
        self._short, self._long = _threads(threads, "prepare"), _threads(max(1, threads // 2), "prepare-long")

    def submit(self, images: Sequence[bytes]) -> list[Future[Inputs]]:
        """Begins a batch; a future an image, in order."""
        return [self._begun(data) for data in images]

    async def prepared(self, data: bytes) -> Inputs:
        """The inputs of one image, for a server's event loop. Where nobody waits any more, what has not begun never will.

        Raises: Crowded.
        """
        return await asyncio.wrap_future(self._begun(data))

    def _begun(self, data: bytes) -> Future[Inputs]:
        future: Future[Inputs] = Future()
        self._short.submit(self._sort, data, future)
        return future

    def _sort(self, data: bytes, future: Future[Inputs]) -> None:
        if future.cancelled() or is_short(data):
            self._run(data, future)
        elif self._has_place_until(future):
            self._long.submit(self._run, data, future)
        elif future.set_running_or_notify_cancel():
            future.set_exception(Crowded())

    def _has_place_until(self, future: Future[Inputs]) -> bool:
        if (places := self._places) is None:
            return True
        if has_place := places.acquire(blocking=False):
            future.add_done_callback(lambda _: places.release())
        return has_place

    def _run(self, data: bytes, future: Future[Inputs]) -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(self._make(data))
            except BaseException as error:
                future.set_exception(error)


def _threads(count: int, name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, name, initializer=torch.set_num_threads, initargs=(1,))


def _rejected(reject: Reject) -> Recognition:
    return Recognition(code=reject.code.value, detail=reject.detail)
