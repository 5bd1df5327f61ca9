"""Image bytes to a Recognition: which product, what is on the picture, how good a photo it is."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Any

import torch

from prodrec.errors import ConfigError
from prodrec.images.formats import ImageLimits
from prodrec.images.objects import to_source
from prodrec.images.views import Views
from prodrec.labels import Label
from prodrec.machine import usable_cores
from prodrec.models.bundle import Bundle, load_bundle
from prodrec.models.scorer import Scorer
from prodrec.scoring.inputs import Inputs, InputThreads, make_inputs
from prodrec.scoring.recognition import Product, Recognition, Tag
from prodrec.shards.listing_shards import evenly

# Images scored at once. Source: assumed.
BATCH_SIZE = 16
# Batches that are prepared while one is scored. Source: assumed.
_AHEAD = 2


class Recognizer:
    """Scores images with a classifier, a tagger, or both. Used by one thread at a time.

    Args:
        precision: `bf16` or `fp32`; None: as each bundle was judged.
        top_k: number of candidates.
        threshold: least score of a tag; None: that of its label in the bundle.
        threads: that prepare images; None: the cores that this process may use.
        limits: what is refused unread or undecoded, or takes too long.
        most_long: images that may take long to decode, at once; see `InputThreads`.
    """

    def __init__(
        self,
        classifier: Bundle | None,
        tagger: Bundle | None,
        device: str = "cpu",
        precision: str | None = None,
        top_k: int = 5,
        threshold: float | None = None,
        threads: int | None = None,
        limits: ImageLimits = ImageLimits(),
        most_long: int | None = None,
    ) -> None:
        if not classifier and not tagger:
            raise ConfigError("there is nothing to recognize with; give --classifier BUNDLE, --tagger BUNDLE or both")
        self.classifier, self.tagger = (Scorer(bundle, torch.device(device), precision) if bundle else None for bundle in (classifier, tagger))
        self.top_k, self.threshold = top_k, threshold
        self.classifier_info, self.tagger_info = (bundle.info if bundle else None for bundle in (classifier, tagger))
        make = partial(make_inputs, classifier=self.classifier_info, tagger=self.tagger_info, limits=limits)
        self.inputs = InputThreads(make, threads or usable_cores(), most_long)

    @classmethod
    def load(cls, classifier: str | None = None, tagger: str | None = None, **options: Any) -> "Recognizer":
        """From the folders of bundles; `options` as of the class.

        Raises: BundleError: no whole bundle of its kind; ConfigError: neither is given.
        """
        device = options.get("device", "cpu")
        loaded = [load_bundle(uri, device, kind) if uri else None for uri, kind in ((classifier, "classifier"), (tagger, "tagger"))]
        return cls(loaded[0], loaded[1], **options)

    def recognize(self, images: Sequence[bytes]) -> list[Recognition]:
        """One answer an image, in order; an image that cannot be used is an answer with a reason code."""
        return list(self.stream(images))

    def stream(self, images: Iterable[bytes]) -> Iterator[Recognition]:
        """As `recognize`, one by one; the next images are prepared while some are scored."""
        coming = iter(images)
        for batch in self._prepared(iter(lambda: list(islice(coming, BATCH_SIZE)), [])):
            yield from self.score(batch)

    @property
    def fuses(self) -> bool:
        """Whether the classifier sees the views of a listing together."""
        return self.classifier_info is not None and self.classifier_info.model.fuse is not None

    def recognize_listings(self, listings: Sequence[Sequence[bytes]]) -> list[list[Recognition]]:
        """One answer an image, listing by listing, views in order.

        A classifier that fuses views tells the product of a listing by all of its usable images: each of them has this one answer.
        """
        if not self.fuses:
            answers = self.stream(chain.from_iterable(listings))
            return [list(islice(answers, len(listing))) for listing in listings]
        chunks = list(_chunks(listings))
        prepared = self._prepared([list(chain.from_iterable(chunk)) for chunk in chunks])
        found = ((iter(self.score(batch, [len(listing) for listing in chunk])), chunk) for batch, chunk in zip(prepared, chunks, strict=True))
        return [list(islice(answers, len(listing))) for answers, chunk in found for listing in chunk]

    def score(self, batch: Sequence[Inputs], listings: Sequence[int] | None = None) -> Iterator[Recognition]:
        """Answers to images that are prepared, in order: all good ones in one forward pass a bundle.

        Args:
            listings: images of each listing, to see their views together; None: each image is one.
        """
        good = [item for item in batch if not item.answer.code]
        classified = iter(self._classify(good) if listings is None else self._classify_listings(batch, listings))
        tagged = iter(self._tag(good))
        for item in batch:
            yield item.answer if item.answer.code else _joined(item.answer, next(classified), next(tagged))

    def _classify(self, batch: list[Inputs]) -> list[dict[str, Any]]:
        if not self.classifier or not batch:
            return [{}] * len(batch)
        start = time.perf_counter()
        return _timed("classify", start, self._named(*self.classifier.described(_stacked([item.to_classify for item in batch]))))

    def _classify_listings(self, batch: Sequence[Inputs], listings: Sequence[int]) -> list[dict[str, Any]]:
        """One answer for each good image: that of its listing."""
        assert self.classifier is not None
        start, coming = time.perf_counter(), iter(batch)
        good = [[item for item in islice(coming, size) if not item.answer.code] for size in listings]
        good = [items for items in good if items]
        if not good:
            return []
        shown = [[items[i] for i in evenly(len(items), self.classifier.info.model.max_views)] for items in good]
        views = Views(_stacked([item.to_classify for items in shown for item in items]), torch.tensor([len(items) for items in shown]))
        found = self._named(*self.classifier.described(views))
        return _timed("classify", start, [answer for answer, items in zip(found, good, strict=True) for _ in items])

    def _named(self, logits_BK: torch.Tensor, embeddings_BE: torch.Tensor | None) -> list[dict[str, Any]]:
        """Products, energy and embedding of each row."""
        assert self.classifier is not None
        info = self.classifier.info
        best = (logits_BK / info.temperature).softmax(1).topk(min(self.top_k, len(info.labels)))
        rows = zip(best.indices.tolist(), best.values.tolist(), (-logits_BK.logsumexp(1)).tolist(), strict=True)
        found: list[dict[str, Any]] = []
        for ids, shares, energy in rows:
            found.append({"products": tuple(_product(info, k, p) for k, p in zip(ids, shares, strict=True)), "energy": energy})
        if embeddings_BE is not None:
            found = [item | {"embedding": row} for item, row in zip(found, embeddings_BE.cpu().numpy(), strict=True)]
        return found

    def _prepared(self, batches: Iterable[list[bytes]]) -> Iterator[list[Inputs]]:
        waiting: deque[list[Future[Inputs]]] = deque()
        for batch in batches:
            waiting.append(self.inputs.submit(batch))
            if len(waiting) > _AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]

    def _tag(self, batch: list[Inputs]) -> list[dict[str, Any]]:
        if not self.tagger or not batch:
            return [{}] * len(batch)
        start, info, answers = time.perf_counter(), self.tagger.info, []
        thresholds_K = torch.tensor(info.thresholds if self.threshold is None else [self.threshold] * len(info.labels))
        for found, item in zip(self.tagger(_stacked([item.to_tag for item in batch])), batch, strict=True):
            assert item.frame is not None
            scores, labels = found.scores_N.cpu(), found.labels_N.cpu()
            kept = scores >= thresholds_K[labels]
            boxes = to_source(found.boxes_N4.cpu()[kept], item.frame.frames_B4, item.frame.sources_B2)
            rows = zip(labels[kept].tolist(), scores[kept].tolist(), boxes.tolist(), strict=True)
            answers.append({"tags": tuple(_tag(info.labels[label], score, box) for label, score, box in rows)})
        return _timed("tag", start, answers)


def joined(classified: Recognition, tagged: Recognition, judged: Recognition) -> Recognition:
    """One answer of a classifier's and a tagger's that were asked apart, equal to that of a recognizer with both.

    Args:
        judged: the one of them whose bundle sees more pixels: quality and hashes are taken from there.
    """
    if bad := next((answer for answer in (classified, tagged) if answer.code), None):
        return bad
    both = (classified.timings_ms, tagged.timings_ms)
    timings_ms = {stage: max(timings.get(stage, 0.0) for timings in both) for stage in both[0] | both[1]}  # they worked side by side
    return replace(judged, products=classified.products, energy=classified.energy, embedding=classified.embedding, tags=tagged.tags, timings_ms=timings_ms)


def _chunks(listings: Sequence[Sequence[bytes]]) -> Iterator[list[Sequence[bytes]]]:
    """Whole listings with about `BATCH_SIZE` images together."""
    chunk: list[Sequence[bytes]] = []
    for listing in listings:
        chunk.append(listing)
        if sum(map(len, chunk)) >= BATCH_SIZE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _product(info: Any, label_id: int, probability: float) -> Product:
    label: Label = info.labels[label_id]
    return Product(label.name, label.group, probability, label.title, label.group_title, label.link, label.photo)


def _tag(label: Label, score: float, box: Sequence[float]) -> Tag:
    return Tag(label.name, score, (box[0], box[1], box[2], box[3]), label.title, label.link, label.photo)


def _stacked(images: Sequence[torch.Tensor | None]) -> torch.Tensor:
    return torch.stack([image for image in images if image is not None])


def _timed(stage: str, start: float, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    each_ms = 1e3 * (time.perf_counter() - start) / len(found)
    return [item | {"timings_ms": {stage: each_ms}} for item in found]


def _joined(answer: Recognition, classified: dict[str, Any], tagged: dict[str, Any]) -> Recognition:
    parts = (classified, tagged)
    timings_ms = answer.timings_ms | {stage: ms for part in parts for stage, ms in part.get("timings_ms", {}).items()}
    return replace(answer, **(classified | tagged | {"timings_ms": timings_ms}))
