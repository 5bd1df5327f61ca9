"""Keeping the first layers of a classifier's backbone as they are: their weights, and their batch-norm statistics too.

A layer is what the architecture's `group_matcher(coarse=True)` calls one, in its order: of a ResNet the stem and four stages, of
a vision transformer the patch embedding and each block, of our own networks each block. Source: timm, which orders layers by the
same method for layer-wise learning rates.
"""

from collections.abc import Iterator
from typing import Any

from timm.models import group_parameters
from torch import nn

from prodrec.errors import ConfigError


def layers(backbone: Any) -> list[set[str]]:
    """Names of the parameters of each layer, from the picture on.

    Raises:
        ConfigError: the architecture does not tell its order.
    """
    try:
        matcher = backbone.group_matcher(coarse=True)
    except (AttributeError, NotImplementedError, AssertionError) as error:  # timm's ways to say that there is none
        raise ConfigError(f"model.freeze_layers: {type(backbone).__name__} does not tell the order of its layers; set model.freeze_backbone=true") from error
    groups = group_parameters(backbone, matcher)
    return [set(groups[number]) for number in sorted(groups)]


def freeze_first(backbone: nn.Module, count: int) -> list[nn.Module]:
    """Takes the gradients from the first layers.

    Returns:
        The modules that must stay in eval mode for the layers to stay as they are.

    Raises:
        ConfigError: the backbone has fewer layers.
    """
    found = layers(backbone)
    if count > len(found):
        raise ConfigError(f"model.freeze_layers {count}: the backbone has {len(found)} layers; freeze at most these")
    frozen = set().union(*found[:count])
    for name, parameter in backbone.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    return list(_still(backbone))


def _still(module: nn.Module) -> Iterator[nn.Module]:
    """The largest modules that hold parameters none of which is trained."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        yield module
        return
    for child in module.children():
        yield from _still(child)
