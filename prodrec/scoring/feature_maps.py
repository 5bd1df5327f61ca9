"""Heat maps that are read off within the network: as coarse as its feature maps, at one pass.

Shapes: S side of the model input; image_CHW uint8 [3, S, S].
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from prodrec.errors import ConfigError
from prodrec.models.scorer import Scorer


def grad_cam(scorer: Scorer, image_CHW: torch.Tensor, label_id: int) -> npt.NDArray[np.float32]:
    """Relevance of each pixel to a class's logit, float32 [S, S], 0 to 1.

    The feature map is the last one before pooling; of a vision transformer the tokens that its last block takes, as what comes
    out of it beside the class token is not used. Where the answer is a mean with that to the mirrored image, so is the map.

    Raises:
        ConfigError: the network has no feature map.
    """
    inputs_BCHW = _inputs(scorer, image_CHW)
    cam_HW = _relevance(scorer.model, inputs_BCHW, label_id)
    if scorer.info.input.flip:
        cam_HW = cam_HW + _relevance(scorer.model, inputs_BCHW.detach().flip(-1), label_id).flip(-1)
    heat_SS = _spread(cam_HW, image_CHW)
    heat: npt.NDArray[np.float32] = (heat_SS / heat_SS.max().clamp(min=1e-12)).cpu().numpy()
    return heat


def attention(scorer: Scorer, image_CHW: torch.Tensor) -> npt.NDArray[np.float32]:
    """Where a network with spatial attention looks, whatever the class: float32 [S, S], 0 where least to 1 where most.

    Gates differ little in size and much from place to place, so they are stretched to the whole range; equal ones are all 0.

    Raises:
        ConfigError: the network has no such attention.
    """
    attention_map = getattr(scorer.model.backbone, "attention_map", None)
    if attention_map is None:
        raise ConfigError(f"{scorer.info.model.arch} has no spatial attention to show (attention_cnn has); use --method occlusion or gradcam")
    with torch.inference_mode():
        gates_SS = _spread(attention_map(_inputs(scorer, image_CHW))[0].float(), image_CHW)
        least, most = gates_SS.aminmax()
        heat: npt.NDArray[np.float32] = ((gates_SS - least) / (most - least).clamp(min=1e-12)).cpu().numpy()
    return heat


def _inputs(scorer: Scorer, image_CHW: torch.Tensor) -> torch.Tensor:
    """What the network takes of one image, [1, 3, S, S]."""
    normalized: torch.Tensor = scorer.normalizer(image_CHW[None].to(scorer.device))
    return normalized.contiguous(memory_format=torch.channels_last)


def _spread(map_HW: torch.Tensor, image_CHW: torch.Tensor) -> torch.Tensor:
    """A coarse map over the whole model input, [S, S]."""
    return nn.functional.interpolate(map_HW[None, None], size=image_CHW.shape[-2:], mode="bilinear")[0, 0]


def _relevance(model: Any, inputs_BCHW: torch.Tensor, label_id: int) -> torch.Tensor:
    """Of each cell of the feature map of one forward pass, [H, W] >= 0."""
    features, logit = _last_features(model, inputs_BCHW, label_id)
    (gradients,) = torch.autograd.grad(logit, features)
    maps_CHW, slopes_CHW = (_as_map(values.detach().float(), model.backbone) for values in (features, gradients))
    return (slopes_CHW.mean((1, 2))[:, None, None] * maps_CHW).sum(0).relu()


def _last_features(model: Any, inputs_BCHW: torch.Tensor, label_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The feature map of a forward pass, and the logit that came of it."""
    found: list[torch.Tensor] = []

    def keep(_module: nn.Module, values: Any) -> None:
        value = values[0] if isinstance(values, tuple) else values
        if isinstance(value, torch.Tensor) and value.requires_grad and (value.ndim == 3 or (value.ndim == 4 and min(value.shape[-2:]) > 1)):
            found.append(value)

    if hasattr(model.backbone, "num_prefix_tokens"):
        hooks = [model.backbone.blocks[-1].register_forward_pre_hook(keep)]
    else:
        skipped = nn.Dropout2d | nn.Flatten | nn.AdaptiveAvgPool2d | nn.AvgPool2d | nn.MaxPool2d
        hooks = [
            module.register_forward_hook(lambda module, _inputs, output: keep(module, output))
            for module in model.backbone.modules()
            if not isinstance(module, skipped) and module is not model.backbone and not list(module.children())
        ]
    try:
        with torch.enable_grad():
            logits_BK = model(inputs_BCHW.requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ConfigError("the network has no feature map that Grad-CAM could read; use --method occlusion")
    return found[-1], logits_BK[0, label_id].float()


def _as_map(values: torch.Tensor, backbone: Any) -> torch.Tensor:
    """[C, H, W] of a feature map [1, C, H, W], or of tokens [1, N, C] on a square grid behind the prefix tokens."""
    if values.ndim == 4:
        return values[0]
    tokens_NC = values[0, backbone.num_prefix_tokens :]
    side = math.isqrt(len(tokens_NC))
    return tokens_NC[: side * side].T.reshape(-1, side, side)
