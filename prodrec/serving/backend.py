"""What scores behind the application: this process, or deployments on Ray."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, TypeVar

from prodrec.models.bundle_info import ClassifierInfo, TaggerInfo, joined_id
from prodrec.scoring.explain import Method
from prodrec.scoring.heat_map import HeatMap
from prodrec.scoring.occlusion import OccluderConfig
from prodrec.scoring.recognition import Recognition
from prodrec.serving.bulk import BulkState

T = TypeVar("T")
# Candidates that a backend finds; a request may ask for fewer. Source: assumed.
MOST_CANDIDATES = 20
# Images of one request that are at work at once: half a batch of `EngineOptions.max_batch_size`. Source: assumed.
_AT_ONCE = 16


@dataclass(frozen=True)
class Served:
    """The bundles that gave an answer. Made once: their ids are hashes of all that they hold."""

    classifier: ClassifierInfo | None
    tagger: TaggerInfo | None

    @cached_property
    def bundle_id(self) -> str:
        """As the tables of the nightly job name them."""
        return joined_id(self.classifier, self.tagger)

    @cached_property
    def classifier_id(self) -> str | None:
        return self.classifier.bundle_id if self.classifier else None

    @cached_property
    def tagger_id(self) -> str | None:
        return self.tagger.bundle_id if self.tagger else None


class Scored(NamedTuple):
    """One image's answer, and who gave it."""

    recognition: Recognition
    served: Served


class Ask(NamedTuple):
    """What is to be explained; see `prodrec.scoring.explain.explain`."""

    label: str | None = None
    method: Method = "gradcam"
    occluder: OccluderConfig = OccluderConfig()


class Explained(NamedTuple):
    """A heat map, the picture with its heat over it as PNG, and the classifier's bundle."""

    heat_map: HeatMap
    overlay_png: bytes
    bundle_id: str


async def each(function: Callable[[bytes], Awaitable[Scored]], images: Sequence[bytes]) -> list[Scored]:
    """Of all images of a request, a few at a time: so one caller's many do not keep all others waiting."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(data: bytes) -> Scored:
        async with places:
            return await function(data)

    return await together(one(data) for data in images)


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all, in order; with the first that fails the others are cancelled, as nobody waits for them any more."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


class BulkRuns(Protocol):
    """Runs of the nightly job that were begun over HTTP."""

    async def start(self, manifest: bytes | None, name: str, input_uri: str | None) -> BulkState:
        """Begins a run of an uploaded manifest, or of one at an allowed place.

        Raises:
            Reject: `not_allowed`; UserError: the manifest cannot be read; Busy: as many runs as are allowed are going on.
        """

    async def state(self, run_id: str) -> BulkState | None: ...

    async def cancel(self, run_id: str) -> BulkState | None: ...

    async def results(self, run_id: str) -> AsyncIterator[bytes] | None:
        """The run's decisions as CSV, in pieces; None: there is no such run."""


class Backend(Protocol):
    """Scores images; any number of requests may use it at once.

    All raise: Busy, NotReady.
    """

    bulk: BulkRuns | None

    async def recognize(self, images: Sequence[bytes]) -> list[Scored]:
        """One answer an image, in order, with MOST_CANDIDATES candidates; a bad image is an answer with a reason code."""

    async def explain(self, data: bytes, ask: Ask) -> Explained:
        """Raises: Reject: the image cannot be used; ConfigError: no such label, no classifier, or what else cannot be explained."""

    async def photo(self, photo: str) -> bytes | None:
        """The reference photo of a label by its id, JPEG; None: no bundle that is served has it."""

    async def served(self) -> Served:
        """The bundles as they are now."""
