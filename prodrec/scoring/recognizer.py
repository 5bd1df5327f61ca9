"""Image bytes to a Recognition. NOT covered yet: classifiers, quality, embeddings."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from prodrec.data.box_transforms import place
from prodrec.data.decode import PreparedImage, decode_rgb, prepare_image
from prodrec.data.objects import Objects, to_source
from prodrec.data.transforms import Normalizer
from prodrec.errors import Reject
from prodrec.machine import usable_cores
from prodrec.models.bundle import Bundle, load_bundle

# Images scored at once. Source: assumed.
_BATCH_SIZE = 16
# Larger images are shrunk to it first, as prepare does by default.
_SHORT_SIDE_PX = 320


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
        tags: best first.
        code, detail: why the image could not be used; None where it could.
    """

    width: int | None = None
    height: int | None = None
    tags: tuple[Tag, ...] = ()
    code: str | None = None
    detail: str | None = None


class Recognizer:
    """Scores images with a tagger.

    Args:
        tagger: a loaded bundle of that kind.
    """

    def __init__(self, tagger: Bundle, device: torch.device) -> None:
        self.tagger, self.device = tagger, device
        self.normalizer = Normalizer(tagger.info.input).to(device)

    @classmethod
    def load(cls, tagger: str, device: str = "cpu") -> "Recognizer":
        """Raises: BundleError: no whole bundle of this kind."""
        return cls(load_bundle(tagger, device, kind="tagger"), torch.device(device))

    def recognize(self, images: Sequence[bytes]) -> list[Recognition]:
        """One answer an image, in order; an image that cannot be used is an answer with a reason code."""
        with ThreadPoolExecutor(usable_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            prepared = list(pool.map(self._prepare, images))
        answers: list[Recognition] = [item if isinstance(item, Recognition) else Recognition() for item in prepared]
        good = [(i, item) for i, item in enumerate(prepared) if not isinstance(item, Recognition)]
        for start in range(0, len(good), _BATCH_SIZE):
            batch = good[start : start + _BATCH_SIZE]
            for (i, _), answer in zip(batch, self._tag([item for _, item in batch]), strict=True):
                answers[i] = answer
        return answers

    def _prepare(self, data: bytes) -> tuple[torch.Tensor, Objects] | Recognition:
        try:
            made = prepare_image(data, max(_SHORT_SIDE_PX, self.tagger.info.input.size))
        except Reject as reject:
            return Recognition(code=reject.code.value, detail=reject.detail)
        return place(decode_rgb(made.jpeg), _nothing_on(made), self.tagger.info.input)

    @torch.inference_mode()
    def _tag(self, placed: list[tuple[torch.Tensor, Objects]]) -> list[Recognition]:
        images = torch.stack([image for image, _ in placed]).to(self.device)
        thresholds_K = torch.tensor(self.tagger.info.thresholds)
        answers = []
        for found, (_, frame) in zip(self.tagger.model(self.normalizer(images)), placed, strict=True):
            scores, labels = found.scores_N.cpu(), found.labels_N.cpu()
            kept = scores >= thresholds_K[labels]
            boxes = to_source(found.boxes_N4.cpu()[kept], frame.frames_B4, frame.sources_B2)
            rows = zip(labels[kept].tolist(), scores[kept].tolist(), boxes.tolist(), strict=True)
            width, height = (int(side) for side in frame.sources_B2[0].tolist())
            tags = tuple(Tag(self.tagger.info.labels[label].name, score, (box[0], box[1], box[2], box[3])) for label, score, box in rows)
            answers.append(Recognition(width, height, tags))
        return answers


def _nothing_on(made: PreparedImage) -> Objects:
    """A picture without objects, for its frame."""
    ids = torch.zeros(0, dtype=torch.int64)
    frame, source = torch.tensor([[0.0, 0.0, made.width, made.height]]), torch.tensor([[float(made.source_width), float(made.source_height)]])
    return Objects(torch.zeros(0, 4), ids, ids.bool(), torch.zeros(1, dtype=torch.int64), frame, source)
