"""Running a tagger over pictures."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from prodrec.errors import TrainingError
from prodrec.evaluation.detections import Detections, TaggedPicture
from prodrec.images.objects import Objects, to_source
from prodrec.models.scorer import autocast
from prodrec.models.tagger import Tagger, Tags
from prodrec.models.tasks import LOSS, DetectionTask, N
from prodrec.shards.stream import Batch


def detect(task: DetectionTask, model: Tagger, inputs: Iterable[Batch], device: torch.device, precision: str) -> Detections:
    """What a model finds on batches of evaluation inputs, and its losses on them.

    Args:
        precision: `bf16` or `fp32`.

    Raises:
        TrainingError: a loss or a score is not finite.
    """
    parts = [_batch(task, model, batch, device, precision) for batch in inputs]
    return Detections.concat(parts or [Detections([], dict.fromkeys(("loss", *task.names), 0.0))])


@torch.inference_mode()
def _batch(task: DetectionTask, model: Tagger, batch: Batch, device: torch.device, precision: str) -> Detections:
    truth: Objects = batch.targets
    images, objects = batch.images.to(device, non_blocking=True), truth.to(device)
    with autocast(device, precision):
        tags = task.tags(images, model.eval())
        # torchvision samples regions at random: the same for the same pictures.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(batch.rows[0]))
            _, sums = task.losses(images, objects, _losing(model))
    model.eval()
    values = sums.tolist()
    if not np.isfinite(values).all():
        raise TrainingError(f"the losses of judged pictures are not finite ({values}); train again with a lower optim.lr or train.precision=fp32")
    pictures = [_picture(int(row), found, there) for row, found, there in zip(batch.rows, tags, truth.pictures(), strict=True)]
    return Detections(pictures, dict(zip(("loss", *task.names), [values[LOSS], *values[N + 1 :]], strict=True)))


def _losing(model: Tagger) -> Tagger:
    """torchvision's detectors tell their losses in train mode alone; norms stay as they are, so that looking changes nothing."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            module.eval()
    return model


def _picture(row: int, found: Tags, truth: Objects) -> TaggedPicture:
    boxes_D4 = to_source(found.boxes_N4.cpu(), truth.frames_B4, truth.sources_B2)
    there = truth.at_source()
    width, height = truth.sources_B2[0].tolist()
    return TaggedPicture(
        row,
        (int(width), int(height)),
        boxes_D4.numpy(),
        found.scores_N.float().cpu().numpy(),
        found.labels_N.cpu().numpy(),
        there.boxes_M4.numpy(),
        there.labels_M.numpy(),
        there.crowd_M.numpy(),
    )
