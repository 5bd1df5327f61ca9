"""Judging a bundle where the cluster has room for it: the head node that runs a job's driver may have no GPU."""

from typing import Any

from prodrec.cluster.session import ray_session

# isort: split
import ray
import torch

from prodrec.errors import ProdrecError
from prodrec.evaluation.judge import judge
from prodrec.machine import usable_cores

_CPUS = 1


def evaluate_on_cluster(bundle: str, shards: str, split: str, out: str, gpu: bool) -> dict[str, Any]:
    """`prodrec.evaluation.judge.judge` as one task of the cluster.

    Raises:
        ProdrecError: as `judge`.
    """
    with ray_session():
        task = ray.remote(num_cpus=_CPUS, num_gpus=1 if gpu else 0, max_retries=2)(_judge)
        result = ray.get(task.remote(bundle, shards, split, out, gpu))
    if isinstance(result, ProdrecError):
        raise result
    return result


def _judge(bundle: str, shards: str, split: str, out: str, gpu: bool) -> dict[str, Any] | ProdrecError:
    try:
        # Ray holds a task's torch to the CPUs that it reserved; a node that has more to spare may lend them.
        torch.set_num_threads(usable_cores())
        return judge(bundle, shards, split, out, gpu)
    except ProdrecError as error:
        return error
