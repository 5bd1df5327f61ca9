"""A run in this process alone: for a debugger, a notebook, a GPU box without Ray."""

from pathlib import Path

from prodrec.config import Recipe
from prodrec.errors import ConfigError
from prodrec.files import Folder
from prodrec.lease import held
from prodrec.machine import torch_device
from prodrec.shards.reading import Shards
from prodrec.training.context import LocalContext
from prodrec.training.fit_run import fit_here
from prodrec.training.progress import RunObserver
from prodrec.training.run import run_training


def train_local(recipe: Recipe, shards: Shards, run: Folder, observer: RunObserver, gpu: bool = False, finish: bool = False) -> None:
    """Runs a recipe here, going on from the run's last checkpoint where it has one.

    Args:
        finish: as of `run_training`.

    Raises:
        ConfigError: a GPU is asked for and there is none, or the run's folder is not on a local disk.
        UserError, TrainingError: as `run_training`.
    """
    if "://" in run.uri:
        raise ConfigError(f"--local writes to local disks only, not to {run.uri}; choose a local --out or train on Ray")
    device = torch_device(gpu)
    with held(run, observer.note) as claim:
        if recipe.fit:
            fit_here(recipe, shards, run, device, observer)
            return
        context = LocalContext(Path(run.uri), recipe.train.keep_checkpoints, device, observer, claim)
        failure = run_training(recipe, shards, run, context, finish)
    if failure:
        raise failure
