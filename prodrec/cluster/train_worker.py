"""A worker of Ray Train: the loop's surroundings on a cluster."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.train
import torch
from ray.train.torch import get_device

from prodrec.cluster.ingest import stream_tables
from prodrec.errors import ProdrecError, TrainingError
from prodrec.files import Folder
from prodrec.machine import usable_cores
from prodrec.shards.feed import Pass
from prodrec.training.progress import Progress
from prodrec.training.run import run_training


def train_on_worker(config: dict[str, Any]) -> ProdrecError | None:
    """What every worker runs; what all ranks found wrong together is returned, since a raised error would be tried again."""
    context = RayContext(config["board"], config["cpus"])
    try:
        return run_training(config["recipe"], config["shards"], Folder(config["run"]), context)
    except TrainingError as error:
        return error


class RayContext:
    """A worker of Ray Train."""

    def __init__(self, board: Any, cpus: float | None) -> None:
        world = ray.train.get_context()
        self.rank, self.world_size = world.get_world_rank(), world.get_world_size()
        self.device = get_device()
        self.board = board
        cores = max(1, int(cpus or usable_cores() / world.get_local_world_size()))
        # Ray gives a worker OMP_NUM_THREADS = its CPU reservation; what it may really use is its share of the machine.
        torch.set_num_threads(cores)
        self.threads = cores

    def away(self, one: Pass) -> Iterator[pa.Table]:
        return stream_tables(one.split, one.order.windows, one.transform)

    def report(self, metrics: dict[str, Any], checkpoint: Path | None) -> None:
        if self.rank == 0:
            self.board.epoch.remote(metrics)
        folder = ray.train.Checkpoint.from_directory(str(checkpoint)) if checkpoint else None
        ray.train.report(metrics, checkpoint=folder, delete_local_checkpoint_after_upload=True)

    def latest_checkpoint(self) -> AbstractContextManager[Path | None]:
        checkpoint = ray.train.get_checkpoint()
        return _as_path(checkpoint) if checkpoint else nullcontext(None)

    def progress(self, progress: Progress) -> None:
        self.board.progress.remote(progress)


@contextmanager
def _as_path(checkpoint: ray.train.Checkpoint) -> Iterator[Path]:
    with checkpoint.as_directory() as folder:
        yield Path(folder)
