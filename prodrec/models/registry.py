"""Architectures by name, and the classifier that is built of them.

images_BCHW    [B, 3, S, S]  float, normalised as the bundle's PreprocessSpec says
features_BD    [B, D]
logits_BK      [B, K]        unscaled; K classes
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Self

import timm
from torch import Tensor, nn

from prodrec.config import INTERPOLATIONS, ModelConfig, PreprocessSpec
from prodrec.errors import ConfigError, UserError
from prodrec.images.transforms import NORMALIZATIONS
from prodrec.models.attention import AttentionCNN
from prodrec.models.backbones import closest_names, feature_dim, is_timm_name, timm_backbone
from prodrec.models.custom_cnn import CustomCNN
from prodrec.models.heads import CosineHead, create_head
from prodrec.models.layers import freeze_first, layers, untrained
from prodrec.models.model_cnn import ModelCNN
from prodrec.models.sequence import Fusion, create_fusion
from prodrec.models.weights import HUB, NONE, hub_backbone, load_file, no_hub_weights

# Own names: a class of ours, or what timm calls it, with the tag of the weights: without, timm's default of the day would be
# taken, which changes. Any other name is looked up in timm.
MODELS: dict[str, type[nn.Module] | str] = {
    "custom_cnn": CustomCNN,
    "model_cnn": ModelCNN,
    "attention_cnn": AttentionCNN,
    "resnet18": "resnet18.a1_in1k",
    "resnet50": "resnet50.a1_in1k",
    "vit_b16": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    "vit_tiny16": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "convnext_tiny": "convnext_tiny.in12k_ft_in1k",
    "efficientnet_b0": "efficientnet_b0.ra_in1k",
    "efficientnet_lite0": "tf_efficientnet_lite0.in1k",
    "mobilenetv3": "mobilenetv3_large_100.ra_in1k",
    "dinov2": "vit_small_patch14_dinov2.lvd142m",
    "siglip": "vit_base_patch16_siglip_224.v2_webli",
    # The weights as they came of image and text pairs: timm's default for CLIP has been fine-tuned on ImageNet's classes since.
    "clip": "vit_base_patch16_clip_224.laion2b",
}


class Classifier(nn.Module):
    """A backbone and a head.

    Args:
        backbone: images_BCHW -> features_BD.
        head: features_BD -> logits_BK.
        fusion: between them, where the model fuses the views of listings.
        freeze_backbone: the backbone gets no gradients and stays in eval mode, so that its batch-norm statistics stay too.
        freeze_layers: so do its first so many layers, see `prodrec.models.layers`.

    Raises:
        ConfigError: the backbone has fewer layers.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, *, fusion: Fusion | None = None, freeze_backbone: bool = False, freeze_layers: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.fusion = fusion
        self.head = head
        if freeze_backbone:
            backbone.requires_grad_(False)
        else:
            freeze_first(backbone, freeze_layers)
        self.train()

    def forward(self, images_BCHW: Tensor, *lengths_B: Tensor) -> Tensor:
        """Logits [B, K] of normalised float images [B, 3, S, S].

        A model that fuses views takes the images of listings, one after the other, and how many each has; without, each is a listing.
        """
        logits_BK: Tensor = self.head(self.features(images_BCHW, *lengths_B))
        return logits_BK

    def features(self, images_BCHW: Tensor, *lengths_B: Tensor) -> Tensor:
        """What the head sees: features_BD of images, or of listings."""
        features_BD: Tensor = self.backbone(images_BCHW)
        return features_BD if self.fusion is None else self.fusion(features_BD, *lengths_B)

    @property
    def embedding_dim(self) -> int | None:
        """E; None where the head has no embedding."""
        return self.head.embedding_dim if isinstance(self.head, CosineHead) else None

    def described(self, images_BCHW: Tensor, *lengths_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits [B, K] and embeddings, float32 [B, E] of length 1 or None, of one pass through the backbone; arguments as of `forward`."""
        features_BD = self.features(images_BCHW, *lengths_B)
        if not isinstance(self.head, CosineHead):
            return self.head(features_BD), None
        embedding_BE = self.head.embed(features_BD)
        return self.head.classify(embedding_BE), embedding_BE

    def with_margin(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """What the loss of training takes for the logits: with the head's margin, where it has one."""
        return self.head.with_margin(logits_BK, labels_B) if isinstance(self.head, CosineHead) else logits_BK

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in untrained(self.backbone):
            module.eval()
        return self

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """The backbone's trainable parameters; none where it is frozen."""
        return (p for p in self.backbone.parameters() if p.requires_grad)

    def backbone_layers(self) -> list[list[nn.Parameter]]:
        """The same by layer, from the picture on. Raises: ConfigError: as `prodrec.models.layers.layers`."""
        named = [[self.backbone.get_parameter(name) for name in layer] for layer in layers(self.backbone, coarse=False)]
        return [[p for p in layer if p.requires_grad] for layer in named]

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """All that is not the backbone's."""
        return chain(self.fusion.parameters() if self.fusion else (), self.head.parameters())


def create_classifier(config: ModelConfig, num_classes: int, input_size: int) -> Classifier:
    """Builds the architecture of a recipe and gives it the weights that the recipe names.

    Args:
        config: the recipe's `model`.
        num_classes: K.
        input_size: side of the square input, pixels.

    Raises:
        ConfigError: an unknown architecture, or arguments or an input size that it does not take.
        WeightsError: pretrained weights that cannot be had or do not fit; weights are random only where the recipe says `none`.
    """
    with _building(config, input_size):
        backbone = _create_backbone(config, input_size)
        features = feature_dim(backbone, input_size)
        fusion = create_fusion(config.fuse, features) if config.fuse else None
        head = create_head(config.head, fusion.width if fusion else features, num_classes, config.dropout, config.head_args)
    if config.weights not in (HUB, NONE):
        # A head without the fusion that it was trained with would be worth nothing; the folder of a bundle brings both.
        load_file(config.weights, config.arch, backbone, nn.Identity() if fusion else head)
    return Classifier(backbone, head, fusion=fusion, freeze_backbone=config.freeze_backbone, freeze_layers=config.freeze_layers)


def check_input(config: ModelConfig, spec: PreprocessSpec) -> None:
    """Refuses pixels made otherwise than those that the hub's weights were trained on: that costs accuracy without a word.

    Raises:
        ConfigError: it names the setting that fits.
    """
    name = MODELS.get(config.arch, config.arch)
    if config.weights != HUB or not isinstance(name, str) or not is_timm_name(name):
        return
    published = timm.get_pretrained_cfg(name)
    fitting = [preset for preset, scale in NORMALIZATIONS.items() if scale == (published.mean, published.std)]
    if fitting and spec.normalize not in fitting:
        raise ConfigError(f"the hub's weights of {config.arch} were trained with input.normalize={fitting[0]}, not {spec.normalize}; set that")
    if published.interpolation in INTERPOLATIONS and spec.interpolation != published.interpolation:
        asked = f"input.interpolation={published.interpolation}, not {spec.interpolation}"
        raise ConfigError(f"the hub's weights of {config.arch} were trained with {asked}; set that")


def _create_backbone(config: ModelConfig, input_size: int) -> nn.Module:
    entry = MODELS.get(config.arch, config.arch)
    if not isinstance(entry, str):
        if config.weights == HUB:
            raise no_hub_weights(config.arch)
        return entry(**config.args)
    if not is_timm_name(entry):
        raise ConfigError(f"unknown model.arch '{config.arch}'; own names: {', '.join(MODELS)}; closest in timm: {', '.join(closest_names(entry)) or 'none'}")
    if config.weights == HUB:
        return hub_backbone(config.arch, entry, input_size, config.args)
    return timm_backbone(entry, input_size, config.args)


@contextmanager
def _building(config: ModelConfig, input_size: int) -> Iterator[None]:
    """Maps what an architecture raises for arguments or sizes that it does not take; that can be any exception."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ConfigError(
            f"cannot build model.arch {config.arch} with input.size {input_size} and model.args {config.args}: {reason}; change one of them"
        ) from error
