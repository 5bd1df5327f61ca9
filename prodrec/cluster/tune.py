"""Settings of a recipe tried side by side on Ray Tune: those that val finds behind are stopped early (ASHA).

A trial is a run of one process in DIR/trials/NUMBER, trained on shards without test. Its folder tells all: the same command goes on
where it was, as a trial first reports the epochs that its history has. Val decides; test is for the one that is kept.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prodrec.cluster.session import ray_session  # first: sets what ray reads on import

# Tune's newer output prints a box even where it is told to print nothing.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

# isort: split
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from prodrec.config import Recipe
from prodrec.files import Folder
from prodrec.shards.reading import Shards
from prodrec.training.comparison_runs import Entry, attempt, one_line
from prodrec.training.progress import Progress
from prodrec.training.records import METRICS, read_history
from prodrec.training.state import score_of
from prodrec.training.trials import is_over, mark_stopped, note_failure, trial_line

# Of the trials that reach a rung, one in so many goes on to the next. Source: Li et al. 2020 (ASHA, arXiv 1810.05934) take 4; 3 is
# assumed: with a cosine schedule the order of two trials may change late.
_REDUCTION = 3
# Of the epochs, what every trial has: with a cosine schedule the first say little. Source: assumed.
_LEAST_SHARE = 0.2


@dataclass(frozen=True)
class Places:
    """What a trial reserves, and how many run at once at most (None: as many as there is room for)."""

    cpus: float
    gpu: bool = False
    at_once: int | None = None


def run_trials(entries: Sequence[Entry], shards: Shards, places: Places, told: Callable[[str], None]) -> None:
    """Trains all trials until they end or are stopped; `prodrec.training.trials` reads what came of them.

    Args:
        entries: recipes with their run folders, by number.
        shards: without test.
        told: a line of each trial that ends.

    Raises:
        ProdrecError: a local Ray does not start.
    """
    recipe, folder = entries[0].recipe, Folder(entries[0].run.uri.rpartition("/")[0])
    least = max(1, recipe.train.head_epochs + 1, round(recipe.train.epochs * _LEAST_SHARE))
    # No rung at the last epoch: who gets there has won its way.
    scheduler = _Scheduler(time_attr="epoch", metric="score", mode="max", max_t=recipe.train.epochs + 1, grace_period=least, reduction_factor=_REDUCTION)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    with ray_session():
        work = tune.with_parameters(_trial, entries=list(entries), shards=shards, places=places)
        results = tune.Tuner(
            tune.with_resources(work, {"CPU": places.cpus, "GPU": int(places.gpu)}),
            param_space={"trial": tune.grid_search(list(range(len(entries))))},
            tune_config=tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=places.at_once),
            run_config=tune.RunConfig(name="ray", storage_path=folder.uri, verbose=0, callbacks=[_Teller(entries, told)]),
        ).fit()
    folder.delete("ray")
    for error in results.errors:  # of Ray itself: what a trial finds wrong stands in its folder
        told(f"a trial was lost: {one_line(error)}")


def _trial(config: dict[str, Any], entries: list[Entry], shards: Shards, places: Places) -> None:
    """One trial, in a process of its own; ends within `epoch` where it is stopped."""
    from prodrec.training.local import train_local

    entry = entries[config["trial"]]
    observer = _Reporter(entry.recipe)
    for epoch in read_history(entry.run) if entry.run.exists(METRICS) else []:
        observer.epoch(epoch)
    if is_over(entry):
        return
    recipe = entry.recipe.model_copy(update={"data": entry.recipe.data.model_copy(update={"threads": entry.recipe.data.threads or max(1, int(places.cpus))})})
    note_failure(entry, attempt(entry, lambda entry: train_local(recipe, shards, entry.run, observer, gpu=places.gpu)))


class _Reporter:
    """Reports each epoch to Ray Tune, once."""

    def __init__(self, recipe: Recipe) -> None:
        self.metric, self.last = recipe.train.early_stop.metric, 0

    def epoch(self, metrics: dict[str, Any]) -> None:
        if metrics["epoch"] > self.last:
            self.last = metrics["epoch"]
            tune.report({"epoch": self.last, "score": score_of(metrics, self.metric)})

    def progress(self, progress: Progress) -> None: ...

    def embedding(self, done: int, total: int, images_per_s: float) -> None: ...

    def note(self, text: str) -> None: ...


class _Scheduler(ASHAScheduler):  # type: ignore[misc]
    """Never stops the first trial, the recipe as it is: it is what the others are measured by."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if trial.config["trial"] == 0 else decision


class _Teller(tune.Callback):  # type: ignore[misc]
    """Tells of trials as they end, and leaves a mark in the folders of those that were stopped: they are not taken up again."""

    def __init__(self, entries: Sequence[Entry], told: Callable[[str], None]) -> None:
        self.entries, self.told = list(entries), told

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        entry = self.entries[trial.config["trial"]]
        mark_stopped(entry)
        self.told(trial_line(entry))
