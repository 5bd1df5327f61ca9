"""Classifiers in the training loop: one label an image, or a listing."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from prodrec.config import Recipe
from prodrec.errors import ShardsError
from prodrec.evaluation.acceptance import accepted_metrics
from prodrec.evaluation.calibration import fit_temperature
from prodrec.evaluation.folds import FOLDS, read_answers
from prodrec.evaluation.judging import predicted
from prodrec.evaluation.metrics import evaluate
from prodrec.evaluation.old_new import OldNew
from prodrec.evaluation.predict import predict
from prodrec.evaluation.predictions import Predictions
from prodrec.evaluation.summary import headline, origin
from prodrec.files import Folder
from prodrec.models.backbones import check_sides
from prodrec.models.bundle import load_bundle, write_bundle
from prodrec.models.bundle_info import Acceptance, ClassifierInfo
from prodrec.models.registry import Classifier
from prodrec.models.start import continued_info, label_photos, learned_before, starting_model, teacher_info, trained_counts, val_learned
from prodrec.models.tasks import ClassificationTask
from prodrec.models.teacher import Teacher
from prodrec.reports.page import page_facts
from prodrec.reports.report import ReportData, write_report
from prodrec.shards.balance import class_weights, log_prior, repeat_factors
from prodrec.shards.reading import Shards
from prodrec.shards.stream import Batch, Transform, eval_transform, train_transform
from prodrec.sources.schema import SPLITS
from prodrec.training.progressive_resizing import training_sides
from prodrec.training.records import BUNDLE, REPORT
from prodrec.training.refit import served
from prodrec.training.state import kept_weights


class ClassifierKind:
    """As `prodrec.training.kinds.Kind`."""

    def __init__(self, recipe: Recipe, shards: Shards) -> None:
        check_labelled(recipe, shards)
        self.recipe, self.shards = recipe, shards
        self.counts_K = shards.class_counts("train")
        self.repeats: npt.NDArray[np.float64] | None = None
        if recipe.balance.sampling != "none":
            self.repeats = repeat_factors(self.counts_K, recipe.balance)[shards.split("train").column("label_id").to_numpy()]
        model, self.sides = starting_model(recipe, len(self.counts_K)), training_sides(recipe)
        if recipe.augment.start_size:
            check_sides(model.backbone, recipe.model.arch, self.sides)
        weights_K = torch.from_numpy(class_weights(self.counts_K, recipe.balance))
        prior_K = torch.from_numpy(log_prior(self.counts_K, recipe.balance))
        smoothing, channels_last = recipe.optim.label_smoothing, recipe.train.channels_last
        self.teacher = Teacher(recipe.distill, shards.manifest.labels, recipe.input) if recipe.distill else None
        self.task = ClassificationTask(model, recipe.input, weights_K, smoothing, channels_last, recipe.augment.mix, model.with_margin, prior_K, self.teacher)

    def train_transform(self, epoch: int) -> Transform:
        spec = self.recipe.input.model_copy(update={"size": self.sides[epoch - 1]})
        if self.teacher:
            spec = self.teacher.rendered(spec)
        return train_transform(spec, self.recipe.augment, self.recipe.train.seed, epoch)

    def eval_transform(self) -> Transform:
        return eval_transform(self.recipe.input)

    def predict(self, model: nn.Module, inputs: Iterable[Batch], device: torch.device, to_finish: bool) -> Predictions:
        return predict(lambda images: self.task.logits(images, model), inputs, device, self.recipe.train.precision, to_finish)

    def merged(self, parts: list[Predictions]) -> Predictions:
        return Predictions.concat(parts)

    def val_metrics(self, predictions: Predictions) -> dict[str, float]:
        return {"loss": predictions.nll(1.0), "top1": float(predictions.hits.mean()), "top5": float(predictions.hits_top5.mean())}

    def finish(self, model: Classifier, history: list[dict[str, Any]], predictions: dict[str, Predictions], run: Folder) -> None:
        labels, counts_K, recipe = self.shards.manifest.labels, trained_counts(self.recipe, self.shards, self.counts_K), self.recipe
        before, photos = learned_before(recipe, self.shards), label_photos(recipe, self.shards)
        if recipe.refit and recipe.refit.folds:
            predictions = predictions | {FOLDS: read_answers(run, recipe.refit.folds)}
        temperature, acceptance = self._served(predictions, next(model.parameters()).device)
        metrics = {split: evaluate(p, labels, counts_K, temperature, split) | origin(self.shards, split, before) for split, p in predictions.items()}
        if acceptance:
            for split, p in predictions.items():
                metrics[split]["accepted"] = accepted_metrics(acceptance, p, labels, temperature)
        judged = next(split for split in reversed(SPLITS) if split in predictions)
        old_new = self._old_new(judged, predictions[judged], next(model.parameters()).device)
        if old_new:
            metrics[judged]["old_new"] = old_new.metrics()
        reports = Folder(run / REPORT).make()
        for split, values in metrics.items():
            reports.write(f"{split}.json", json.dumps(values, indent=1).encode())
        report = ReportData(
            metrics=metrics,
            predictions=predictions[judged],
            temperature=temperature,
            old_new=old_new,
            **page_facts(self.shards, judged, recipe.model_dump(mode="json"), labels, photos, history, kept_weights(history, recipe)),
        )
        write_report(reports, report)
        info = ClassifierInfo(
            model=recipe.model,
            input=recipe.input,
            labels=labels,
            temperature=temperature,
            acceptance=acceptance,
            metrics=headline(metrics[judged]) | {f"{split}_top1": values["top1"] for split, values in metrics.items()},
            recipe=recipe.model_dump(mode="json"),
            train_counts=counts_K,
            embedding_dim=model.embedding_dim,
            data_manifest_sha256=self.shards.manifest_sha256,
            learned_before=before,
            val_learned=val_learned(recipe),
            teacher=teacher.bundle_id if (teacher := teacher_info(recipe)) else None,
            short_side=self.shards.manifest.short_side,
        )
        write_bundle(run / BUNDLE, model, info, photos.chosen(label.photo for label in labels))

    def _served(self, predictions: dict[str, Predictions], device: torch.device) -> tuple[float, Acceptance | None]:
        """Temperature, and thresholds where the run before has chosen some."""
        if self.recipe.refit:
            return served(self.recipe, self.shards, predictions.get(FOLDS), device)
        return fit_temperature(predictions["val"]) if "val" in predictions else 1.0, None

    def _old_new(self, split: str, predictions: Predictions, device: torch.device) -> OldNew | None:
        """Against the bundle that the run went on from, if it did; what was trained on would tell nothing."""
        if split == "train" or continued_info(self.recipe) is None:
            return None
        bundle = load_bundle(self.recipe.model.weights, device, "classifier")
        return OldNew(
            old=predicted(bundle, self.shards, split, device),
            new=predictions,
            labels=self.shards.manifest.labels,
            num_known=len(bundle.info.labels),
            bundle=self.recipe.model.weights,
            bundle_id=bundle.info.bundle_id,
            same_data=self.shards.keeps_split_of(bundle.info.learned_from),
        )


def check_labelled(recipe: Recipe, shards: Shards) -> None:
    """Raises: ShardsError: the shards have boxes instead of labels, or one label only, of which every answer would be right."""
    if shards.manifest.boxes:
        raise ShardsError(f"{shards.uri} has boxes instead of labels, and {recipe.name} is a classifier; choose a tagger's recipe, or other shards")
    if len(shards.manifest.labels) < 2:
        name, source = shards.manifest.labels[0].name, shards.manifest.source
        raise ShardsError(
            f"{shards.uri} has one label only, '{name}', so there is nothing to tell apart: was its source, {source}, given one folder too high?"
            " Prepare the folder that holds a folder for each label"
        )
