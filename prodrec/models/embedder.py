"""A frozen backbone that turns pictures into features: what a bundle with it computes before its head."""

import hashlib

import torch
from torch import nn

from prodrec.config import PreprocessSpec
from prodrec.images.transforms import Normalizer
from prodrec.models.scorer import autocast


class Embedder:
    """A backbone on a device, run as `prodrec.models.scorer.Scorer` runs it within a bundle: same scaling, precision and memory format.

    Args:
        precision: `bf16` or `fp32`.
    """

    def __init__(self, backbone: nn.Module, spec: PreprocessSpec, device: torch.device, precision: str) -> None:
        self.device, self.precision = device, precision
        self.backbone = backbone.to(device).to(memory_format=torch.channels_last).eval()
        self.normalizer = Normalizer(spec).to(device)

    @torch.inference_mode()
    def __call__(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Features [B, D] of uint8 images [B, 3, S, S] on any device; in the type that a head is given while serving, on the embedder's device."""
        with autocast(self.device, self.precision):
            normalized = self.normalizer(images_BCHW.to(self.device, non_blocking=True))
            features_BD: torch.Tensor = self.backbone(normalized.contiguous(memory_format=torch.channels_last))
        return features_BD


def weights_sha256(backbone: nn.Module) -> str:
    """Hex; of all tensors with their names, so that equal weights are equal whether they come from the hub, a file or a bundle."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {list(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
