"""What a run of a recipe will take on this machine: a few of its own steps, before it starts.

The rate of a CPU counts decoding and computing one after the other, as they share its cores; a GPU computes while the cores decode.
"""

import resource
import time
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch

from prodrec.config import Recipe
from prodrec.models.embedder import Embedder
from prodrec.models.start import starting_labels
from prodrec.shards.feed import Pass, batches
from prodrec.shards.order import sequential_order
from prodrec.shards.reading import Shards
from prodrec.shards.stream import Batch, eval_transform
from prodrec.sources.schema import SPLITS
from prodrec.training.fit_run import frozen_backbone
from prodrec.training.kinds import create_kind
from prodrec.training.learner import Learner

# Images of a step on a CPU, whose time goes by the image; a GPU is given whole batches. Source: assumed.
_MOST_ON_CPU = 16
# Steps that are taken; the first pays for what comes once, and is not counted. Source: assumed.
_STEPS = 3
# A look at an image costs so much of a step with it. Source: assumed; a backward pass costs two forward passes.
_LOOK = 1 / 3
_GIB = 1 << 30


class Probe(NamedTuple):
    """What was measured.

    Attributes:
        images_per_s: with reading and decoding.
        peak_gib: of memory: of the GPU's, or else of the process's.
        hours: that the whole run takes at that rate, if it is not stopped early.
    """

    images_per_s: float
    peak_gib: float
    hours: float


def measured(recipe: Recipe, shards: Shards, device: torch.device, cores: int) -> Probe:
    """Takes some steps of a recipe's first epoch, or embeds some images for a `fit`.

    Raises:
        WeightsError, ConfigError, ShardsError: what the run would raise before its first step.
        torch.OutOfMemoryError: of a GPU.
    """
    shards = shards.limited(recipe.data.limit)
    torch.manual_seed(recipe.train.seed)
    if recipe.fit:
        embedder = Embedder(frozen_backbone(recipe), recipe.input, device, recipe.train.precision)
        batch, decode_s = _decoded(shards, eval_transform(recipe.input), recipe, device)
        before, image_s, scale = _used_gib(device), _seconds(lambda: embedder(batch.images.to(device)), device) / len(batch.rows), 1.0
        work = float(sum(shards.split(split).rows for split in SPLITS))
    else:
        shards = shards.relabelled(starting_labels(recipe, shards.manifest.labels))
        kind, alone = create_kind(recipe, shards), SimpleNamespace(rank=0, world_size=1, device=device, threads=cores)
        surroundings: Any = alone
        learner = Learner(kind.task, recipe, surroundings)
        batch, decode_s = _decoded(shards, kind.train_transform(recipe.train.epochs), recipe, device)
        before, image_s = _used_gib(device), _seconds(lambda: learner.step(batch, 0.0), device) / len(batch.rows)
        scale = recipe.train.batch_size / len(batch.rows)
        work = recipe.last_epoch * (shards.split("train").rows + _LOOK * shards.split("val").rows)
    decoding_s = decode_s / cores
    per_s = 1 / (max(image_s, decoding_s) if device.type == "cuda" else image_s + decoding_s)
    return Probe(per_s, before + (_used_gib(device) - before) * max(1.0, scale), work / per_s / 3600)


def _decoded(shards: Shards, transform: Any, recipe: Recipe, device: torch.device) -> tuple[Batch, float]:
    """Some training images as inputs, and the seconds of one core that each took."""
    split = shards.split("train")
    rows = min(split.rows, recipe.train.batch_size if device.type == "cuda" else _MOST_ON_CPU)
    order, started = sequential_order(np.arange(rows), rows), time.monotonic()
    batch = next(batches(Pass(split, order, transform), 1))
    return batch, (time.monotonic() - started) / rows


def _seconds(step: Any, device: torch.device) -> float:
    """Of one step, the quickest of those after the first: other programs can only make it slower."""
    taken = []
    for _ in range(_STEPS):
        started = time.monotonic()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.monotonic() - started)
    return min(taken[1:])


def _used_gib(device: torch.device) -> float:
    """The most so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB
