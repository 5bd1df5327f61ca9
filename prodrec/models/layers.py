"""The layers of a classifier's backbone in their order, for learning rates by layer, and for keeping the first as they are.

A coarse layer is what the architecture's `group_matcher(coarse=True)` calls one: of a ResNet the stem and four stages, of a vision
transformer the patch embedding and each block, of our own networks each block. Source: timm, which uses both orders likewise.
"""

from collections.abc import Iterator
from typing import Any

from timm.models import group_parameters
from torch import nn

from prodrec.errors import ConfigError


def layers(backbone: Any, coarse: bool = True) -> list[set[str]]:
    """Names of the parameters of each layer, from the picture on.

    Raises:
        ConfigError: the architecture does not tell its order.
    """
    try:
        matcher = backbone.group_matcher(coarse=coarse)
    except (AttributeError, NotImplementedError, AssertionError) as error:  # timm's ways to say that there is none
        told = f"{type(backbone).__name__} does not tell the order of its layers"
        raise ConfigError(f"{told}; leave model.freeze_layers and optim.layer_decay out, or choose another model.arch") from error
    groups = group_parameters(backbone, matcher)
    return [set(groups[number]) for number in sorted(groups)]


def freeze_first(backbone: nn.Module, count: int) -> None:
    """Takes the gradients from the first coarse layers.

    Raises:
        ConfigError: the backbone has fewer layers, or does not tell their order.
    """
    found = layers(backbone) if count else []
    if count > len(found):
        raise ConfigError(f"model.freeze_layers {count}: the backbone has {len(found)} layers; freeze at most these")
    for name in set().union(*found[:count]):
        backbone.get_parameter(name).requires_grad_(False)


def untrained(module: nn.Module) -> Iterator[nn.Module]:
    """The largest modules that hold parameters none of which is trained: in eval mode, they stay as they are, statistics and all."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        yield module
        return
    for child in module.children():
        yield from untrained(child)
