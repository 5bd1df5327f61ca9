"""From image bytes to model inputs, in threads and within a limit of time.

Images are prepared as `prodrec prepare` does and transformed as each bundle says, so that what is served is what was judged.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import torch

from prodrec.errors import Reject, RejectCode
from prodrec.images.box_transforms import place
from prodrec.images.decode import decode_rgb, prepare_image
from prodrec.images.formats import ImageLimits
from prodrec.images.objects import Objects
from prodrec.images.quality import WORKING_SIDE_PX, quality
from prodrec.images.transforms import resize
from prodrec.models.bundle_info import BundleInfo
from prodrec.scoring.recognition import Recognition

# Side that the photo rules are measured at where the bundles see less. Source: benchmarks/quality.py, whose limits hold there.
QUALITY_SIDE_PX = 256
# How often a limit of time is looked at, seconds. Source: assumed.
_POLL_S = 0.05


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


class InputThreads:
    """Prepares images in threads. An image that takes longer than the limit is rejected as `too_slow`, and costs its thread, no other image.

    Args:
        threads: that decode at once.
        limit_s: of one image, seconds.
    """

    def __init__(self, make: Callable[[bytes], Inputs], threads: int, limit_s: float) -> None:
        self.make, self.threads, self.limit_s = make, threads, limit_s
        self.pool = self._start()

    def submit(self, images: Sequence[bytes]) -> "list[Job]":
        """Begins a batch."""
        return [Job(self, data) for data in images]

    def collect(self, batch: "Sequence[Job]") -> list[Inputs]:
        """The inputs of a batch, in order."""
        return [job.result() for job in batch]

    async def prepared(self, data: bytes) -> Inputs:
        """The inputs of one image, for a server's event loop."""
        return await Job(self, data).outcome()

    def replace_threads(self) -> None:
        """Leaves a stuck thread behind: Python cannot end it."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.pool = self._start()

    def _start(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="prepare", initializer=torch.set_num_threads, initargs=(1,))


class Job:
    """One image in the threads."""

    def __init__(self, owner: InputThreads, data: bytes) -> None:
        self.owner, self.data = owner, data
        self.started: float | None = None
        self.future = self._submit()

    def result(self) -> Inputs:
        while True:
            try:
                return self.future.result(_POLL_S)
            except CancelledError:  # another image's thread was left behind before this one had begun
                self.future = self._submit()
            except TimeoutError:
                if self._is_late():
                    return self._given_up()

    async def outcome(self) -> Inputs:
        """As `result`; an event loop waits without a thread. Where nobody waits any more, what has not begun never will."""
        try:
            while True:
                done, _ = await asyncio.wait([asyncio.wrap_future(self.future)], timeout=self.owner.limit_s)
                if done and not self.future.cancelled():
                    return self.future.result()
                if done:
                    self.future = self._submit()
                elif self._is_late():
                    return self._given_up()
        except asyncio.CancelledError:
            if not self.future.cancel():  # its thread is at it, and may be stuck with nobody watching
                asyncio.get_running_loop().call_later(self.owner.limit_s, self._leave_behind)
            raise

    def _leave_behind(self) -> None:
        if not self.future.done() and self.pool is self.owner.pool:
            self.owner.replace_threads()

    def _is_late(self) -> bool:
        return self.started is not None and time.perf_counter() - self.started > self.owner.limit_s

    def _given_up(self) -> Inputs:
        self.owner.replace_threads()
        return Inputs(_rejected(Reject(RejectCode.TOO_SLOW, f"not prepared within {self.owner.limit_s:g} s")))

    def _submit(self) -> Future[Inputs]:
        self.pool = self.owner.pool
        return self.pool.submit(self._run)

    def _run(self) -> Inputs:
        self.started = time.perf_counter()
        return self.owner.make(self.data)


def _rejected(reject: Reject) -> Recognition:
    return Recognition(code=reject.code.value, detail=reject.detail)
