"""Running a classifier over rows of a split."""

from collections.abc import Callable, Iterable

import torch

from prodrec.evaluation.predictions import Predictions
from prodrec.models.scorer import autocast
from prodrec.shards.stream import Batch

# What is kept of a batch lies between the large tensors that are freed, and the allocator cannot use those places again: at 9,691 classes
# memory grew by 28 MB a batch of 256, 15 GB for 142,000 rows. Joined from time to time it stays under 1 GB. Source: docs/log.md 2026-11-28.
_JOINED_BATCHES = 16


def predict(
    logits: Callable[[torch.Tensor], torch.Tensor], inputs: Iterable[Batch], device: torch.device, precision: str, every_temperature: bool = True
) -> Predictions:
    """Predictions for batches of evaluation inputs.

    Args:
        logits: uint8 images [B, 3, S, S] on `device` to logits [B, K], of a model in eval mode.
        precision: `bf16` or `fp32`.
        every_temperature: as `Predictions.of`.
    """
    joined, parts = list[Predictions](), list[Predictions]()
    with torch.inference_mode(), autocast(device, precision):
        for batch in inputs:
            parts.append(Predictions.of(logits(batch.images.to(device, non_blocking=True)), batch.targets, batch.rows, every_temperature))
            if len(parts) == _JOINED_BATCHES:
                joined, parts = [*joined, Predictions.concat(parts)], []
    return Predictions.concat([*joined, *parts])
