"""What preparing and training ingest cost beside a torch DataLoader that does the same decode and transforms.

    CPU per image = CPU seconds of the whole process tree, in a run of three epochs less one of one epoch / images between

so that starting up cancels. Both lengths are whole runs, each after a run that warms up processes and page cache; the plain
loop (one thread, no helpers) is the measure of the work itself. The DataLoader's item is a row group of several batches: each
row group is read once, as a careful user would have it, and its batches are stacked in shared memory.

Not covered: the GPU, remote storage, several machines. `prodrec prepare` writes shards too; the DataLoader beside it does not.
"""

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

# Read when torch and Ray are imported, here and in the processes they start.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "RAY_worker_niceness": "0"}

import numpy as np
import pyarrow as pa
import torch
from process_tree import Cost, TreeClock
from ray.data import DataContext
from torch.utils.data import DataLoader, Dataset, default_collate

from prodrec.cluster import ingest
from prodrec.cluster.prepare import prepare
from prodrec.cluster.session import ray_session
from prodrec.config import Recipe
from prodrec.errors import Reject
from prodrec.images.decode import PreparedImage, decode_rgb, prepare_image
from prodrec.recipes import load_recipe
from prodrec.sample import write_sample
from prodrec.shards.feed import Pass, batches
from prodrec.shards.order import epoch_order
from prodrec.shards.preparing import PrepareOptions
from prodrec.shards.reading import SplitIndex, open_shards
from prodrec.shards.stream import Batch, Transform, train_transform
from prodrec.sources.source import Source, open_source, read_images

_WORKERS = 2  # of the DataLoader, and decoding threads of prodrec. Source: issue 2
_BAR = 1.1  # times the DataLoader's CPU per image. Source: issue 2
_EPOCHS = (1, 3)
_CHUNK_ROWS = 32  # photos of an item of the preparing DataLoader. Source: assumed
_MB = 2**20
_RAY_BLOCK_BYTES = 128 * _MB  # Source: Ray's DEFAULT_TARGET_MAX_BLOCK_SIZE

Run = Callable[[int], int]
"""Shows every image so many times; returns how many it showed."""


class Photos(Dataset[list[PreparedImage | None]]):
    """Chunks of a source's photos, prepared; None for a reject."""

    def __init__(self, source: Source, options: PrepareOptions, epochs: int) -> None:
        self.listing, self.options = _repeated(source.listing, epochs), options

    def __len__(self) -> int:
        return len(range(0, self.listing.num_rows, _CHUNK_ROWS))

    def __getitem__(self, number: int) -> list[PreparedImage | None]:
        piece = self.listing.slice(number * _CHUNK_ROWS, _CHUNK_ROWS)
        return [self._prepared(image) for image in read_images(piece, self.options.limits.max_bytes)]

    def _prepared(self, image: bytes | Reject) -> PreparedImage | None:
        try:
            return None if isinstance(image, Reject) else prepare_image(image, self.options.short_side, self.options.limits, self.options.jpeg_quality)
        except Reject:
            return None


class RowGroups(Dataset[list[Batch]]):
    """Row groups of a split in random order, each as its batches of training images."""

    def __init__(self, split: SplitIndex, recipe: Recipe, epochs: int) -> None:
        self.split, self.batch_size, self.shown = split, recipe.train.batch_size, []
        for epoch in range(epochs):
            order = epoch_order(split.row_group_sizes, self.batch_size, window_row_groups=1, epoch=epoch)
            self.shown += [(window, _transform(recipe, epoch)) for window in order.windows]

    def __len__(self) -> int:
        return len(self.shown)

    def __getitem__(self, number: int) -> list[Batch]:
        window, transform = self.shown[number]
        table = self.split.read(window)
        return [self._batch(table.slice(low, self.batch_size), transform) for low in range(0, table.num_rows, self.batch_size)]

    def _batch(self, table: pa.Table, transform: Transform) -> Batch:
        rows, occurrences = table["row"].to_numpy(), table["occurrence"].to_numpy()
        images = [transform(decode_rgb(image.as_py()), int(row), int(nth)) for image, row, nth in zip(table["image"], rows, occurrences, strict=True)]
        labels = torch.from_numpy(table["label_id"].to_numpy().astype(np.int64))
        return Batch(default_collate(images), labels, torch.from_numpy(rows.copy()))


def loop(dataset: Callable[[int], Any], epochs: int) -> int:
    items = dataset(epochs)
    return _images(items[number] for number in range(len(items)))


def loader(dataset: Callable[[int], Any], epochs: int) -> int:
    # Not forked: by the second round this process has had Ray's threads, and a fork copies the locks they held.
    return _images(DataLoader(dataset(epochs), batch_size=None, num_workers=_WORKERS, multiprocessing_context="forkserver"))


def prepare_on_ray(source: Source, options: PrepareOptions, epochs: int) -> int:
    with tempfile.TemporaryDirectory() as out:
        return prepare(replace(source, listing=_repeated(source.listing, epochs)), out, options).rows_in


def ingest_from_shards(split: SplitIndex, recipe: Recipe, launcher: str, window_row_groups: int, block_bytes: int, epochs: int) -> int:
    """Training ingest as the loop does it.

    Args:
        launcher: `worker` or `stream`, as data.decode of a recipe.
    """
    # The block size is no option of prodrec: this benchmark is what chooses it.
    DataContext.get_current().target_max_block_size = ingest._BLOCK_BYTES = block_bytes
    images, size = 0, recipe.train.batch_size
    for epoch in range(epochs):
        order = epoch_order(split.row_group_sizes, size, window_row_groups=window_row_groups, epoch=epoch)
        one = Pass(split, order, _transform(recipe, epoch))
        images += _images([batches(one, _WORKERS, away=_on_ray if launcher == "stream" else None)])
    return images


def _on_ray(one: Pass) -> Iterator[pa.Table]:
    return ingest.stream_tables(one.split, one.order.windows, one.transform)


def measured(clock: TreeClock, runs: dict[str, Run]) -> dict[str, Cost]:
    costs = {}
    for name, run in runs.items():
        # As long as the longest: a Ray process that first imports torch in between would cost as much as 2,000 images.
        run(_EPOCHS[-1])
        clock.settle()
        short, long = (clock.cost(run, epochs) for epochs in _EPOCHS)
        costs[name] = Cost(*(more - less for more, less in zip(long, short, strict=True)))
        print(f"  measured: {name}", flush=True)
    return costs


def prepare_runs(source: Source, options: PrepareOptions) -> tuple[dict[str, Run], dict[str, Run]]:
    """Without Ray, and on Ray."""
    photos = partial(Photos, source, options)
    alone = {"plain loop, one thread": partial(loop, photos), f"DataLoader, {_WORKERS} workers": partial(loader, photos)}
    return alone, {"prodrec prepare": partial(prepare_on_ray, source, options)}


def ingest_runs(split: SplitIndex, recipe: Recipe) -> tuple[dict[str, Run], dict[str, Run]]:
    """Without Ray, and on Ray."""
    row_groups, shown = partial(RowGroups, split, recipe), partial(ingest_from_shards, split, recipe)
    window, chosen = recipe.data.window_row_groups, ingest._BLOCK_BYTES
    alone = {"plain loop, one thread": partial(loop, row_groups), f"DataLoader, {_WORKERS} workers": partial(loader, row_groups)}
    alone |= {f"prodrec decode=worker, windows of {n}": partial(shown, "worker", n, chosen) for n in sorted({4, window})}
    return alone, {f"prodrec decode=stream, {n // _MB} MB blocks": partial(shown, "stream", window, n) for n in sorted({chosen, _RAY_BLOCK_BYTES})}


def print_table(title: str, rounds: list[dict[str, Cost]], bar: bool) -> None:
    """The least CPU and the best rate of the rounds: what else runs on a machine, and its neighbours, only ever add."""
    plain, other = list(rounds[0])[:2]
    least = {name: min(costs[name].cpu_s / costs[name].images for costs in rounds) for name in rounds[0]}
    print(f"\n{title}\n{'':38}{'CPU ms/image':>14}{'x plain':>10}{'x DataLoader':>14}{'images/s':>10}")
    for name in rounds[0]:
        of_plain, of_other = (least[name] / least[base] for base in (plain, other))
        rate = max(costs[name].images / costs[name].wall_s for costs in rounds)
        verdict = f"  {'reached' if of_other <= _BAR else 'missed'} (at most {_BAR})" if bar and name.startswith("prodrec") else ""
        print(f"{name:38}{1000 * least[name]:14.2f}{of_plain:10.2f}{of_other:14.2f}{rate:10,.0f}{verdict}")


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    # Imported once, not by every worker of every DataLoader: importing them takes longer than a short run.
    multiprocessing.set_forkserver_preload(["prodrec.cluster.prepare", "prodrec.shards.stream"])
    with tempfile.TemporaryDirectory() as scratch, TreeClock() as clock:
        source, recipe, preparing = _source(options.source, options.images, Path(scratch)), load_recipe(options.recipe), PrepareOptions()
        copies = -(-options.shard_images // source.listing.num_rows)
        with ray_session():
            prepare(replace(source, listing=_repeated(source.listing, copies)), f"{scratch}/shards", preparing)
        split = open_shards(f"{scratch}/shards").split("train")
        both = [prepare_runs(source, preparing), ingest_runs(split, recipe)]
        rounds: list[list[dict[str, Cost]]] = [[], []]
        for _ in range(options.rounds):
            alone = [measured(clock, runs) for runs, _ in both]
            with ray_session():
                for results, costs, (_, runs) in zip(rounds, alone, both, strict=True):
                    results.append(costs | measured(clock, runs))
    size, window = recipe.input.size, recipe.data.window_row_groups
    print_table(f"prepare: {source.listing.num_rows:,} photos an epoch, short side {preparing.short_side} px", rounds[0], bar=False)
    shape = f"{split.rows:,} images an epoch in {len(split.row_group_sizes)} row groups, recipe {recipe.name}, {size} px, windows of {window} unless said"
    print_table(f"training ingest: {shape}", rounds[1], bar=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="a source of photos; default: the sample catalogue, drawn for the occasion")
    parser.add_argument("--images", type=int, default=2400, help="photos of the source that are used (default %(default)s)")
    parser.add_argument("--shard-images", type=int, default=6000, help="the shards hold the photos repeated to this many (default %(default)s)")
    parser.add_argument("--recipe", default="resnet18", help="whose input, augmentation, batch size and windows are taken (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions, of which the least is shown (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a hundred images, once: shows that it runs, the figures mean nothing")
    options = parser.parse_args()
    if options.quick:
        options.images, options.shard_images, options.rounds = 100, 200, 1
    return options


def _source(uri: str | None, images: int, scratch: Path) -> Source:
    if not uri:
        write_sample(scratch / "sample", images=images)
    source = open_source(uri or str(scratch / "sample"))
    chosen = np.random.default_rng(0).permutation(source.listing.num_rows)[:images]
    return replace(source, listing=source.listing.take(pa.array(chosen)))


def _repeated(listing: pa.Table, times: int) -> pa.Table:
    return pa.concat_tables([listing] * times)


def _transform(recipe: Recipe, epoch: int) -> Transform:
    return train_transform(recipe.input, recipe.augment, recipe.train.seed, epoch)


def _images(items: Iterable[Iterable[Batch | PreparedImage | None]]) -> int:
    return sum(len(part.rows) if isinstance(part, Batch) else 1 for item in items for part in item)


if __name__ == "__main__":
    main()
