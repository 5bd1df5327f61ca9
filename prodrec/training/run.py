"""A whole run on one rank: train, then calibrate the best weights on val, judge them on test, report and bundle them.

Only val chooses (best epoch, temperature); test is scored once, after every choice is made.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import distributed

from prodrec.config import Recipe
from prodrec.data.files import Folder
from prodrec.data.order import sequential_order
from prodrec.data.shards import Shards
from prodrec.data.stream import eval_transform
from prodrec.errors import ProdrecError, TrainingError, UserError
from prodrec.evaluation.calibration import fit_temperature
from prodrec.evaluation.metrics import evaluate
from prodrec.evaluation.predict import predict
from prodrec.evaluation.predictions import Predictions
from prodrec.evaluation.report import ReportData, write_report
from prodrec.evaluation.summary import describe, headline
from prodrec.models.bundle import BundleInfo, write_bundle
from prodrec.training.context import WorkerContext
from prodrec.training.loop import Trainer
from prodrec.training.records import BUNDLE, REPORT, RunRecords
from prodrec.training.state import TrainState

# The table shows train accuracy beside val and test; this many images fix it to +-1 %. Source: assumed.
_TRAIN_ROWS_JUDGED = 10_000


def run_training(recipe: Recipe, shards: Shards, run: Folder, context: WorkerContext) -> ProdrecError | None:
    """Runs a recipe on this rank, going on from its latest checkpoint; a run whose bundle is there is left alone.

    Returns:
        What all ranks found wrong before the first step, or None. (A launcher would take a raised error for a lost worker and try again.)

    Raises:
        TrainingError: a loss that is not finite, on all ranks at the same step.
        OutputError: the run's folder cannot be written.
    """
    if run.exists(f"{BUNDLE}/bundle.json"):
        return None
    trainer = _agreed(lambda: Trainer(recipe, shards, context), context)
    if isinstance(trainer, ProdrecError):
        return trainer
    state = trainer.fit(RunRecords(run) if context.rank == 0 else None)
    trainer.evaluated_model().load_state_dict(state.best)
    predictions = {split: _predictions(trainer, split) for split in ("train", "val", "test") if shards.split(split).rows}
    if context.rank == 0:
        _finish(trainer, state, run, predictions)
    return None


def _agreed(build: Callable[[], Trainer], context: WorkerContext) -> Trainer | ProdrecError:
    """Builds on every rank; if one rank cannot, none goes on to wait for it."""
    result: Trainer | ProdrecError
    try:
        result = build()
    except UserError as error:
        result = error
    errors = _gathered(result if isinstance(result, ProdrecError) else None, context)
    return next((error for error in errors if error), result)


def _predictions(trainer: Trainer, split: str) -> Predictions:
    """Predictions of the best weights for a split, each rank its share, gathered on every rank."""
    recipe, context, index = trainer.recipe, trainer.context, trainer.shards.split(split)
    rows = np.arange(index.rows)
    if split == "train" and index.rows > _TRAIN_ROWS_JUDGED:
        rows = np.linspace(0, index.rows - 1, _TRAIN_ROWS_JUDGED).astype(np.int64)
    order = sequential_order(rows, recipe.train.batch_size, rank=context.rank, world_size=context.world_size)
    model = trainer.evaluated_model().eval()
    own: Predictions | ProdrecError
    try:
        inputs = trainer.batches(split, order, eval_transform(recipe.input))
        own = predict(lambda images: trainer.task.logits(images, model), inputs, context.device, recipe.train.precision)
    except TrainingError as error:
        own = error
    parts = _gathered(own, context)
    for part in parts:
        if isinstance(part, ProdrecError):
            raise part
    return Predictions.concat(parts)


def _gathered(own: Any, context: WorkerContext) -> list[Any]:
    """What each rank has, on every rank: a rank that fails says so here instead of leaving the others to wait."""
    if context.world_size == 1:
        return [own]
    parts: list[Any] = [None] * context.world_size
    distributed.all_gather_object(parts, own)
    return parts


def _finish(trainer: Trainer, state: TrainState, run: Folder, predictions: dict[str, Predictions]) -> None:
    """Writes metrics and report of every split, then the bundle: the last thing a run does."""
    shards, recipe = trainer.shards, trainer.recipe
    labels, counts_K = shards.manifest.labels, trainer.counts_K.tolist()
    temperature = fit_temperature(predictions["val"]) if "val" in predictions else 1.0
    metrics = {split: evaluate(p, labels, counts_K, temperature, split) for split, p in predictions.items()}
    reports = Folder(run / REPORT).make()
    for split, values in metrics.items():
        reports.write(f"{split}.json", json.dumps(values, indent=1).encode())
    judged = next(split for split in ("test", "val", "train") if split in predictions)
    report = ReportData(
        title=f"{recipe.name} on {shards.manifest.source.rstrip('/').rpartition('/')[2]}",
        recipe=recipe.model_dump(mode="json"),
        data=describe(shards),
        history=state.history,
        metrics=metrics,
        predictions=predictions[judged],
        labels=labels,
        temperature=temperature,
        image_of=shards.split(judged).image,
    )
    write_report(reports, report)
    info = BundleInfo(
        model=recipe.model,
        input=recipe.input,
        labels=labels,
        temperature=temperature,
        metrics=headline(metrics[judged]) | {f"{split}_top1": values["top1"] for split, values in metrics.items()},
        recipe=recipe.model_dump(mode="json"),
        train_counts=counts_K,
        data_manifest_sha256=shards.manifest_sha256,
    )
    write_bundle(run / BUNDLE, trainer.evaluated_model(), info)
