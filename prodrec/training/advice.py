"""Which recipe `prodrec train` takes where none is named: a pure function of the data, the machine and whether weights can be had.

Only recipes that docs/results.md and docs/log.md have figures of are taken, the best first; what a run would take on this machine
(`prodrec.training.probe`) decides between them.
"""

from typing import NamedTuple

from prodrec.config import Recipe
from prodrec.shards.reading import Shards

# A run that would take longer gives way to a quicker recipe, where there is one. Source: assumed; a working day.
MOST_HOURS = 8.0


class Facts(NamedTuple):
    """What decides.

    Attributes:
        train_images, val_images, labels: of the shards.
        boxes, short_side: of the shards; the short side in pixels.
        gpu_gib: memory of the GPU that was asked for; None: the CPU computes.
        cores: of this machine.
    """

    train_images: int
    val_images: int
    labels: int
    boxes: bool
    short_side: int
    gpu_gib: float | None
    cores: int


class Advice(NamedTuple):
    """A recipe by name, and why."""

    recipe: str
    why: str


def facts_of(shards: Shards, gpu_gib: float | None, cores: int) -> Facts:
    manifest = shards.manifest
    return Facts(manifest.rows("train"), manifest.rows("val"), len(manifest.labels), manifest.boxes is not None, manifest.short_side, gpu_gib, cores)


def candidates(facts: Facts) -> list[Advice]:
    """Recipes that fit the data, the best first; each needs the time (and those with hub weights the weights) that it needs."""
    if facts.boxes:
        return [
            *([Advice("fasterrcnn", "boxes, and a GPU: the most exact detector, from COCO weights")] if facts.gpu_gib else []),
            Advice("fasterrcnn_mobile", "boxes: the quick detector, from COCO weights"),
            Advice("fasterrcnn_tiny", "boxes, and no COCO weights: the detector that learns from nothing"),
        ]
    return [
        Advice("efficientnet_b0", "pretrained and fine-tuned: 87.5 % on grocery's test where the best from scratch has 79.6 %"),
        Advice("embed_then_fit", "a pretrained backbone looks at each image once: quick, some points behind fine-tuning"),
        Advice("resnet10t_scratch", "no pretrained weights: the best of those that learn from nothing, 79.6 % on grocery's test"),
        Advice("custom_cnn", "no pretrained weights and little time: the quickest that learns from nothing, 59.4 % on grocery's test"),
    ]


def largest_side(recipe: Recipe, facts: Facts) -> int:
    """Side of the model's input, at most the recipe's, that the shards have pixels for."""
    side = recipe.input.size
    return side if side <= facts.short_side else max(32, facts.short_side // 32 * 32)
