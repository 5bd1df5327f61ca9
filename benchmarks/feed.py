"""Whether reading and computing go on at the same time, and what four small nodes read together.

    overlap: seconds with both / seconds of the slower of the two, each path through its own code

Reading is slowed down to that of a store far away (a pause for each window), computing to that of a device of its own (a pause for
each forward pass): pauses take no CPU, so what else runs on the machine disturbs little. `reading` is the run without pauses of
the device, `computing` the run without pauses of the store; their sum is what a pipeline without overlap would take.

    nodes: images/s of 4 simulated nodes of 1 CPU (ray.cluster_utils.Cluster), a worker on each, in epochs after the first

`Ray Data` is how workers read until 2026-11-28: an executor in each, whose tasks want CPUs that no worker holds. All processes share
the machine's cores, so 4 nodes can be no faster than one process with a thread for each core.

Not covered: a GPU, a real store, a network between nodes.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "RAY_worker_niceness": "0"}

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from ray.cluster_utils import Cluster
from torch import nn

from prodrec.cluster import ingest
from prodrec.config import Recipe
from prodrec.evaluation.predict import predict
from prodrec.files import Folder
from prodrec.machine import usable_cores
from prodrec.models.inference import classified
from prodrec.recipes import load_recipe, parse_recipe
from prodrec.shards.feed import _READERS, Pass, batches
from prodrec.shards.order import epoch_order, sequential_order
from prodrec.shards.reading import Shards, SplitIndex, open_shards
from prodrec.shards.stream import eval_transform, train_transform
from prodrec.training import features
from prodrec.training.context import LocalContext
from prodrec.training.embedding import embed_here
from prodrec.training.fit_run import begun
from prodrec.training.loop import Trainer

_BAR = 1.15  # Source: issue 15
_CPU = torch.device("cpu")
_NODES = 4
_EPOCHS = (1, 3)  # of which the first is left out
_WINDOW_ROWS, _BATCH = 128, 32
_SIDE = 32  # pixels: little to decode and compute beside the pauses


class Pauses(NamedTuple):
    """Seconds for each window read, and for each forward pass."""

    store_s: float
    device_s: float


class Silent:
    def progress(self, progress: Any) -> None: ...

    def epoch(self, metrics: Any) -> None: ...

    def note(self, text: str) -> None: ...

    def embedding(self, done: int, total: int, images_per_s: float) -> None: ...


def paused(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return function(*args, **kwargs)

    return slow


def slowed(model: nn.Module, pauses: Pauses) -> nn.Module:
    model.register_forward_pre_hook(lambda module, inputs: time.sleep(pauses.device_s))
    return model


def _recipe(**sections: Any) -> Recipe:
    tree: dict[str, Any] = {
        "name": "feed",
        "model": {"arch": "custom_cnn", "weights": "none"},
        "input": {"size": _SIDE, "resize": "squash"},
        "train": {"epochs": 3, "batch_size": _BATCH, "precision": "fp32"},
        "data": {"threads": 2, "window_row_groups": 1},
    }
    return parse_recipe(tree | sections, "benchmark")


def judging(shards: Shards, pauses: Pauses, scratch: Path) -> None:
    """A split as evaluate, calibrate, compare and promote see it."""
    rows = np.arange(shards.split("train").rows)
    one = Pass(shards.split("train"), sequential_order(rows, _BATCH, window_rows=_WINDOW_ROWS), eval_transform(_recipe().input))
    model = slowed(Trainer(_recipe(), shards, LocalContext(scratch, 1, _CPU, Silent())).kind.task.model, pauses).eval()
    predict(lambda images: classified(model, images.float(), False)[0], batches(one, 2), _CPU, "fp32")


def embedding(shards: Shards, pauses: Pauses, scratch: Path) -> None:
    """Features in files of `_WINDOW_ROWS`, each a window."""
    recipe = _recipe(fit={"heads": ["linear"], "weight_decays": [0.1], "random_backbone": True}, train={"precision": "fp32"}, data={"threads": 2})
    with tempfile.TemporaryDirectory(dir=scratch) as run, begun(recipe, shards, Folder(run)) as (plan, backbone):
        here = replace(plan, uri=f"{run}/features")
        Folder(here.uri).make()
        embed_here(here, slowed(backbone, pauses), _CPU, 2, lambda rows: None)


def training(shards: Shards, pauses: Pauses, scratch: Path) -> None:
    """Three epochs with val of `--local`."""
    with tempfile.TemporaryDirectory(dir=scratch) as run:
        trainer = Trainer(_recipe(), shards, LocalContext(Path(run), 1, _CPU, Silent()))
        slowed(trainer.task.model, pauses)
        trainer.fit(None)


# Paths, with the forward passes that a window of each feeds.
_PATHS = {judging: 4, embedding: 2, training: 8}


def overlap(shards: Shards, scratch: Path, window_s: float) -> None:
    """Both take as long a window, which is the hardest: the slower of two unequal ones hides more of the other."""
    print(f"\noverlap: the store and the device take {window_s:g} s a window each")
    print(f"{'':12}{'reading s':>11}{'computing s':>13}{'sum s':>8}{'both s':>8}{'both/slower':>13}")
    plain = SplitIndex.read
    for path, passes in _PATHS.items():
        pauses, seconds = Pauses(window_s * _READERS, window_s / passes), []
        for now in (Pauses(pauses.store_s, 0), Pauses(0, pauses.device_s), pauses):
            SplitIndex.read = paused(plain, now.store_s)  # type: ignore[method-assign]
            started = time.monotonic()
            path(shards, now, scratch)
            seconds.append(time.monotonic() - started)
        SplitIndex.read = plain  # type: ignore[method-assign]
        reading, computing, both = seconds
        ratio = both / max(reading, computing)
        verdict = "reached" if ratio <= _BAR else "missed"
        print(f"{path.__name__:12}{reading:11.1f}{computing:13.1f}{reading + computing:8.1f}{both:8.1f}{ratio:13.2f}  {verdict} (at most {_BAR})", flush=True)


def _through_ray_data(one: Pass) -> Iterator[pa.Table]:
    """Reading as it was until 2026-11-28, for decoding beside the worker."""
    plan = ray.data.from_arrow([ingest._as_table(window) for window in one.order.windows])
    dataset = plan.map_batches(partial(ingest._read, one.split), batch_size=None, batch_format="pyarrow", num_cpus=ingest._READ_CPUS)
    dataset.context.execution_options.preserve_order = True
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


class Worker:
    """A training process that takes its batches and learns nothing."""

    def __init__(self, split: SplitIndex, recipe: Recipe, rank: int, world_size: int, threads: int, ray_data: bool) -> None:
        self.split, self.recipe, self.rank, self.world_size, self.threads = split, recipe, rank, world_size, threads
        self.away = _through_ray_data if ray_data else None

    def run(self, epochs: int) -> int:
        images = 0
        for epoch in range(epochs):
            places: dict[str, Any] = {"rank": self.rank, "world_size": self.world_size, "window_row_groups": 1}
            order = epoch_order(self.split.row_group_sizes, 64, **places, epoch=epoch)
            one = Pass(self.split, order, train_transform(self.recipe.input, self.recipe.augment, 0, epoch))
            images += sum(len(batch.rows) for batch in batches(one, self.threads, away=self.away))
        return images


def nodes(shards: Shards) -> None:
    """Images/s of whole epochs; the first is how long it takes to begin."""
    split, recipe = shards.split("train"), load_recipe("resnet18", ["data.threads=1"])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(_NODES - 1):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    ingest.quiet_data()
    print(f"\nnodes: {split.rows:,} images an epoch in {len(split.row_group_sizes)} windows, recipe {recipe.name}, {usable_cores()} cores for all")
    alone = Worker(split, recipe, 0, 1, usable_cores(), ray_data=False)
    rates = {f"one process, {usable_cores()} threads": _rate(lambda epochs: alone.run(epochs))}
    for name, cpus, ray_data in (("4 nodes, reader threads (new)", 1.0, False), ("4 nodes, Ray Data (old)", 0.5, True)):
        actor = ray.remote(num_cpus=cpus, scheduling_strategy="SPREAD")(Worker)
        workers = [actor.remote(split, recipe, rank, _NODES, 1, ray_data) for rank in range(_NODES)]
        rates[name] = _rate(lambda epochs, workers=workers: sum(ray.get([worker.run.remote(epochs) for worker in workers])))
        for worker in workers:
            ray.kill(worker)
    base = next(iter(rates.values()))[0]
    print(f"{'':34}{'images/s':>10}{'x one process':>15}{'first epoch s':>15}")
    for name, (rate, first_s) in rates.items():
        print(f"{name:34}{rate:10,.0f}{rate / base:15.2f}{first_s:15.1f}")
    ray.shutdown()
    cluster.shutdown()


def _rate(run: Callable[[int], int]) -> tuple[float, float]:
    """Images/s of the epochs beyond the first of a run, and seconds of the very first, with all that starts for it."""
    started = time.monotonic()
    run(_EPOCHS[0])
    first_s = time.monotonic() - started
    took, shown = [], []
    for epochs in _EPOCHS:
        started = time.monotonic()
        shown.append(run(epochs))
        took.append(time.monotonic() - started)
    return (shown[1] - shown[0]) / (took[1] - took[0]), first_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="a prepared data set, of labels")
    parser.add_argument("--images", type=int, default=1600, help="that are used (default %(default)s)")
    parser.add_argument("--window-s", type=float, default=1.0, help="that the store, and the device, take for a window (default %(default)s)")
    parser.add_argument("--only", choices=["overlap", "nodes"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    features.PART_ROWS = _WINDOW_ROWS
    shards = open_shards(options.shards).limited(options.images)
    with tempfile.TemporaryDirectory() as scratch:
        if options.only != "nodes":
            overlap(shards, Path(scratch), options.window_s)
        if options.only != "overlap":
            nodes(shards)


if __name__ == "__main__":
    main()
