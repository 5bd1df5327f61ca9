"""Judging a bundle on a split of shards: what `prodrec evaluate` does."""

import json
from typing import Any

import torch

from prodrec.evaluation.acceptance import accepted_metrics
from prodrec.evaluation.detections import evaluate_tags
from prodrec.evaluation.judging import detected, open_judged, predicted
from prodrec.evaluation.metrics import evaluate
from prodrec.evaluation.summary import origin
from prodrec.files import Folder
from prodrec.labels import with_words
from prodrec.machine import torch_device
from prodrec.models.bundle import Bundle
from prodrec.models.bundle_info import TaggerInfo
from prodrec.reports.page import page_facts
from prodrec.reports.report import ReportData, write_report
from prodrec.reports.tags_report import TagsReport, write_tags_report
from prodrec.shards.reading import Shards


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
    labels = with_words(bundle.info.labels, shards.manifest.labels)
    page = page_facts(shards, split, bundle.info.recipe, labels, bundle.photos, [])
    shards = shards.relabelled(bundle.info.labels)
    metrics = (_judge_tagger if bundle.info.kind == "tagger" else _judge_classifier)(bundle, shards, split, device, out, page)
    out.write("metrics.json", json.dumps(metrics, indent=1).encode())
    return metrics


def _judge_classifier(bundle: Bundle, shards: Shards, split: str, device: torch.device, out: Folder, page: dict[str, Any]) -> dict[str, Any]:
    info, predictions = bundle.info, predicted(bundle, shards, split, device)
    metrics = evaluate(predictions, info.labels, info.train_counts, info.temperature, split) | origin(shards, split, info.learned_from, info.val_learned)
    if info.acceptance:
        metrics["accepted"] = accepted_metrics(info.acceptance, predictions, info.labels, info.temperature)
    write_report(out, ReportData(metrics={split: metrics}, predictions=predictions, temperature=info.temperature, **page))
    return metrics


def _judge_tagger(bundle: Bundle, shards: Shards, split: str, device: torch.device, out: Folder, page: dict[str, Any]) -> dict[str, Any]:
    info: TaggerInfo = bundle.info
    detections = detected(bundle, shards, split, device)
    metrics = evaluate_tags(detections, info.labels, info.thresholds, info.train_boxes, split) | origin(shards, split, info.learned_from, info.val_learned)
    write_tags_report(out, TagsReport(metrics={split: metrics}, pictures=detections.pictures, thresholds=info.thresholds, **page))
    return metrics
