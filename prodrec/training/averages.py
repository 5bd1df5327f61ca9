"""Averages of weights: over the steps of a run, and over its best epochs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from prodrec.training.checkpoint import Tensors


def moving_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """Of the weights and buffers, by step; None for a decay of 0. Whole numbers (counters, tables of indices) are those of the model.

    After n steps the decay is at most (1 + n) / (10 + n): else a run of a few hundred steps would keep mostly its first weights.
    Source: TensorFlow's ExponentialMovingAverage, `num_updates`.
    """
    if not decay:
        return None

    def update(averages: Any, values: Any, steps_on_device: torch.Tensor | int) -> None:
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, values)
            return
        steps = int(averaged.n_averaged)  # on the CPU: to read the copy on a GPU would wait for it at every step
        get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(averages, values, steps_on_device)

    averaged = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return averaged


def mean_weights(models: Sequence[Tensors]) -> Tensors:
    """The mean of each tensor; counters are those of the last.

    Source: Izmailov et al. 2018 (arXiv 1803.05407), Wortsman et al. 2022 (arXiv 2203.05482). Statistics of batch norm are averaged
    like weights, as those of the moving average are, where Izmailov et al. take them anew from the training images: that val must
    find the mean as good as the best epoch covers what this costs.
    """
    return {name: _mean([model[name] for model in models]) for name in models[-1]}


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    last = tensors[-1]
    return torch.stack([tensor.double() for tensor in tensors]).mean(0).to(last.dtype) if last.is_floating_point() else last
