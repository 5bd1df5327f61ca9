"""Heads: features_BD -> logits_BK. The last layer is always named `logits`, so that its class count can be read off a file."""

from collections import OrderedDict
from typing import Literal

from torch import nn

# Widths of the hidden layers. Source: the assignment of the first recipe (2048-512-64-K).
MLP_WIDTHS = (2048, 512, 64)
# Of `relu`: as wide as the features of a ResNet-18, so that thousands of classes find room. Source: assumed.
RELU_WIDTH = 512
HIDDEN_WIDTHS = {"linear": (), "relu": (RELU_WIDTH,), "mlp": MLP_WIDTHS}


def create_head(kind: Literal["linear", "relu", "mlp"], feature_dim: int, num_classes: int, dropout: float) -> nn.Sequential:
    """A head with random weights.

    Args:
        kind: `linear`, `relu` (512-K with ReLU) or `mlp` (2048-512-64-K with ReLU).
        feature_dim: D, length of the backbone's features.
        num_classes: K.
        dropout: share of the features dropped while training; the narrow hidden layers lose nothing.

    Returns:
        A module float [B, D] -> unscaled logits [B, K].
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(dropout=nn.Dropout(dropout))
    width = feature_dim
    for number, hidden in enumerate(HIDDEN_WIDTHS[kind], start=1):
        layers[f"hidden{number}"] = nn.Linear(width, hidden)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        width = hidden
    layers["logits"] = nn.Linear(width, num_classes)
    return nn.Sequential(layers)
