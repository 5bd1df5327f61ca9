"""A whole run of a recipe with `fit`: features, heads, then calibrate, judge, report and bundle as any run.

    images -> prodrec.training.embedding, .features (once) -> prodrec.training.fit (each head, each decay) -> the best on val -> bundle

Only val chooses (head, weight decay, temperature); test is scored once, after every choice is made. Heads are judged on the
features just as a bundle computes them, so `prodrec evaluate` gives the run's figures again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from prodrec.config import Recipe
from prodrec.errors import ShardsError
from prodrec.evaluation.folds import fold_uri, write_answers
from prodrec.files import Folder
from prodrec.machine import usable_cores
from prodrec.models.registry import Classifier
from prodrec.models.start import starting_backbone
from prodrec.shards.balance import class_weights
from prodrec.shards.folds import LEARNED, fold_numbers
from prodrec.shards.order import Ints
from prodrec.shards.reading import Shards
from prodrec.sources.schema import SPLITS
from prodrec.training.classifier import ClassifierKind, check_labelled
from prodrec.training.embedding import embed_here
from prodrec.training.features import FEATURES, FeaturePlan, plan_features
from prodrec.training.fit import Rows, predict_features, search
from prodrec.training.progress import RunObserver
from prodrec.training.records import BUNDLE, REPORT, is_finished, read_history, write_history
from prodrec.training.refit import learned_from
from prodrec.training.run import judged_sample
from prodrec.training.tracking import start_tracking, told_of_failure, untracked

OnTrial = Callable[[dict[str, Any]], Any]


class FittedKind(ClassifierKind):
    """A classifier whose model was made outside of the loop: what judges it and writes its report and bundle."""

    def __init__(self, recipe: Recipe, shards: Shards) -> None:
        self.recipe, self.shards, self.counts_K = recipe, shards, shards.class_counts("train")


def fit_here(recipe: Recipe, shards: Shards, run: Folder, device: torch.device, observer: RunObserver) -> None:
    """Runs a recipe with `fit` in this process; a run whose bundle is there is left alone.

    Raises:
        UserError: shards, weights or places that will not do.
        TrainingError: features or a loss that are not finite.
    """
    if is_finished(run):
        return
    with begun(recipe, shards, run, device) as (plan, backbone):
        watch = EmbeddingWatch(plan, run, observer)
        embed_here(plan, backbone, device, recipe.data.threads or usable_cores(), watch)
        watch.done()
        fit_on_features(plan, backbone, run, device, observer.epoch)


@contextmanager
def begun(recipe: Recipe, shards: Shards, run: Folder, device: torch.device) -> Iterator[tuple[FeaturePlan, nn.Module]]:
    """The features that a run needs, and its backbone; MLflow is told how the block ends, if the recipe says so.

    Args:
        device: of the kind that will embed.

    Raises:
        ShardsError: no training images, or boxes instead of labels.
        WeightsError, BundleError, ConfigError: from building the backbone.
        OutputError: there is no place for the features.
        ConfigError: MLflow cannot be told.
    """
    check_labelled(recipe, shards)
    shards = shards.limited(recipe.data.limit)
    if not shards.split("train").rows:
        raise ShardsError(f"{shards.uri} has no training images; prepare it again with another --split")
    backbone = frozen_backbone(recipe)
    plan, tracker = plan_features(untracked(recipe), shards, backbone, run, device), start_tracking(recipe, shards, run)
    with told_of_failure(tracker):
        yield plan, backbone
    if tracker:
        tracker.finish(read_history(run), REPORT, BUNDLE)


def frozen_backbone(recipe: Recipe) -> nn.Module:
    """The same in every process, random weights too."""
    torch.manual_seed(recipe.train.seed)
    return starting_backbone(recipe)


class EmbeddingWatch:
    """Tells an observer what is found in the cache, what is missing, and how the embedding of it goes.

    Called with the rows of each file that was made.
    """

    def __init__(self, plan: FeaturePlan, run: Folder, observer: RunObserver) -> None:
        self.plan, self.observer, self.started = plan, observer, time.monotonic()
        self.total, self.made = sum(part.rows for part in plan.missing()), 0
        images = sum(part.rows for part in plan.parts())
        if plan.uri.startswith(run / FEATURES):
            observer.note(f"{plan.shards.uri} cannot be written; features are kept in {plan.uri}")
        if self.total:
            known = f" ({images - self.total:,} of {images:,} are there)" if self.total < images else ""
            observer.note(f"embedding {self.total:,} images by {plan.recipe.model.arch} into {plan.uri}{known}")
        else:
            observer.note(f"features of {images:,} images found in {plan.uri}; nothing to embed")

    def __call__(self, rows: int) -> None:
        self.made += rows
        self.observer.embedding(self.made, self.total, self.made / (time.monotonic() - self.started))

    def done(self) -> None:
        if self.total:
            seconds = time.monotonic() - self.started
            self.observer.note(f"embedded {self.total:,} images in {seconds:.1f} s, {self.total / seconds:,.0f} images/s")
        if not self.plan.shards.split("val").rows:
            self.observer.note("no val split to choose on: only the first of fit.heads is fitted, with the first of each of its settings")


def fit_on_features(plan: FeaturePlan, backbone: nn.Module, run: Folder, device: torch.device, on_trial: OnTrial) -> None:
    """Fits the heads of a recipe on complete features, keeps the best, judges it on every split, and writes reports and the bundle.

    Args:
        on_trial: told each entry of the history.

    Raises:
        TrainingError: a loss or a logit that is not finite.
        OutputError: the run's folder cannot be written.
    """
    recipe, shards, manifest = plan.recipe, plan.shards, plan.manifest()
    assert recipe.fit is not None and manifest is not None
    rows = {split: _rows(plan, split).to(device) for split in SPLITS if shards.split(split).rows}
    if recipe.refit:
        rows, shards = _refitted(rows), learned_from(recipe, shards)
    kind = FittedKind(recipe, shards)
    weights_K = torch.from_numpy(class_weights(kind.counts_K, recipe.balance)).float().to(device)
    dtype = getattr(torch, manifest.dtype)

    def val_metrics(head: nn.Module) -> dict[str, float]:
        return kind.val_metrics(predict_features(head, rows["val"], dtype, device, recipe.train.precision))

    head, history = search(recipe, recipe.fit, rows["train"], weights_K, val_metrics if "val" in rows else None, _recorded(run, on_trial))
    write_history(run, history)
    for fold, held_out in _folds(recipe, shards):
        learned = np.setdiff1d(np.arange(len(rows["train"].labels_N)), held_out)
        of_fold, _ = search(recipe, recipe.fit, rows["train"].chosen(_on(learned, device)), weights_K, None, lambda _: None)
        answers = predict_features(of_fold, rows["train"].chosen(_on(held_out, device)), dtype, device, recipe.train.precision)
        write_answers(Folder(fold_uri(run.uri, fold)), answers, held_out)
    judged = rows | {"train": _judged(rows["train"])}
    predictions = {split: predict_features(head, there, dtype, device, recipe.train.precision) for split, there in judged.items()}
    kept = next(entry for entry in history if entry["kept"])
    chosen = {"head": "linear", "head_args": {"power": kept["power"]}} if kept["head"] == "lda" else {"head": kept["head"]}
    kind = FittedKind(recipe.model_copy(update={"model": recipe.model.model_copy(update=chosen)}), shards)
    kind.finish(Classifier(backbone, head, freeze_backbone=True), history, predictions, run)


def _recorded(run: Folder, on_trial: OnTrial) -> OnTrial:
    """Writes the history after each trial as well."""
    history: list[dict[str, Any]] = []

    def record(entry: dict[str, Any]) -> None:
        history.append(entry)
        write_history(run, history)
        on_trial(entry)

    return record


def _rows(plan: FeaturePlan, split: str) -> Rows:
    labels = plan.shards.split(split).column("label_id").to_numpy().astype(np.int64)
    return Rows(plan.read(split), torch.from_numpy(labels))


def _refitted(rows: dict[str, Rows]) -> dict[str, Rows]:
    """Train and val as one."""
    parts = [rows[name] for name in LEARNED]
    both = Rows(torch.cat([part.features_ND for part in parts]), torch.cat([part.labels_N for part in parts]))
    return {"train": both} | {split: there for split, there in rows.items() if split not in LEARNED}


def _folds(recipe: Recipe, shards: Shards) -> Iterator[tuple[int, Ints]]:
    """Each fold of a refit, and the rows that it holds out."""
    folds = recipe.refit.folds if recipe.refit else 0
    numbers_N = fold_numbers(shards, folds) if folds else np.empty(0)
    return ((fold, np.flatnonzero(numbers_N == fold)) for fold in range(1, folds + 1))


def _judged(train: Rows) -> Rows:
    numbers = judged_sample(len(train.labels_N))
    return train if numbers is None else train.chosen(_on(numbers, train.labels_N.device))


def _on(numbers: Ints, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(numbers).to(device)
