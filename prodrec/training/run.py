"""A whole run on one rank: train, then calibrate the best weights on val, judge them on test, report and bundle them.

Only val chooses (best epoch, temperature); test is scored once, after every choice is made.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from prodrec.config import Recipe
from prodrec.errors import OutputError, ProdrecError, TrainingError, UserError
from prodrec.evaluation.folds import write_answers
from prodrec.files import Folder
from prodrec.shards.folds import HELD_OUT, FoldShards
from prodrec.shards.order import Ints
from prodrec.shards.reading import Shards
from prodrec.sources.schema import SPLITS
from prodrec.training.context import WorkerContext, gathered
from prodrec.training.loop import Trainer
from prodrec.training.records import BUNDLE, CONFIG, REPORT, RunRecords, is_finished, write_history
from prodrec.training.state import TrainState
from prodrec.training.tracking import start_tracking, told_of_failure, untracked

Built = TypeVar("Built")

# The table shows train accuracy beside val and test; this many images fix it to +-1 %. Source: assumed.
_TRAIN_ROWS_JUDGED = 10_000


def run_training(recipe: Recipe, shards: Shards, run: Folder, context: WorkerContext, finish: bool = False) -> ProdrecError | None:
    """Runs a recipe on this rank, going on from its latest checkpoint; a run whose bundle is there is left alone.

    Args:
        finish: train no more: report and bundle are those of the best epoch so far.

    Returns:
        What all ranks found wrong before the first step, or None. (A launcher would take a raised error for a lost worker and try again.)

    Raises:
        TrainingError: a loss that is not finite, on all ranks at the same step.
        OutputError: the run's folder cannot be written.
    """
    if is_finished(run):
        return None
    trainer = _agreed(lambda: _trainer(untracked(recipe), shards, run, context), context)
    if isinstance(trainer, ProdrecError):
        return trainer
    tracker = _agreed(lambda: start_tracking(recipe, shards, run) if context.rank == 0 else None, context)
    if isinstance(tracker, ProdrecError):
        return tracker
    with told_of_failure(tracker):
        records = RunRecords(run, tracker) if context.rank == 0 else None
        state = _ended(trainer, records) if finish else trainer.fit(records)
        trainer.choose(records)
        if isinstance(trainer.shards, FoldShards):
            answers = trainer.predict(HELD_OUT, to_finish=True)
            if context.rank == 0:
                write_answers(run, answers, trainer.shards.held_out)
            return None
        predictions = _predicted(trainer)
        if context.rank == 0:
            trainer.kind.finish(trainer.evaluated_model(), state.history, predictions, run)
    if tracker:
        tracker.finish(state.history, REPORT, BUNDLE)
    return None


def _trainer(recipe: Recipe, shards: Shards, run: Folder, context: WorkerContext) -> Trainer:
    """Raises: OutputError: the run's folder is not seen from here; else as `Trainer`."""
    if not run.exists(CONFIG):
        raise OutputError(f"{run.uri} is not the same folder on every node of the cluster; choose an --out that all see, such as s3://bucket/folder")
    return Trainer(recipe, shards, context)


def _ended(trainer: Trainer, records: RunRecords | None) -> TrainState:
    """What the latest checkpoint knows, of a run that is not to train on. Raises: TrainingError: of no complete epoch."""
    state = trainer.state = trainer.saves.restored()
    if not state.history:
        raise TrainingError("no checkpoint that can be read has a complete epoch; go on by --resume")
    if records:
        write_history(records.run, state.history)
    return state


def _predicted(trainer: Trainer) -> dict[str, Any]:
    """What the kept weights say of each split; of train, of the rows that are judged."""
    rows = {split: trainer.shards.split(split).rows for split in SPLITS}
    splits = [split for split in SPLITS if rows[split]]
    feed = trainer.feed([trainer.eval_pass(split, judged_sample(rows[split]) if split == "train" else None) for split in splits])
    return {split: trainer.predict(split, feed.next_pass()[1], to_finish=True) for split in splits}


def _agreed(build: Callable[[], Built], context: WorkerContext) -> Built | ProdrecError:
    """Builds on every rank; if one rank cannot, none goes on to wait for it."""
    result: Built | ProdrecError
    try:
        result = build()
    except UserError as error:
        result = error
    errors = gathered(result if isinstance(result, ProdrecError) else None, context)
    return next((error for error in errors if error), result)


def judged_sample(rows: int) -> Ints | None:
    """Row numbers spread evenly where there are more than are judged."""
    return np.linspace(0, rows - 1, _TRAIN_ROWS_JUDGED).astype(np.int64) if rows > _TRAIN_ROWS_JUDGED else None
