"""A run on Ray Train: one loop on every worker, restarts from the last checkpoint, progress for the driver."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from prodrec.cluster.session import ray_session  # first: sets what ray.train reads on import

# isort: split
import ray
import ray.train
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prodrec.cluster.board import Board, observed
from prodrec.cluster.embed import Pool, fit_on_cluster
from prodrec.cluster.watchdog import STALL_S
from prodrec.config import Recipe
from prodrec.errors import ConfigError, ProdrecError, TrainingError
from prodrec.files import Folder
from prodrec.lease import held
from prodrec.shards.reading import Shards
from prodrec.training.checkpoint import Checkpoints
from prodrec.training.progress import RunObserver

# Losses in a row without a new checkpoint between them, after which a run ends: what is wrong would happen again. A run that gets on,
# however slowly, may lose any number of workers. Source: assumed; on spot nodes two may go within ten minutes.
_FRUITLESS = 3
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


def train(recipe: Recipe, shards: Shards, run: Folder, workers: Workers, observer: RunObserver, finish: bool = False) -> None:
    """Runs a recipe on Ray, going on from the run's last checkpoint where it has one.

    Args:
        finish: as of `run_training`.

    Raises:
        UserError: what the workers found wrong (configuration, weights, shards, output).
        TrainingError: a loss that is not finite, or workers that are lost again and again before anything is gained.
    """
    _check_lanes(recipe.data.lanes, workers)
    with held(run, observer.note) as claim, ray_session():
        # On the driver's node: a worker's may be taken away, and watching must never decide how a run ends.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        scaling = _scaling(workers, nodes, decodes_away=recipe.data.decode == "stream", may_grow=bool(os.environ.get("RAY_ADDRESS")))
        if recipe.fit:
            pool = Pool(workers.least, workers.most, scaling.resources_per_worker["CPU"], workers.gpu, math.ceil(workers.most / len(nodes)))
            with observed(board, observer):
                fit_on_cluster(recipe, shards, run, pool, observer, board)
            return
        config = {"recipe": recipe, "shards": shards, "run": run.uri, "board": board, "cpus": workers.cpus, "claim": claim, "finish": finish}
        with observed(board, observer):
            failure = _with_restarts(lambda: _once(config, scaling, run), Checkpoints(run, claim=claim), observer.note)
        if failure:
            raise failure


def _once(config: dict[str, Any], scaling: ScalingConfig, run: Folder) -> ProdrecError | None:
    """Trains until the run ends or a worker is lost; returns what all ranks found wrong.

    Raises:
        TrainingFailedError, RayActorError: a worker, its node or Ray's own controller of the run was lost.
    """
    trainer = TorchTrainer(
        _on_worker(),
        train_loop_config=config,
        torch_config=TorchConfig(timeout_s=int(STALL_S)),
        scaling_config=scaling,
        run_config=RunConfig(
            name=".ray",  # it holds nothing: checkpoints are prodrec's own
            storage_path=run.uri,
            worker_runtime_env={"env_vars": {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}},
            # Restarts are decided here, where what they gain is known.
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
        ),
    )
    failure: ProdrecError | None = trainer.fit().return_value
    return failure


def _with_restarts(attempt: Callable[[], ProdrecError | None], checkpoints: Checkpoints, note: Callable[[str], None]) -> ProdrecError | None:
    """Tries again after each loss, from the last checkpoint, as long as some attempt gets further.

    Raises:
        ProdrecError: what a worker raised, or that nothing was gained for `_FRUITLESS` attempts.
    """
    fruitless, reached = 0, checkpoints.newest()
    while True:
        try:
            return attempt()
        except (TrainingFailedError, RayActorError) as error:
            before, reached = reached, checkpoints.newest()
            fruitless = fruitless + 1 if reached == before else 0
            cause, where = _named(error), checkpoints.run.uri
            if fruitless >= _FRUITLESS:
                told = f"a worker was lost {fruitless} times in a row before anything was gained; the run in {where} can go on with --resume"
                raise cause if isinstance(cause, ProdrecError) else TrainingError(f"{told}; last cause: {cause}") from error
            if checkpoints.claim and not checkpoints.claim.stands():
                raise TrainingError(f"another process has taken over the run in {where}; this one ends") from error
            start = f"{reached.name}" if reached else "its start"
            note(f"a worker was lost ({cause}); the run goes on from {start}")


def _check_lanes(lanes: int | None, workers: Workers) -> None:
    """An elastic run may come to any number of workers in its range, hours after its start; each must divide the lanes.

    Raises:
        ConfigError: one of them does not.
    """
    counts = range(workers.least, workers.most + 1)
    odd = [count for count in counts if lanes and lanes % count]
    if odd:
        raise ConfigError(f"data.lanes {lanes} does not divide among {odd[0]} workers; use a multiple of {math.lcm(*counts)}, or other --workers")


def _scaling(workers: Workers, nodes: list[dict[str, float]], decodes_away: bool, may_grow: bool = False) -> ScalingConfig:
    """Workers of a size that one node can hold. They read and decode by threads of their own, unless tasks do it for them.

    Args:
        nodes: resources of each node that is up.
        decodes_away: by tasks, which need CPUs that no worker holds.
        may_grow: an autoscaler may add nodes, of which only the user knows what they have.

    Raises:
        ConfigError: there are too few CPUs: the workers would wait for each other, or tasks for them and they for tasks, without a word;
            or the nodes that are up do not tell how many a worker may take.
    """
    in_all, gpus = (sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU"))
    if may_grow and workers.cpus is None and (in_all == 0 or (workers.gpu and gpus == 0)):
        raise ConfigError(
            f"no node with a {'GPU' if workers.gpu else 'CPU'} is up, so how many CPUs a worker may take cannot be seen; "
            f"give --cpus-per-worker (the CPUs that a node will have{' for each GPU' if workers.gpu else ''}, less one) beside --workers"
        )
    cpus = cpus_of_a_worker(workers, nodes)
    is_to_grow = (workers.gpu and gpus < workers.most) or (may_grow and workers.cpus is not None)
    if not is_to_grow and workers.most * cpus > in_all:
        grows = "; where the cluster is to grow, give --cpus-per-worker" if may_grow else ""
        raise ConfigError(f"{workers.most} workers of {cpus:g} CPUs do not fit on {in_all:g}; lower --workers or --cpus-per-worker{grows}")
    if not is_to_grow and decodes_away and workers.most * cpus == in_all:
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


def _named(error: BaseException) -> ProdrecError | str:
    """The prodrec error that a worker raised, or one line on what was lost."""
    failures = getattr(error, "worker_failures", {})
    for failure in failures.values():
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, ProdrecError):
                return cause
            cause = getattr(cause, "_base_exc", None) or getattr(cause, "cause", None) or cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith(("Training failed", "["))]
    return f"rank {min(failures)}: {lines[0]}" if failures and lines else (lines or [type(error).__name__])[0]
