"""The trials of `prodrec tune`: their folders, what came of each, and the one that is kept.

DIR/trials/000 ...    a run each: config.yaml, metrics.jsonl, report and bundle of those that reached their end
DIR/trials.csv        a row each, the best first
DIR/recipe.yaml       of the best, for `--recipe`
DIR/bundle            of the best, judged on test once: DIR/test
"""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml

from prodrec.config import Recipe
from prodrec.errors import ConfigError, ShardsError, TrainingError
from prodrec.files import Folder
from prodrec.shards.reading import Shards
from prodrec.training.comparison_runs import Entry
from prodrec.training.records import METRICS, is_finished, read_history, start_run
from prodrec.training.search_space import Settings, drawn_settings, with_settings
from prodrec.training.state import TrainState

_STOPPED, _FAILED = "stopped", "failed.txt"


class Trial(NamedTuple):
    """What came of a trial.

    Attributes:
        status: finished, stopped, failed or begun.
        epochs: that it has.
        best_epoch, best: the one that val found best, and its figure; None before the first.
    """

    number: int
    settings: Settings
    status: str
    epochs: int
    best_epoch: int | None
    best: float | None
    seconds: float


def enter_trials(recipe: Recipe, trials: int, seed: int, shards: Shards, out: str) -> tuple[list[Settings], list[Entry]]:
    """Draws the settings of all trials and claims their folders, or takes up those that stand there.

    Raises:
        ConfigError: a recipe that fits heads, fewer trials than two or more than there are, or others were begun there.
        ShardsError: there is no val split to decide.
        OutputError: the place cannot be written.
    """
    if recipe.fit or recipe.refit:
        raise ConfigError(
            f"tune trains networks, and {recipe.name} {'fits heads, of which it tries several itself' if recipe.fit else 'is a refit'}: `train` it"
        )
    if not shards.split("val").rows:
        raise ShardsError(f"{shards.uri} has no val images, and choosing by test would spoil its figures; prepare it again with another --split")
    settings = drawn_settings(recipe, trials, seed)
    try:
        return settings, [_entered(recipe, one, number, shards, out) for number, one in enumerate(settings)]
    except ConfigError as error:
        raise ConfigError(f"{str(error).removeprefix('--resume: ')} (the trials of another recipe, --seed or --set stand there)") from error


def _entered(recipe: Recipe, settings: Settings, number: int, shards: Shards, out: str) -> Entry:
    chosen = with_settings(recipe, settings, f"{recipe.name}-{number:03d}")
    folder = f"{Folder(out).uri}/trials/{number:03d}"
    return Entry(chosen, start_run(folder, chosen, shards.uri, resume=True, launcher="local", data_sha256=shards.manifest_sha256))


def is_over(entry: Entry) -> bool:
    """Whether a trial is not to be taken up again."""
    return is_finished(entry.run) or entry.run.exists(_STOPPED)


def mark_stopped(entry: Entry) -> None:
    """Of a trial that ended without a bundle and is not known to have failed: it was behind."""
    if not is_finished(entry.run) and not entry.run.exists(_FAILED):
        entry.run.write(_STOPPED, b"")


def note_failure(entry: Entry, reason: str | None) -> None:
    """Why a trial failed, for the table; a later try that does not fail takes it away."""
    if reason:
        entry.run.write(_FAILED, reason.encode())
    else:
        entry.run.delete(_FAILED)


def outcome(number: int, settings: Settings, entry: Entry) -> Trial:
    run, metric = entry.run, entry.recipe.train.early_stop.metric
    status = "finished" if is_finished(run) else "stopped" if run.exists(_STOPPED) else "failed" if run.exists(_FAILED) else "begun"
    history = read_history(run) if run.exists(METRICS) else []
    best = TrainState(history).best_epochs(metric, 1)
    figure = float(history[best[0] - 1][metric]) if best else None
    return Trial(number, settings, status, len(history), best[0] if best else None, figure, sum(entry["seconds"] for entry in history))


def trial_line(entry: Entry) -> str:
    """What came of a trial, for people."""
    number, metric = int(entry.run.uri.rpartition("/")[2]), entry.recipe.train.early_stop.metric
    found = outcome(number, {}, entry)
    told = f"{metric} {found.best:.3f} in epoch {found.best_epoch} of {found.epochs}" if found.best is not None else "no epoch"
    reason = f": {entry.run.read(_FAILED).decode()}" if found.status == "failed" else ""
    return f"trial {number:>3}  {found.status:<8}  {told}{reason}"


def ranked(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """The best first: what has finished before what was stopped; of equal ones the first."""
    sign = -1 if metric == "val_loss" else 1
    return sorted(trials, key=lambda one: (one.status == "finished", one.best is not None, sign * (one.best or 0.0), -one.number), reverse=True)


def winner(trials: Sequence[Trial], metric: str) -> Trial:
    """Raises: TrainingError: none has finished."""
    best = ranked(trials, metric)[0]
    if best.status != "finished":
        raise TrainingError("no trial has finished; their reasons stand above, and the same command goes on")
    return best


def write_table(out: Folder, trials: Sequence[Trial], metric: str) -> None:
    """OUT/trials.csv; a setting that a trial leaves as the recipe has it is an empty cell."""
    paths = sorted({path for one in trials for path in one.settings})
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "status", "epochs", "best_epoch", metric, "seconds", *paths])
    for one in ranked(trials, metric):
        cells: list[Any] = [one.number, one.status, one.epochs, one.best_epoch, one.best, round(one.seconds, 1)]
        rows.writerow(cells + [one.settings.get(path, "") for path in paths])
    out.write("trials.csv", text.getvalue().encode())


def write_recipe(out: Folder, recipe: Recipe, name: str) -> None:
    """OUT/recipe.yaml."""
    tree = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"tracking"}) | {"name": name}
    out.write("recipe.yaml", yaml.safe_dump(tree, sort_keys=False).encode())
