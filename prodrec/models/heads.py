"""Heads: features_BD -> logits_BK. The last layer is always named `logits`, so that its class count can be read off a file.

Metric-learning heads (`cosine`, `arcface`) have an embedding: float32 [B, E] of length 1, in which photos of one product lie near
each other. Their logits are `scale` times the cosine between it and the nearest of a class's centres.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from prodrec.config import Frozen, ModelConfig, PositiveFloat, PositiveInt, explain_validation
from prodrec.errors import ConfigError

# Of the hidden layer of `relu`: as wide as the features of a ResNet-18, so that thousands of classes find room. Source: assumed.
RELU_WIDTH = 512
# Under the root of sin^2, whose slope is infinite at 0. Source: assumed; a tenth of a degree.
_LEAST_SIN2 = 3e-6
# Added to what a power is taken of. Source: assumed; features of networks have a spread of 0.1 to 10.
_LEAST_FEATURE = 1e-6


class NoArgs(Frozen):
    """`model.head_args` of a head that takes none."""


class LinearArgs(Frozen):
    """`model.head_args` of `linear`.

    Attributes:
        power: that features are raised to, sign kept, before the layer; 1 leaves them. Source: Perronnin et al. 2010 (Improving the
            Fisher Kernel, ECCV), section 3.2, 0.5: it evens out features of which a few are large, as those behind a ReLU are.
    """

    power: Annotated[float, Field(gt=0, le=1)] = 1.0


class MlpArgs(Frozen):
    """`model.head_args` of `mlp`.

    Attributes:
        widths: of the hidden layers. The last should be no narrower than the features where there are thousands of classes: what 64
            numbers say of 10,000 classes is little. Source: the assignment of the first recipe.
    """

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2048, 512, 64)


class CosineArgs(Frozen):
    """`model.head_args` of `cosine`: a softmax over cosines, without margin.

    Attributes:
        scale: of the cosines. Source: Wang et al. 2018 (CosFace, arXiv 1801.09414), section 3.3: for a probability P of the true
            class at least (K-1)/K ln((K-1)P/(1-P)), which is 18 for K = 10,000 and P = 0.9999; 30 leaves room.
        embedding_dim: E; the features are mapped to so many numbers without bias. None: they are the embedding as they are.
    """

    scale: PositiveFloat = 30.0
    embedding_dim: PositiveInt | None = None


class ArcFaceArgs(CosineArgs):
    """`model.head_args` of `arcface`. Source of scale and margin: Deng et al. 2019 (arXiv 1801.07698), section 3.1.

    Attributes:
        margin: added to the angle to the true class while training, radians.
        centers: of each class, of which the nearest counts. Source: Deng et al. 2020 (Sub-center ArcFace, ECCV), section 4.2: 3.
    """

    scale: PositiveFloat = 64.0
    margin: Annotated[float, Field(ge=0, lt=math.pi / 2)] = 0.5
    centers: PositiveInt = 3


HEAD_ARGS: dict[str, type[Frozen]] = {"linear": LinearArgs, "relu": NoArgs, "mlp": MlpArgs, "cosine": CosineArgs, "arcface": ArcFaceArgs}


class Power(nn.Module):
    """Features raised to a power in float32, signs kept."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def forward(self, features_BD: Tensor) -> Tensor:
        with _full_precision(features_BD):
            # The slope of the root is infinite at 0; so that a backbone that is trained too gets none of it.
            return features_BD.float().sign() * (features_BD.float().abs() + _LEAST_FEATURE).pow(self.power)


class Logits(nn.Linear):
    """The last layer, computed in float32 also under autocast: bf16 has steps of 0.4 %, so that of thousands of classes some tie for the first place."""

    def forward(self, features_BD: Tensor) -> Tensor:
        with _full_precision(features_BD):
            return super().forward(features_BD.to(self.weight.dtype))


class CosineHead(nn.Module):
    """Cosine classifier with sub-centres, and ArcFace's margin for its loss.

    Everything behind the features is computed in float32, also under autocast: bf16 has steps of 0.4 % near 1, where cosines of a
    trained network are, and `scale` magnifies them.

    Args:
        feature_dim: D.
        num_classes: K.
        dropout: share of the features dropped while training.
        args: a cosine head is an ArcFace one with one centre a class and no margin.
    """

    def __init__(self, feature_dim: int, num_classes: int, dropout: float, args: CosineArgs) -> None:
        super().__init__()
        self.scale, self.centers, self.margin = args.scale, 1, 0.0
        if isinstance(args, ArcFaceArgs):
            self.centers, self.margin = args.centers, args.margin
        self.embedding_dim: int = args.embedding_dim or feature_dim
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(feature_dim, args.embedding_dim, bias=False) if args.embedding_dim else nn.Identity()
        # Rows [centres x classes], centre-major: `models.start` grows them by new classes as it does the anchors of detectors.
        self.logits = nn.Linear(self.embedding_dim, self.centers * num_classes, bias=False)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Logits [B, K] float32, without margin."""
        return self.classify(self.embed(features_BD))

    def embed(self, features_BD: Tensor) -> Tensor:
        """Embedding [B, E] float32, of length 1."""
        with _full_precision(features_BD):
            projected_BE = self.projection(self.dropout(features_BD).to(self.logits.weight.dtype))
            return F.normalize(projected_BE.float(), dim=1)

    def classify(self, embedding_BE: Tensor) -> Tensor:
        """Logits [B, K] float32 of embeddings of length 1."""
        with _full_precision(embedding_BE):
            cosines_BR = F.linear(embedding_BE, F.normalize(self.logits.weight.float(), dim=1))
            return self.scale * cosines_BR.unflatten(1, (self.centers, -1)).amax(1)

    def with_margin(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Logits for the loss: of the true class cos(angle + margin) instead of cos(angle).

        Beyond pi - margin, where cos(angle + margin) would rise again, it goes on as cos(angle) - margin sin(margin), below all
        values before it. Source: Deng et al. 2019, equation 3 by the addition theorem, and its authors' code (`easy_margin` off).
        """
        if not self.margin:
            return logits_BK
        true_B1 = labels_B[:, None]
        cos_B1 = logits_BK.float().gather(1, true_B1) / self.scale
        sin_B1 = (1 - cos_B1.square()).clamp(min=_LEAST_SIN2).sqrt()
        moved_B1 = cos_B1 * math.cos(self.margin) - sin_B1 * math.sin(self.margin)
        moved_B1 = torch.where(cos_B1 > -math.cos(self.margin), moved_B1, cos_B1 - self.margin * math.sin(self.margin))
        return logits_BK.float().scatter(1, true_B1, self.scale * moved_B1)


def create_head(kind: str, feature_dim: int, num_classes: int, dropout: float, args: Mapping[str, Any] | None = None) -> nn.Module:
    """A head with random weights.

    Args:
        kind: `linear`, `relu` (512-K with ReLU), `mlp` (2048-512-64-K with ReLU, or other `widths`), `cosine` or `arcface`.
        feature_dim: D, length of the backbone's features.
        num_classes: K.
        dropout: share of the features dropped while training; the narrow hidden layers lose nothing.
        args: the recipe's `model.head_args`.

    Returns:
        A module float [B, D] -> unscaled logits [B, K]; a CosineHead for `cosine` and `arcface`.

    Raises:
        ConfigError: `args` that the head does not take; the valid ones are named.
    """
    checked = _checked_args(kind, args or {})
    if isinstance(checked, CosineArgs):
        return CosineHead(feature_dim, num_classes, dropout, checked)
    layers: OrderedDict[str, nn.Module] = OrderedDict(dropout=nn.Dropout(dropout))
    if isinstance(checked, LinearArgs) and checked.power != 1:
        layers["power"] = Power(checked.power)
    width = feature_dim
    widths = checked.widths if isinstance(checked, MlpArgs) else (RELU_WIDTH,) if kind == "relu" else ()
    for number, hidden in enumerate(widths, start=1):
        layers[f"hidden{number}"] = nn.Linear(width, hidden)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        width = hidden
    layers["logits"] = Logits(width, num_classes)
    return nn.Sequential(layers)


def head_shape(state: Mapping[str, Tensor], config: ModelConfig) -> tuple[int, int | None]:
    """(K, E) of a classifier by its tensors: the number of classes, 0 where there is no head, and the embedding's length, if it has one.

    Raises:
        ConfigError: as `create_head`.
    """
    args, weight = _checked_args(config.head, config.head_args), state.get("head.logits.weight")
    rows, width = (0, 0) if weight is None else weight.shape
    centers = args.centers if isinstance(args, ArcFaceArgs) else 1
    return rows // centers, width if isinstance(args, CosineArgs) else None


def _checked_args(kind: str, args: Mapping[str, Any]) -> Frozen:
    if args and not HEAD_ARGS[kind].model_fields:
        raise ConfigError(f"model.head {kind} takes no model.head_args, and {', '.join(args)} is given; leave them out or set model.head")
    try:
        return HEAD_ARGS[kind].model_validate(dict(args))
    except ValidationError as error:
        raise ConfigError(f"model.head_args of {kind}: {explain_validation(error, HEAD_ARGS[kind])}") from error


def _full_precision(tensor: Tensor) -> torch.autocast:
    return torch.autocast(tensor.device.type, enabled=False)
