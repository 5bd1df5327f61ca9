"""A function over many items by Ray tasks, a few of them in flight, so that neither items nor results pile up anywhere."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from prodrec.cluster.session import prodrec_cause  # first: sets what ray reads on import

# isort: split
import ray

T = TypeVar("T")
R = TypeVar("R")

# Times that a task is begun again whose process or node is lost. Source: assumed; on spot nodes more than Ray's 3.
_RETRIES = 20


def spread(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """As `map`, on one CPU of the cluster for each item, in any order.

    An item is taken when there is room: twice as many as there are CPUs are in flight, so that nodes come where the cluster can grow.
    A process that dies costs its item, which is done again.

    Raises:
        ProdrecError: what the function raised of ours.
    """
    work = ray.remote(num_cpus=1, max_retries=_RETRIES)(prepare_item)
    told, flying = ray.put(function), list[Any]()
    try:
        for item in items:
            flying.append(work.remote(told, item))
            if len(flying) >= 2 * max(1, int(ray.cluster_resources().get("CPU", 1))):
                ready, flying = ray.wait(flying)
                yield from ray.get(ready)
        while flying:
            ready, flying = ray.wait(flying)
            yield from ray.get(ready)
    except ray.exceptions.RayError as error:
        raise prodrec_cause(error) from error
    finally:
        for left in flying:
            ray.cancel(left)


def prepare_item(function: Callable[[T], R], item: T) -> R:
    return function(item)
