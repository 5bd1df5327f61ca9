"""The loss of a classifier that fuses the views of a listing: that of `ClassificationTask`, a listing taking the place of an image."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from prodrec.data.transforms import Normalizer
from prodrec.data.views import Views
from prodrec.models.tasks import ClassificationTask


class SequenceTask(ClassificationTask):
    """As `ClassificationTask`; images are the `Views` of B listings everywhere."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.normalizer: Any = _ViewsNormalizer(self.normalizer)

    def _arguments(self, normalized: Any) -> tuple[torch.Tensor, ...]:
        views: Views = normalized
        return views.images.contiguous(memory_format=self.memory_format), views.lengths


class _ViewsNormalizer(nn.Module):
    def __init__(self, normalizer: Normalizer) -> None:
        super().__init__()
        self.normalizer = normalizer

    def forward(self, views: Views) -> Views:
        return replace(views, images=self.normalizer(views.images))
