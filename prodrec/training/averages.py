"""Averages of weights: over the steps of a run, and over its best epochs."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from prodrec.training.checkpoint import Tensors


def moving_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """Of the weights and buffers, by step; None for a decay of 0."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None


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
