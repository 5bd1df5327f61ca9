"""A recipe with `fit` on Ray: Ray Data hands the files of features that are missing to a pool of embedding processes.

A file is the unit of work: it holds the same rows whoever makes it, and is written whole or not at all. So a process that dies
costs the time of its file, and every row is there exactly once; `FeaturePlan.complete` counts them before it says so.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from prodrec.cluster.session import prodrec_cause  # first: sets what ray reads on import

# isort: split
import pyarrow as pa
import ray
import ray.data
import torch
from ray.data import ActorPoolStrategy, DataContext

from prodrec.config import Recipe
from prodrec.errors import ProdrecError
from prodrec.files import Folder
from prodrec.machine import torch_device, usable_cores
from prodrec.shards.reading import Shards
from prodrec.training.embedding import PartEmbedder, check_same_weights
from prodrec.training.features import FeaturePlan, Part
from prodrec.training.fit_run import EmbeddingWatch, begun, fit_on_features, frozen_backbone
from prodrec.training.progress import RunObserver
from prodrec.training.records import is_finished

# For news of a fit; watching must never decide how a run ends. Source: as `prodrec.cluster.train`.
_TELL_TIMEOUT_S = 30


class Pool(NamedTuple):
    """Embedding processes.

    Attributes:
        least, most: how many, as there is work.
        cpus: that each of them reserves, and the process that fits.
        gpu: one GPU for each.
        on_a_node: how many share a node at most.
    """

    least: int
    most: int
    cpus: float
    gpu: bool
    on_a_node: int


def fit_on_cluster(recipe: Recipe, shards: Shards, run: Folder, pool: Pool, observer: RunObserver, board: Any) -> None:
    """Runs a recipe with `fit`; a run whose bundle is there is left alone.

    Args:
        board: an actor whose method `epoch` is told each trial.

    Raises:
        ProdrecError: as `prodrec.training.fit_run.fit_here`.
    """
    if is_finished(run):
        return
    with begun(recipe, shards, run, torch.device("cuda" if pool.gpu else "cpu")) as (plan, _):
        watch = EmbeddingWatch(plan, run, observer)
        for rows in embed_on_cluster(plan, pool):
            watch(rows)
        plan.complete()
        watch.done()
        task = ray.remote(num_cpus=pool.cpus, num_gpus=int(pool.gpu), max_retries=2)(_fit)
        failure = ray.get(task.remote(plan, run.uri, pool, board))
        if failure:
            raise failure


def embed_on_cluster(plan: FeaturePlan, pool: Pool) -> Iterator[int]:
    """Makes the missing files of a plan; yields the rows of each as it is done.

    Raises:
        ProdrecError: what an embedding process found wrong.
    """
    missing = plan.missing()
    if not missing:
        return
    context = DataContext.get_current()
    before = context.raise_original_map_exception
    context.raise_original_map_exception = True
    try:
        work = ray.data.from_arrow([pa.Table.from_pylist([{"part": number}]) for number in range(len(missing))])
        made = work.map_batches(
            _EmbeddingProcess,
            fn_constructor_args=(plan, missing, pool),
            compute=ActorPoolStrategy(
                min_size=min(pool.least, len(missing)),
                max_size=min(pool.most, len(missing)),
                max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True,
            ),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=pool.cpus,
            num_gpus=int(pool.gpu),
        )
        for row in made.iter_rows():
            yield row["rows"]
    except ray.exceptions.RayError as error:
        raise prodrec_cause(error) from error
    finally:
        context.raise_original_map_exception = before


class _EmbeddingProcess:
    """An actor's state: the backbone. Two calls at a time: one reads while the other computes."""

    def __init__(self, plan: FeaturePlan, parts: list[Part], pool: Pool) -> None:
        device, threads = _placed(pool)
        self.parts, self.embedder = parts, PartEmbedder(plan, frozen_backbone(plan.recipe), device, plan.recipe.data.threads or threads)

    def __call__(self, work: pa.Table) -> pa.Table:
        return pa.table({"rows": list(self.embedder([self.parts[number] for number in work["part"].to_pylist()]))})


def _fit(plan: FeaturePlan, run: str, pool: Pool, board: Any) -> ProdrecError | None:
    """The fit as a task; what it finds wrong is returned, since a raised error would be tried again."""
    device, _ = _placed(pool)
    try:
        backbone = frozen_backbone(plan.recipe)
        check_same_weights(plan, backbone)  # it becomes part of the bundle, and this node may see other weights
        fit_on_features(plan, backbone, Folder(run), device, lambda entry: _tell(board, entry))
    except ProdrecError as error:
        return error
    return None


def _tell(board: Any, entry: dict[str, Any]) -> None:
    """Waits until it is heard, so that the driver's last look does not come before the last trial; raises nothing."""
    ray.wait([board.epoch.remote(entry)], timeout=_TELL_TIMEOUT_S)


def _placed(pool: Pool) -> tuple[torch.device, int]:
    """The device of this process, and its threads: Ray would hold torch to the CPUs that it reserved; it may use its share of the node."""
    threads = max(1, int(pool.cpus), usable_cores() // pool.on_a_node)
    torch.set_num_threads(threads)
    return torch_device(pool.gpu), threads
