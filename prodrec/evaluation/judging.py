"""What a bundle says of a split of shards."""

from collections.abc import Iterator

import numpy as np
import torch

from prodrec.errors import ShardsError
from prodrec.evaluation.detect import detect
from prodrec.evaluation.detections import Detections
from prodrec.evaluation.predict import predict
from prodrec.evaluation.predictions import Predictions
from prodrec.machine import usable_cores
from prodrec.models.bundle import Bundle, load_bundle
from prodrec.models.bundle_info import BundleInfo, TaggerInfo
from prodrec.models.detectors import DETECTORS
from prodrec.models.scorer import Scorer
from prodrec.models.tasks import DetectionTask
from prodrec.shards.feed import Pass, batches
from prodrec.shards.listing_shards import by_listing, seen_by
from prodrec.shards.order import sequential_order
from prodrec.shards.reading import Shards, open_shards
from prodrec.shards.stream import AnyTransform, Batch, eval_box_transform, eval_transform

# Images scored at once. Source: assumed; memory of a large detector on a GPU allows it.
_BATCH_SIZE = 64


def open_judged(bundle_uri: str, shards_uri: str, split: str, device: torch.device, kind: str | None = None) -> tuple[Bundle, Shards]:
    """A bundle, and shards of its kind (by listing for one that fuses views) whose labels in the split it knows, as they are in the shards.

    Args:
        kind: of the bundle; None: either.

    Raises:
        BundleError, ShardsError: as `judge`.
    """
    shards = open_shards(shards_uri)
    if not shards.split(split).rows:
        raise ShardsError(f"{shards.uri} has no images in split '{split}'; it has {', '.join(shards.manifest.splits)}: choose one by --split")
    bundle = load_bundle(bundle_uri, device.type, kind)
    if bundle.info.model.fuse:
        shards = by_listing(shards, bundle.info.model.max_views)
    if (bundle.info.kind == "tagger") != bool(shards.manifest.boxes):
        has = "boxes" if shards.manifest.boxes else "no boxes"
        raise ShardsError(f"{shards.uri} has {has}, and {bundle_uri} is a {bundle.info.kind}; give shards of its kind")
    _check_labels(bundle.info, shards, split)
    return bundle, shards


def predicted(bundle: Bundle, shards: Shards, split: str, device: torch.device) -> Predictions:
    """What a classifier says of a split; its labels have the ids that they have in the shards, which may go on with others."""
    scorer, shards = Scorer(bundle, device), seen_by(shards, bundle.info.model.max_views)
    return predict(scorer, whole_split(shards, split, device, eval_transform(bundle.info.input)), device, scorer.precision)


def detected(bundle: Bundle, shards: Shards, split: str, device: torch.device) -> Detections:
    """What a tagger finds on a split whose labels are its own."""
    info: TaggerInfo = bundle.info
    task = DetectionTask(bundle.model, info.input, DETECTORS[info.model.arch].losses, channels_last=True).to(device)
    inputs = whole_split(shards, split, device, eval_box_transform(info.input))
    return detect(task, bundle.model, inputs, device, _precision(info))


def whole_split(shards: Shards, split: str, device: torch.device, transform: AnyTransform) -> Iterator[Batch]:
    """A whole split in this process, in the order of its rows."""
    index = shards.split(split)
    order = sequential_order(np.arange(index.rows), _BATCH_SIZE)
    return batches(Pass(index, order, transform), usable_cores(), pin_memory=device.type == "cuda")


def _precision(info: BundleInfo) -> str:
    """The one that the run judged itself with, so that both give the same figures."""
    precision: str = info.recipe.get("train", {}).get("precision", "fp32")
    return precision


def _check_labels(info: BundleInfo, shards: Shards, split: str) -> None:
    known, shown = {label.name for label in info.labels}, shards.class_counts(split) > 0
    strangers = [label.name for label, there in zip(shards.manifest.labels, shown, strict=True) if there and label.name not in known]
    if strangers:
        raise ShardsError(
            f"{shards.uri}: {len(strangers)} labels of '{split}' are not the bundle's ({', '.join(strangers[:3])}); it cannot know them: train with them"
        )
