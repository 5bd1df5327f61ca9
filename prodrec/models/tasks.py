"""Tasks: a model with its loss, as one module, so that data parallelism wraps both and one loop trains every kind.

Shapes: images_BCHW uint8 [B, 3, S, S]; labels_B int64 [B]; logits_BK [B, K].
"""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from prodrec.config import PreprocessSpec
from prodrec.data.transforms import Normalizer

# Beta distribution of the mixing share. Source: Zhang et al. 2018 (arXiv 1710.09412), 0.1-0.4; Yun et al. 2019 (arXiv 1905.04899), 1.
_MIXUP_ALPHA, _CUTMIX_ALPHA = 0.2, 1.0


class ClassificationTask(nn.Module):
    """Class-weighted cross-entropy with label smoothing.

    Args:
        model: normalised float images to logits_BK.
        class_weights: [K] > 0.
        label_smoothing: in [0, 1).
        channels_last: memory format of the images.
        mix: share of the training steps that mix images and labels in pairs.
    """

    def __init__(
        self, model: nn.Module, spec: PreprocessSpec, class_weights: torch.Tensor, label_smoothing: float, channels_last: bool, mix: float = 0.0
    ) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last) if channels_last else model
        self.normalizer = Normalizer(spec)
        self.class_weights = nn.Buffer(class_weights.float(), persistent=False)
        self.label_smoothing = label_smoothing
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        classes = len(class_weights)
        mixers = [v2.MixUp(alpha=_MIXUP_ALPHA, num_classes=classes), v2.CutMix(alpha=_CUTMIX_ALPHA, num_classes=classes), v2.Identity()]
        self.mixer = v2.RandomChoice(mixers, p=[mix / 2, mix / 2, 1 - mix]) if mix else None

    def logits(self, images_BCHW: torch.Tensor, model: nn.Module | None = None) -> torch.Tensor:
        """logits_BK of the task's model, or of another with the same inputs (a moving average)."""
        return self._run(self.normalizer(images_BCHW), model or self.model)

    def forward(self, images_BCHW: torch.Tensor, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns logits_BK, weighted losses_B (float32) and their weights_B; the loss of a step is sum(losses) / sum(weights).

        A mixed image has the weights of its two classes in the shares in which it shows them.
        """
        inputs, targets = self.normalizer(images_BCHW), labels_B
        if self.mixer is not None and self.training:
            inputs, targets = self.mixer(inputs, labels_B)
        logits_BK = self._run(inputs, self.model)
        weights_B = self.class_weights[targets] if targets.ndim == 1 else targets @ self.class_weights
        losses_B = F.cross_entropy(logits_BK.float(), targets, label_smoothing=self.label_smoothing, reduction="none")
        return logits_BK, losses_B * weights_B, weights_B

    def _run(self, inputs_BCHW: torch.Tensor, model: nn.Module) -> torch.Tensor:
        logits_BK: torch.Tensor = model(inputs_BCHW.contiguous(memory_format=self.memory_format))
        return logits_BK
