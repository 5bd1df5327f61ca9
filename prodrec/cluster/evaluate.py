"""Judging bundles where the cluster has room for it: the head node that runs a job's driver may have no GPU."""

from collections.abc import Callable
from typing import Any

from prodrec.cluster.session import ray_session

# isort: split
import ray
import torch

from prodrec.errors import ProdrecError
from prodrec.machine import usable_cores

_CPUS = 1


def judged_on_cluster(judge: Callable[..., Any], gpu: bool, *arguments: Any) -> Any:
    """`judge(*arguments, gpu=gpu)` as one task of the cluster.

    Raises:
        ProdrecError: as `judge`.
    """
    with ray_session():
        task = ray.remote(num_cpus=_CPUS, num_gpus=1 if gpu else 0, max_retries=2)(_judged)
        result = ray.get(task.remote(judge, gpu, *arguments))
    if isinstance(result, ProdrecError):
        raise result
    return result


def _judged(judge: Callable[..., Any], gpu: bool, *arguments: Any) -> Any:
    try:
        # Ray holds a task's torch to the CPUs that it reserved; a node that has more to spare may lend them.
        torch.set_num_threads(usable_cores())
        return judge(*arguments, gpu=gpu)
    except ProdrecError as error:
        return error
