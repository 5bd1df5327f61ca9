"""A worker of Ray Train: the loop's surroundings on a cluster."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray.train
import torch
from ray.train import PreemptionInfo
from ray.train.torch import get_device
from ray.train.v2._internal.execution.context import get_train_context

from prodrec.cluster.ingest import stream_tables
from prodrec.cluster.watchdog import Watchdog
from prodrec.errors import ProdrecError, TrainingError
from prodrec.files import Folder
from prodrec.machine import usable_cores
from prodrec.shards.feed import Pass
from prodrec.shards.stream import Batch
from prodrec.training.checkpoint import Checkpoints
from prodrec.training.progress import Progress
from prodrec.training.run import run_training


def train_on_worker(config: dict[str, Any]) -> ProdrecError | None:
    """What every worker runs; what all ranks found wrong together is returned, since a raised error would be tried again."""
    recipe, run = config["recipe"], Folder(config["run"])
    context = RayContext(config["board"], config["cpus"], Checkpoints(run, recipe.train.keep_checkpoints, config["claim"]))
    try:
        return run_training(recipe, config["shards"], run, context, config["finish"])
    except TrainingError as error:
        return error


class RayContext:
    """A worker of Ray Train."""

    def __init__(self, board: Any, cpus: float | None, checkpoints: Checkpoints) -> None:
        world = ray.train.get_context()
        self.rank, self.world_size = world.get_world_rank(), world.get_world_size()
        self.device = get_device()
        self.board, self.checkpoints = board, checkpoints
        cores = max(1, int(cpus or usable_cores() / world.get_local_world_size()))
        # Ray gives a worker OMP_NUM_THREADS = its CPU reservation; what it may really use is its share of the machine.
        torch.set_num_threads(cores)
        self.threads = cores
        self.leaving: PreemptionInfo | None = None
        self.watchdog = Watchdog(self.note)

    def away(self, one: Pass) -> Iterator[pa.Table]:
        return stream_tables(one.split, one.order.windows, one.transform)

    def report(self, metrics: dict[str, Any]) -> None:
        self.board.epoch.remote(metrics)

    def progress(self, progress: Progress) -> None:
        self.board.progress.remote(progress)

    def note(self, text: str) -> None:
        self.board.note.remote(text)

    def is_leaving(self) -> bool:
        # What `ray.train.get_preemption_info` tells, without its barrier: rank 0 alone decides when a checkpoint is written.
        before, self.leaving = self.leaving, get_train_context().preemption_context.preemption_info
        is_news = self.leaving not in (None, before)
        if is_news:
            self.note("a node of the run is about to be taken away: a checkpoint is written now")
        return is_news

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        return self.watchdog.watched(batches)
