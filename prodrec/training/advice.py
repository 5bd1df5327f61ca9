"""Which recipe `prodrec train` takes where none is named.

Only recipes that docs/results.md and docs/log.md have figures of are taken, the best first: the first whose weights can be had, and
whose run takes no longer on this machine than a day's work (`prodrec.training.probe`); else the quickest.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from prodrec.config import Recipe
from prodrec.config.recipe import SIDE_STEP
from prodrec.errors import ConfigError, WeightsError
from prodrec.machine import torch_device, usable_cores
from prodrec.recipes import load_recipe
from prodrec.shards.reading import Shards, open_shards
from prodrec.training.probe import Probe, measured

# A run that would take longer gives way to a quicker recipe, where there is one. Source: assumed; a working day.
MOST_HOURS = 8.0


class Advice(NamedTuple):
    """A recipe by name, and why."""

    recipe: str
    why: str


def candidates(boxes: bool, gpu: bool) -> list[Advice]:
    """Recipes for data of a kind, the best first; the last needs no weights."""
    if boxes:
        return [
            *([Advice("fasterrcnn", "boxes, and a GPU: the most exact detector, from COCO weights")] if gpu else []),
            Advice("fasterrcnn_mobile", "boxes: the quick detector, from COCO weights"),
            Advice("fasterrcnn_tiny", "boxes, and no COCO weights: the detector that learns from nothing (90 % AP50 on composed scenes)"),
        ]
    return [
        Advice("efficientnet_lite0", "pretrained, then trained: 90.3 % on grocery's test, where the best from scratch has 79.6 %"),
        Advice("embed_then_fit", "a pretrained backbone looks at each image once: the quickest, some points behind"),
        Advice("resnet10t_scratch", "the best that learns from nothing: 79.6 % on grocery's test"),
        Advice("custom_cnn", "the quickest that learns from nothing: 59.4 % on grocery's test"),
    ]


def advised(shards_uri: str, overrides: list[str], gpu: bool = False, most_hours: float = MOST_HOURS) -> tuple[Recipe, list[str]]:
    """The recipe for shards on this machine, and lines that say why, and what its run takes.

    Args:
        most_hours: a longer run gives way to a quicker one.

    Raises:
        ShardsError: the shards are not complete.
        ConfigError: overrides that no recipe takes, or a GPU is asked for and there is none.
        WeightsError: none can be had, and the overrides ask for some.
    """
    shards, device = open_shards(shards_uri), torch_device(gpu)
    lines, found, refused = [_told(shards, device.type == "cuda")], [], None
    for advice in candidates(shards.manifest.boxes is not None, gpu):
        try:
            recipe = load_recipe(advice.recipe, [*_fitting(advice.recipe, overrides, shards), *overrides])
            probe = measured(recipe, shards, device, recipe.data.threads or usable_cores())
        except (WeightsError, ConfigError) as error:
            lines.append(f"  not {advice.recipe}: {error}")
            refused = error
            continue
        found.append((probe.hours, recipe, f"{advice.recipe}: {advice.why}; {_costs(probe)}"))
        if probe.hours <= most_hours:
            break
        lines.append(f"  not {advice.recipe}: {_costs(probe)}, more than {most_hours:g} h")
    if not found:
        assert refused is not None
        raise refused
    _, recipe, told = min(found, key=lambda one: (one[0] > most_hours, one[0]))
    return recipe, [*lines, f"  {told}", "  another: --recipe NAME; weights of your own: --set model.weights=PATH (and model.arch=NAME)"]


def _fitting(name: str, overrides: list[str], shards: Shards) -> Iterator[str]:
    """An input that the shards have pixels for, where they are smaller than the recipe's, and that training sides grow to."""
    most, recipe = shards.manifest.short_side // SIDE_STEP * SIDE_STEP, load_recipe(name)
    if recipe.kind == "tagger":
        return
    smaller = [f"input.size={most}"] if SIDE_STEP <= most < recipe.input.size else []
    yield from smaller
    if recipe.augment.start_size:
        size = load_recipe(name, ["augment.start_size=null", *smaller, *overrides]).input.size
        if size <= recipe.augment.start_size:
            yield "augment.start_size=null"


def _told(shards: Shards, gpu: bool) -> str:
    manifest, train = shards.manifest, shards.split("train").rows
    boxes = " with boxes" if manifest.boxes else ""
    machine = "a GPU" if gpu else f"{usable_cores()} cores, no GPU (--gpu takes one)"
    labels = max(1, len(manifest.labels))
    return (
        f"no --recipe: {train:,} images{boxes} of {labels:,} labels to learn from ({train / labels:.0f} each), short side {manifest.short_side} px; {machine}"
    )


def _costs(probe: Probe) -> str:
    time = f"{probe.hours:.1f} h" if probe.hours >= 1.5 else f"{max(1, math.ceil(probe.hours * 60))} min"
    return f"measured here {probe.images_per_s:,.0f} images/s: up to {time}, {probe.peak_gib:.1f} GiB of memory"
