"""Several recipes on the same shards, each a run of its own; one that fails does not stop the others."""

import json
import re
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from prodrec.config import Recipe
from prodrec.errors import ConfigError, OutputError, ProdrecError, ShardsError
from prodrec.files import Folder
from prodrec.registry.comparing import FinishedRun
from prodrec.shards.reading import Shards
from prodrec.training.records import BUNDLE, REPORT, is_finished, read_history, start_run
from prodrec.training.tracking import tell_finished

_FAILURE = "failure.txt"
_NAME = re.compile(r"\w[\w.-]*")


class Entry(NamedTuple):
    """A recipe and its run."""

    recipe: Recipe
    run: Folder

    @property
    def name(self) -> str:
        return self.recipe.name


def enter(recipes: list[Recipe], shards: Shards, out: str, launcher: str) -> list[Entry]:
    """Checks all recipes, then claims a run folder for each, or takes up the run that stands there.

    Raises:
        ConfigError: taggers, two recipes of one name, or a run that was started otherwise.
        ShardsError: shards with boxes, or without images to judge on.
        OutputError: the place cannot be written.
    """
    _check(recipes, shards)
    try:
        return [
            Entry(
                recipe,
                start_run(f"{Folder(out).uri}/runs/{recipe.name}", recipe, shards.uri, resume=True, launcher=launcher, data_sha256=shards.manifest_sha256),
            )
            for recipe in recipes
        ]
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("--resume: ")) from error


def train_all(entries: Iterable[Entry], train: Callable[[Entry], None]) -> dict[str, str]:
    """Trains one after another what is not finished.

    Returns:
        Reasons of those that failed, in one line each, by name.
    """
    reasons = {entry.name: attempt(entry, train) for entry in entries}
    return {name: reason for name, reason in reasons.items() if reason}


def attempt(entry: Entry, train: Callable[[Entry], None]) -> str | None:
    """Trains a run that is not finished; returns why it failed, or None."""
    try:
        if not is_finished(entry.run):
            train(entry)
            entry.run.delete(_FAILURE)
    except ProdrecError as error:
        return one_line(error)
    except Exception as error:  # whatever one architecture raises, the others go on; the traceback is kept for whoever wrote it
        with suppress(OutputError):  # a full disk
            entry.run.write(_FAILURE, traceback.format_exc().encode())
        return f"{type(error).__name__}: {one_line(error)} (traceback: {entry.run / _FAILURE})"
    return None


def tell_mlflow(entries: Iterable[Entry], shards: Shards) -> None:
    """What it does not have of runs that finished earlier, where their recipes name it.

    Raises:
        ConfigError: as `prodrec.training.tracking.tell_finished`.
    """
    for entry in entries:
        if is_finished(entry.run):
            tell_finished(entry.recipe, shards, entry.run, REPORT, BUNDLE, read_history(entry.run))


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


def finished_runs(entries: Iterable[Entry]) -> list[FinishedRun]:
    """What the finished ones left."""
    return [_finished(entry) for entry in entries if is_finished(entry.run)]


def _finished(entry: Entry) -> FinishedRun:
    run, report = entry.run, f"{REPORT}/train.json"
    return FinishedRun(entry.name, run / BUNDLE, read_history(run), json.loads(run.read(report)) if run.exists(report) else None)


def _check(recipes: list[Recipe], shards: Shards) -> None:
    taggers = [recipe.name for recipe in recipes if recipe.kind == "tagger"]
    if taggers:
        raise ConfigError(f"compare judges classifiers, and {', '.join(taggers)} trains a tagger; leave it out, and judge taggers by `prodrec evaluate`")
    if shards.manifest.boxes:
        raise ShardsError(f"{shards.uri} has boxes instead of labels, and the recipes train classifiers; give shards with labels")
    fused = [recipe.name for recipe in recipes if recipe.model.fuse]
    if fused and len(fused) < len(recipes):
        raise ConfigError(f"{', '.join(fused)} judges listings and the other recipes images, which no test compares; compare them apart")
    names = [recipe.name for recipe in recipes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"--recipes names {', '.join(twice)} twice; give each recipe a `name` of its own")
    if odd := [name for name in names if not _NAME.fullmatch(name)]:
        raise ConfigError(f"the recipe name {odd[0]!r} cannot be a folder's; use letters, digits, dots, dashes and underscores")
    if not any(shards.split(split).rows for split in ("val", "test")):
        raise ShardsError(f"{shards.uri} has neither val nor test images to compare on; prepare it again with another --split")
