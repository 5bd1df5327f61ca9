"""Several runs side by side on Ray, as many at once as the cluster has room for."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from prodrec.cluster.session import ray_session
from prodrec.cluster.train import WORKERS_SHARE, Workers, cpus_of_a_worker, train

# isort: split
import ray

from prodrec.shards.reading import Shards
from prodrec.training.comparison_runs import Entry, attempt
from prodrec.training.progress import RunObserver
from prodrec.training.records import is_finished


def train_side_by_side(
    entries: Sequence[Entry], shards: Shards, workers: Workers, observer_of: Callable[[str], RunObserver], at_once: int | None = None
) -> dict[str, str]:
    """Trains what is not finished; a run starts when another ends and leaves its place.

    Args:
        workers: of each run.
        observer_of: who watches a run, by its name.
        at_once: runs at the same time; None: as many as the cluster that stands now has room for.

    Returns:
        Reasons of those that failed, in one line each, by name.

    Raises:
        ProdrecError: a local Ray does not start.
    """
    waiting = deque(entry for entry in entries if not is_finished(entry.run))
    reasons: dict[str, str | None] = {}
    if not waiting:
        return {}
    with ray_session():
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        runs, each = share_out(workers, nodes, len(waiting), at_once)

        def train_in_turn() -> None:
            while waiting:
                try:
                    entry = waiting.popleft()
                except IndexError:  # another thread was quicker
                    return
                reasons[entry.name] = attempt(entry, lambda entry: train(entry.recipe, shards, entry.run, each, observer_of(entry.name)))

        # Threads that nobody waits for: after Ctrl-C the end of the session ends their runs.
        threads = [threading.Thread(target=train_in_turn, daemon=True) for _ in range(runs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {name: reason for name, reason in reasons.items() if reason}


def share_out(workers: Workers, nodes: Sequence[dict[str, Any]], runs: int, at_once: int | None = None) -> tuple[int, Workers]:
    """How many runs go on at once, and how large the workers of each are.

    More than one at once only if each worker has a CPU of its own (and a GPU, if asked), on nodes that can hold it, and CPUs are
    left to read with: else placement groups would wait for each other. One alone takes what `train` gives it.

    Args:
        nodes: resources of each node that is up.
        at_once: asked for; taken as it is, for clusters that grow.
    """
    for count in range(min(runs, at_once or runs), 1, -1):
        cpus = cpus_of_a_worker(workers, nodes, count)
        if at_once or ((workers.cpus or cpus >= 1) and _fit(workers, nodes, count, cpus)):
            return count, workers._replace(cpus=cpus)
    return 1, workers


def _fit(workers: Workers, nodes: Sequence[dict[str, Any]], runs: int, cpus: float) -> bool:
    """Whether all workers of all runs have a place at the same time, and leave CPUs."""
    places = [min(node.get("CPU", 0) // cpus, node.get("GPU", 0) if workers.gpu else float("inf")) for node in nodes]
    needed = workers.most * runs
    return sum(places) >= needed and needed * cpus <= WORKERS_SHARE * sum(node.get("CPU", 0) for node in nodes)
