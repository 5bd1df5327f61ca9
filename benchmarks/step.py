"""A training step of prodrec beside one in plain torch with the same options, in one process.

Both have their own copy of one network, the same batches in memory and the same options: input scaling, memory format, autocast, class
weights, label smoothing, clipping, fused AdamW by groups, schedule, top-1 of the step. They take turns, step by step, and the medians
of CPU seconds are compared, so that what else runs on the machine meets both alike.

Not covered: reading and decoding (benchmarks/feed.py), several processes, a GPU.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

# Threads that spin for each other would measure who else runs on the machine.
os.environ |= {"OMP_WAIT_POLICY": "passive"}

import torch
from torch import nn
from torch.nn import functional as F

from prodrec.images.transforms import Normalizer
from prodrec.models.registry import create_classifier
from prodrec.models.scorer import autocast
from prodrec.models.tasks import ClassificationTask
from prodrec.recipes import load_recipe
from prodrec.shards.stream import Batch
from prodrec.training.context import LocalContext
from prodrec.training.learner import Learner
from prodrec.training.optim import build_optimizer, lr_factor, set_lr

_BAR = 0.97  # Source: issue 15
_CLASSES, _BATCHES, _WARM_UP = 100, 4, 3
_CPU = torch.device("cpu")


class Silent:
    def progress(self, progress: object) -> None: ...


def plain_step(model: nn.Module, weights_K: torch.Tensor, recipe_name: str, settings: list[str]) -> Callable[[Batch], float]:
    """The loop that a careful user of torch would write."""
    recipe = load_recipe(recipe_name, settings)
    normalizer, optimizer = Normalizer(recipe.input), build_optimizer(model, recipe.optim)
    model.to(memory_format=torch.channels_last).train()

    def step(batch: Batch) -> float:
        images, labels = normalizer(batch.images).contiguous(memory_format=torch.channels_last), batch.targets
        with autocast(_CPU, recipe.train.precision):
            logits = model(images)
        weights = weights_K[labels]
        loss = (F.cross_entropy(logits.float(), labels, label_smoothing=recipe.optim.label_smoothing, reduction="none") * weights).sum() / weights.sum()
        set_lr(optimizer, lr_factor(1.0, recipe.train.epochs, recipe.optim))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.optim.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip_norm)
        optimizer.step()
        hits = (logits.argmax(1) == labels).sum()
        return float(loss.detach()) + float(hits)

    return step


def own_step(model: nn.Module, weights_K: torch.Tensor, recipe_name: str, settings: list[str]) -> Callable[[Batch], float]:
    recipe = load_recipe(recipe_name, settings)
    task = ClassificationTask(model, recipe.input, weights_K, recipe.optim.label_smoothing, channels_last=True)
    learner = Learner(task, recipe, LocalContext(Path("unused"), 1, _CPU, Silent()))  # type: ignore[arg-type]
    return lambda batch: float(learner.step(batch, 1.0).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="resnet18_scratch", help="whose options are taken, but mixing (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=96, help="side of the input, pixels (default %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="of each, of which medians are taken (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default %(default)s: the machine may be shared)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = [f"train.batch_size={options.batch_size}", f"input.size={options.size}", "augment.mix=0", "augment.start_size=null", "train.ema_decay=0"]
    batches, models = [], []
    for number in range(_BATCHES):
        torch.manual_seed(number)
        images = torch.randint(0, 256, (options.batch_size, 3, options.size, options.size), dtype=torch.uint8)
        batches.append(Batch(images, torch.randint(0, _CLASSES, (options.batch_size,)), torch.arange(options.batch_size)))
    for _ in range(2):
        torch.manual_seed(0)
        models.append(create_classifier(load_recipe(options.recipe, settings).model, _CLASSES, options.size))
    weights_K = torch.linspace(0.5, 2, _CLASSES)
    steps = {"plain torch": plain_step(models[0], weights_K, options.recipe, settings), "prodrec": own_step(models[1], weights_K, options.recipe, settings)}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(_WARM_UP + options.steps):
        for name in sorted(steps, reverse=bool(number % 2)):
            started = time.process_time()
            steps[name](batches[number % _BATCHES])
            seconds[name].append(time.process_time() - started)
    medians = {name: statistics.median(values[_WARM_UP:]) for name, values in seconds.items()}
    ratio = medians["plain torch"] / medians["prodrec"]
    print(
        f"recipe {options.recipe}, {options.batch_size} images of {options.size} px, {_CLASSES} classes, {options.threads} threads, {options.steps} steps each"
    )
    for name, median in medians.items():
        print(f"{name:12} {1000 * median:8.1f} ms of CPU a step, {options.batch_size / median:8.1f} images/s")
    print(f"prodrec / plain torch in images/s: {ratio:.3f}  {'reached' if ratio >= _BAR else 'missed'} (at least {_BAR})")


if __name__ == "__main__":
    main()
