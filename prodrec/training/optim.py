"""Optimiser and learning-rate schedule."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn, optim

from prodrec.config import OptimConfig


def build_optimizer(model: Any, config: OptimConfig) -> optim.Optimizer:
    """Groups: backbone (or its layers, the first first) and head, with and without weight decay; frozen parameters are left out.

    Biases and normalisation parameters (fewer than two dimensions) are not decayed, nor what a backbone of timm says must not be
    (tokens and positions of a transformer).
    Source: Goyal et al. 2017, arXiv 1706.02677, section 5.1; Loshchilov & Hutter 2019 for AdamW.
    """
    groups, spared = [], _spared(model)
    for parameters, lr in _parts(model, config):
        trained: list[nn.Parameter] = [p for p in parameters if p.requires_grad]
        for decayed in (True, False):
            chosen = [p for p in trained if (p.ndim >= 2 and id(p) not in spared) == decayed]
            if chosen:
                groups.append({"params": chosen, "lr": lr, "peak_lr": lr, "weight_decay": config.weight_decay if decayed else 0.0})
    # Fused: one pass over the weights, which can leave a step out without the host (see `update`).
    if config.name == "adamw":
        return optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=True)
    optimizer = optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True)
    if config.momentum:
        # Made here, since torch makes them in the first step, and if that is left out they hold what was in memory.
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def update(optimizer: optim.Optimizer, scale: torch.Tensor | float, clip_norm: float | None, is_sound: torch.Tensor) -> torch.Tensor:
    """Scales the gradients, clips their norm, and steps; where the norm is not finite, or something is unsound, nothing changes.

    No host waits here for a device: torch's fused optimisers look at `found_inf` themselves, as they do for `torch.amp.GradScaler`.

    Args:
        scale: of all gradients; a tensor of one number on their device, or a number.
        is_sound: bool of one element, whether to step.

    Returns:
        The norm of the scaled gradients, before clipping.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients) * scale
    if clip_norm:
        scale = scale * (clip_norm / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
    torch._foreach_mul_(gradients, torch.as_tensor(scale, dtype=gradients[0].dtype, device=gradients[0].device))
    optimizer.found_inf = (~(norm.isfinite() & is_sound)).float()  # type: ignore[attr-defined]
    optimizer.step()
    return norm


def _spared(model: Any) -> set[int]:
    """Ids of the parameters that the backbone names in `no_weight_decay`."""
    backbone: Any = getattr(model, "backbone", None)
    names = backbone.no_weight_decay() if hasattr(backbone, "no_weight_decay") else ()
    return {id(parameter) for name, parameter in (backbone.named_parameters() if names else ()) if name in names}


def _parts(model: Any, config: OptimConfig) -> Iterator[tuple[Any, float]]:
    """Parameters with their peak rates."""
    backbone_lr = config.lr * config.backbone_lr_fraction
    if config.layer_decay == 1:
        yield model.backbone_parameters(), backbone_lr
    else:
        layers = model.backbone_layers()
        for number, layer in enumerate(layers):
            yield layer, backbone_lr * config.layer_decay ** (len(layers) - number)
    yield model.head_parameters(), config.lr


def lr_factor(epochs_done: float, epochs: int, config: OptimConfig) -> float:
    """Share of the peak rate: linear warm-up over `warmup_epochs`, then cosine down to `final_lr_fraction`.

    Source: Loshchilov & Hutter 2017 (cosine), Goyal et al. 2017 (warm-up). A function of the position in the run alone,
    so a resumed run needs no scheduler state. A warm-up never takes more than a fifth of the run.

    Args:
        epochs_done: in [0, epochs], fractions count.
    """
    warmup = min(config.warmup_epochs, epochs / 5)
    if epochs_done < warmup:
        return 0.01 + 0.99 * epochs_done / warmup
    position = min(1.0, (epochs_done - warmup) / max(1e-9, epochs - warmup))
    return config.final_lr_fraction + (1 - config.final_lr_fraction) * (1 + math.cos(math.pi * position)) / 2


def set_lr(optimizer: optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
