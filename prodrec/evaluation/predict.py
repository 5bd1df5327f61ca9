"""Running a classifier over rows of a split."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from prodrec.config import PreprocessSpec
from prodrec.data.order import sequential_order
from prodrec.data.shards import SplitIndex
from prodrec.data.stream import Batch, batches, eval_transform, read_windows
from prodrec.evaluation.predictions import Predictions


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast on CPU and GPU, or nothing for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def predict(
    logits: Callable[[torch.Tensor], torch.Tensor],
    inputs: Iterable[Batch],
    device: torch.device,
    precision: str,
    label_ids: torch.Tensor | None = None,
) -> Predictions:
    """Predictions for batches of evaluation inputs.

    Args:
        logits: uint8 images [B, 3, S, S] on `device` to logits [B, K], of a model in eval mode.
        precision: `bf16` or `fp32`.
        label_ids: int64 [labels of the shards], what the model calls each of them; None: the same.
    """
    parts = []
    with torch.inference_mode(), autocast(device, precision):
        for batch in inputs:
            labels = batch.targets if label_ids is None else label_ids[batch.targets]
            parts.append(Predictions.of(logits(batch.images.to(device, non_blocking=True)), labels, batch.rows))
    return Predictions.concat(parts)


def predict_split(
    logits: Callable[[torch.Tensor], torch.Tensor],
    split: SplitIndex,
    spec: PreprocessSpec,
    *,
    device: torch.device,
    precision: str = "fp32",
    threads: int = 1,
    batch_size: int = 256,
    label_ids: torch.Tensor | None = None,
) -> Predictions:
    """Predictions for a whole split in this process.

    Args:
        label_ids: int64 [labels of the shards], what the model calls each of them; None: the same.
    """
    order = sequential_order(np.arange(split.rows), batch_size)
    inputs = batches(read_windows(split, order.windows), order, eval_transform(spec), threads, pin_memory=device.type == "cuda")
    return predict(logits, inputs, device, precision, label_ids)
