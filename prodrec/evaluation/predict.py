"""Running a classifier over rows of a split."""

from collections.abc import Callable, Iterable

import torch

from prodrec.evaluation.predictions import Predictions
from prodrec.models.scorer import autocast
from prodrec.shards.stream import Batch


def predict(
    logits: Callable[[torch.Tensor], torch.Tensor], inputs: Iterable[Batch], device: torch.device, precision: str, every_temperature: bool = True
) -> Predictions:
    """Predictions for batches of evaluation inputs.

    Args:
        logits: uint8 images [B, 3, S, S] on `device` to logits [B, K], of a model in eval mode.
        precision: `bf16` or `fp32`.
        every_temperature: as `Predictions.of`.
    """
    parts = []
    with torch.inference_mode(), autocast(device, precision):
        for batch in inputs:
            parts.append(Predictions.of(logits(batch.images.to(device, non_blocking=True)), batch.targets, batch.rows, every_temperature))
    return Predictions.concat(parts)
