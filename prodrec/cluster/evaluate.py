"""Judging a bundle where the cluster has room for it: the head node that runs a job's driver may have no GPU."""

import os
from typing import Any

from prodrec.cluster.session import ray_session

# isort: split
import ray

from prodrec.errors import ProdrecError
from prodrec.evaluation.judge import judge


def evaluate_on_cluster(bundle: str, shards: str, split: str, out: str, gpu: bool) -> dict[str, Any]:
    """`prodrec.evaluation.judge.judge` as one task of the cluster.

    Raises:
        ProdrecError: as `judge`.
    """
    with ray_session():
        task = ray.remote(num_cpus=1, num_gpus=1 if gpu else 0, max_retries=2)(_judge)
        result = ray.get(task.remote(bundle, shards, split, out, "cuda" if gpu else "cpu"))
    if isinstance(result, ProdrecError):
        raise result
    return result


def _judge(bundle: str, shards: str, split: str, out: str, device: str) -> dict[str, Any] | ProdrecError:
    try:
        return judge(bundle, shards, split, out, device=device, threads=os.cpu_count() or 1)
    except ProdrecError as error:
        return error
