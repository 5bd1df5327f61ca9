"""Judging a bundle on a split of shards: what `prodrec evaluate` does."""

import json
from typing import Any

import torch

from prodrec.data.files import Folder
from prodrec.data.shards import Shards, open_shards
from prodrec.data.transforms import Normalizer
from prodrec.errors import ShardsError
from prodrec.evaluation.metrics import evaluate
from prodrec.evaluation.predict import predict_split
from prodrec.evaluation.predictions import Predictions
from prodrec.evaluation.report import ReportData, write_report
from prodrec.evaluation.summary import describe
from prodrec.machine import torch_device, usable_cores
from prodrec.models.bundle import Bundle, load_bundle


def judge(bundle_uri: str, shards_uri: str, split: str, out_uri: str, gpu: bool = False) -> dict[str, Any]:
    """Scores a split and writes OUT/metrics.json and OUT/index.html.

    Returns:
        What metrics.json holds.

    Raises:
        BundleError, ShardsError, OutputError: what is wrong with the bundle, the shards or the place for the output.
        ConfigError: a GPU is asked for and there is none.
    """
    device = torch_device(gpu)
    shards = open_shards(shards_uri)
    if not shards.split(split).rows:
        raise ShardsError(f"{shards.uri} has no images in split '{split}'; it has {', '.join(shards.manifest.splits)}: choose one by --split")
    bundle = load_bundle(bundle_uri, device.type)
    out = Folder(out_uri).make()
    predictions = _predict(bundle, shards, split, device)
    info = bundle.info
    metrics = evaluate(predictions, info.labels, info.train_counts, info.temperature, split)
    report = ReportData(
        title=f"{info.recipe.get('name', info.model.arch)} on {shards.manifest.source.rstrip('/').rpartition('/')[2]}",
        recipe=info.recipe,
        data=describe(shards),
        history=[],
        metrics={split: metrics},
        predictions=predictions,
        labels=info.labels,
        temperature=info.temperature,
        image_of=shards.split(split).image,
    )
    write_report(out, report)
    out.write("metrics.json", json.dumps(metrics, indent=1).encode())
    return metrics


def _predict(bundle: Bundle, shards: Shards, split: str, device: torch.device) -> Predictions:
    normalizer = Normalizer(bundle.info.input).to(device)
    return predict_split(
        lambda images: bundle.model(normalizer(images)),
        shards.split(split),
        bundle.info.input,
        device=device,
        precision="bf16" if device.type == "cuda" else "fp32",
        threads=usable_cores(),
        label_ids=_bundle_ids(bundle, shards, split),
    )


def _bundle_ids(bundle: Bundle, shards: Shards, split: str) -> torch.Tensor:
    """What the bundle calls each label of the shards, by name; [labels of the shards], -1 for a label that the split does not show."""
    known = {label.name: number for number, label in enumerate(bundle.info.labels)}
    shown = shards.class_counts(split) > 0
    strangers = [label.name for label, there in zip(shards.manifest.labels, shown, strict=True) if there and label.name not in known]
    if strangers:
        raise ShardsError(
            f"{shards.uri}: {len(strangers)} labels of '{split}' are not the bundle's ({', '.join(strangers[:3])}); it cannot know them: train with them"
        )
    return torch.tensor([known.get(label.name, -1) for label in shards.manifest.labels])
