"""Judging a bundle on a split of shards: what `prodrec evaluate` does."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from prodrec.data.files import Folder
from prodrec.data.listing_shards import by_listing, seen_by
from prodrec.data.order import sequential_order
from prodrec.data.shards import Shards, open_shards
from prodrec.data.stream import AnyTransform, Batch, batches, eval_box_transform, eval_transform, read_windows
from prodrec.errors import ShardsError
from prodrec.evaluation.acceptance import accepted_metrics
from prodrec.evaluation.detect import detect
from prodrec.evaluation.detections import Detections, evaluate_tags
from prodrec.evaluation.metrics import evaluate
from prodrec.evaluation.page import page_facts
from prodrec.evaluation.predict import predict
from prodrec.evaluation.predictions import Predictions
from prodrec.evaluation.report import ReportData, write_report
from prodrec.evaluation.summary import origin
from prodrec.evaluation.tags_report import TagsReport, write_tags_report
from prodrec.machine import torch_device, usable_cores
from prodrec.models.bundle import Bundle, load_bundle
from prodrec.models.bundle_info import BundleInfo, TaggerInfo
from prodrec.models.detectors import DETECTORS
from prodrec.models.scorer import Scorer
from prodrec.models.tasks import DetectionTask

# Images scored at once. Source: assumed; memory of a large detector on a GPU allows it.
_BATCH_SIZE = 64


def judge(bundle_uri: str, shards_uri: str, split: str, out_uri: str, gpu: bool = False) -> dict[str, Any]:
    """Scores a split and writes OUT/metrics.json and OUT/index.html.

    Returns:
        What metrics.json holds.

    Raises:
        BundleError, ShardsError, OutputError: what is wrong with the bundle, the shards or the place for the output.
        ConfigError: a GPU is asked for and there is none.
    """
    device = torch_device(gpu)
    bundle, shards = open_judged(bundle_uri, shards_uri, split, device)
    out = Folder(out_uri).make()
    page = page_facts(shards, split, bundle.info.recipe, bundle.info.labels, [])
    shards = shards.relabelled(bundle.info.labels)
    metrics = (_judge_tagger if bundle.info.kind == "tagger" else _judge_classifier)(bundle, shards, split, device, out, page)
    out.write("metrics.json", json.dumps(metrics, indent=1).encode())
    return metrics


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
    return batches(read_windows(index, order.windows), order, transform, usable_cores(), pin_memory=device.type == "cuda")


def _judge_classifier(bundle: Bundle, shards: Shards, split: str, device: torch.device, out: Folder, page: dict[str, Any]) -> dict[str, Any]:
    info, predictions = bundle.info, predicted(bundle, shards, split, device)
    metrics = evaluate(predictions, info.labels, info.train_counts, info.temperature, split) | origin(shards, split, info.learned_from)
    if info.acceptance:
        metrics["accepted"] = accepted_metrics(info.acceptance, predictions, info.labels, info.temperature)
    write_report(out, ReportData(metrics={split: metrics}, predictions=predictions, temperature=info.temperature, **page))
    return metrics


def _judge_tagger(bundle: Bundle, shards: Shards, split: str, device: torch.device, out: Folder, page: dict[str, Any]) -> dict[str, Any]:
    info: TaggerInfo = bundle.info
    detections = detected(bundle, shards, split, device)
    metrics = evaluate_tags(detections, info.labels, info.thresholds, info.train_boxes, split) | origin(shards, split, info.learned_from)
    write_tags_report(out, TagsReport(metrics={split: metrics}, pictures=detections.pictures, thresholds=info.thresholds, **page))
    return metrics


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
