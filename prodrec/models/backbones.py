"""Backbones from timm: images_BCHW -> features_BD, with timm's own pooling and without its classifier."""

import difflib
from collections.abc import Iterable
from typing import Any

import timm
import torch
from torch import nn

from prodrec.errors import ConfigError

# Arguments of timm.create_model that prodrec sets itself or that would bring weights in past `model.weights`.
RESERVED_ARGS = frozenset(
    {"num_classes", "in_chans", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only"}
)


def timm_backbone(name: str, input_size: int, args: dict[str, Any], *, pretrained: bool = False) -> nn.Module:
    """A timm model as a feature extractor.

    Args:
        name: timm's name, with or without a weights tag (`resnet50.a1_in1k`).
        input_size: side of the square input, pixels.
        args: keyword arguments of the architecture.
        pretrained: load timm's published weights; what goes wrong then is raised as timm raises it.

    Raises:
        ConfigError: an argument that prodrec sets itself, or an input size that the patches do not divide.
        Exception: whatever the architecture's constructor raises for arguments that do not fit it.
    """
    if taken := sorted(RESERVED_ARGS & args.keys()):
        raise ConfigError(f"model.args.{taken[0]} is not yours to set: prodrec does; remove it from model.args")
    fixed_size = {"img_size": input_size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    # With the class count of the published weights timm loads them strictly; the classifier goes afterwards.
    # Built with num_classes=0, tensors that `args` added would silently stay random.
    model: Any = timm.create_model(name, pretrained=pretrained, **(fixed_size | args))
    model.reset_classifier(0)
    _check_patches(name, model, input_size)
    backbone: nn.Module = model
    return backbone


def feature_dim(backbone: nn.Module, input_size: int) -> int:
    """D of the features_BD that a backbone gives for images of this size, by running one.

    Raises:
        ValueError: the backbone gives something else than one vector an image.
        Exception: whatever the backbone raises for a size that it cannot take.
    """
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, input_size, input_size))
    backbone.train(was_training)
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise ValueError("it gives no single feature vector an image")
    return features.shape[1]


def check_sides(backbone: nn.Module, arch: str, sides: Iterable[int]) -> None:
    """Refuses a backbone that cannot take images of all these sides, or gives other features of them.

    Raises:
        ConfigError: it says which.
    """
    found = {}
    for side in sorted(set(sides), reverse=True):
        try:
            found[side] = feature_dim(backbone, side)
        except Exception as error:  # whatever the architecture raises
            reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
            told = f"{arch} cannot take images of {side} pixels ({reason})"
            raise ConfigError(f"augment.start_size: {told}; leave it out, or choose a network whose input size is free") from error
    if len(set(found.values())) > 1:
        raise ConfigError(f"augment.start_size: {arch} gives features of other lengths for other sides; leave it out")


def closest_names(name: str) -> list[str]:
    """Up to three timm names like `name`, closest first."""
    return difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)


def is_timm_name(name: str) -> bool:
    """Whether timm knows the architecture; sources such as `hf-hub:` are no names, they would reach for the network."""
    return ":" not in name and "/" not in name and bool(timm.is_model(name))


def _check_patches(name: str, model: nn.Module, input_size: int) -> None:
    """timm drops the pixels that fill no whole patch without a word."""
    embedding = getattr(model, "patch_embed", None)
    patch = getattr(embedding, "patch_size", None)
    side = max(patch) if isinstance(patch, Iterable) else patch
    if not isinstance(side, int) or getattr(embedding, "dynamic_img_pad", False) or input_size % side == 0:
        return
    below, above = input_size // side * side, (input_size // side + 1) * side
    fitting = f"{below} or {above}" if below else str(above)
    raise ConfigError(f"{name} takes input sizes that are multiples of {side}, and input.size {input_size} is none; set it to {fitting}")
