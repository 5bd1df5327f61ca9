"""Taggers in the training loop: any number of boxes an image."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prodrec.config import Recipe
from prodrec.errors import ShardsError
from prodrec.evaluation.detect import detect
from prodrec.evaluation.detections import Detections, choose_thresholds, coco_metrics, evaluate_tags, match
from prodrec.evaluation.summary import headline, origin
from prodrec.files import Folder
from prodrec.models.bundle import write_bundle
from prodrec.models.bundle_files import load_info
from prodrec.models.bundle_info import TaggerInfo
from prodrec.models.detectors import DETECTORS
from prodrec.models.start import label_photos, learned_before, starting_info, starting_model, trained_counts, val_learned
from prodrec.models.tagger import Tagger
from prodrec.models.tasks import DetectionTask
from prodrec.reports.page import page_facts
from prodrec.reports.tags_report import TagsReport, write_tags_report
from prodrec.shards.reading import Shards
from prodrec.shards.stream import Batch, BoxTransform, eval_box_transform, train_box_transform
from prodrec.sources.schema import SPLITS
from prodrec.training.records import BUNDLE, REPORT
from prodrec.training.state import kept_weights


class TaggerKind:
    """As `prodrec.training.kinds.Kind`."""

    repeats: npt.NDArray[np.float64] | None = None

    def __init__(self, recipe: Recipe, shards: Shards) -> None:
        if not shards.manifest.boxes:
            raise ShardsError(f"{shards.uri} has no boxes, and {recipe.name} is a tagger; prepare a COCO or Pascal-VOC set, or train a classifier")
        if not shards.manifest.labels:
            raise ShardsError(f"{shards.uri} shows not one object; a tagger cannot learn from it")
        self.recipe, self.shards = recipe, shards
        self.boxes_K = shards.class_counts("train")
        model = starting_model(recipe, len(self.boxes_K))
        self.task = DetectionTask(model, recipe.input, DETECTORS[recipe.model.arch].losses, recipe.train.channels_last, recipe.augment.mix)

    def train_transform(self, epoch: int) -> BoxTransform:
        return train_box_transform(self.recipe.input, self.recipe.augment, self.recipe.train.seed, epoch)

    def eval_transform(self) -> BoxTransform:
        return eval_box_transform(self.recipe.input)

    def predict(self, model: Tagger, inputs: Iterable[Batch], device: torch.device, to_finish: bool) -> Detections:
        return detect(self.task, model, inputs, device, self.recipe.train.precision)

    def merged(self, parts: list[Detections]) -> Detections:
        return Detections.concat(parts)

    def val_metrics(self, predictions: Detections) -> dict[str, float]:
        coco = coco_metrics(predictions.pictures)
        return predictions.mean_loss() | {name: coco[name] or 0.0 for name in ("ap50", "map")}

    def finish(self, model: Tagger, history: list[dict[str, Any]], predictions: dict[str, Detections], run: Folder) -> None:
        labels, recipe = self.shards.manifest.labels, self.recipe
        before, photos = learned_before(recipe, self.shards), label_photos(recipe, self.shards)
        thresholds, boxes = self._thresholds(predictions), trained_counts(recipe, self.shards, self.boxes_K)
        metrics = {split: evaluate_tags(found, labels, thresholds, boxes, split) | origin(self.shards, split, before) for split, found in predictions.items()}
        reports = Folder(run / REPORT).make()
        for split, values in metrics.items():
            reports.write(f"{split}.json", json.dumps(values, indent=1).encode())
        judged = next(split for split in reversed(SPLITS) if split in predictions)
        report = TagsReport(
            metrics=metrics,
            pictures=predictions[judged].pictures,
            thresholds=thresholds,
            **page_facts(self.shards, judged, recipe.model_dump(mode="json"), labels, photos, history, kept_weights(history, recipe)),
        )
        write_tags_report(reports, report)
        info = TaggerInfo(
            model=recipe.model,
            input=recipe.input,
            labels=labels,
            thresholds=thresholds,
            metrics=headline(metrics[judged]) | {f"{split}_ap50": values["ap50"] for split, values in metrics.items()},
            recipe=recipe.model_dump(mode="json"),
            train_boxes=boxes,
            data_manifest_sha256=self.shards.manifest_sha256,
            learned_before=before,
            val_learned=val_learned(recipe),
            short_side=self.shards.manifest.short_side,
        )
        write_bundle(run / BUNDLE, model, info, photos.chosen(label.photo for label in labels))

    def _thresholds(self, predictions: dict[str, Detections]) -> list[float]:
        """Of each label, chosen on val; one that val does not show keeps that of the bundle that the run started from, or refits."""
        config, num_labels, refit = self.recipe.tags, len(self.boxes_K), self.recipe.refit
        before = load_info(refit.bundle, "tagger") if refit else starting_info(self.recipe)
        known = before.thresholds if isinstance(before, TaggerInfo) else []
        if "val" not in predictions:
            return [*known, *[config.threshold] * (num_labels - len(known))]
        matches = match(predictions["val"].pictures, num_labels)
        chosen = choose_thresholds(matches, config.target_precision, config.threshold)
        return [known[k] if k < len(known) and not matches.true_K[k] else chosen[k] for k in range(num_labels)]
