"""A run on Ray Train: one loop on every worker, restarts from the last checkpoint, progress for the driver."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from prodrec.cluster.session import ray_session  # first: sets what ray.train reads on import

# isort: split
import ray
import ray.train
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prodrec.cluster.board import Board, observed
from prodrec.cluster.embed import Pool, fit_on_cluster
from prodrec.config import Recipe
from prodrec.errors import ConfigError, ProdrecError, TrainingError
from prodrec.files import Folder, locked
from prodrec.shards.reading import Shards
from prodrec.training.progress import RunObserver

# A lost worker or node restarts the run from its last checkpoint this often. Source: assumed.
_MAX_FAILURES = 3
LEAST_CPUS_PER_WORKER = 0.5
# Of a cluster's CPUs, those that workers take at most where they are not told how many; the rest is for what else runs there, and for
# data.decode=stream. Source: assumed.
WORKERS_SHARE = 0.8


class Workers(NamedTuple):
    """How a run is spread.

    Attributes:
        least, most: number of workers; elastic between them where they differ.
        gpu: one GPU for each worker.
        cpus: for each worker; None: its share of four fifths of the cluster.
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
        scaling = _scaling(workers, nodes, decodes_away=recipe.data.decode == "stream")
        if recipe.fit:
            pool = Pool(workers.least, workers.most, scaling.resources_per_worker["CPU"], workers.gpu, math.ceil(workers.most / len(nodes)))
            with observed(board, observer):
                fit_on_cluster(recipe, shards, run, pool, observer, board)
            return
        trainer = TorchTrainer(
            _on_worker(),
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


def _scaling(workers: Workers, nodes: list[dict[str, float]], decodes_away: bool) -> ScalingConfig:
    """Workers of a size that one node can hold. They read and decode by threads of their own, unless tasks do it for them.

    Args:
        nodes: resources of each node that is up; an autoscaler may add more.
        decodes_away: by tasks, which need CPUs that no worker holds.

    Raises:
        ConfigError: there are too few CPUs: the workers would wait for each other, or tasks for them and they for tasks, without a word.
    """
    in_all, cpus = sum(node.get("CPU", 0) for node in nodes), cpus_of_a_worker(workers, nodes)
    may_grow = workers.gpu and sum(node.get("GPU", 0) for node in nodes) < workers.most
    if not may_grow and workers.most * cpus > in_all:
        raise ConfigError(f"{workers.most} workers of {cpus:g} CPUs do not fit on {in_all:g}; lower --workers or --cpus-per-worker")
    if not may_grow and decodes_away and workers.most * cpus == in_all:
        raise ConfigError(
            f"{workers.most} workers of {cpus:g} CPUs leave none of {in_all:g} to decode with; lower --workers or --cpus-per-worker, or set data.decode=worker"
        )
    count = workers.most if workers.least == workers.most else (workers.least, workers.most)
    return ScalingConfig(num_workers=count, use_gpu=workers.gpu, resources_per_worker={"CPU": cpus} | ({"GPU": 1} if workers.gpu else {}))


def cpus_of_a_worker(workers: Workers, nodes: Sequence[dict[str, float]], runs: int = 1) -> float:
    """CPUs to reserve for each worker where so many runs share the cluster: what is asked for, or an equal share that fits on one node."""
    hosts = [node for node in nodes if node.get("GPU", 0) >= 1] if workers.gpu else nodes
    on_one = max((node.get("CPU", 0) / (node["GPU"] if workers.gpu else 1) for node in hosts), default=0)
    share = WORKERS_SHARE * min(sum(node.get("CPU", 0) for node in nodes) / (workers.most * runs), on_one)
    return workers.cpus or (float(int(share)) if share >= 1 else LEAST_CPUS_PER_WORKER)


def _on_worker() -> Callable[[dict[str, Any]], ProdrecError | None]:
    """What every worker runs. A function within a function is sent as it is, not by the name of its module: the run's controller,
    which reads it too, then need not load what workers do; a run starts some seconds sooner."""

    def work(config: dict[str, Any]) -> ProdrecError | None:
        from prodrec.cluster.train_worker import train_on_worker

        return train_on_worker(config)

    return work


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
