"""Tasks: a model with its loss, as one module, so that data parallelism wraps both and one loop trains every kind.

Shapes: images_BCHW uint8 [B, 3, S, S]; labels_B int64 [B]; logits_BK [B, K].
"""

import torch
from torch import nn
from torch.nn import functional as F

from prodrec.config import PreprocessSpec
from prodrec.data.transforms import Normalizer


class ClassificationTask(nn.Module):
    """Class-weighted cross-entropy with label smoothing.

    Args:
        model: normalised float images to logits_BK.
        class_weights: [K] > 0.
        label_smoothing: in [0, 1).
        channels_last: memory format of the images.
    """

    def __init__(self, model: nn.Module, spec: PreprocessSpec, class_weights: torch.Tensor, label_smoothing: float, channels_last: bool) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last) if channels_last else model
        self.normalizer = Normalizer(spec)
        self.class_weights = nn.Buffer(class_weights.float(), persistent=False)
        self.label_smoothing = label_smoothing
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def logits(self, images_BCHW: torch.Tensor, model: nn.Module | None = None) -> torch.Tensor:
        """logits_BK of the task's model, or of another with the same inputs (a moving average)."""
        inputs = self.normalizer(images_BCHW).contiguous(memory_format=self.memory_format)
        logits_BK: torch.Tensor = (model or self.model)(inputs)
        return logits_BK

    def forward(self, images_BCHW: torch.Tensor, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns logits_BK, weighted losses_B (float32) and their weights_B; the loss of a step is sum(losses) / sum(weights)."""
        logits_BK = self.logits(images_BCHW)
        weights_B = self.class_weights[labels_B]
        losses_B = F.cross_entropy(logits_BK.float(), labels_B, label_smoothing=self.label_smoothing, reduction="none")
        return logits_BK, losses_B * weights_B, weights_B
