"""A run on Ray Train: one loop on every worker, restarts from the last checkpoint, progress for the driver."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from prodrec.cluster.session import ray_session  # first: sets what ray.train reads on import

# isort: split
import pyarrow as pa
import ray
import ray.train
import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prodrec.cluster.board import Board, observed
from prodrec.cluster.embed import Pool, fit_on_cluster
from prodrec.cluster.ingest import stream_tables
from prodrec.config import Recipe
from prodrec.errors import ConfigError, ProdrecError, TrainingError
from prodrec.files import Folder, locked
from prodrec.machine import usable_cores
from prodrec.shards.order import Window
from prodrec.shards.reading import Shards, SplitIndex
from prodrec.shards.stream import AnyTransform
from prodrec.training.progress import Progress, RunObserver
from prodrec.training.run import run_training

# A lost worker or node restarts the run from its last checkpoint this often. Source: assumed.
_MAX_FAILURES = 3
LEAST_CPUS_PER_WORKER = 0.5
# Of a cluster's CPUs, those that workers take at most; the rest reads images. Source: assumed.
WORKERS_SHARE = 0.8


class Workers(NamedTuple):
    """How a run is spread.

    Attributes:
        least, most: number of workers; elastic between them where they differ.
        gpu: one GPU for each worker.
        cpus: for each worker; None: its share of four fifths of the cluster, the rest reads.
    """

    least: int = 1
    most: int = 1
    gpu: bool = False
    cpus: float | None = None


def train(recipe: Recipe, shards: Shards, run: Folder, workers: Workers, observer: RunObserver) -> None:
    """Runs a recipe on Ray, going on from the run's last checkpoint where it has one.

    Raises:
        UserError: what the workers found wrong (configuration, weights, shards, output).
        TrainingError: a loss that is not finite, or more lost workers than restarts.
    """
    _check_lanes(recipe.data.lanes, workers)
    with locked(run, wait=False), ray_session():
        # On the driver's node: a worker's may be taken away, and watching must never decide how a run ends.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        scaling = _scaling(workers, nodes)
        if recipe.fit:
            pool = Pool(workers.least, workers.most, scaling.resources_per_worker["CPU"], workers.gpu, math.ceil(workers.most / len(nodes)))
            with observed(board, observer):
                fit_on_cluster(recipe, shards, run, pool, observer, board)
            return
        trainer = TorchTrainer(
            _train_on_worker,
            train_loop_config={"recipe": recipe, "shards": shards, "run": run.uri, "board": board, "cpus": workers.cpus},
            scaling_config=scaling,
            run_config=RunConfig(
                name="ray",
                storage_path=run.uri,
                worker_runtime_env={"env_vars": {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}},
                failure_config=FailureConfig(max_failures=_MAX_FAILURES, controller_failure_limit=_MAX_FAILURES),
                checkpoint_config=CheckpointConfig(num_to_keep=recipe.train.keep_checkpoints, checkpoint_score_attribute="score", checkpoint_score_order="max"),
            ),
        )
        with observed(board, observer):
            try:
                failure = trainer.fit().return_value
            except TrainingFailedError as error:
                raise _named(error, run) from error
        if isinstance(failure, ProdrecError):
            raise failure


def _check_lanes(lanes: int | None, workers: Workers) -> None:
    """An elastic run may come to any number of workers in its range, hours after its start; each must divide the lanes.

    Raises:
        ConfigError: one of them does not.
    """
    counts = range(workers.least, workers.most + 1)
    odd = [count for count in counts if lanes and lanes % count]
    if odd:
        raise ConfigError(f"data.lanes {lanes} does not divide among {odd[0]} workers; use a multiple of {math.lcm(*counts)}, or other --workers")


def _scaling(workers: Workers, nodes: list[dict[str, float]]) -> ScalingConfig:
    """Workers of a size that one node can hold, and that leaves CPUs to read with.

    Args:
        nodes: resources of each node that is up; an autoscaler may add more.

    Raises:
        ConfigError: the workers would take every CPU: reading would wait for them, and they for it, without a word.
    """
    in_all, cpus = sum(node.get("CPU", 0) for node in nodes), cpus_of_a_worker(workers, nodes)
    may_grow = workers.gpu and sum(node.get("GPU", 0) for node in nodes) < workers.most
    if not may_grow and workers.most * cpus >= in_all:
        raise ConfigError(f"{workers.most} workers of {cpus:g} CPUs leave none of {in_all:g} to read images with; lower --workers or --cpus-per-worker")
    count = workers.most if workers.least == workers.most else (workers.least, workers.most)
    return ScalingConfig(num_workers=count, use_gpu=workers.gpu, resources_per_worker={"CPU": cpus} | ({"GPU": 1} if workers.gpu else {}))


def cpus_of_a_worker(workers: Workers, nodes: Sequence[dict[str, float]], runs: int = 1) -> float:
    """CPUs to reserve for each worker where so many runs share the cluster: what is asked for, or an equal share that fits on one node."""
    hosts = [node for node in nodes if node.get("GPU", 0) >= 1] if workers.gpu else nodes
    on_one = max((node.get("CPU", 0) / (node["GPU"] if workers.gpu else 1) for node in hosts), default=0)
    share = WORKERS_SHARE * min(sum(node.get("CPU", 0) for node in nodes) / (workers.most * runs), on_one)
    return workers.cpus or (float(int(share)) if share >= 1 else LEAST_CPUS_PER_WORKER)


def _train_on_worker(config: dict[str, Any]) -> ProdrecError | None:
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

    def tables(self, split: SplitIndex, windows: list[Window], decode: AnyTransform | None) -> Iterator[pa.Table]:
        return stream_tables(split, windows, decode)

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


def _named(error: TrainingFailedError, run: Folder) -> ProdrecError:
    """The prodrec error that a worker raised, or one that says where to look."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, ProdrecError):
                return cause
            cause = getattr(cause, "_base_exc", None) or getattr(cause, "cause", None) or cause.__cause__
    first_line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return TrainingError(f"the workers failed more than {_MAX_FAILURES} times; the run in {run.uri} can go on with --resume; first cause: {first_line}")
