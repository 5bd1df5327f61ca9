"""Starting a run, with the trainings of the folds that its recipe asks for before it: in this process, or on Ray."""

from typing import TYPE_CHECKING, Any

from prodrec.cli.app import announce_ray
from prodrec.errors import TrainingError

if TYPE_CHECKING:
    from prodrec.config import Recipe
    from prodrec.files import Folder
    from prodrec.shards.reading import Shards
    from prodrec.training.comparison_runs import Entry


def train_here(recipe: "Recipe", shards: "Shards", run: "Folder", gpu: bool, finish: bool) -> None:
    """One process, without Ray."""
    from prodrec.cli.display import run_display, runs_display
    from prodrec.training.comparison_runs import train_all
    from prodrec.training.local import train_local

    with runs_display() as watched:
        _check(train_all(_folds(recipe, shards, run, "local"), lambda one: train_local(one.recipe, shards, one.run, watched(one.name), gpu=gpu)))
    with run_display() as display:
        train_local(recipe, shards, run, display, gpu=gpu, finish=finish)


def train_on_ray(recipe: "Recipe", shards: "Shards", run: "Folder", workers: tuple[Any, ...], finish: bool) -> None:
    """On the cluster; folds side by side where it has room for them.

    Args:
        workers: fields of `prodrec.cluster.train.Workers`.
    """
    from prodrec.cli.display import run_display, runs_display
    from prodrec.cluster.compare import train_side_by_side
    from prodrec.cluster.session import ray_session
    from prodrec.cluster.train import Workers, train

    announce_ray()
    entries, spread = _folds(recipe, shards, run, "ray"), Workers(*workers)
    with ray_session():
        if entries:
            with runs_display() as watched:
                _check(train_side_by_side(entries, shards, spread, watched))
        with run_display() as display:
            train(recipe, shards, run, spread, display, finish)


def _folds(recipe: "Recipe", shards: "Shards", run: "Folder", launcher: str) -> "list[Entry]":
    if not recipe.refit:
        return []
    from prodrec.evaluation.folds import fold_uri
    from prodrec.training.comparison_runs import Entry
    from prodrec.training.records import start_run
    from prodrec.training.refit import fold_recipes

    folds = [(one, fold_uri(run.uri, one.refit.fold)) for one in fold_recipes(recipe) if one.refit]
    return [Entry(one, start_run(uri, one, shards.uri, resume=True, launcher=launcher, data_sha256=shards.manifest_sha256)) for one, uri in folds]


def _check(failures: dict[str, str]) -> None:
    """Raises: TrainingError: a fold's training failed: without its answers there is no refit."""
    if failures:
        name, reason = next(iter(failures.items()))
        raise TrainingError(f"{name} failed: {reason}")
