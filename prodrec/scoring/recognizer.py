"""Image bytes to a Recognition: which product, and what is on the picture. NOT covered yet: quality, embeddings.

Images are prepared as `prodrec prepare` does and transformed as each bundle says, so that what is served is what was judged.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from prodrec.data.box_transforms import place
from prodrec.data.decode import decode_rgb, prepare_image
from prodrec.data.objects import Objects, to_source
from prodrec.data.transforms import Normalizer, resize
from prodrec.errors import ConfigError, Reject
from prodrec.machine import usable_cores
from prodrec.models.bundle import Bundle, load_bundle

# Images scored at once. Source: assumed.
_BATCH_SIZE = 16


@dataclass(frozen=True)
class Product:
    """One candidate: its label, its group where it has one, and its calibrated probability."""

    label: str
    group: str | None
    probability: float


@dataclass(frozen=True)
class Tag:
    """One thing on an image: its label, its score (0 to 1, no probability) and its box, xyxy pixels of the upright original."""

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Recognition:
    """What is known of one image.

    Attributes:
        width, height: of the upright original, pixels; None for a reject.
        products: the likeliest first; () without a classifier.
        tags: the best first; () without a tagger.
        code, detail: why the image could not be used; None where it could.
    """

    width: int | None = None
    height: int | None = None
    products: tuple[Product, ...] = ()
    tags: tuple[Tag, ...] = ()
    code: str | None = None
    detail: str | None = None


class _Inputs(NamedTuple):
    """One image as each model takes it: uint8 [3, S, S], and where it lies in the tagger's."""

    answer: Recognition
    to_classify: torch.Tensor | None
    to_tag: torch.Tensor | None
    frame: Objects | None


class Recognizer:
    """Scores images with a classifier, a tagger, or both.

    Args:
        top_k: number of candidates.
        threshold: least score of a tag; None: that of its label in the bundle.
    """

    def __init__(self, classifier: Bundle | None, tagger: Bundle | None, device: torch.device, top_k: int = 5, threshold: float | None = None) -> None:
        if not classifier and not tagger:
            raise ConfigError("there is nothing to recognize with; give --classifier BUNDLE, --tagger BUNDLE or both")
        self.classifier, self.tagger, self.device, self.top_k = classifier, tagger, device, top_k
        self.threshold = threshold
        self.normalizers = {bundle.info.kind: Normalizer(bundle.info.input).to(device) for bundle in (classifier, tagger) if bundle}

    @classmethod
    def load(
        cls, classifier: str | None = None, tagger: str | None = None, device: str = "cpu", top_k: int = 5, threshold: float | None = None
    ) -> "Recognizer":
        """Raises: BundleError: no whole bundle of its kind; ConfigError: neither is given."""
        bundles = [load_bundle(uri, device, kind) if uri else None for uri, kind in ((classifier, "classifier"), (tagger, "tagger"))]
        return cls(bundles[0], bundles[1], torch.device(device), top_k, threshold)

    @torch.inference_mode()
    def recognize(self, images: Sequence[bytes]) -> list[Recognition]:
        """One answer an image, in order; an image that cannot be used is an answer with a reason code."""
        answers = []
        with ThreadPoolExecutor(usable_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for start in range(0, len(images), _BATCH_SIZE):
                batch = list(pool.map(self._prepare, images[start : start + _BATCH_SIZE]))
                good = [item for item in batch if not item.answer.code]
                products, tags = iter(self._classify(good)), iter(self._tag(good))
                answers += [item.answer if item.answer.code else replace(item.answer, products=next(products), tags=next(tags)) for item in batch]
        return answers

    def _prepare(self, data: bytes) -> _Inputs:
        """Each bundle sees the image as its own data set was prepared."""
        try:
            made = {side: prepare_image(data, side) for side in {bundle.info.short_side for bundle in (self.classifier, self.tagger) if bundle}}
        except Reject as reject:
            return _Inputs(Recognition(code=reject.code.value, detail=reject.detail), None, None, None)
        first = next(iter(made.values()))
        answer, to_classify = Recognition(first.source_width, first.source_height), None
        if self.classifier:
            to_classify = resize(decode_rgb(made[self.classifier.info.short_side].jpeg), self.classifier.info.input)
        if not self.tagger:
            return _Inputs(answer, to_classify, None, None)
        shown = made[self.tagger.info.short_side]
        size, source = torch.tensor([[0.0, 0.0, shown.width, shown.height]]), torch.tensor([[float(shown.source_width), float(shown.source_height)]])
        return _Inputs(answer, to_classify, *place(decode_rgb(shown.jpeg), Objects.none_on(size, source), self.tagger.info.input))

    def _classify(self, batch: list[_Inputs]) -> list[tuple[Product, ...]]:
        if not self.classifier or not batch:
            return [()] * len(batch)
        info = self.classifier.info
        logits_BK = self.classifier.model(self._stacked("classifier", [item.to_classify for item in batch]))
        best = (logits_BK.float() / info.temperature).softmax(1).topk(min(self.top_k, len(info.labels)))
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [tuple(Product(info.labels[k].name, info.labels[k].group, p) for k, p in zip(*row, strict=True)) for row in rows]

    def _tag(self, batch: list[_Inputs]) -> list[tuple[Tag, ...]]:
        if not self.tagger or not batch:
            return [()] * len(batch)
        info, answers = self.tagger.info, []
        thresholds_K = torch.tensor(info.thresholds if self.threshold is None else [self.threshold] * len(info.labels))
        for found, item in zip(self.tagger.model(self._stacked("tagger", [item.to_tag for item in batch])), batch, strict=True):
            assert item.frame is not None
            scores, labels = found.scores_N.cpu(), found.labels_N.cpu()
            kept = scores >= thresholds_K[labels]
            boxes = to_source(found.boxes_N4.cpu()[kept], item.frame.frames_B4, item.frame.sources_B2)
            rows = zip(labels[kept].tolist(), scores[kept].tolist(), boxes.tolist(), strict=True)
            answers.append(tuple(Tag(info.labels[label].name, score, (box[0], box[1], box[2], box[3])) for label, score, box in rows))
        return answers

    def _stacked(self, kind: str, images: Sequence[torch.Tensor | None]) -> torch.Tensor:
        normalized: torch.Tensor = self.normalizers[kind](torch.stack([image for image in images if image is not None]).to(self.device))
        return normalized
